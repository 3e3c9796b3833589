"""The numbers of one node in Prometheus' text format.

Labels are names of members, rules and states: never a value, a column or a dataset.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from mpc.framing.handshake import WIRE_VERSION
from mpc.network.checks import own_version
from mpc.preprocessing import dealer
from parties.jobs import tally
from parties.status.watch import UP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client import Metric

    from parties.status.watch import Watch

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Metrics:
    """`text()` is what a scrape gets.  Each has its own registry, so that several nodes in one process do not mix."""

    def __init__(self, watch: Watch) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Numbers(watch))
        ProcessCollector(registry=self._registry)
        rounds = Histogram(
            "beaver_round_seconds",
            "Time from the start of an exchange of messages until the last one has come.",
            buckets=BUCKETS,
            registry=self._registry,
        )
        watch.node.books.on_round = rounds.observe

    def text(self) -> bytes:
        """Return all numbers as they are now."""
        return generate_latest(self._registry)


class _Numbers(Collector):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """Read the node's counters."""
        yield self._about()
        yield from self._peers()
        yield from self._jobs()
        yield from self._cost()
        yield from self._audit()

    def _about(self) -> Metric:
        roster, rules = self._watch.node.mesh.roster, self._watch.config.rules
        return InfoMetricFamily(
            "beaver_node",
            "Which node this is, and what it runs with.",
            {
                "node": self._watch.config.name,
                "version": own_version(),
                "wire": str(WIRE_VERSION),
                "roster": str(roster.content.version),
                "policy": rules.version,
            },
        )

    def _peers(self) -> Iterator[Metric]:
        watch = self._watch
        names = [contact.member.name for contact in watch.contacts()]
        traffic = {name: watch.traffic(name) for name in names}
        yield _gauge("beaver_peer_up", "Whether the peer is connected.", "peer", {name: watch.state(name) == UP for name in names})
        trips = {contact.member.name: contact.round_trip for contact in watch.contacts() if contact.round_trip is not None}
        yield _gauge("beaver_peer_round_trip_seconds", "Time to the peer and back, when it was last asked.", "peer", trips)
        for name, text, counts in (
            ("beaver_peer_connections", "Connections with the peer.", {name: each.connections for name, each in traffic.items()}),
            ("beaver_peer_repairs", "Lost connections that were made again.", {name: each.repairs for name, each in traffic.items()}),
            ("beaver_sent_bytes", "Sealed bytes to the peer.", {name: each.sent for name, each in traffic.items()}),
            ("beaver_received_bytes", "Sealed bytes from the peer.", {name: each.received for name, each in traffic.items()}),
            ("beaver_payload_bytes", "Bytes of messages of jobs to the peer.", self._watch.node.books.total().sent),
        ):
            yield _counter(name, text, "peer", counts)

    def _jobs(self) -> Iterator[Metric]:
        states = Counter(job.state for job in self._watch.jobs() if not job.over)
        yield _gauge("beaver_current_jobs", "Jobs that are not over.", "state", states)
        if self._watch.service is not None:
            text = "Jobs that someone of this organisation approved and that have not started."
            yield GaugeMetricFamily("beaver_standing_approvals", text, len(self._watch.approved))
        known = dealer.OUTCOMES if self._watch.service is None else tally.OUTCOMES
        # A count that appeared only with its first event would hide that event from `increase()` in Prometheus.
        yield _counter("beaver_jobs", "Jobs that are over.", "outcome", dict.fromkeys(known, 0) | self._watch.outcomes)
        yield _counter("beaver_denials", "Jobs that a rule of this organisation denied.", "rule", self._watch.denials)

    def _cost(self) -> Iterator[Metric]:
        total = self._watch.node.books.total()
        yield CounterMetricFamily("beaver_rounds", "Rounds of all jobs, counted along the longest chain.", total.rounds)
        yield CounterMetricFamily("beaver_correlations", "Correlations used; at a dealer, served.", total.relations)
        yield CounterMetricFamily("beaver_correction_bytes", "Bytes of corrections that came from the dealer.", total.corrections)

    def _audit(self) -> Iterator[Metric]:
        if self._watch.audit is None:
            return
        yield GaugeMetricFamily("beaver_audit_entries", "Entries of the audit log.", self._watch.audit.entries)
        if (verdict := self._watch.verdict) is not None:
            yield GaugeMetricFamily("beaver_audit_intact", "Whether the audit log was whole and in order.", int(not verdict.fault))
            yield GaugeMetricFamily("beaver_audit_verified_timestamp_seconds", "When that was verified.", verdict.at)


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=[label]), values)


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=[label]), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
    for each, value in sorted(values.items()):
        family.add_metric([each], float(value))
    return family


__all__ = ["Metrics"]

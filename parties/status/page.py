"""The status page, its data, and the paths of both.  The page is one document that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import json
import re
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST

from mpc.framing.handshake import WIRE_VERSION
from mpc.network.checks import own_version
from parties.status.server import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from parties.status.metrics import Metrics
    from parties.status.watch import Shown, Watch

MAX_JOBS = 50
_DOCUMENT = Path(__file__).with_name("page.html").read_text("utf-8")


def pages(watch: Watch, metrics: Metrics) -> Mapping[str, Callable[[], Answer]]:
    """Return the answer for each path."""
    document = Answer("text/html; charset=utf-8", _DOCUMENT.encode(), _allowed())
    return {
        "/": lambda: document,
        "/status.json": lambda: Answer("application/json", json.dumps(status(watch)).encode()),
        "/metrics": lambda: Answer(CONTENT_TYPE_LATEST, metrics.text()),
    }


def _allowed() -> str:
    """Return what the document may do in a browser: use its own style and script, by their hashes, and ask this node again."""
    own = {tag: " ".join(map(_source, re.findall(f"<{tag}>(.*?)</{tag}>", _DOCUMENT, re.DOTALL))) for tag in ("style", "script")}
    return (
        f"default-src 'none'; style-src {own['style']}; script-src {own['script']}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def status(watch: Watch) -> dict[str, Any]:
    """Return what the page shows: names, states, times and counts."""
    return {
        "time": time.time(),
        "node": _node(watch),
        "peers": _peers(watch),
        "jobs": [_job(job) for job in watch.jobs()[:MAX_JOBS]],
        "approvals": _approvals(watch),
        "outcomes": dict(watch.outcomes),
        "denials": dict(watch.denials),
        "audit": _audit(watch),
    }


def _node(watch: Watch) -> dict[str, Any]:
    roster, rules = watch.node.mesh.roster, watch.config.rules
    policy = {"version": rules.version, "digest": rules.digest.hex()} if watch.service is not None else None
    return {
        "name": watch.config.name,
        "role": roster[watch.config.name].role,
        "since": watch.since,
        "version": own_version(),
        "wire": WIRE_VERSION,
        "roster": {"version": roster.content.version, "digest": roster.digest.hex(), "unsigned": list(roster.unsigned)},
        "policy": policy,
    }


def _peers(watch: Watch) -> list[dict[str, Any]]:
    return [
        {
            "name": contact.member.name,
            "role": contact.member.role,
            "address": watch.address(contact.member),
            "state": watch.state(contact.member.name),
            "since": contact.since,
            "problem": watch.problem(contact.member.name),
            "round_trip": contact.round_trip,
            "version": contact.version,
            **asdict(watch.traffic(contact.member.name)),
        }
        for contact in watch.contacts()
    ]


def _job(job: Shown) -> dict[str, Any]:
    spent = {} if job.cost is None else {"rounds": job.cost.rounds, "bytes": sum(job.cost.sent.values())}
    return {name: getattr(job, name) for name in ("id", "protocol", "asker", "parties", "state", "phase", "since", "fault")} | spent


def _approvals(watch: Watch) -> dict[str, Any] | None:
    if watch.service is None:
        return None
    return {"standing": len(watch.approved), "jobs": watch.approved[:MAX_JOBS]}


def _audit(watch: Watch) -> dict[str, Any] | None:
    if watch.audit is None:
        return None
    verdict = None if watch.verdict is None else asdict(watch.verdict)
    return {"entries": watch.audit.entries, "head": watch.audit.last, "verified": verdict}


__all__ = ["pages", "status"]

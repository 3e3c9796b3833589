"""Whether an audit log is whole and in order: every line, its place in the chain, and its signer.  No secret key is needed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mpc.errors import ConfigError
from mpc.membership.roster import Roster
from parties.auditing.entries import (
    ALTERED,
    BEGINNINGS,
    ENDED,
    NOT_WRITTEN,
    STARTED,
    UNKNOWN,
    UNSIGNED,
    Chain,
    decoded,
    fault_of,
    seal_of,
    signed,
)
from parties.auditing.volumes import lines_of
from parties.jobs.proposals import JOB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from parties.auditing.entries import Entry
    from parties.auditing.volumes import Line
    from parties.config import NodeConfig

CHECKED = timedelta(minutes=1)
"""A node checks the signatures of a job before it writes the start.  A key may have retired within this time before the entry got its own.
"""
TORN = "is torn; the node mends it when it starts. If the node runs, look again"


class Verification:
    """One reading of a log.  `chain` is how far it came, `files` are the files of its lines, `endless` are the jobs without a known end.

    `heads` are the digests of entries that must be there.
    """

    def __init__(self, config: NodeConfig, keys: Sequence[bytes], heads: Iterable[str]) -> None:
        self.chain = Chain()
        self.files: set[Path] = set()
        self.endless: dict[str, None] = {}
        self._missing = {*heads} - {self.chain.head}
        self._lines = 0
        self._others: dict[str, int] = {}
        self._name = config.name
        self._roster = Roster.load(config.roster_path)
        self._keys = [*self._roster.keys_of(config.name), *keys]
        self._outputs: dict[str, str | None] = {}

    def problems(self, path: Path) -> Iterator[tuple[Line, str]]:
        """Yield every line that is wrong, and what is wrong with it."""
        torn = None
        for line in lines_of(path):
            self.files.add(line.file)
            self._lines += 1
            if torn is not None:
                # A crash tears only the end.
                yield torn, ALTERED
                torn = None
            if not line.whole and line.file == path and line.data.startswith(BEGINNINGS):
                torn = line
                continue
            if not line.whole:
                yield line, ALTERED
                continue
            try:
                entry = self.chain.take(line.data)
            except ValueError as fault:
                yield line, str(fault)
                continue
            finally:
                self._missing.discard(self.chain.head)
            if text := self._fault(entry):
                yield line, text
        if torn is not None:
            yield torn, TORN

    def missing(self, head: str) -> str:
        """Return what is wrong with `head`, one of the `heads`, once all was read; empty if it was found."""
        return f"no entry has the digest {head}: entries were cut off or replaced" if head in self._missing else ""

    def stranger(self) -> str:
        """Return the other member that signed every line, since this is that member's log; empty if there is none."""
        return next((name for name, lines in self._others.items() if lines == self._lines), "")

    def _fault(self, entry: Entry) -> str:
        member = entry.get("member")
        if member != self._name or not signed(entry, self._keys):
            if isinstance(member, str) and member in self._roster and signed(entry, self._roster.keys_of(member)):
                self._others[member] = self._others.get(member, 0) + 1
            return f"{UNSIGNED}, or its key is none of {self._name}'s in the roster (an earlier one can be given with --key)"
        try:
            if entry["kind"] == ENDED:
                self._outputs[entry["job"]] = entry["output"]
                if entry.get("outcome") != UNKNOWN:
                    self.endless.pop(entry["job"], None)
            elif entry["kind"] == STARTED:
                self.endless[entry["job"]] = None
                return fault_of(entry) or self._unsigned(entry)
        except (*NOT_WRITTEN, ConfigError):
            # The signature is right, but no node writes such an entry.
            return ALTERED
        return ""

    def _unsigned(self, entry: Entry) -> str:
        """Return whose signature of a job is wrong.  For a roster other than this one, only the form can be checked.

        A key counts for what was signed before it retired.  A key that the entry's own roster revokes never signed a job under that roster.
        """
        if entry["roster"] != self._roster.digest.hex():
            return "" if set(entry["signatures"]) == set(_signers(entry)) else "signatures are missing"
        digest, checked = bytes.fromhex(entry["digest"]), datetime.fromisoformat(entry["time"]) - CHECKED
        for name in _signers(entry):
            if not self._roster[name].signed(JOB, digest, decoded(entry["signatures"].get(name)), checked):
                return f"{name} did not sign this job"
        return ""

    def job_of(self, file: Path) -> str:
        """Return the job whose result is in `file`.  Raises ConfigError if the file has no result, or not the one that the log has."""
        try:
            answer: dict[str, Any] = json.loads(file.read_text("utf-8"))
            job, seal = str(answer["id"]), seal_of(answer["result"], bytes.fromhex(answer["seal"]))
        except OSError as fault:
            msg = f"{file}: the result cannot be read ({fault.strerror}); give the file that `beaver run --out` wrote"
            raise ConfigError(msg) from None
        except NOT_WRITTEN:
            msg = f"{file}: is no result of a job; give the file that `beaver run --out` wrote"
            raise ConfigError(msg) from None
        if self._outputs.get(job) != seal:
            why = "was altered, or is of another run of it" if job in self._outputs else "is of a job that this log does not know"
            msg = f"{file}: is not the result that the log has: it {why}. The log itself is whole"
            raise ConfigError(msg)
        return job


def _signers(entry: Entry) -> list[str]:
    """Return the signers of a job: its parties, and the client that asked for it."""
    client = entry["task"].get("client")
    return [*entry["task"]["parties"], *([client["name"]] if client else [])]


__all__ = ["TORN", "Verification"]

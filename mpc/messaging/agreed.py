"""One member's view of a session that all confirmed, and messages of others that arrived before it had the last confirmation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpc.errors import PeerMisbehaved

if TYPE_CHECKING:
    from mpc.channels.channel import Channel
    from mpc.channels.flow import Flow
    from mpc.framing import wire
    from mpc.messaging.job import Job

MAX_EARLY_CONTROLS = 1 << 14
"""Asks and endings that one member may send before this one has the last confirmation."""
MAX_EARLY_CONTROL_BYTES = 1 << 26
"""Bytes of all names in those asks, plus ASK_BYTES each: twice what a party asks for before it has an answer."""
ASK_BYTES = 64
"""About the bytes that keeping a name takes, however short it is."""


@dataclass(slots=True, repr=False)
class Agreed:
    """One party's view of a session that all confirmed; `seeds` and `flows` by member name."""

    job: Job
    session: bytes
    seeds: dict[str, bytes]
    flows: dict[str, Flow]
    channels: dict[str, Channel]
    early: list[tuple[str, wire.Body]] = field(default_factory=list)
    """Control messages of members that started while this one still waited for the last confirmation."""
    counts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    """For each member, the number of these messages and about how many bytes they take."""

    def keep(self, name: str, body: wire.Body) -> None:
        """Keep an ask or an ending that `name` sent early; PeerMisbehaved beyond the limits."""
        self.counts[name] += 1
        self.sizes[name] += _size(body, name)
        if self.counts[name] > MAX_EARLY_CONTROLS or self.sizes[name] > MAX_EARLY_CONTROL_BYTES:
            raise PeerMisbehaved(
                name,
                f"sent more than {MAX_EARLY_CONTROLS} messages, or {MAX_EARLY_CONTROL_BYTES} bytes in them, "
                "before the session was confirmed",
            )
        self.early.append((name, body))

    def ended(self) -> set[str]:
        """Members that said, before this one began, that they have ended the session."""
        return {name for name, body in self.early if body["kind"] == "leave"}


def _size(body: wire.Body, name: str) -> int:
    """About the bytes that an ask or an ending of `name` takes while it waits."""
    asked = body.get("relations", ())
    if not all(isinstance(relation, bytes) for relation in asked):
        raise PeerMisbehaved(name, "asked for a relation that is not defined")
    return sum(ASK_BYTES + len(relation) for relation in asked)

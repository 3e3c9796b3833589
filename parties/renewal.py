"""Renewal of a running node's policy, datasets and roster on SIGHUP: it takes all that its files say, or nothing.

The files are checked as at the start.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from mpc.errors import BeaverError, ConfigError
from mpc.membership.remembered import RosterMemory
from mpc.node import ways_of
from parties.config import load_node_config
from parties.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from mpc.node import Node
    from parties.config import NodeConfig

FIXED = ("name", "key", "state", "listen", "clocks", "relay", "audit", "audit_bytes", "max_jobs", "control", "status")
"""Keys of a configuration whose values stay in force from the start of a node to its end."""
PATIENCE = 30.0
"""Seconds within which the files are read."""


class Renewal:
    """`check` is what a start checks of a configuration; `take` puts a configuration in force."""

    def __init__(
        self,
        path: Path,
        settings: NodeConfig,
        node: Node,
        check: Callable[[NodeConfig], None],
        take: Callable[[NodeConfig], Awaitable[None]],
        patience: float = PATIENCE,
    ) -> None:
        self._path = path
        self._settings = settings
        self._node = node
        self._check = check
        self._take = take
        self._patience = patience

    async def serve(self, asked: asyncio.Event) -> NoReturn:
        """Renew whenever `asked` is set, until cancelled."""
        log = self._node.mesh.log
        while True:
            await asked.wait()
            asked.clear()
            try:
                await self._renew()
            except BeaverError as fault:
                text = "phase=renewal nothing was taken anew, the node goes on with what it has: %s"
                log.error(text, fault)  # noqa: TRY400  it says all
            except Exception:
                log.exception("phase=renewal nothing was taken anew, by a fault of the node itself")

    async def _renew(self) -> None:
        log = self._node.mesh.log
        # In a thread of its own: files of a disk that does not answer delay neither this node's other work nor its end.
        try:
            fresh, late = await Reading(lambda _: self._read()).within(self._patience)
        except TimeoutError:
            msg = f"{self._path}: it, or a file that it names, was not read within {self._patience:g} s; see what its disk waits for"
            raise ConfigError(msg) from None
        await self._take(fresh)
        self._settings = fresh
        rules, roster = fresh.rules, fresh.load_roster()
        try:
            # Remembered only now: if the audit log had not taken the roster, the node would go on with the one before, and have to start
            # with it.
            await asyncio.to_thread(RosterMemory(fresh.state_path, fresh.roster_path).follow, roster)
        except ConfigError as fault:
            log.error("phase=renewal the roster counts, and a restart would take the one before, too: %s", fault)  # noqa: TRY400  its text says all
        for key in late:
            log.warning("phase=renewal key %r of %s was changed: restart the node for it, until then the old value counts", key, self._path)
        if roster.unsigned:
            log.warning("phase=renewal the roster is not signed by %s", ", ".join(roster.unsigned))
        policy = f"the policy {rules.version!r} with digest {rules.digest.hex()} and " if roster[fresh.name].role == "party" else ""
        log.info(
            "phase=renewal from now on %sversion %d of the roster with digest %s count", policy, roster.content.version, roster.digest.hex()
        )

    def _read(self) -> tuple[NodeConfig, list[str]]:
        """Return the next configuration, and the changed keys that need a restart.  Raises ConfigError if anything is wrong."""
        written, running = load_node_config(self._path), self._settings
        late = [key for key in FIXED if getattr(written, key) != getattr(running, key)]
        fresh = written.model_copy(update={key: getattr(running, key) for key in FIXED})
        self._check(fresh)
        if fresh.identity().public != self._node.mesh.identity.public:
            msg = f"{fresh.key_path}: holds another key than the one that this node runs with; restart the node for it"
            raise ConfigError(msg)
        roster = fresh.load_roster()
        if ways_of(fresh) != ways_of(running):
            msg = (
                f"{fresh.roster_path}: version {roster.content.version} changes where this member listens, or whom it meets at the broker; "
                "restart the node for it"
            )
            raise ConfigError(msg)
        RosterMemory(fresh.state_path, fresh.roster_path).check(roster)
        return fresh, late


__all__ = ["Renewal"]

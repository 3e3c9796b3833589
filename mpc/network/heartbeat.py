"""Periodic checks: this member's key retires, files run out, a peer falls silent, or a peer must hear that this member lives."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mpc.errors import PeerLost
from mpc.framing import wire
from mpc.framing.handshake import retired
from mpc.membership.members import minute
from mpc.transport.link import TOO_MANY

if TYPE_CHECKING:
    import logging

    from mpc.channels.channel import Channel
    from mpc.membership.members import Member
    from mpc.network.mesh import Clocks

QUIET = 60.0
"""Seconds before the warning of too many open files is repeated."""


class Heartbeat:
    """The checks of each channel and of this member; the caller decides when they run."""

    def __init__(self, clocks: Clocks, log: logging.Logger) -> None:
        self._clocks, self._log = clocks, log
        self._retires: datetime | None = None
        self._told_full = float("-inf")

    def use(self, me: Member, key: bytes) -> None:
        """Take this member's entry `me` from the current roster; the member uses `key`."""
        self._retires = me.retires if me.retiring == key else None
        if self._retires is not None:
            self._log.warning("phase=start the own key retires on %s; set `key` to the new one before, and restart", minute(self._retires))

    def see_itself(self) -> None:
        """Log what keeps this member from its peers through no fault of theirs."""
        self._see_key()
        self._see_files()

    def _see_files(self) -> None:
        """Log a lack of file descriptors: the system then drops every new connection, and tells nobody."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as fault:
            if fault.errno in TOO_MANY and time.monotonic() - self._told_full > QUIET:
                self._told_full = time.monotonic()
                self._log.error("phase=mesh too many open files: new connections are dropped, and jobs may fail; raise `ulimit -n`")

    def _see_key(self) -> None:
        """Log that the key has retired: the others cut this member off then, and cannot tell it why."""
        if self._retires is not None and self._retires <= datetime.now(UTC):
            self._log.error(
                "the own key retired on %s, and nobody takes it any more; set `key` to the new one, and restart", minute(self._retires)
            )
            self._retires = None

    def beat(self, channel: Channel, now: float, held_up: float) -> None:
        """Interrupt or end `channel` if it is time, or ping the peer; this process itself did not run for `held_up` seconds."""
        lost = self._clocks.lost
        # Earlier than a job gives up its message: another connection can still save the job.
        heed = 0.75 * self._clocks.stall
        if channel.peer is not None and channel.peer.retires is not None and channel.peer.retires <= datetime.now(UTC):
            # Wall-clock time, as in the handshake: a connection does not outlive the key that it was made with.
            channel.end(retired(channel.peer))
        elif now - channel.heard > lost + held_up:
            channel.interrupt(PeerLost(channel.name, f"no bytes for {lost:g} s: the process is stopped, or the network is cut"))
        elif channel.unacknowledged.overdue(heed + held_up):
            channel.interrupt(PeerLost(channel.name, f"is alive, but acknowledged nothing for {heed:g} s: the way to it is disturbed"))
        elif channel.alive and now - channel.spoke > lost / 5:
            channel.send(wire.bare(wire.Kind.PING))

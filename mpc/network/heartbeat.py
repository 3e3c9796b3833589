"""What time does to a member: its own key retires, it runs out of files, and a peer falls silent, or is to hear that this one lives."""

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
"""Seconds after which it is said again that there are too many open files."""


class Heartbeat:
    """One beat after the other for each channel; who calls it knows when."""

    def __init__(self, clocks: Clocks, log: logging.Logger) -> None:
        self._clocks, self._log = clocks, log
        self._retires: datetime | None = None
        self._told_full = float("-inf")

    def use(self, me: Member, key: bytes) -> None:
        """From now on the roster says `me` of this member, which uses `key`."""
        self._retires = me.retires if me.retiring == key else None
        if self._retires is not None:
            self._log.warning("phase=start the own key retires on %s; set `key` to the new one before, and restart", minute(self._retires))

    def see_itself(self) -> None:
        """Say what keeps this member from its peers and is no fault of theirs."""
        self._see_key()
        self._see_files()

    def _see_files(self) -> None:
        """Without a descriptor the system drops every new connection, and tells nobody."""
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as fault:
            if fault.errno in TOO_MANY and time.monotonic() - self._told_full > QUIET:
                self._told_full = time.monotonic()
                self._log.error("phase=mesh too many open files: new connections are dropped, and jobs may fail; raise `ulimit -n`")

    def _see_key(self) -> None:
        """The others cut this member off when its key retires, and cannot tell it why."""
        if self._retires is not None and self._retires <= datetime.now(UTC):
            self._log.error(
                "the own key retired on %s, and nobody takes it any more; set `key` to the new one, and restart", minute(self._retires)
            )
            self._retires = None

    def beat(self, channel: Channel, now: float, held_up: float) -> None:
        """Interrupt or end `channel` if it is time for that, or say that this member lives; it did not run for `held_up` seconds itself."""
        lost = self._clocks.lost
        # Before a job gives up its message: another connection can still save it.
        heed = 0.75 * self._clocks.stall
        if channel.peer is not None and channel.peer.retires is not None and channel.peer.retires <= datetime.now(UTC):
            # By the clock of the wall, as at the handshake: a connection does not outlive the key that it was made with.
            channel.end(retired(channel.peer))
        elif now - channel.heard > lost + held_up:
            channel.interrupt(PeerLost(channel.name, f"no bytes for {lost:g} s: the process is stopped, or the network is cut"))
        elif channel.unacknowledged.overdue(heed + held_up):
            channel.interrupt(PeerLost(channel.name, f"is alive, but acknowledged nothing for {heed:g} s: the way to it is disturbed"))
        elif channel.alive and now - channel.spoke > lost / 5:
            channel.send(wire.bare(wire.Kind.PING))

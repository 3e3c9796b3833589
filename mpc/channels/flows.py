"""The flows of one channel.  A frame names its session by the first bytes of the session's id only, so no two of them may begin alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.channels.flow import Flow
from mpc.errors import Disagreement
from mpc.framing import wire

if TYPE_CHECKING:
    from mpc.channels.flow import Outlet


class Flows:
    """One flow for each session that is carried, each by the whole id: whoever closes a session that is over must not close the one alike."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._open: dict[bytes, tuple[bytes, Flow]] = {}

    def alike(self, session: bytes) -> bool:
        """Whether another session is carried that no frame could tell from this one."""
        return self._open.get(session[: wire.SESSION_PREFIX], (session,))[0] != session

    def open(self, session: bytes, peer: str, window: int) -> Flow:
        """Carry `session`, which must be `alike` to no other."""
        flow = Flow(session, peer, self._outlet, window)
        self._open[session[: wire.SESSION_PREFIX]] = session, flow
        return flow

    def on_frame(self, frame: wire.FlowFrame) -> None:
        """Hand it to its flow; what is for a session that is carried no more is dropped."""
        session = frame.session if isinstance(frame, wire.Credit) else frame.tag[: wire.SESSION_PREFIX]
        _, flow = self._open.get(session, (b"", None))
        if flow is None:
            return
        try:
            flow.on_frame(frame)
        except Disagreement as fault:
            flow.on_disagreement(fault)

    def close(self, session: bytes, fault: Exception) -> Flow | None:
        """The flow of `session`, which fails with `fault`, and is carried no more."""
        if self.alike(session):
            return None
        flow = self._open.pop(session[: wire.SESSION_PREFIX], (b"", None))[1]
        if flow is not None:
            flow.fail(fault)
        return flow

    def cut_off(self, fault: Exception) -> None:
        """The channel is gone."""
        for _, flow in self._open.values():
            flow.cut_off(fault)
        self._open.clear()


__all__ = ["Flows"]

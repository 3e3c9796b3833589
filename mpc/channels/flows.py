"""The flows of one channel. A frame names its session by the first bytes of the id only, so no two ids here may begin alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.channels.flow import Flow
from mpc.errors import Disagreement
from mpc.framing import wire

if TYPE_CHECKING:
    from mpc.channels.flow import Outlet


class Flows:
    """One flow per session, by whole id: closing a session that is over must not close another one whose id begins alike."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._open: dict[bytes, tuple[bytes, Flow]] = {}

    def alike(self, session: bytes) -> bool:
        """Whether another session is carried that frames could not tell from this one."""
        return self._open.get(session[: wire.SESSION_PREFIX], (session,))[0] != session

    def open(self, session: bytes, peer: str, window: int) -> Flow:
        """Carry `session`; its id must not begin like another one's."""
        flow = Flow(session, peer, self._outlet, window)
        self._open[session[: wire.SESSION_PREFIX]] = session, flow
        return flow

    def on_frame(self, frame: wire.FlowFrame) -> None:
        """Hand the frame to its flow; drop it if its session is no longer carried."""
        session = frame.session if isinstance(frame, wire.Credit) else frame.tag[: wire.SESSION_PREFIX]
        _, flow = self._open.get(session, (b"", None))
        if flow is None:
            return
        try:
            flow.on_frame(frame)
        except Disagreement as fault:
            flow.on_disagreement(fault)

    def close(self, session: bytes, fault: Exception) -> Flow | None:
        """Stop carrying `session`: return its flow, which fails with `fault`."""
        if self.alike(session):
            return None
        flow = self._open.pop(session[: wire.SESSION_PREFIX], (b"", None))[1]
        if flow is not None:
            flow.fail(fault)
        return flow

    def cut_off(self, fault: Exception) -> None:
        """The channel is gone: cut off every flow."""
        for _, flow in self._open.values():
            flow.cut_off(fault)
        self._open.clear()


__all__ = ["Flows"]

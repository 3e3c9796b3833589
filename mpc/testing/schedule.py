"""Seeded disorder for simulations: delayed frames and reordered callbacks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mpc.prg import Stream

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_BATCH = 4096


class Dice:
    """Reproducible choices from a seed."""

    def __init__(self, seed: int, purpose: str) -> None:
        self._stream = Stream(seed.to_bytes(32, "little"), ("dice", purpose))
        self._block = 0
        self._left: list[int] = []

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        if not self._left:
            self._left = [int(word) for word in self._stream.words(self._block, (_BATCH,))]
            self._block += _BATCH // 2
        return self._left.pop() % limit


class Delays:
    """Delivers every frame after 0 to `hops` turns of the loop, and now and then after a real delay."""

    def __init__(self, seed: int, purpose: str, hops: int = 6) -> None:
        self._dice = Dice(seed, purpose)
        self._hops = hops

    def __call__(self, deliver: Callable[[], None]) -> None:
        """Schedule one delivery."""
        if not self._dice.below(50):
            asyncio.get_running_loop().call_later(0.001, deliver)
            return
        self._hop(self._dice.below(self._hops), deliver)

    def _hop(self, left: int, deliver: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if left:
            loop.call_soon(self._hop, left - 1, deliver)
        else:
            loop.call_soon(deliver)


class ShuffledLoop(asyncio.SelectorEventLoop):
    """An event loop that lets ready callbacks overtake each other: the seed determines the order in which tasks resume."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = Dice(seed, "loop")

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call back as usual, or one turn of the loop later."""
        if self._dice.below(3):
            return super().call_soon(callback, *args, context=context)
        outer = super().call_soon
        handle: list[asyncio.Handle] = []

        def later() -> None:
            if not handle[0].cancelled():
                outer(callback, *args, context=context)

        handle.append(outer(later, context=context))
        return handle[0]

"""Reading data beside everything else: however long it takes, it holds up no other job, and not the end of the process."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from parties.sources.halt import Halt

if TYPE_CHECKING:
    from collections.abc import Callable

    from parties.config import NodeConfig

T = TypeVar("T")

GRACE = 1.0
"""Seconds in which a reading that is told to stop should have ended."""
AGAIN = 0.1


class Reading(Generic[T]):
    """`read` in a thread of its own, from now on.

    No pool of threads: entries of the audit log would wait in it behind what hangs, and the process, when it ends, for all of its threads.
    How many there are at once is for whoever starts them to limit, by `over`.
    """

    def __init__(self, read: Callable[[Halt], T]) -> None:
        self._halt = Halt()
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self.over: asyncio.Future[T] = self._loop.create_future()
        # What a reading that was told to stop raises is for nobody, and no fault to report.
        self.over.add_done_callback(lambda over: over.exception())
        threading.Thread(target=self._run, args=(read,), name="reading", daemon=True).start()

    async def within(self, seconds: float | None) -> T:
        """What was read.  TimeoutError after so many seconds; then, and if whoever waits is cancelled, the reading is told to stop."""
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(self.over)
        finally:
            if not self.over.done():
                # In a thread, since asking a server to stop takes as long as the way there.
                threading.Thread(target=self._stop, name="halting", daemon=True).start()
                await asyncio.wait([self.over], timeout=GRACE)

    def _run(self, read: Callable[[Halt], T]) -> None:
        try:
            value = read(self._halt)
        except BaseException as fault:  # noqa: BLE001  whoever waits hears of it
            self._tell(self.over.set_exception, fault)
        else:
            self._tell(self.over.set_result, value)

    def _tell(self, settle: Callable[[Any], None], outcome: Any) -> None:
        self._ended.set()
        with suppress(RuntimeError):
            # The loop may have been closed meanwhile.
            self._loop.call_soon_threadsafe(settle, outcome)

    def _stop(self) -> None:
        self._halt.tell()
        while not self._ended.wait(AGAIN):
            self._halt.tell()


async def in_time(reading: Reading[T], config: NodeConfig, dataset: str) -> T:
    """What was read of `dataset`; ConfigError if that takes longer than the configuration allows."""
    seconds = config.dataset(dataset).seconds
    try:
        return await reading.within(seconds)
    except TimeoutError:
        text = (
            f"dataset {dataset!r} was not read within {seconds:g} s; see what its source waits for, or set `seconds` of the dataset higher"
        )
        raise config.fault(("datasets", dataset), text) from None


__all__ = ["Reading", "in_time"]

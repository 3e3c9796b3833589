"""Reading data beside everything else: however long a reading takes, it delays no other job, and not the end of the process."""

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
"""Seconds in which a reading should end once it is told to stop."""
AGAIN = 0.1


class Reading(Generic[T]):
    """Runs `read` in a thread of its own, from now on.

    Not in a pool of threads: entries of the audit log would wait in it behind a reading that hangs, and at its end the process would wait
    for all of the pool's threads.  The caller limits how many readings there are at once, by `over`.
    """

    def __init__(self, read: Callable[[Halt], T]) -> None:
        self._halt = Halt()
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self.over: asyncio.Future[T] = self._loop.create_future()
        # An error of a reading that was told to stop is for nobody, and no fault to report.
        self.over.add_done_callback(lambda over: over.exception())
        threading.Thread(target=self._run, args=(read,), name="reading", daemon=True).start()

    async def within(self, seconds: float | None) -> T:
        """Return what was read, or raise TimeoutError after so many seconds.

        Then, and if the caller is cancelled, the reading is told to stop.
        """
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
        self._halt.stop()
        while not self._ended.wait(AGAIN):
            self._halt.stop()


async def in_time(reading: Reading[T], config: NodeConfig, dataset: str) -> T:
    """Return what was read of `dataset`.  Raises ConfigError if that takes longer than the configuration allows."""
    seconds = config.dataset(dataset).seconds
    try:
        return await reading.within(seconds)
    except TimeoutError:
        text = (
            f"dataset {dataset!r} was not read within {seconds:g} s; see what its source waits for, or set `seconds` of the dataset higher"
        )
        raise config.fault(("datasets", dataset), text) from None


__all__ = ["Reading", "in_time"]

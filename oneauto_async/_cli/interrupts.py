"""Ctrl-C and SIGTERM as a count: each one ends the step that is running, never the program in the middle of a write."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["Interrupts"]


class Interrupts:
    """Runs the steps of a job so that a signal cancels the one under way.

    Attributes:
        count: signals so far.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._heeded = 0
        self._step: asyncio.Task[None] | None = None
        self._told: Callable[[], None] | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM in this block, which runs inside an event loop of the main thread."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._arrived))
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    async def step(self, work: Coroutine[object, object, None], *, told: Callable[[], None] | None = None) -> None:
        """Run a step to its end, or to the next signal. What it raises comes through.

        A signal that came between two steps ends the one that follows.

        Args:
            work: the step.
            told: called once when a signal ends the step, for one that may take long to end.
        """
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0)  # cancelled before it begins, a step that closes things would close nothing
        self._step, self._told = task, told
        if self.count > self._heeded:
            self._end_step()
        await asyncio.wait([task])
        self._step = None
        if not task.cancelled():
            task.result()

    def _arrived(self) -> None:
        self.count += 1
        self._end_step()

    def _end_step(self) -> None:
        if self._step is not None:
            self._heeded = self.count
            self._step.cancel()
            told, self._told = self._told, None
            if told is not None:
                told()

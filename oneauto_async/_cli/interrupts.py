"""Ctrl-C and its like as a count: each ends the step that is running, never the program in the middle of a write."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import signal
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from types import FrameType

__all__ = ["Interrupts", "as_ctrl_c", "endings", "handled", "postponed"]

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | signal.Handlers"


def endings() -> list[signal.Signals]:
    """Return the signals that end a run: Ctrl-C, SIGTERM, and SIGHUP when its terminal is closed.

    One that whoever started the program had it ignore, as ``nohup`` and a shell's ``&`` do, goes on being ignored.
    """
    known = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))
    return [number for number in known if number is not None and signal.getsignal(number) is not signal.SIG_IGN]


@contextlib.contextmanager
def handled(
    numbers: Iterable[signal.Signals], handler: Handler, *, afterwards: Handler | None = None
) -> Iterator[None]:
    """Handle these signals in this block, which is in the main thread, and then as before or as told."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, afterwards or earlier or signal.SIG_DFL)


@contextlib.contextmanager
def as_ctrl_c(*, is_last: bool = False) -> Iterator[None]:
    """Let whatever ends a run raise `KeyboardInterrupt` in this block, so that nothing half made is left behind.

    Arguments:
        is_last: the process ends after the block; by then it has its exit code, and these signals are ignored.
    """
    with handled(_endings_here(), _Once(), afterwards=signal.SIG_IGN if is_last else None):
        yield


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let whatever ends a run wait for the end of this block.

    So nothing is made in the block that nobody knows of yet.
    """
    arrived: list[int] = []
    with handled(_endings_here(), lambda number, _frame: arrived.append(number)):
        yield
    if arrived:
        signal.raise_signal(arrived[0])  # to whom it would have come


def _endings_here() -> list[signal.Signals]:
    """Return the signals that end a run, if this thread is the one that may handle them."""
    return endings() if threading.current_thread() is threading.main_thread() else []


AT_ONCE = 1.0
"""Seconds in which signals are one: a terminal that closes sends several, and the second must not end what cleans up
after the first."""


class _Once:
    """A handler that raises `KeyboardInterrupt`, once for several signals together."""

    def __init__(self) -> None:
        self._raised_at = -AT_ONCE

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if time.monotonic() - self._raised_at >= AT_ONCE:
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt


ECHO = 0.1
"""Seconds in which signals that come while calls are under way are one: whatever has started the program may hand on a
Ctrl-C which the terminal has sent to both. Nobody types it twice as fast, and a second one costs answers."""

LONGEST_REPORT = 10.0
"""Seconds from the first signal during a report from which on another one ends the program: sorting and writing a
million records takes less, and a reader that takes nothing takes for ever."""


class Interrupts:
    """Runs the steps of a job so that a signal cancels the one under way.

    Attributes:
        count: signals so far.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.count = 0
        self._signals = self._heeded = 0
        self._came_at = -math.inf
        self._counted_at: float | None = None
        self._step: asyncio.Task[None] | None = None
        self._told: Callable[[], None] | None = None

    @contextlib.contextmanager
    def caught(self, is_held_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Catch the signals that end a run in this block, which is inside an event loop of the main thread.

        Arguments:
            is_held_up: whether the loop waits for somebody to take what is written. A second signal in that time ends
                the wait, by an `OSError` from the write.
        """
        loop = asyncio.get_running_loop()
        self._signals = self.count
        with handled(endings(), lambda *_: self._pass_on(loop, is_held_up)):
            yield

    def _pass_on(self, loop: asyncio.AbstractEventLoop, is_held_up: Callable[[], bool]) -> None:
        """Let the loop know of a signal; it may not even have heard of the last one."""
        if time.monotonic() - self._came_at < ECHO:
            return
        is_unheard = self._signals > self.count
        self._came_at, self._signals = time.monotonic(), self._signals + 1
        loop.call_soon_threadsafe(self._arrived)
        if is_unheard and is_held_up():
            raise OSError(errno.ETIMEDOUT, "its reader takes nothing")

    def outlive(self) -> None:
        """Only count the signals from now on, outside `caught` too: one would cut off the report of what was paid for.

        One that comes long after the first raises `KeyboardInterrupt`: whatever takes so long has got stuck.
        `as_ctrl_c`, around the whole program, ends this.
        """
        for number in endings():
            signal.signal(number, self._count)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        now = time.monotonic()
        self._counted_at = now if self._counted_at is None else self._counted_at
        if now - self._counted_at > LONGEST_REPORT:
            raise KeyboardInterrupt

    async def step(self, work: Coroutine[object, object, None], *, told: Callable[[], None] | None = None) -> None:
        """Run a step to its end, or to the next signal. What it raises comes through.

        A signal that came between two steps ends the one that follows.

        Arguments:
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

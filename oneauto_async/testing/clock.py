"""Virtual time: a clock that jumps to the next timer as soon as everyone waits, so that no test sleeps for real."""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor

__all__ = ["VirtualClock", "VirtualEventLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_EPOCH = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC
_PATIENCE = 2.0
"""Real seconds that a thread or a socket is given to wake a loop in which nothing else is left to do."""


class VirtualClock:
    """A `Clock` whose time costs nothing: an hour of sleep passes at once, and every run is the same.

    ``clock.run(main())`` runs a coroutine to its end on an event loop of its own. In it ``asyncio.sleep``,
    ``asyncio.timeout`` and ``loop.call_later`` are all virtual. Give the clock to what you test as its ``clock``, so
    that its draws are repeatable and its sleeps exact. And keep real sockets out: their answers take real time, and
    virtual time does not wait for them.
    """

    def __init__(self, seed: int = 0, start: float = 0.0) -> None:
        """Make a clock.

        Arguments:
            seed: of the random numbers.
            start: what `monotonic` shows at first, in seconds.
        """
        self._random = random.Random(seed)
        self._now = start

    def __repr__(self) -> str:
        """Show the time."""
        return f"<VirtualClock at {self.monotonic():g} s>"

    def monotonic(self) -> float:
        """Return the running loop's time in seconds; between two runs, the time at which the last one ended."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return self._now

    def wall(self) -> float:
        """Return seconds since the epoch: `monotonic`, counted from the beginning of 2026."""
        return _EPOCH + self.monotonic()

    def random(self) -> float:
        """Return the next random number of the seed, from 0 up to but not including 1."""
        return self._random.random()

    async def sleep(self, seconds: float, *, exact: bool = False) -> None:
        """Sleep on the running loop, whose timers are always ``exact``; cancellation passes through."""
        await asyncio.sleep(seconds)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end in virtual time and return its result; time goes on from the last run.

        Raises:
            RuntimeError: everyone waits and nothing is scheduled, so the coroutine can never end.
        """
        loop = VirtualEventLoop(self._now)
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                return runner.run(main)
        finally:
            self._now = loop.time()


class VirtualEventLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still while there is work, and jumps to the next timer when there is none.

    Work in threads takes no virtual time: the loop waits for it, really, before it jumps.
    """

    def __init__(self, start: float = 0.0) -> None:
        """Make a loop whose `time` begins at so many seconds."""
        self._virtual_now = start
        self._threads_at_work = 0
        super().__init__(_JumpingSelector(self))
        # Far from 0 a shorter timer would never be due: so late, the time cannot move by less.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual_now

    def wall(self) -> float:
        """Return seconds since the epoch: `time`, counted from the beginning of 2026."""
        return _EPOCH + self._virtual_now

    def jump(self, seconds: float) -> None:
        """Let that much time pass at once."""
        self._virtual_now += seconds

    @property
    def awaits_threads(self) -> bool:
        """Whether work that was given to threads is not done yet."""
        return self._threads_at_work > 0

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run a function in a thread, and hold the time until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, future: asyncio.Future[Any]) -> None:
        self._threads_at_work -= 1

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads to end, and hold the time: the wait has a time limit in newer versions of Python."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._threads_at_work -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """The loop's selector: where a real one blocks until the next timer, this one moves the time there."""

    def __init__(self, loop: VirtualEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, let ``timeout`` seconds of virtual time pass."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self._loop.awaits_threads:
            return super().select(None)
        if timeout is None:
            return self._last_look()
        self._loop.jump(timeout)
        return []

    def _last_look(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for real, a little, for anything outside the loop that could wake it; then give up."""
        # The loop's own wake-up pipe is always registered; anything more is a socket that may have something to say.
        can_be_woken = threading.active_count() > 1 or len(self.get_map()) > 1
        ready = super().select(_PATIENCE) if can_be_woken else []
        if not ready:
            names = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self._loop)))
            raise RuntimeError(f"everyone waits and nothing is scheduled: {names or 'no task'} can never go on")
        return ready

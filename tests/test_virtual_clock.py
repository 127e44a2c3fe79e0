"""Virtual time: jumps instead of waiting, repeats exactly, and says so when nobody can go on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from oneauto_async.testing import VirtualClock

if TYPE_CHECKING:
    from oneauto_async.clock import Clock


def test_it_is_a_clock() -> None:
    """A virtual clock goes wherever the library asks for a clock."""
    clock: Clock = VirtualClock()

    assert clock.monotonic() == 0.0


def test_an_hour_passes_at_once() -> None:
    """Sleeping takes virtual time and no real time."""
    clock = VirtualClock()

    async def main() -> float:
        await clock.sleep(3600)
        return clock.monotonic()

    began = time.perf_counter()
    assert clock.run(main()) == 3600.0
    assert time.perf_counter() - began < 1.0


def test_everything_of_asyncio_is_virtual() -> None:
    """Plain sleeps, timeouts and delayed calls keep to the same time, in the order of their moments."""
    clock = VirtualClock()
    events: list[tuple[str, float]] = []

    def note(name: str) -> None:
        events.append((name, clock.monotonic()))

    async def sleep_and_hang() -> None:
        async with asyncio.timeout(3):
            await asyncio.sleep(1)
            note("sleep")
            await asyncio.Event().wait()

    async def main() -> None:
        asyncio.get_running_loop().call_later(2, note, "call_later")
        with pytest.raises(TimeoutError):
            await sleep_and_hang()
        note("timeout")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 4)
        note("wait_for")

    clock.run(main())
    assert events == [("sleep", 1.0), ("call_later", 2.0), ("timeout", 3.0), ("wait_for", 7.0)]


def test_two_runs_are_the_same() -> None:
    """Times and random numbers repeat exactly with the same seed, and differ with another."""

    def history(seed: int) -> list[float]:
        clock = VirtualClock(seed=seed)
        seen: list[float] = []

        async def worker() -> None:
            for _ in range(20):
                await clock.sleep(clock.random())
                seen.append(clock.monotonic())

        async def main() -> None:
            await asyncio.gather(*(worker() for _ in range(5)))

        clock.run(main())
        return seen

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_time_goes_on_from_run_to_run() -> None:
    """The clock never runs backwards: a second run begins where the first one ended."""
    clock = VirtualClock(start=10.0)

    clock.run(clock.sleep(5))
    clock.run(clock.sleep(1))

    assert clock.monotonic() == 16.0
    assert repr(clock) == "<VirtualClock at 16 s>"


@pytest.mark.parametrize("start", [2.0**24 - 1, 1.8e9])
def test_time_may_begin_far_from_zero(start: float) -> None:
    """Such as at the seconds since 1970, where a float is coarse."""
    clock = VirtualClock(start=start)

    clock.run(clock.sleep(2.5))

    assert clock.monotonic() == pytest.approx(start + 2.5, abs=1e-3)


def test_the_time_of_day_moves_along() -> None:
    """The wall clock starts at 2026 and advances with the virtual time."""
    clock = VirtualClock()
    began = clock.wall()

    clock.run(clock.sleep(90))

    assert time.gmtime(began)[:6] == (2026, 1, 1, 0, 0, 0)
    assert clock.wall() - began == 90.0


def test_a_deadlock_is_an_error() -> None:
    """When everyone waits and nothing is scheduled, the run ends with an error that names the tasks."""

    async def main() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="waits for ever")

    with pytest.raises(RuntimeError, match=r"everyone waits and nothing is scheduled: .*waits for ever"):
        VirtualClock().run(main())


def test_a_thread_is_waited_for() -> None:
    """Work in a thread takes no virtual time, and a timeout does not run out under it."""
    clock = VirtualClock()

    def work() -> str:
        time.sleep(0.02)
        return "done"

    async def main() -> str:
        async with asyncio.timeout(30):
            return await asyncio.to_thread(work)

    assert clock.run(main()) == "done"
    assert clock.monotonic() == 0.0


def test_a_thread_outside_the_loop_can_wake_it() -> None:
    """A call from another thread wakes a loop in which nothing is scheduled."""
    import threading

    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        thread = threading.Timer(0.02, loop.call_soon_threadsafe, (future.set_result, "woken"))
        thread.start()
        return await future

    assert VirtualClock().run(main()) == "woken"


def test_an_error_comes_out() -> None:
    """What the coroutine raises is raised by the run, and tasks left behind are cancelled."""
    cancelled: list[bool] = []

    async def straggler() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        task = asyncio.create_task(straggler())
        await asyncio.sleep(1)
        assert not task.done()
        raise ValueError("of the coroutine")

    with pytest.raises(ValueError, match="of the coroutine"):
        VirtualClock().run(main())
    assert cancelled == [True]

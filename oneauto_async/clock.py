"""Time and chance, passed in: every wait and every random draw of the library goes through one `Clock`."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


TIMER_GRAIN = 0.0025
"""Seconds by which a timer of asyncio's may be late: selectors count in whole milliseconds, and waking takes time."""

MOST_YIELDS = 1000
"""Yields after which a clock that has not moved at all is taken for a virtual one."""


class Clock(Protocol):
    """What the library needs to know of time and chance. Give your own as ``OneAutoClient(clock=…)``."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never runs backwards."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch, for a ``Retry-After`` that is a date and for a ledger's moments and ages."""
        ...

    def random(self) -> float:
        """Return a number from 0 up to but not including 1, for jitter."""
        ...

    async def sleep(self, seconds: float, *, exact: bool = False) -> None:
        """Sleep; cancellation passes through. ``exact`` asks for the finest timing there is, whatever it costs."""
        ...


class SystemClock:
    """The real clock: the running event loop's own time, so that waits and the loop's timeouts agree."""

    def monotonic(self) -> float:
        """Return the running loop's time; outside a loop that of the loops asyncio makes, which is the same."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

    def wall(self) -> float:
        """Return the machine's time of day."""
        return time.time()

    def random(self) -> float:
        """Draw from the standard library's generator: jitter is no secret."""
        return random.random()

    async def sleep(self, seconds: float, *, exact: bool = False) -> None:
        """Sleep on the running loop; its timers may be late by `TIMER_GRAIN`, which ``exact`` spends yielding.

        Cancelling ends it at once.
        """
        if not exact:
            await asyncio.sleep(seconds)
            return
        end = self.monotonic() + seconds
        if seconds > TIMER_GRAIN:
            await asyncio.sleep(seconds - TIMER_GRAIN)
        woken = self.monotonic()
        for yields in itertools.count():
            now = self.monotonic()
            if now >= end:
                return
            if yields >= MOST_YIELDS and now == woken:  # a loop whose time stands still while there is work
                await asyncio.sleep(end - now)
                return
            await asyncio.sleep(0)

"""Those who wait for a grant, and the pump that serves one after the other: all of the governor that waits.

Retries stand ahead of new ids. The pump runs only while somebody waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

import attrs

from .._waiting import start
from ..clock import Clock
from ..errors import ConfigurationError, OneAutoError
from .calls import Grant
from .patience import Patience

SHORTEST_SLEEP = 1e-6
"""Seconds: a clock that counts from far away, as in virtual time, would not move by less."""


@attrs.frozen(kw_only=True)
class Rules:
    """What decides who may go, and when. Moments are passed in.

    Attributes:
        delay: returns the seconds until the next call may go out; infinity if the end of another must come first.
        grant: lets one go.
        give_back: undoes that for one who was gone by then.
        refusal: says why someone with this patience is turned away, if so.
        may_have_shut: tells whether nobody may go any more, though somebody just did.
        begins_with_newcomers: tells whether new ids go ahead of retries.
        needs_exact_time: tells whether every millisecond of delay is lost.
    """

    delay: Callable[[float], float]
    grant: Callable[[float], Grant]
    give_back: Callable[[Grant], None]
    refusal: Callable[[Patience, float], OneAutoError | None]
    may_have_shut: Callable[[float], bool]
    begins_with_newcomers: Callable[[], bool]
    needs_exact_time: Callable[[], bool]


@attrs.define(eq=False)
class _Waiter:
    patience: Patience
    granted: asyncio.Future[Grant]


class Queue:
    """Everyone who waits for a grant of one governor, on one event loop at a time."""

    def __init__(self, rules: Rules, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock
        self._retries: deque[_Waiter] = deque()
        self._newcomers: deque[_Waiter] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._stirred: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        return len(self._retries) + len(self._newcomers)

    async def wait(self, patience: Patience, *, retrying: bool) -> Grant:
        """Wait for a grant, or be turned away. Cancelling gives the place back."""
        self._require_own_loop()
        line = self._retries if retrying else self._newcomers
        waiter = _Waiter(patience, asyncio.get_running_loop().create_future())
        line.append(waiter)
        self._start_pump()
        try:
            return await waiter.granted
        except BaseException:  # cancelled or turned away
            self._leave(line, waiter)
            raise

    def wake(self) -> None:
        """Let the next in line go at once if it may: the pump may be asleep until the token after the next."""
        self._stop_pump()
        if self:
            self._start_pump()

    def stir(self) -> None:
        """Learn that a call has ended: that may let the next one out."""
        if self._stirred is not None:
            self._stirred.set()

    def turn_away(self, now: float) -> None:
        """Refuse those who need not wait any longer."""
        for waiter in (*self._retries, *self._newcomers):
            refusal = self._rules.refusal(waiter.patience, now)
            if refusal is not None and not waiter.granted.done():
                waiter.granted.set_exception(refusal)

    def _require_own_loop(self) -> None:
        """Begin anew on another event loop if the last one is closed: who waited there will never be served."""
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise ConfigurationError("this governor is in use on another event loop or thread: make one for each")
            self._retries.clear()
            self._newcomers.clear()
            self._pump = self._stirred = None
        self._loop = loop

    def _leave(self, line: deque[_Waiter], waiter: _Waiter) -> None:
        """Return a waiter's place, or the token of a grant that came in the moment of its cancellation."""
        if waiter in line:
            line.remove(waiter)
        elif waiter.granted.done() and waiter.granted.exception() is None:
            self._rules.give_back(waiter.granted.result())
        if not self:
            self._stop_pump()

    # The pump.

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = start(self._serve(), "oneauto governor")

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    async def _serve(self) -> None:
        """Grant to one waiter after the other, each when its moment has come."""
        try:
            while self:
                now = self._clock.monotonic()
                delay = self._rules.delay(now)
                if delay <= 0:
                    self._serve_next(now)
                else:
                    await self._pause(delay, self._longest_wait(now))
                if self._rules.may_have_shut(now):
                    self.turn_away(self._clock.monotonic())
        except Exception as error:  # noqa: BLE001  # a clock that fails must not leave anyone waiting for ever
            self._fail_everyone(error)
        self._pump = None

    def _serve_next(self, now: float) -> None:
        lines = (self._retries, self._newcomers)
        first, second = reversed(lines) if self._rules.begins_with_newcomers() else lines
        waiter = (first or second).popleft()
        if waiter.granted.done():
            return
        refusal = self._rules.refusal(waiter.patience, now) if now >= waiter.patience.until else None
        if refusal is None:
            waiter.granted.set_result(self._rules.grant(now))
        else:
            waiter.granted.set_exception(refusal)

    def _longest_wait(self, now: float) -> float:
        """Return the seconds until somebody has waited for as long as its patience lasts."""
        untils = (waiter.patience.until for waiter in self._retries if not waiter.granted.done())
        return min(untils, default=math.inf) - now

    async def _pause(self, delay: float, longest: float) -> None:
        """Wait until the next call may go out, for ``delay`` seconds or news, or until somebody loses its patience."""
        if math.isfinite(delay):
            seconds = min(delay, max(0.0, longest))
            await self._clock.sleep(max(seconds, SHORTEST_SLEEP), exact=self._rules.needs_exact_time())
        else:
            await self._news(longest)
        if delay > longest:
            self.turn_away(self._clock.monotonic())

    async def _news(self, longest: float) -> None:
        """Wait until a call has ended, for at most so many seconds: only that can let the next one out."""
        self._stirred = asyncio.Event()
        bell = start(self._ring(max(SHORTEST_SLEEP, longest)), "oneauto governor") if math.isfinite(longest) else None
        try:
            await self._stirred.wait()
        finally:
            if bell is not None:
                bell.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.stir()

    def _fail_everyone(self, error: Exception) -> None:
        for waiter in (*self._retries, *self._newcomers):
            if not waiter.granted.done():
                waiter.granted.set_exception(error)

"""The governor: every attempt asks it for a grant and tells it how the attempt ended.

Its parts are pure and know no waiting: the bucket (pacing to a given limit), the gate (429 and ``Retry-After``) and the
quota flag. Here is the shell that waits: a queue, retries ahead of new ids, and a pump that runs only while someone
waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque

import attrs

from ..clock import Clock, SystemClock
from ..errors import DeadlineExceededError, OneAutoError, QuotaExceededError, RateLimitedError, ServiceUnavailableError
from ..settings import RateLimit
from .bucket import TokenBucket
from .gate import Cause, Closing, Gate

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 8.0
"""Seconds the gate is shut by a 429 that names no time: the first, doubling up to the longest, with full jitter on top
of half. A gateway's bucket refills within seconds."""

QUOTA_HOLD = 60.0
LONGEST_QUOTA_HOLD = 900.0
"""Seconds a used-up quota fails every call at once before calls go out again; doubling, for services that live on."""


@attrs.frozen(kw_only=True)
class Grant:
    """Leave to send one request.

    Attributes:
        number: counts the grants of a governor.
        at: the moment it was given, on the clock.
    """

    number: int
    at: float


@attrs.frozen(kw_only=True)
class Patience:
    """How long one lookup is ready to stand before a shut gate.

    Attributes:
        longest_closing: seconds; a gate the service asked to be shut for longer than this is not waited for at all.
        longest_wait: seconds; the most that may be left until a shut gate opens.
        until: the moment on the clock by which a shut gate must be open.
    """

    longest_closing: float = math.inf
    longest_wait: float = math.inf
    until: float = math.inf


@attrs.frozen(kw_only=True)
class GovernorStatistics:
    """What the governor is doing and has counted, for a person to read.

    Attributes:
        rate: calls per second it paces to, or ``None`` when no limit was given.
        level: tokens in its copy of the bucket, or ``None``.
        waiting: calls in its queue.
        gate: seconds until the gate opens; 0 when it is open.
        granted: grants given so far.
        accepted: replies that refused nothing: neither 429 nor 500 nor 503.
        throttled: 429 replies, used-up quotas among them.
        unavailable: 500 and 503 replies.
    """

    rate: float | None
    level: float | None
    waiting: int
    gate: float
    granted: int
    accepted: int
    throttled: int
    unavailable: int


@attrs.define(eq=False)
class _Waiter:
    patience: Patience
    granted: asyncio.Future[Grant]


class Governor:
    """Paces and holds the calls of one key. A client makes its own; give one to several clients to share it.

    It belongs to the event loop it is first waited on.
    """

    def __init__(self, limit: RateLimit | None = None, *, clock: Clock | None = None) -> None:
        limit = RateLimit.adaptive() if limit is None else limit
        self._clock = SystemClock() if clock is None else clock
        self._bucket = None if limit.rate is None else TokenBucket(limit.rate, limit.burst)
        self._gate = Gate()
        self._retries: deque[_Waiter] = deque()
        self._newcomers: deque[_Waiter] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._granted = self._accepted = self._throttled = self._unavailable = 0
        self._shut_at_grant = 0
        self._throttles_in_a_row = 0
        self._quota_until = -math.inf
        self._quota_hold = QUOTA_HOLD

    def __repr__(self) -> str:
        return f"<Governor {self._bucket or 'without a given limit'}, {self._gate}, {self._waiting()} waiting>"

    @property
    def accepted(self) -> int:
        """How many replies refused nothing: whether the queue moves."""
        return self._accepted

    def acquire_at_once(self) -> Grant | None:
        """Return a grant if there is nothing to wait for."""
        now = self._clock.monotonic()
        if self._retries or self._newcomers or now < self._quota_until or self._delay(now) > 0:
            return None
        return self._grant(now)

    async def acquire(self, patience: Patience = Patience(), *, retrying: bool = False) -> Grant:  # frozen
        """Wait for a grant. Retries go ahead of new ids; among equals the first to come is the first to go.

        Raises:
            QuotaExceededError: the quota is used up.
            RateLimitedError, ServiceUnavailableError: the gate is shut for longer than ``patience`` allows.
            DeadlineExceededError: the gate opens too late.

        Cancelling gives the place in the queue back.
        """
        now = self._clock.monotonic()
        if refusal := self._refusal(patience, now):
            raise refusal
        return self.acquire_at_once() or await self._queue(patience, retrying=retrying)

    def sent(self, grant: Grant, moment: float) -> None:
        """Learn when the request of a grant began to leave: a connection may have had to be opened first."""
        if self._bucket is not None:
            self._bucket.leave(grant.at, moment)

    def accept(self, grant: Grant) -> None:
        """Learn that the service answered, and refused nothing."""
        self._accepted += 1
        if self._bucket is not None:
            self._bucket.accept()
        self._throttles_in_a_row = 0
        self._quota_hold = QUOTA_HOLD

    def throttle(self, grant: Grant, retry_after: float | None) -> None:
        """Learn of a 429: the bucket is empty, and all wait for ``retry_after`` seconds, or for a pause of our own."""
        now = self._clock.monotonic()
        self._throttled += 1
        if self._bucket is not None:
            self._bucket.drain(now)
        # Calls already under way when the gate shut say nothing new; counting each would double the pause many times.
        if retry_after is not None or grant.number > self._shut_at_grant:
            self._shut(now, retry_after, Cause.THROTTLE)

    def unavailable(self, grant: Grant, retry_after: float | None) -> None:
        """Learn of a 500 or 503; a ``Retry-After`` in seconds holds everyone."""
        self._unavailable += 1
        if retry_after is not None:
            self._shut(self._clock.monotonic(), retry_after, Cause.UNAVAILABLE)

    def quota_used_up(self) -> None:
        """Learn that the quota is used up: nobody who waits is let through, and new calls fail for a while."""
        now = self._clock.monotonic()
        self._throttled += 1
        if now >= self._quota_until:
            self._quota_until = now + self._quota_hold
            self._quota_hold = min(2 * self._quota_hold, LONGEST_QUOTA_HOLD)
        self._turn_away(now)

    def statistics(self) -> GovernorStatistics:
        """Return the counts so far and the state now."""
        now = self._clock.monotonic()
        return GovernorStatistics(
            rate=None if self._bucket is None else self._bucket.rate,
            level=None if self._bucket is None else self._bucket.level(now),
            waiting=self._waiting(),
            gate=self._gate.remaining(now),
            granted=self._granted,
            accepted=self._accepted,
            throttled=self._throttled,
            unavailable=self._unavailable,
        )

    # Deciding: no waiting below here until the next heading.

    def _delay(self, now: float) -> float:
        pacing = 0.0 if self._bucket is None else self._bucket.delay(now)
        return max(pacing, self._gate.remaining(now))

    def _grant(self, now: float) -> Grant:
        if self._bucket is not None:
            self._bucket.take(now)
        self._granted += 1
        return Grant(number=self._granted, at=now)

    def _pause(self) -> float:
        """Return how long a 429 without ``Retry-After`` shuts the gate."""
        self._throttles_in_a_row += 1
        if self._bucket is not None and self._throttles_in_a_row == 1:
            return 0.0  # one early arrival: the drained bucket waits just long enough
        doublings = self._throttles_in_a_row - 1
        # With a given rate, the time of one token is the natural first pause.
        first = FIRST_PAUSE if self._bucket is None else min(FIRST_PAUSE, 1.0 / self._bucket.rate)
        pause = min(LONGEST_PAUSE, first * 2.0 ** min(doublings, 10))
        return pause * (0.5 + 0.5 * self._clock.random())

    def _shut(self, now: float, retry_after: float | None, cause: Cause) -> None:
        """Shut the gate for as long as the service asked, or for a pause of our own."""
        asked = retry_after is not None
        self._gate.shut(now, self._pause() if retry_after is None else retry_after, cause, asked=asked)
        self._shut_at_grant = self._granted
        self._turn_away(now)

    def _refusal(self, patience: Patience, now: float) -> OneAutoError | None:
        """Say why a call with this patience is turned away at once, or ``None``."""
        if now < self._quota_until:
            return QuotaExceededError("not sent: the key's quota is used up")
        closing = self._gate.closing(now)
        if closing is None:
            return None
        wait = closing.until - now
        if closing.asked and closing.length > patience.longest_closing:
            return _gate_error(closing, wait)
        if wait > patience.longest_wait or closing.until > patience.until:
            return DeadlineExceededError(f"not sent: calls are held back for {wait:.3g} s, beyond the time allowed")
        return None

    def _turn_away(self, now: float) -> None:
        for waiter in (*self._retries, *self._newcomers):
            refusal = self._refusal(waiter.patience, now)
            if refusal is not None and not waiter.granted.done():
                waiter.granted.set_exception(refusal)

    # Waiting.

    def _waiting(self) -> int:
        return len(self._retries) + len(self._newcomers)

    async def _queue(self, patience: Patience, *, retrying: bool) -> Grant:
        queue = self._retries if retrying else self._newcomers
        waiter = _Waiter(patience, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        self._start_pump()
        try:
            return await waiter.granted
        except BaseException:  # cancelled or turned away
            self._give_back(queue, waiter)
            raise

    def _give_back(self, queue: deque[_Waiter], waiter: _Waiter) -> None:
        """Return a waiter's place, or the token of a grant that came in the moment of its cancellation."""
        if waiter in queue:
            queue.remove(waiter)
        elif waiter.granted.done() and waiter.granted.exception() is None and self._bucket is not None:
            self._bucket.put_back()
        if not self._waiting() and self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def _start_pump(self) -> None:
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._serve_queue(), name="oneauto governor")

    async def _serve_queue(self) -> None:
        """Grant to one waiter after the other, each when its moment has come."""
        try:
            while self._waiting():
                now = self._clock.monotonic()
                delay = self._delay(now)
                if delay > 0:
                    await self._sleep(delay)
                else:
                    self._serve_next(now)
        except Exception as error:  # noqa: BLE001  # a clock that fails must not leave anyone waiting for ever
            self._fail_everyone(error)
        self._pump = None

    def _fail_everyone(self, error: Exception) -> None:
        for waiter in (*self._retries, *self._newcomers):
            if not waiter.granted.done():
                waiter.granted.set_exception(error)

    async def _sleep(self, delay: float) -> None:
        await self._clock.sleep(delay, exact=self._bucket is not None and self._bucket.is_narrow)

    def _serve_next(self, now: float) -> None:
        waiter = (self._retries or self._newcomers).popleft()
        if not waiter.granted.done():
            waiter.granted.set_result(self._grant(now))


def _gate_error(closing: Closing, wait: float) -> OneAutoError:
    if closing.cause is Cause.UNAVAILABLE:
        text = f"not sent: the service is unavailable and asks to wait {wait:.3g} s; its contact is help@oneautoapi.com"
        return ServiceUnavailableError(text, retry_after=wait)
    return RateLimitedError(
        f"not sent: the key is rate limited and the service asked for {wait:.3g} s of rest", retry_after=wait
    )

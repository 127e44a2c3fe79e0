"""The governor: every attempt asks it for a grant and tells it how the attempt ended.

Its parts are pure and know no waiting: the bucket (pacing to a given limit), the pacer (measuring, and pacing to what
the key really allows), the gate (``Retry-After``), the circuits (outages, and keys that others use up) and the quota.
Here is what each kind of news means for each of them. Those who wait stand in the queue.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from .._checks import require_clock, require_kind
from ..clock import Clock, SystemClock
from ..errors import OneAutoError
from ..events import CircuitChanged, GateShut, Observer, QuotaUsedUp, Throttled, tell
from ..settings import RateLimit
from .bucket import TokenBucket
from .calls import Grant
from .circuit import Circuit
from .gate import Cause, Gate
from .key import Phase
from .pacing import Pacer
from .patience import ENDLESS, Barriers, Patience
from .queue import Queue, Rules
from .quota import Quota
from .statistics import GovernorStatistics

RETRIES_AT_FIRST = 500
RETRIES_PER_SUCCESS = 0.2
MOST_RETRIES = 2000.0
"""Retries after failures that all lookups of a client have together: at first a whole default policy for each of a
hundred lookups, then one more for every five answers. A service that fails all the time is not asked for ever."""

DROUGHT = 3.0
"""Seconds in which a key that worked must have refused every call to be asked by one call at a time: others use it up,
and asking more often would get no more of it."""

MISSED, LONGEST_MISSED = 20.0, 20.0
"""Calls of a key in whose time it must have accepted none before a lookup loses patience with it, and seconds that this
may be at most: who shares a slow key may miss a few tokens by chance; a fast one that gives nothing looks slow."""


class Governor:
    """Paces and holds the calls of one key. A client makes its own; give one to several clients to share it.

    It belongs to one event loop at a time: a wait on another one is refused until the first is closed. Calls that were
    under way when that was closed stay in its count: make a new one then.

    Arguments:
        limit: the key's limit: given, or to be learnt.
        clock: time and sleep, for tests.

    Raises:
        ConfigurationError: ``limit`` is no `RateLimit`, or ``clock`` no `Clock`.
    """

    def __init__(self, limit: RateLimit | None = None, *, clock: Clock | None = None) -> None:
        limit = RateLimit.adaptive() if limit is None else limit
        require_kind("Governor's limit", limit, RateLimit)
        if clock is not None:
            require_clock(clock)
        self._clock = SystemClock() if clock is None else clock
        self._limit = limit
        self._bucket = None if limit.rate is None else TokenBucket(limit.rate, limit.burst)
        self._pacer = _make_pacer(limit)
        self._gate = Gate()
        self._circuit = Circuit()
        self._drought = Circuit(DROUGHT)
        self._quota = Quota()
        self._barriers = Barriers(self._quota, self._circuit, self._drought, self._gate)
        self._queue = Queue(self._rules(), self._clock)
        self._granted = self._returned = self._retrying = 0
        self._accepted = self._throttled = self._unavailable = self._failed = 0
        self._accepted_at = -math.inf
        self._retries_left = float(RETRIES_AT_FIRST)
        self._audience: list[Observer] = []
        self._observers: tuple[Observer, ...] = ()

    def __repr__(self) -> str:
        pacing = self._bucket if self._pacer.phase is Phase.FREE else self._pacer
        return f"<Governor {pacing}, {self._gate}, {len(self._queue)} waiting>"

    @property
    def clock(self) -> Clock:
        """Where it has its time from."""
        return self._clock

    @property
    def accepted(self) -> int:
        """How many replies refused nothing, which tells whether the queue moves."""
        return self._accepted

    @contextmanager
    def retrying(self) -> Iterator[None]:
        """Count the lookup that tries again in this block: where several do, it is no matter of one id."""
        self._retrying += 1
        try:
            yield
        finally:
            self._retrying -= 1

    @property
    def serves_several(self) -> bool:
        """Whether more than one lookup tries again, or waits for a grant."""
        return self._retrying > 1 or len(self._queue) > 0

    @property
    def key_works(self) -> bool:
        """Whether a call was accepted a moment ago, or in the time in which a key of its rate accepts twenty."""
        rate = self._pacer.rate or self._limit.rate
        moment = DROUGHT if rate is None else max(DROUGHT, min(LONGEST_MISSED, MISSED / rate))
        return self._clock.monotonic() - self._accepted_at < moment

    @property
    def spares_others(self) -> bool:
        """Whether a ``Retry-After`` on a 429 holds only the lookup that was told so."""
        return self._limit.retry_after_scope == "call"

    def observe(self, observers: tuple[Observer, ...]) -> None:
        """Tell these observers too of refusals, pauses and outages."""
        self._audience += observers
        self._observers = _distinct(self._audience)

    def disregard(self, observers: tuple[Observer, ...]) -> None:
        """Tell these observers nothing more."""
        for observer in observers:
            self._audience.remove(observer)  # once: another client may have the same
        self._observers = _distinct(self._audience)

    def acquire_at_once(self) -> Grant | None:
        """Return a grant if there is nothing to wait for."""
        now = self._clock.monotonic()
        if self._queue or self._quota.refuses(now) or self._delay(now) > 0:
            return None
        if not (self._retrying or self._pacer.in_flight):
            self._circuit.nobody_asked(now)
            self._drought.nobody_asked(now)
        return self._grant(now)

    async def acquire(self, patience: Patience = ENDLESS, *, retrying: bool = False) -> Grant:
        """Wait for a grant. Retries go ahead of new ids, but for an outage; among equals the first to come goes first.

        Raises:
            QuotaExceededError: the quota is used up.
            RateLimitedError, ServiceUnavailableError: the gate is shut, or an outage lasts, for longer than
                ``patience`` allows.
            DeadlineExceededError: its turn comes, or the gate opens, too late.
            ConfigurationError: calls of another event loop use it.

        Cancelling gives the place in the queue back.
        """
        now = self._clock.monotonic()
        patience = attrs.evolve(patience, since=now)
        if refusal := self._barriers.refusal(patience, now):
            raise refusal
        if self._asks_by_canaries and not retrying:
            self._welcome(now)
        return self.acquire_at_once() or await self._queue.wait(patience, retrying=retrying)

    def refusal(self, patience: Patience) -> OneAutoError | None:
        """Return why `acquire` would turn someone away at once, if it would."""
        now = self._clock.monotonic()
        return self._barriers.refusal(attrs.evolve(patience, since=now), now)

    def may_retry(self) -> bool:
        """Take one of the retries all lookups have together; say whether there was one. An outage's cost none."""
        if self._circuit.is_open:
            return True
        if self._retries_left < 1.0:
            return False
        self._retries_left -= 1.0
        return True

    # How a granted call goes on. Each grant ends with exactly one of the calls below `sent`.

    def lets_leave(self) -> bool:
        """Tell whether what was granted a while ago may leave still; else it is given back, and asked for anew."""
        now = self._clock.monotonic()
        return not (self._quota.refuses(now) or self._gate.remaining(now))

    def sent(self, grant: Grant, moment: float) -> None:
        """Learn when the request of a grant began to leave: a connection may have had to be opened first."""
        grant.left = moment
        self._leave(grant)

    def accept(self, grant: Grant) -> None:
        """Learn that the service answered, and refused nothing."""
        self._accepted, self._accepted_at = self._accepted + 1, self._clock.monotonic()
        self._retries_left = min(MOST_RETRIES, self._retries_left + RETRIES_PER_SUCCESS)
        self._leave(grant)
        was_free = self._pacer.phase is Phase.FREE
        self._pacer.accept(grant, self._accepted_at)
        if self._bucket is not None:
            self._bucket.accept()
            if self._pacer.phase is Phase.FREE and not was_free:
                self._bucket.doubt(self._accepted_at)
        self._quota.accept(grant)
        self._key_works(grant)
        self._service_works(grant)
        self._queue.stir()

    def throttle(self, grant: Grant, retry_after: float | None) -> None:
        """Learn of a 429: the bucket is empty; with ``retry_after`` seconds all wait, if the limit is set so."""
        now = self._clock.monotonic()
        self._throttled += 1
        stop = 0.0 if retry_after is None or self.spares_others else retry_after
        self._leave(grant)
        self._pacer.throttle(grant, now, stop)  # decides whether the limit that was given still holds
        if self._bucket is not None and self._pacer.is_crowded:
            self._bucket.drain_evenly(now)
        elif self._bucket is not None:
            self._bucket.drain(now, was_early=self._pacer.phase is Phase.FREE)
        self._quota.forget(grant)
        self._drought.fail(grant, now)
        self._service_works(grant)
        if self._observers:
            tell(self._observers, Throttled(rate=self._pacer.rate, retry_after=retry_after))
        if stop:
            self._shut(now, stop, Cause.THROTTLE)
        self._queue.stir()

    def unavailable(self, grant: Grant, retry_after: float | None) -> None:
        """Learn of a 500 or 503; a ``Retry-After`` in seconds holds everyone, then one canary goes first."""
        now = self._clock.monotonic()
        self._unavailable += 1
        self._leave(grant)
        self._fail(grant, now)
        if retry_after:
            self._shut(now, retry_after, Cause.UNAVAILABLE)
            if self._accepted:
                self._tell_circuit(changed=self._circuit.hold(now, retry_after))

    def fail(self, grant: Grant, *, was_sent: bool = True) -> None:
        """Learn that no answer came, or none that can be trusted; if it was never sent, the next may have its token."""
        self._failed += 1
        if not was_sent:
            self._put_back(grant)
        self._fail(grant, self._clock.monotonic())
        if not was_sent:
            self._queue.wake()

    def forget(self, grant: Grant) -> None:
        """Learn that a granted call was cancelled: it says nothing, and may have taken a token."""
        self._failed += 1
        self._forget(grant)

    def _forget(self, grant: Grant) -> None:
        self._miss(grant)
        self._pacer.forget(grant, self._clock.monotonic())
        self._circuit.forget(grant)
        self._drought.forget(grant)
        self._quota.forget(grant)
        self._queue.stir()

    def give_back(self, grant: Grant) -> None:
        """Undo a grant for which nothing was sent: the next in line may have it."""
        self._returned += 1
        self._put_back(grant)
        self._forget(grant)
        self._queue.wake()

    def _put_back(self, grant: Grant) -> None:
        self._miss(grant)
        if self._bucket is not None:
            self._bucket.put_back(grant.at)
        self._pacer.put_back(grant)

    def quota_used_up(self, grant: Grant) -> None:
        """Learn that the quota is used up: nobody who waits is let through, and new calls fail for a while."""
        now = self._clock.monotonic()
        self._throttled += 1
        self._leave(grant)
        self._pacer.forget(grant, now)
        self._drought.forget(grant)
        self._quota.used_up(grant, now)
        self._service_works(grant)
        if self._observers:
            tell(self._observers, QuotaUsedUp())
        self._queue.turn_away(now)
        self._queue.stir()

    def statistics(self) -> GovernorStatistics:
        """Return the counts so far and the state now."""
        now, pacer = self._clock.monotonic(), self._pacer
        paced = pacer if pacer.phase is not Phase.FREE else self._bucket
        return GovernorStatistics(
            phase=pacer.phase.value,
            rate=None if paced is None else paced.rate,
            level=None if paced is None else paced.level(now),
            learnt=None if pacer.rate is None else RateLimit(pacer.rate, pacer.burst or 1),
            waiting=len(self._queue),
            in_flight=pacer.in_flight,
            gate=self._gate.remaining(now),
            is_outage=self._circuit.is_open,
            granted=self._granted - self._returned,
            accepted=self._accepted,
            throttled=self._throttled,
            unavailable=self._unavailable,
            failed=self._failed,
        )

    # Deciding. Nothing below waits.

    def _welcome(self, now: float) -> None:
        self._circuit.welcome(now)
        self._drought.welcome(now)
        self._queue.wake()

    def _rules(self) -> Rules:
        return Rules(
            delay=self._delay,
            grant=self._grant,
            give_back=self.give_back,
            refusal=self._barriers.refusal,
            # What has just been granted may have been a canary.
            may_have_shut=lambda now: self._asks_by_canaries or self._quota.refuses(now),
            # In an outage whoever has not asked yet goes first: one id that always fails would make it last.
            begins_with_newcomers=lambda: self._circuit.is_open,
            needs_exact_time=lambda: self._bucket is not None and self._bucket.needs_exact_time,
        )

    @property
    def _asks_by_canaries(self) -> bool:
        return self._circuit.is_open or self._drought.is_open

    def _delay(self, now: float) -> float:
        pacing = 0.0 if self._bucket is None else self._bucket.delay(now)
        outage = max(self._circuit.delay(now), self._drought.delay(now))
        return max(pacing, self._pacer.delay(now), self._gate.remaining(now), outage, self._quota.delay())

    def _grant(self, now: float) -> Grant:
        self._granted += 1
        grant = Grant(self._granted, now)
        if self._bucket is not None:
            self._bucket.take(now)
        self._pacer.take(grant)
        self._circuit.take(grant)
        self._drought.take(grant)
        self._quota.take(grant)
        return grant

    def _leave(self, grant: Grant) -> None:
        if not grant.is_entered:
            self._pacer.leave(grant)
            if self._bucket is not None:
                self._bucket.leave(grant.at, grant.left)

    def _miss(self, grant: Grant) -> None:
        """Tell the bucket, before the pacer hears of it and takes the call as entered."""
        if self._bucket is not None and not grant.is_entered:
            self._bucket.miss(grant.at)

    def _fail(self, grant: Grant, now: float) -> None:
        self._miss(grant)
        self._pacer.forget(grant, now)
        self._quota.forget(grant)
        self._drought.forget(grant)
        self._tell_circuit(changed=self._circuit.fail(grant, now))
        self._queue.stir()

    def _key_works(self, grant: Grant) -> None:
        if self._drought.succeed(grant):
            self._queue.wake()

    def _service_works(self, grant: Grant) -> None:
        has_ended = self._circuit.succeed(grant)
        self._tell_circuit(changed=has_ended)
        if has_ended:
            self._queue.wake()

    def _tell_circuit(self, *, changed: bool) -> None:
        if changed and self._observers:
            tell(self._observers, CircuitChanged(is_open=self._circuit.is_open))

    def _shut(self, now: float, seconds: float, cause: Cause) -> None:
        """Shut the gate for as long as the service asked."""
        self._gate.shut(now, seconds, cause)
        self._pacer.pause(now, seconds)
        if self._observers:
            tell(self._observers, GateShut(seconds=seconds, status=cause.value))
        self._queue.turn_away(now)


def _distinct(observers: list[Observer]) -> tuple[Observer, ...]:
    return tuple(one for place, one in enumerate(observers) if one not in observers[:place])


def _make_pacer(limit: RateLimit) -> Pacer:
    if limit.rate is not None:
        return Pacer(ceiling=limit.rate, burst=limit.burst)
    if limit.initial is not None and limit.initial.rate is not None:
        return Pacer(rate=limit.initial.rate, burst=limit.initial.burst)
    return Pacer()

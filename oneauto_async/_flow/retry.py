"""Which verdict is worth another request, when, and how often: the one door to tenacity.

Only verdicts named here are tried again; whatever may have been charged is not, unless the policy says so. The first
attempt is made bare: tenacity costs a lookup that succeeds at once nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

from .._classify import Doubtful, Pending, Throttled, Unavailable, Verdict
from .._wire.exchange import Lost, Unsent
from ..clock import Clock
from ..settings import RetryPolicy

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

FIRST_BACKOFF = 0.25
LONGEST_BACKOFF = 8.0
"""Seconds; full jitter draws from 0 to min(longest, first * 2^n), and never less than the floor."""

FLOOR = 0.05
"""Seconds between two attempts of one lookup, whatever it says: a ``Retry-After: 0`` is no licence to hammer."""

Ended: TypeAlias = Verdict | Unsent | Lost
"""How one attempt ended."""


class Trail(Protocol):
    """What the retry rules need to see of a lookup and its surroundings."""

    @property
    def abandoned(self) -> bool:
        """Nobody waits for the lookup any more."""
        ...

    @property
    def began(self) -> float:
        """The moment on the clock of the first request; waiting for a free place before it costs no patience."""
        ...

    @property
    def progress(self) -> int:
        """A count that grows while the key accepts calls, of whichever lookup."""
        ...

    @property
    def key_works(self) -> bool:
        """The key has accepted a call a moment ago, of whichever lookup."""
        ...

    @property
    def was_canary(self) -> bool:
        """The last request asked, for everyone, whether an outage is over."""
        ...

    @property
    def is_one_of_several(self) -> bool:
        """Other lookups wait for their turn, or try again."""
        ...

    @property
    def waits_alone(self) -> bool:
        """A ``Retry-After`` on a 429 holds this lookup alone."""
        ...

    def may_retry(self) -> bool:
        """Take one of the retries that all lookups have together; say whether there was one."""
        ...


@attrs.define(eq=False)
class _Rules:
    """The policy applied to one lookup: what it has used up of its patience."""

    policy: RetryPolicy
    clock: Clock
    trail: Trail
    failures: int = 0
    doubts: int = 0
    progress_seen: int = 0
    polling_since: float | None = None

    def again(self, ended: Ended) -> bool:
        """Tell whether another request may follow; called once per attempt, and counts it."""
        if self.trail.abandoned:
            return False
        match ended:
            case Pending():
                return self._poll_again()
            case Doubtful() | Lost():
                self.doubts += 1
                return self.doubts <= self.policy.resend_in_doubt
            case Throttled():
                return self._within_patience(ended) and self._throttled_again()
            case Unavailable():
                return self._within_patience(ended) and self._unavailable_again()
            case Unsent(final=final):
                return not final and self._unavailable_again()
            case _:
                return False

    def _poll_again(self) -> bool:
        now = self.clock.monotonic()
        self.polling_since = now if self.polling_since is None else self.polling_since
        return now + self.policy.poll_interval <= self.polling_since + self.policy.poll_total

    def _within_patience(self, ended: Throttled | Unavailable) -> bool:
        """A ``Retry-After`` is never shortened: one that is too long ends the lookup at once."""
        return self._asked_for(ended) <= self.policy.max_retry_after

    def _throttled_again(self) -> bool:
        moved, self.progress_seen = self.trail.progress > self.progress_seen, self.trail.progress
        return moved or self.trail.key_works or self._failed_again()

    def _unavailable_again(self) -> bool:
        """A canary's failure is the outage's, not its lookup's, if it asked for others too."""
        asked_for_others = self.trail.was_canary and self.trail.is_one_of_several
        return asked_for_others or (self._failed_again() and self.trail.may_retry())

    def _failed_again(self) -> bool:
        self.failures += 1
        return self.failures < self.policy.attempts

    def pause(self, ended: Ended) -> float:
        """Return the seconds to wait before the next request; the gate and the pacing come on top."""
        match ended:
            case Pending():
                return max(FLOOR, self.policy.poll_interval)
            case Throttled():
                alone = self._asked_for(ended) if self.trail.waits_alone else 0.0
                # The governor decides when a key may be asked again, but of one that never answered it knows nothing.
                unknown = 0.0 if self.trail.progress else self._ceiling * (1.0 + self.clock.random()) / 2.0
                return max(FLOOR, alone, unknown)
            case _:
                return max(FLOOR, self.clock.random() * self._ceiling)

    @property
    def _ceiling(self) -> float:
        """The longest back-off after so many failures."""
        return min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(max(self.failures - 1, 0), 10))

    def over(self, ended: Ended, pause: float) -> bool:
        """Tell whether the next request would come after the time allowed for the lookup."""
        wait = max(pause, self._asked_for(ended))
        return self.clock.monotonic() + wait > self.trail.began + self.policy.total

    def _asked_for(self, ended: Ended) -> float:
        if isinstance(ended, Throttled | Unavailable) and ended.retry_after is not None:
            return ended.retry_after.wait(self.clock.wall())
        return 0.0


RETRIABLE = (Pending, Doubtful, Lost, Throttled, Unavailable, Unsent)
"""What may be worth another request; anything else is final after the first, and costs no retry machinery."""


async def pursue(
    attempt: Callable[[], Awaitable[Ended]],
    first: Ended,
    policy: RetryPolicy,
    clock: Clock,
    trail: Trail,
    progress: int,
) -> Ended:
    """Go on after a first attempt, until a verdict is final or the patience of the policy ends; return the last one.

    Arguments:
        attempt: makes one request and says how it ended; its exceptions and cancellation pass through.
        first: how the first attempt ended.
        policy: how patiently.
        clock: time, sleep and jitter.
        trail: the lookup, as far as the rules need to see it.
        progress: the trail's progress before the first attempt.
    """
    rules = _Rules(policy, clock, trail, progress_seen=progress)
    retrying = _retrying(rules, clock)
    try:
        return await retrying(_Replayed(first, attempt))
    finally:
        retrying.iter_state.reset()  # what it was about to do refers back to it, and so keeps the lookup alive


class _Replayed:
    """Hands tenacity the attempt that was already made as its first, and makes the others."""

    def __init__(self, first: Ended, attempt: Callable[[], Awaitable[Ended]]) -> None:
        self._first: Ended | None = first
        self._attempt = attempt

    async def __call__(self) -> Ended:
        first, self._first = self._first, None
        return await self._attempt() if first is None else first


def _retrying(rules: _Rules, clock: Clock) -> AsyncRetrying:
    """Return a fresh AsyncRetrying: shared by several tasks, one would mix their attempts and errors."""
    from tenacity import AsyncRetrying  # a sixth of this package's import time, and needed only after a failure

    return AsyncRetrying(
        sleep=clock.sleep,
        retry=lambda state: not _failed(state) and rules.again(_ended(state)),
        wait=lambda state: rules.pause(_ended(state)),
        stop=lambda state: rules.over(_ended(state), state.upcoming_sleep),
        retry_error_callback=_ended,
    )


def _failed(state: RetryCallState) -> bool:
    """An exception, cancellation among them, is never tried again and leaves unchanged."""
    return state.outcome is None or state.outcome.failed


def _ended(state: RetryCallState) -> Ended:
    assert state.outcome is not None
    return state.outcome.result()  # type: ignore[no-any-return]  # tenacity's future is untyped

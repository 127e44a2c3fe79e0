"""What the gateway counts for each key: its token bucket and its quota."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ._gateway import SimulatedAnswer, gateway_answer, quota_exceeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..settings import RateLimit
    from ._options import LimitChange

__all__ = ["KeyLimits", "TokenBucket"]


class TokenBucket:
    """The gateway's throttle: starts full, refills continuously, a refused call takes nothing."""

    def __init__(self, rate: float, burst: int) -> None:
        """Hold up to ``burst`` tokens and gain ``rate`` of them per second."""
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._counted_at: float | None = None

    def take(self, now: float) -> bool:
        """Take one token at a moment in seconds, which never runs backwards; return whether there was one."""
        self._fill(now)
        # The tolerance is for rounding: a client that paces exactly at the rate must not be refused by the last bit.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def change(self, now: float, rate: float, burst: int) -> None:
        """Go on from a moment with another limit; tokens stay, as far as the new burst holds them."""
        self._fill(now)
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, burst)

    def _fill(self, now: float) -> None:
        if self._counted_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now


class KeyLimits:
    """What the gateway counts for one key: its token bucket and its quota."""

    def __init__(
        self,
        limit: RateLimit,
        changes: Sequence[LimitChange] = (),
        *,
        quota: int | None,
        retry_after: str | None,
    ) -> None:
        """Start with a full bucket and nothing used of the quota."""
        self._bucket = None if limit.rate is None else TokenBucket(limit.rate, limit.burst)
        self._changes = deque(changes)
        self._quota_left = quota
        self._throttled = gateway_answer(429).with_retry_after(retry_after)

    def refuse(self, now: float) -> SimulatedAnswer | None:
        """Return the 429 for a call at this moment, or count the call and return ``None``."""
        self._follow_changes(now)
        if self._quota_left == 0:
            return quota_exceeded()
        if self._bucket is not None and not self._bucket.take(now):
            return self._throttled
        if self._quota_left is not None:
            self._quota_left -= 1
        return None

    def _follow_changes(self, now: float) -> None:
        while self._changes and self._changes[0].at <= now:
            change = self._changes.popleft()
            self._bucket = _changed(self._bucket, change.at, change.limit)


def _changed(bucket: TokenBucket | None, moment: float, limit: RateLimit) -> TokenBucket | None:
    if limit.rate is None:
        return None
    if bucket is None:
        return TokenBucket(limit.rate, limit.burst)
    bucket.change(moment, limit.rate, limit.burst)
    return bucket

"""The client's own copy of the gateway's token bucket. Pure: time is passed in."""

from __future__ import annotations

import math

JITTER = 0.010
"""Seconds by which two calls may drift towards each other on their way to the gateway."""

NARROW_JITTER = 0.003
NARROW_SHARE = 0.02
"""The same for a key without any burst, and its share of the rate at most: there, time spent on caution is lost."""


ROUNDING = 1e-9
"""A token short by less than this is whole: sums of floats are not exact."""


class TokenBucket:
    """A bucket of ``burst`` tokens that fills at ``rate`` per second; each call takes one.

    The copy is kept a little emptier than the gateway's: sent evenly, calls arrive unevenly, and one that arrives early
    must still find a token there. ``JITTER * rate`` tokens cover that, paid once, at the start. A burst of 1 leaves no
    room for it, so there the calls are spaced a little wider instead.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        # At most half of the burst's room, so that there is some left to make up for a call that went out late.
        self._cushion = min((burst - 1.0) / 2.0, 0.1 + JITTER * rate)
        self._capacity = burst - self._cushion
        self._level = self._capacity
        self._filled_at = -math.inf
        if burst == 1:
            self.rate = 1 / (1 / rate + min(NARROW_SHARE / rate, NARROW_JITTER))

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:.1f} of {self._capacity:.1f} tokens, {self.rate:g}/s>"

    @property
    def is_narrow(self) -> bool:
        """Tell whether a call that goes out late loses its token's time for good."""
        return self._capacity <= 1.0

    def level(self, now: float) -> float:
        """Return the tokens there are at ``now``."""
        return min(self._capacity, self._level + (now - self._filled_at) * self.rate)

    def delay(self, now: float) -> float:
        """Return the seconds from ``now`` until there is a whole token; 0 if there is one."""
        missing = 1.0 - self.level(now)
        return missing / self.rate if missing > ROUNDING else 0.0

    def take(self, now: float) -> None:
        """Take one token; the level may go below zero by what was taken early."""
        self._level, self._filled_at = self.level(now) - 1.0, now

    def put_back(self) -> None:
        """Return a token that was taken for a call that was never sent."""
        self._level = min(self._capacity, self._level + 1.0)

    def postpone(self, moment: float) -> None:
        """Learn that the last call left as late as one granted at ``moment``; matters only without room for jitter."""
        if self.is_narrow and moment > self._filled_at:
            self._filled_at = moment

    def drain(self, now: float) -> None:
        """Learn that the gateway's bucket is empty, as it is at every 429, and restore the cushion."""
        self._level, self._filled_at = min(self.level(now), -self._cushion), now

"""What a 429 tells that stops all calls: the bucket fills while they wait. Pure: time is passed in."""

from __future__ import annotations

import attrs

from .calls import NOISE, Grant


@attrs.frozen
class Moment:
    """A moment, and the grants given until then."""

    at: float
    granted: int


@attrs.frozen
class Stop:
    """A 429 that told all calls to wait: when they went on, and after how many seconds."""

    end: Moment
    seconds: float

    def rate(self, refused: Grant, burst: float) -> float:
        """Return the rate if the first call refused since is this one: the bucket has filled during the stop."""
        tokens = refused.number - self.end.granted - 0.5
        going = max(NOISE, refused.left - self.end.at)
        return max((tokens - burst) / going, tokens / (going + self.seconds))

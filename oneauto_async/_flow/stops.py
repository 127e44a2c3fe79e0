"""What a key allows whose every 429 tells all calls to wait: its bucket fills meanwhile. Pure: time is passed in."""

from __future__ import annotations

from .calls import Grant, History
from .measuring import UNKNOWN, Sustained, sustained
from .stepping import NARROW_BURST

KNOWN = 0.05
"""The error from which on the rate is known: such a key is asked slower by it, which then costs less than stopping."""

MOST_CAUTION = 0.1
"""The most by which it is asked slower: a few calls say little, and must not make it ever slower."""

ROUNDS = 8
"""The burst is what was taken at first beyond what came in meanwhile, and the rate what was taken beyond the burst:
so often one is put into the other, until neither changes."""


class Stops:
    """Whether 429s tell all calls to wait, and what they tell besides.

    Attributes:
        seconds: how long the newest stop lasts; 0 before the first.
        error: by what share the measured rate may be wrong.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.error = UNKNOWN
        self._began = self._end = 0.0

    def __bool__(self) -> bool:
        return self.seconds > 0.0

    @property
    def is_known(self) -> bool:
        """Whether the rate is known well enough to stay below it."""
        return self.error < KNOWN

    def begin(self, now: float, seconds: float) -> None:
        """Learn of a stop."""
        self.seconds, self._began, self._end = seconds, now, now + seconds

    def measure(self, history: History, refused: Grant, burst: float, first_seconds: float) -> tuple[Sustained, float]:
        """Return the rate that a 429 tells, and the burst.

        Arguments:
            history: the calls.
            refused: the first one that was refused since the last stop.
            burst: calls that a full bucket holds; or those accepted until the first 429.
            first_seconds: how long that took; 0 if the burst is known.
        """
        at_first = burst
        for _ in range(ROUNDS):
            found = sustained(history, refused, self._end, burst, self._began)
            if first_seconds and found.error < UNKNOWN:
                burst = max(NARROW_BURST, at_first - found.rate * first_seconds)
        if found.error < UNKNOWN:
            self.error = found.error
        return found, burst

    def caution(self, found: Sustained) -> float:
        """Return the rate at which no 429 is to be expected."""
        return found.rate * (1.0 - min(MOST_CAUTION, found.error))

"""Finding out what a key allows that has not refused anything yet: a few calls, then more and more. Pure.

The calls that may be unanswered double with every round trip, much as those of a new TCP connection do, so that a
service that does not answer collects no herd. The first few calls are let out evenly besides, and those after them at a
rate that grows: most bursts are small, and whoever uses one up in a moment hears of it only when as many calls again
were refused.
"""

from __future__ import annotations

import math

from .bucket import ROUNDING

WINDOW = 10
"""Calls that may be unanswered at the start, and from then on as many as were answered."""

AT_ONCE = 5.0
FIRST_RATE = 100.0
"""Calls that may leave together, and then in a second, at the start."""

FEW = 20
DOUBLING = 0.03
DOUBLING_TRIPS = 2.0
"""So many answers show that the burst is no small one: from then on the rate doubles in so many seconds, or round trips
if they take longer. A burst of ``b`` calls is used up at a rate of ``b * ln 2 / doubling``, and what leaves in the
round trip until that is heard is refused: a third of the burst, and not all of it once more. A key of 500/s loses what
comes in during two round trips by it."""


class Ramp:
    """The pace before the first 429."""

    def __init__(self) -> None:
        self.rate = FIRST_RATE
        self._level = AT_ONCE
        self._filled_at = -math.inf
        self._fastest = math.inf

    def hear(self, trip: float) -> None:
        """Learn how long an answer took, in seconds."""
        self._fastest = min(self._fastest, trip)

    def level(self, now: float) -> float:
        """Return the calls that may leave now."""
        if self._level >= AT_ONCE or math.isinf(self._filled_at):
            return self._level
        return min(AT_ONCE, self._level + (now - self._filled_at) * self.rate)

    def delay(self, now: float, unanswered: int, answered: int) -> float:
        """Return the seconds until the next call may leave; infinity if an answer must come first."""
        if not unanswered:
            return 0.0  # one who asks one thing after the other is never held back
        if unanswered >= max(WINDOW, answered):
            return math.inf
        missing = 1.0 - self.level(now)
        return missing / self.rate if missing > ROUNDING else 0.0

    def take(self, now: float, answered: int) -> None:
        """Let a call leave. The rate grows while calls leave, not while nobody asks."""
        level = self.level(now)
        if level < AT_ONCE and answered >= FEW:
            self.rate *= 2.0 ** min(1.0, (now - self._filled_at) / self._doubling)
        self._level, self._filled_at = level - 1.0, now

    @property
    def _doubling(self) -> float:
        """Seconds in which the rate doubles."""
        return max(DOUBLING, DOUBLING_TRIPS * self._fastest) if math.isfinite(self._fastest) else DOUBLING

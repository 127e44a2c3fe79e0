"""Whether others seem to use the key too, of whom nobody knows. Pure.

For one alone the key allows the same between any two 429s. Of several each measures what it got itself, and that
changes whenever another takes more or less. While it does, whether the others are still there is asked more often. How
much the key has allowed at most is remembered for a while: whoever has a small part of it may have all in a moment.
"""

from __future__ import annotations

import math

PEAK_DECAY = 0.95
"""How much of the highest recent rate is remembered from one 429 to the next: a minute or so."""

ALONE_AFTER = 3
"""429s in a row that agree with each other before a key is taken to be ours alone again: two may by chance."""

NO_SAMPLE = (0.0, math.inf)


class Sharing:
    """Signs of others who use the key.

    Attributes:
        peak: the highest recent rate that was measured, in calls per second.
    """

    def __init__(self, told: float) -> None:
        """Begin with what the key is told to allow, in calls per second; 0 if nothing is known."""
        self.peak = self._told = told
        self._sample = NO_SAMPLE
        self._doubts = 0

    @property
    def is_likely(self) -> bool:
        """Whether others seem to use the key."""
        return self._doubts > 0

    def forget(self) -> None:
        """Learn that something came between: what is accepted until the next 429 says nothing."""
        self._sample = NO_SAMPLE

    def suspect(self) -> None:
        """Learn of a sign of others."""
        self._doubts = ALONE_AFTER

    def dismiss(self) -> None:
        """Learn that there is nobody else."""
        self._doubts = 0

    def compare(self, sample: float, error: float) -> None:
        """Compare what was accepted in a second between two 429s with what was before, each within its error."""
        last, last_error = self._sample
        self._sample, margin = (sample, error), error + last_error
        if math.isinf(margin):  # there is nothing to compare it with
            return
        # To have been given more than before is no sign of others, unless there were signs already.
        differs = abs(sample - last) >= margin if self._doubts else last - sample > margin
        self._doubts = ALONE_AFTER if differs else max(0, self._doubts - 1)

    def remember(self, rate: float, *, weight: float = 1.0) -> None:
        """Keep the highest recent rate, once for each 429; one that tells less of the key lets it fade less."""
        self.peak = max(rate, math.pow(PEAK_DECAY, weight) * self.peak)

    def taken(self, rate: float) -> float:
        """Return the share of what the key is told to allow that others seem to take."""
        return max(0.0, 1.0 - rate / self._told) if self._told and self.is_likely else 0.0

    def highest(self, rate: float) -> float:
        """Return what the key may allow if others leave."""
        return max(rate, self.peak)

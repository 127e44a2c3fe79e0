"""Sharing a key with others nobody knows of: give way by a share, climb by the same amount. Pure: time is passed in.

What a process alone is allowed can be measured; of what several are allowed together each measures what it got, and
whoever got most would keep it. So while a key seems to be shared each 429 costs a part of the rate, which is more for
the one that has more, and all climb equally fast: that is how TCP connections come to equal parts.
"""

from __future__ import annotations

import math

YIELD = 0.25
"""The part of the rate a 429 costs. Of two that have 25/s each, one gives way by 6/s, which both have made up for
before the bucket has collected a burst of ten."""

CLIMB_GIVEN = 0.004
CLIMB = 0.001
"""How fast the rate climbs, as a part of the square of the highest recent one, in a second. Of N processes each then is
refused so often that N * N * CLIMB / YIELD of all calls are, at most: for two, 6.4 % where the limit was given, which
leaves no doubt that there is another, and 1.6 % where it is learnt; the burst halves that again."""

LONGEST_CLIMB = 4.0
"""Seconds since the last answer for which a climb counts."""

STEEPEST = 3.0
"""The highest recent rate counts for no more than so many times the present one: it may be out of date."""

FLOOR = 1.0 / 12.0
"""The least part of the highest recent rate to keep: of several processes none is starved by bad luck at the start."""

FAR_BELOW = 1.0 / 3.0
"""Below this part of the highest recent rate another is taken to use the key, which may stop at any moment."""

PEAK_DECAY = 0.95
"""How much of the highest recent rate is remembered from one 429 to the next: a minute or so."""

ALONE_AFTER = 3
"""429s in a row that agree with each other before a key is taken to be ours alone again."""

AGREEING = 2
PRECISE = 0.1
"""So many samples that agree to within this share of the rate make a rate far below the highest the true one."""

CALLS = 200.0
SECONDS = 4.0
FEWEST = 8.0
"""The longer of the two, at the highest recent rate, is a cycle while the key is shared; of so many calls at least."""

NO_SAMPLE = (0.0, math.inf)


class Sharing:
    """Whether others seem to use the key too, and how to come to equal parts with them.

    Attributes:
        peak: the highest recent rate.
    """

    def __init__(self, peak: float, *, is_given: bool) -> None:
        self.peak = peak
        self._climb = CLIMB_GIVEN if is_given else CLIMB
        self._sample = NO_SAMPLE
        self._doubts = 0
        self._agreed = 0
        self._climbed_at = 0.0

    def is_likely(self, rate: float) -> bool:
        """Tell whether others seem to use the key."""
        return self._doubts > 0 or rate < FAR_BELOW * self.peak

    def forget(self) -> None:
        """Learn that something came between: what is accepted until the next 429 says nothing."""
        self._sample = NO_SAMPLE

    def suspect(self) -> None:
        """Learn of a sign of others."""
        self._doubts = ALONE_AFTER

    def compare(self, sample: float, error: float, rate: float) -> None:
        """Compare what was accepted in a second between two 429s with what was before: for one alone it is the same."""
        last, last_error = self._sample
        self._sample, margin = (sample, error), error + last_error
        agrees = abs(sample - last) < margin
        self._agreed = self._agreed + 1 if agrees and margin < PRECISE * sample else 0
        if self._agreed >= AGREEING and rate < FAR_BELOW * self.peak:
            self.peak = rate
        # To have been given more than before is no sign of others, unless there were signs already.
        differs = not agrees if self._doubts else last - sample > margin
        self._doubts = ALONE_AFTER if differs else max(0, self._doubts - 1)

    def remember(self, rate: float) -> None:
        """Keep the highest recent rate, once for each 429."""
        self.peak = max(rate, PEAK_DECAY * self.peak)

    def give_way(self, rate: float) -> float:
        """Return the rate after a 429."""
        return max(FLOOR * self.peak, (1.0 - YIELD) * rate)

    def climb(self, rate: float, now: float) -> float:
        """Return the rate after some time without one."""
        seconds, self._climbed_at = min(LONGEST_CLIMB, now - self._climbed_at), now
        return rate + self._climb * self.peak * min(self.peak, STEEPEST * rate) * seconds

    def cycle(self, rate: float) -> float:
        """Return the calls after which a 429 is due."""
        return max(FEWEST, rate * max(SECONDS, CALLS / max(self.peak, rate)))

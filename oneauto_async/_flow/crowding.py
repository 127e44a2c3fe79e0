"""Whether calls that leave evenly arrive in crowds that a burst does not take in. Pure.

So they do on paths of uneven length: where a usual call arrives later than the fastest (half of what its round trip
takes longer) by the time of ``n`` tokens, the crowds grow with the root of ``n``.
"""

from __future__ import annotations

import math
from collections import deque

CROWDED, STAYS_CROWDED = 3.0, 4.0
"""It begins with a burst below so many times that root, and ends with one above the second figure. In between calls are
refused now and then, and either way of pacing does."""

APART, STAYS_APART = 1.5, 1.0
"""And with ``n`` above the first figure, and below the second: calls hardly overtake each other there."""

HEARD, FEWEST = 64, 4
"""Refusals whose round trips are compared, and the fewest that say anything: of a few the fastest is hardly the fastest
there is, so that they err on the safe side. The noise of the measuring goes by all there ever were, since it must not
be too small; this must end when the path has become an even one."""


class Crowding:
    """How unevenly calls arrive, beside the burst that was told.

    Arguments:
        burst: calls that the key takes at once. One is also what a limit has that was told without any: it may be far
            more, and nothing is made of it.

    Attributes:
        is_on: whether they arrive in crowds that the burst does not take in.
        is_new: whether that has just been found out, for the first time.
    """

    def __init__(self, burst: float) -> None:
        self.burst = burst
        self.is_on = self.is_new = self._has_been = False
        self._trips: deque[float] = deque(maxlen=HEARD)

    def hear(self, trip: float, rate: float) -> None:
        """Learn how long a refusal took, in seconds, of a key that is asked at so many calls per second."""
        self._trips.append(trip)
        if self.burst > 1.0 and len(self._trips) >= FEWEST:
            late = (sum(self._trips) / len(self._trips) - min(self._trips)) / 2.0 * rate
            apart, times = (STAYS_APART, STAYS_CROWDED) if self.is_on else (APART, CROWDED)
            self.is_on = late > apart and self.burst < times * math.sqrt(late)
            self.is_new, self._has_been = self.is_on and not self._has_been, self.is_on or self._has_been

    def end(self) -> None:
        """Learn that it does not matter: each refusal stops all calls, so that none is cheap."""
        self.is_on = False
        self._trips.clear()

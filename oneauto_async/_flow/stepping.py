"""Pacing to a key with hardly any burst, by steps: there is no room to measure in. Pure."""

from __future__ import annotations

NARROW_BURST = 3.0
"""A burst smaller than this leaves no room for a cushion: it is paced by `Steps`."""

LARGEST = 0.5
SMALLEST = 0.005
KNOWN = 0.05
"""Shares of the rate: the step at first and at most, the smallest, and the one from which on the rate is known."""

SHORTEST = 16.0
SHORTEST_TRIPS = 2.0
"""Accepted calls of a way while the rate is not known, so that no call is faster than the one before by more than an
eighth of a step; and the round trips: what came of the last way must be heard."""

OVERDUE = 8.0
"""By so many times a way gets shorter when none of its calls was refused: the limit has risen, or was never met."""

EARLY = 16.0
AGAIN = 1.5
"""Refused in such a part of the way, the step was too small, and grows by this."""


class Steps:
    """The rate of a key with hardly any burst, where a call that is early by anything is refused.

    There is no room for a cushion, and whatever is not used at once is lost, so that counting says too little. After a
    refusal the rate is lowered by a step from where it was met, and climbs by two on a way of so many accepted calls.
    The step is halved each time, as long as the limit is met where it was before; it doubles when it is not met.

    Attributes:
        step: a share of the rate.
    """

    def __init__(self) -> None:
        self.step = LARGEST
        self._way = SHORTEST
        self._accepted = 0
        self._is_overdue = False
        self._met = 0.0  # the pace at which a call was refused before

    @property
    def is_known(self) -> bool:
        """Whether the limit was met where it was expected."""
        return self.step <= KNOWN

    def up(self, cycle: float, behind: float, burst: float) -> float:
        """Return the factor for an accepted call.

        Arguments:
            cycle: accepted calls between two refusals once the rate is known.
            behind: calls that are usually on their way.
            burst: so many calls too many are not refused.
        """
        self._way = max(SHORTEST, SHORTEST_TRIPS * behind, burst / self.step, self._usual_way(cycle))
        self._accepted += 1
        if self._accepted >= self._way:
            self.step, self._accepted, self._is_overdue = min(LARGEST, 2.0 * self.step), 0, True
        return 1.0 + 2.0 * self.step / self._way

    def _usual_way(self, cycle: float) -> float:
        if self._is_overdue:
            return cycle / OVERDUE
        return cycle if self.is_known else 0.0

    def down(self, pace: float) -> float:
        """Return the rate after a call was refused that left at a pace."""
        step = self.step * AGAIN if self._accepted < self._way / EARLY else self.step / 2.0
        missed = abs(pace / self._met - 1.0) / 2.0 if self._met else LARGEST
        self.step = min(LARGEST, max(SMALLEST, step, missed))
        self._met, self._accepted, self._is_overdue = pace, 0, False
        return pace * (1.0 - self.step)

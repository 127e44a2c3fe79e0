"""Pacing to a key with hardly any burst, by steps: there is no room to measure in. Pure."""

from __future__ import annotations

import math

from .calls import Grant
from .key import Key, Phase
from .way import Refusal

LARGEST = 0.5
SMALLEST = 0.005
KNOWN = 0.05
LOST = 0.25
"""Shares of the rate: the step at first and at most, the smallest, the one from which on the rate is known, and the
smallest while it is lost."""

NOTICED = 150.0
"""Accepted calls, or those of a cycle if they are more, in which a step is to use up what a burst hides. A climb of
smaller steps would be longer than that, and so would be the time until a limit that has risen is noticed: at 20/s and a
burst of 2 with the smallest of all it was half a minute, and is ten seconds. One call in so many is refused."""

SHORTEST = 16.0
SHORTEST_TRIPS = 2.0
"""Accepted calls of a climb while the rate is not known, so that no call is faster than the one before by more than an
eighth of a step; and the round trips: what came of the last climb must be heard."""

OVERDUE = 8.0
MOST_HALVINGS = 3
"""By so many times a climb gets shorter when none of its calls was refused: the limit has risen, or was never met. The
shortest is halved as well, so often: to a slow key sixteen calls are a long time."""

IN_A_ROW = 8.0
BY_CHANCE, FEWEST_IN_A_ROW = 0.01, 2.0
"""Accepted calls in a row after which the rate doubles with each, if the key allowed far more a moment ago, or nothing
is known any more: whoever took the rest has most probably left. Where most calls were refused before, fewer tell that
as well: so many as would be accepted in one of a hundred cases if nothing had changed."""

WEIGHT = 0.25
"""That of what came between the last two refusals in the share of calls that is usually accepted."""

EARLY = 16.0
AGAIN = 1.5
"""Refused in such a part of the climb, the step was too small, and grows by this."""


class Steps:
    """The rate of a key with hardly any burst, where a call that is early by anything is refused.

    There is no room for a cushion, and whatever is not used at once is lost, so that counting says too little. After a
    refusal the rate is lowered by a step from where it was met, and climbs by two over so many accepted calls.
    The step is halved each time, as long as the limit is met where it was before; it doubles when it is not met.

    Attributes:
        step: a share of the rate.
    """

    def __init__(self) -> None:
        self.step = LARGEST
        self._climb = SHORTEST
        self._accepted = 0  # in this climb
        self._in_a_row = 0  # since the last refusal
        self._usual_share = 1.0  # of calls that are accepted
        self._overdue = 0
        self._is_lost = False
        self._met = 0.0  # the pace at which a call was refused before

    @property
    def is_known(self) -> bool:
        """Whether the limit was met where it was expected."""
        return self.step <= KNOWN

    def up(self, cycle: float, behind: float, burst: float, *, is_far: bool = False) -> float:
        """Return the factor for an accepted call.

        Arguments:
            cycle: accepted calls between two refusals once the rate is known.
            behind: calls that are usually on their way.
            burst: so many calls too many are not refused.
            is_far: the key allowed far more a moment ago.
        """
        self._accepted, self._in_a_row = self._accepted + 1, self._in_a_row + 1
        if (is_far or self._is_lost) and self._in_a_row > self._by_chance:
            self.step = LARGEST
            return math.pow(2.0, 1.0 / max(1.0, SHORTEST_TRIPS * behind))
        shortest = SHORTEST / (1 << min(self._overdue, MOST_HALVINGS))
        self._climb = max(shortest, SHORTEST_TRIPS * behind, burst / self.step, self._usual_climb(cycle))
        if self._accepted >= self._climb:
            self.step, self._accepted, self._overdue = min(LARGEST, 2.0 * self.step), 0, self._overdue + 1
        return 1.0 + 2.0 * self.step / self._climb

    @property
    def weight(self) -> float:
        """How much a refusal tells of what the key allows: nothing to whoever is refused every call."""
        return min(1.0, self._in_a_row / IN_A_ROW)

    @property
    def _by_chance(self) -> float:
        """The calls that may be accepted in a row though nothing has changed."""
        if self._usual_share >= math.pow(BY_CHANCE, 1.0 / IN_A_ROW):
            return IN_A_ROW
        return max(FEWEST_IN_A_ROW, math.log(BY_CHANCE) / math.log(max(BY_CHANCE, self._usual_share)))

    def _usual_climb(self, cycle: float) -> float:
        if self._overdue:
            return cycle / OVERDUE
        return cycle if self.is_known else 0.0

    def down(self, pace: float, smallest: float) -> float:
        """Return the rate after a call was refused that left at a pace; ``smallest`` bounds the step."""
        self._usual_share += WEIGHT * (self._in_a_row / (self._in_a_row + 1.0) - self._usual_share)
        step = self.step * AGAIN if self._accepted < self._climb / EARLY else self.step / 2.0
        missed = abs(pace / self._met - 1.0) / 2.0 if self._met else LARGEST
        self.step = min(LARGEST, max(smallest, step, missed))
        self._met, self._accepted, self._in_a_row, self._overdue, self._is_lost = pace, 0, 0, 0, False
        return pace * (1.0 - self.step)

    def lose(self) -> None:
        """Learn that the rate cannot fall as far as it should: what leaves now is refused because others are faster."""
        self.step, self._met, self._is_lost = max(self.step, LOST), 0.0, True


class Stepping:
    """Finds what a key with hardly any burst allows by steps.

    Arguments:
        key: what is known of the key.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self._steps = Steps()

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted: the rate climbs."""
        key = self._key
        key.change_rate(now, self._steps.up(key.cycle.length, key.behind, key.burst.calls, is_far=key.is_far))
        key.free_at_ceiling()

    def refuse(self, refusal: Refusal) -> None:
        """Lower the rate by a step, once for an episode."""
        key = self._key
        if not (refusal.is_new or key.phase is Phase.FREE):
            return
        key.phase = Phase.TRACK
        key.burst.settle()
        weight = self._steps.weight
        lowered = self._steps.down(min(refusal.grant.pace, 2.0 * key.rate), self._smallest)
        rate = min(key.ceiling, lowered, refusal.interval.high)
        if rate < key.lowest:
            self._steps.lose()
        key.rate = max(key.lowest, rate)
        key.cycle.lengthen(key.rate, key.behind, refusal.grant.left, key.sharing)
        key.sharing.remember(key.rate if self._steps.is_known else 0.0, weight=weight)

    @property
    def _smallest(self) -> float:
        """The smallest step; a smaller one than elsewhere where each refusal stops all calls, and costs the more."""
        key = self._key
        return SMALLEST if key.stops.seen else max(SMALLEST, key.burst.calls / max(key.cycle.length, NOTICED))

    def refill(self, refused: Grant, now: float) -> None:
        """Start the copy anew: the bucket was empty, and what was taken from it early still is."""
        self._key.refill(now, min(0.0, self._key.level(now)))

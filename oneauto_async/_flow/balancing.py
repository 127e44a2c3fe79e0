"""Pacing to a limit that was told, and whose burst is too small for how unevenly calls arrive. Pure.

Calls that leave evenly arrive in crowds then, almost at random. Some are refused, and in the gaps the bucket runs
over, so that what is accepted says little of what the key allows: whoever goes by it goes slower and slower. What is
certain is what each pace costs in refused calls, and that is weighed here against the time that a slower one takes.
"""

from __future__ import annotations

import math

from .calls import Grant
from .key import Key, Phase
from .way import Refusal

OF_RANDOM = 0.4
"""A key with a burst of ``b`` refuses one call for every ``2 b - 1`` it accepts, if they arrive at random and at its
rate. This share of that is aimed at, which is near the best if a refused call weighs as much as five late ones, as it
does in the goals of tests/scenarios. So a key of 200/s that answers in 80 to 250 ms takes 1.8, 1.4 and 1.15 times the
ideal at a burst of 2, 3 and 5; if only one in a hundred may be refused, 4, 2.2 and 1.4 times."""

STEP = 0.03
STEPS_OF_TRIP = 2.0
"""The share by which a refused call lowers the pace, and the most of it for all calls of a round trip together, since
what came of the first is not heard before."""


def balance(burst: float) -> float:
    """Return the accepted calls for each refused one that a key with a burst is to be asked at."""
    return (2.0 * burst - 1.0) / OF_RANDOM


class Balancing:
    """Goes as fast as a small share of refused calls allows, and never faster than was told.

    Arguments:
        key: what is known of the key.
    """

    def __init__(self, key: Key) -> None:
        self._key = key

    @property
    def _step(self) -> float:
        return min(STEP, STEPS_OF_TRIP / self._key.behind)

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted: go faster; as many as are aimed at make up for one refused."""
        self._key.change_rate(now, math.pow(1.0 - self._step, -1.0 / balance(self._key.crowding.burst)))
        self._key.free_at_ceiling()

    def refuse(self, refusal: Refusal) -> None:
        """Go slower by a step, for each call that is refused."""
        key = self._key
        key.phase = Phase.TRACK
        key.rate = max(key.lowest, key.episode.lowest, key.rate * (1.0 - self._step))

    def refill(self, refused: Grant, now: float) -> None:
        """Go on evenly: where so much runs over, there is nothing to make up for."""
        self._key.refill(now, min(0.0, self._key.level(now)))

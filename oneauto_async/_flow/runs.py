"""What a key allows, as far as runs of calls tell. Pure.

Between two stops lies a *run*: it begins with the tokens that came in during the first, and ends when they and what
came in since are used up. One run says the same of a slow key with a large burst as of a fast one with a small burst;
runs of different length tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import attrs

from .burst import SMALL_BURST
from .calls import NOISE, Grant
from .measuring import UNSURE

COARSEST = 0.01
"""Rates that are tried lie apart by this share, much less than what a stop costs; by less where runs are so long that
they tell more."""

LIKELY = 0.5
"""The share of what is possible on either side that is taken for the error: both ends of all runs are seldom wrong by
as much as they can be, and all in the same direction."""

SLOWEST = 1e-3
"""Calls per second from which on rates are tried."""


@attrs.frozen
class Run:
    """The calls before a 429, counted back from it.

    Attributes:
        steps: the seconds and calls of each part of it that ends with the 429, shortest first; only those of which
            most was taken beyond what came in, at one rate or another.
        filling: seconds for which the bucket was filling before, empty to begin with; infinity if it was full.
    """

    steps: tuple[tuple[float, float], ...]
    filling: float

    def beyond(self, rate: float) -> float:
        """Return the calls that were taken beyond what came in since the bucket was fullest."""
        return max(calls - seconds * rate for seconds, calls in self.steps)

    @property
    def slowest(self) -> float:
        """The least the key can allow: nothing ran over, and all that came in was taken."""
        seconds, calls = self.steps[-1]
        return (calls - UNSURE) / max(NOISE, seconds + self.filling)


def run_before(refused: Grant, calls: Iterable[Grant], filling: float) -> Run:
    """Return the run that ended with a refused call; ``calls`` are the ones before it, newest first."""
    taken = [call.left for call in calls if call.took_a_token]
    steps: list[tuple[float, float]] = [(0.0, 0.0)]
    for number, left in enumerate(taken, start=1):
        step = (max(NOISE, refused.left - left), float(number))
        while len(steps) > 1 and not _bends_down(steps[-2], steps[-1], step):
            steps.pop()
        steps.append(step)
    return Run(tuple(steps), filling)


def _bends_down(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Tell whether the middle one lies above the line from the first to the last."""
    return (middle[1] - first[1]) * (last[0] - first[0]) > (last[1] - first[1]) * (middle[0] - first[0])


@attrs.frozen
class Allowance:
    """What a key seems to allow: calls per second, by what share of it that may be wrong, and calls at once."""

    rate: float
    error: float
    burst: float


def explain(runs: list[Run], guess: float) -> Allowance | None:
    """Return what explains all runs; ``None`` if nothing does.

    Where both a slow key and a fast one would, it is that which is nearer to a guess of the rate.
    """
    apart = 1.0 + min(COARSEST, UNSURE / max(run.steps[-1][1] + 1.0 for run in runs))
    possible = [(rate, burst) for rate in _rates(runs[-1], apart) if (burst := _burst(runs, rate)) is not None]
    if not possible:
        return None
    nearest = min(range(len(possible)), key=lambda number: abs(math.log(possible[number][0] / guess)))
    first, last = (_edge(possible, nearest, step, apart) for step in (-1, 1))
    low, high = possible[first][0], possible[last][0]
    return Allowance((low + high) / 2.0, LIKELY * (high - low) / (high + low), possible[(first + last) // 2][1])


def _rates(run: Run, apart: float) -> Iterator[float]:
    """Yield the rates that the newest run allows for a key that has a burst."""
    rate = max(run.slowest, SLOWEST)
    while run.beyond(rate) + UNSURE >= SMALL_BURST:
        yield rate
        rate *= apart


def _edge(possible: list[tuple[float, float]], number: int, step: int, apart: float) -> int:
    """Return which is the last of the rates, on one side, up to which all are possible."""
    while 0 <= number + step < len(possible):
        here, there = sorted((possible[number][0], possible[number + step][0]))
        if there > here * apart * apart:
            break
        number += step
    return number


def _burst(runs: list[Run], rate: float) -> float | None:
    """Return the burst with which a rate explains all runs, or ``None``."""
    low, high = SMALL_BURST, math.inf
    for run in runs:
        beyond = run.beyond(rate)
        low = max(low, beyond - UNSURE)
        if rate * run.filling > beyond + UNSURE:  # it was full: not all that came in was taken
            high = min(high, beyond + UNSURE)
    if low > high:
        return None
    return low if math.isinf(high) else (low + high) / 2.0

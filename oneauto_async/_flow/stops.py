"""Keys whose every 429 tells all calls to wait: the runs in between tell what they allow. Pure: time is passed in."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .calls import NOISE, REMEMBERED, Grant, History
from .runs import Allowance, Run, explain, run_before

KNOWN = 0.05
"""The error from which on the rate is known: such a key is asked slower by it, which then costs less than stopping."""

MOST_CAUTION = 0.1
"""The most by which it is asked slower: a few calls say little, and must not make it ever slower."""

RUNS = 4
"""Runs that are compared: enough to tell the rate from the burst, and few enough to forget what the key once was."""

UNTOLD = 4
"""Runs, one after the other, that are too short to tell anything, after which what came in during all of them and their
stops is counted instead. A bucket that had run over in a stop would have made the next run longer."""

UNKNOWN = 1.0
"""The error, as a share of the rate, while nothing is known."""


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
        self._runs: list[Run] = []
        self._untold: list[Grant] = []  # the refused calls that ended runs which told nothing, since one did

    @property
    def seen(self) -> bool:
        """Whether there ever was one: from then on, for good, the key counts as one that stops."""
        return self.seconds > 0.0

    @property
    def is_known(self) -> bool:
        """Whether the rate is known well enough to stay below it."""
        return self.error < KNOWN

    def learn(self, now: float, seconds: float) -> None:
        """Learn of a stop."""
        self.seconds, self._began, self._end = seconds, now, now + seconds

    def begin_with(self, first_run: Sequence[Grant], burst: float) -> None:
        """Learn, to begin with, what a full bucket gave: the calls up to the first 429, newest first, or a burst."""
        if not self._runs and first_run:
            self._runs.append(run_before(first_run[0], first_run, math.inf))
        elif not self._runs and math.isfinite(burst):
            self._runs.append(Run(((0.0, burst),), math.inf))

    def measure(self, history: History, refused: Grant, guess: float) -> Allowance | None:
        """Return what a 429 tells, the first one since the last stop, with those before it.

        Arguments:
            history: the calls.
            refused: the refused one.
            guess: the rate until now.
        """
        before = history.until(refused)
        calls = [call for call in before if call.left > self._end]
        is_whole = len(calls) < len(before) or len(before) < REMEMBERED
        runs = [*self._runs, run_before(refused, calls, self._end - self._began if is_whole else 0.0)]
        while (found := explain(runs, guess)) is None and len(runs) > 1:
            runs = runs[1:]  # the key allowed something else then
        if found is None:  # too few calls were accepted
            rest = (calls[-1] if calls else refused).left - self._end
            in_a_row = self._untold if rest < self.seconds else []  # else nobody asked for a while
            self._untold = [*in_a_row, refused][-UNTOLD - 1 :]
        else:
            self._runs, self.error, self._untold = runs[-RUNS:], found.error, []
        return found

    def highest_rate(self, history: History) -> float:
        """Return the most the key can allow, in calls per second, where it stops all calls after every few."""
        if len(self._untold) <= UNTOLD:
            return math.inf
        first, last = self._untold[0], self._untold[-1]
        return history.accepted_rate(first, last) + 1.0 / max(NOISE, last.left - first.left)

    def cautious_rate(self, found: Allowance) -> float:
        """Return the rate at which no 429 is to be expected."""
        return found.rate * (1.0 - min(MOST_CAUTION, found.error))

"""How many of those who wait for the disk had better go together."""

from __future__ import annotations

import attrs

WEIGHT = 1 / 8
"""Of the newest group in what is known: a disk that becomes slow shows within a dozen groups."""

HITCH = 4.0
"""A group that takes longer than so many times as long as usual is taken for no longer than that: it had to wait for
another program, or for a moment of the machine's."""

FEW = 16
"""So many always go together: with fewer, what a group costs the processor would show (``benchmarks.ledger``)."""

LONG = 10
"""How far the groups that find a long line may be more than those that do not, before lines go undivided; and how far
fewer, before they are divided again. What is many at once, now and then, is gone sooner."""


@attrs.frozen
class Timing:
    """How long one group took.

    Attributes:
        fixed: seconds that any group takes: to have the file to itself, and to be durable.
        orders: seconds that its orders took.
    """

    fixed: float
    orders: float


class Pace:
    """How long groups have taken of late, and how long the line has been.

    Those who go to the disk in one group send together, are answered together, and come back together: the processor
    and the disk wait for each other, again and again. So a long line goes in several groups, and is spread out; but
    not where the disk is slow, and any group takes longer than so many orders, nor where the line stays long: there
    the processor has no time to spare, and the fewer groups the better.
    """

    def __init__(self) -> None:
        self._fixed = self._orders = self._waiters = 0.0
        self._longer = -LONG
        self._divides = True

    def learn(self, timing: Timing, waiters: int) -> None:
        """Take a group into account that held so many claims."""
        if not waiters:
            return
        weight = WEIGHT if self._waiters else 1.0
        fixed = min(timing.fixed, HITCH * self._fixed) if self._fixed else timing.fixed
        self._fixed += weight * (fixed - self._fixed)
        self._orders += weight * (timing.orders - self._orders)
        self._waiters += weight * (waiters - self._waiters)

    def together(self, waiting: int) -> int:
        """Return how many of a line go in the next group; the rest keeps its turn."""
        most = max(FEW, self._worth_a_group)
        self._see(is_long=waiting > most)
        return min(waiting, most) if self._divides else waiting

    def _see(self, *, is_long: bool) -> None:
        self._longer = max(-LONG, min(LONG, self._longer + (1 if is_long else -1)))
        if abs(self._longer) == LONG:
            self._divides = self._longer < 0

    @property
    def _worth_a_group(self) -> int:
        """How many take as long by themselves as any group does."""
        return round(self._fixed * self._waiters / self._orders) if self._orders else 0

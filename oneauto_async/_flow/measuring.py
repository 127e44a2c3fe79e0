"""Measuring the key's rate: its bucket is empty at every 429, so between two of them every accepted call is a token.

For the newest 429 and an older one, ``d`` seconds apart with ``A`` accepted calls between: ``A`` is ``rate * d``, to
within one token. Each older 429 gives another interval, and the rate lies in all of them, unless it has changed since.
"""

from __future__ import annotations

import math

import attrs

from .calls import NEAREST, Fate, Grant, History

NARROW = 0.05
"""An interval narrower than this share of its middle is a measurement: its error is less than what probing needs."""

APART = 10.0
"""How many times the noise two 429s must be apart to say what the rate is at least."""

MOST_PAIRS = 64
"""Older 429s that are compared with the newest; a volley of refusals need not be compared one by one."""

BETWEEN = 10
"""Accepted calls between two 429s from which on they are not of the same volley."""


@attrs.frozen
class Interval:
    """What the key's rate can be, in calls per second.

    Attributes:
        low, high: the least and the most.
        refusals: older times the key was found empty that agree.
        accepted: calls accepted since the first of those.
    """

    low: float = 0.0
    high: float = math.inf
    refusals: int = 0
    accepted: int = 0

    @property
    def middle(self) -> float:
        """The best guess of a narrow interval."""
        return (self.low + self.high) / 2.0

    @property
    def is_narrow(self) -> bool:
        """Whether it is a measurement."""
        return self.high - self.low < NARROW * self.middle

    def clamp(self, rate: float) -> float:
        """Return the nearest rate that is possible."""
        return min(max(rate, self.low), self.high)

    def meet(self, other: Interval) -> Interval | None:
        """Return what both allow; ``None`` if they contradict each other."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Interval(low, high) if low <= high else None

    def raise_to(self, other: Interval) -> Interval:
        """Return the higher of both, bound by bound."""
        return Interval(max(self.low, other.low), max(self.high, other.high))


def measure(history: History, newest: Grant, longest_gap: float = math.inf) -> Interval:
    """Return what the refusals up to the newest say of the key's rate.

    Arguments:
        history: the calls; the newest refused one among them.
        newest: the refused call to measure up to.
        longest_gap: seconds between two accepted calls after which the key's bucket is full and runs over.
    """
    known, pairs = Interval(), 0
    walk = _Walk(history, history.arrival(newest), longest_gap)
    for call in history.all_newest_first():
        arrival = history.arrival(call)
        if call is newest or arrival > walk.end:
            continue
        if call.fate is not Fate.REFUSED:
            walk.count(call, arrival)
            continue
        both = known.meet(walk.interval(arrival))
        if both is None:
            break  # the key allowed something else then
        pairs, is_another = pairs + 1, walk.accepted - known.accepted >= BETWEEN
        known = attrs.evolve(
            both,
            refusals=known.refusals + is_another,
            accepted=walk.accepted if is_another else known.accepted,
        )
        if pairs == MOST_PAIRS:
            break
    return known


@attrs.define
class _Walk:
    """The way back from the newest 429: what was accepted on it, and for how long the bucket may have run over."""

    history: History
    end: float
    longest_gap: float
    accepted: int = 0
    unsure: int = 0
    overflow: float = 0.0
    later: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.later = self.end

    def count(self, call: Grant, arrival: float) -> None:
        """Pass an accepted call, or one of which it is not known yet."""
        self.accepted += 1
        self.unsure += call.fate is not Fate.ACCEPTED
        self.overflow += self._overflow_since(arrival)
        self.later = arrival

    def interval(self, arrival: float) -> Interval:
        """Return what a 429 here and the newest one say together."""
        noise = self.history.noise
        apart = self.end - arrival
        # Tokens that ran over were never taken: time in which that may have happened says nothing of the most there is.
        outward = self.history.outward  # a pause is known by when calls left
        paused = self.history.paused(arrival - outward, self.end - outward)
        counted = apart - paused - self.overflow - self._overflow_since(arrival) - noise
        # Of calls that left together nobody knows which came first: too near, they tell only what cannot be exceeded.
        low = (self.accepted - self.unsure - 1) / (apart + noise) if apart > APART * noise else 0.0
        return Interval(max(0.0, low), (self.accepted + 1) / counted if counted > 0 else math.inf)

    def _overflow_since(self, arrival: float) -> float:
        return max(0.0, self.later - arrival - self.longest_gap)


UNSURE = 1.5
"""Calls by which a count may be wrong: a token that was not quite there, and one that came too early."""


@attrs.frozen
class Sustained:
    """Calls per second that were accepted beyond a burst, and by what share of it that may be wrong."""

    rate: float = 0.0
    error: float = 1.0

    @property
    def interval(self) -> Interval:
        """What the rate can be."""
        return Interval(self.rate * (1.0 - self.error), self.rate * (1.0 + self.error))


def sustained(history: History, refused: Grant, since: float, burst: float) -> Sustained:
    """Return the rate that a 429 tells if the bucket may have run over before.

    Whenever it was full last, since then it has given its burst and what came in: ``calls = burst + rate * seconds``;
    and since no other moment it has given more. So the rate is the largest ``(calls - burst) / seconds`` of all times
    that end with the 429.

    Arguments:
        history: the calls.
        refused: the one that found the bucket empty.
        since: the moment after which calls count: when they went on after the last 429.
        burst: calls that a full bucket holds.
    """
    best, count = Sustained(), 0
    for call in history.until(refused):
        if call.left <= since:
            continue
        count += call.took_a_token
        beyond, seconds = count - burst, refused.left - call.left
        if beyond > 2.0 * UNSURE and seconds > NEAREST * history.noise and beyond / seconds > best.rate:
            best = Sustained(beyond / seconds, UNSURE / beyond)
    return best

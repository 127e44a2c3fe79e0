"""What is known of a key, and our own copy of its bucket: what all ways of pacing to it share. Pure: time is passed in.

The copy starts a *cushion* below the gateway's bucket after each 429, which has found that empty, and each call that is
let out takes a token from it.
"""

from __future__ import annotations

import math
from enum import Enum

import attrs

from ..settings import LOWEST_RATE
from .burst import Burst
from .calls import NOISE, Grant, History, Moment
from .crowding import Crowding
from .cycle import Cycle
from .sharing import Sharing
from .stops import Stops
from .surge import Surge

LOWEST_PACE = 0.5
"""Calls per second below which nothing is paced, however little the key seems to allow; of a given rate below 4/s, an
eighth of it. So a key that allows more again is noticed within two seconds."""

HIGHEST_RATE = 1e5
"""Calls per second beyond which nothing is paced any more."""

CUSHION = 2.0
"""Tokens the copy starts below the gateway's bucket: one for the 429 that was not quite empty, one for rounding, and
what arrives early on a path of uneven length comes on top."""

FAR = 0.3
"""A rate below this share of its recent peak has most probably not sunk: others have taken the rest, and may leave in a
moment. Of three who share a key evenly each has a third."""

NO_ROOM = 1.5
"""Calls that may go out at once while it is not known that more may: one, and what a timer was late."""


class Phase(Enum):
    """What the pacer is doing.

    ``FREE``: not limited by it. ``RAMP``: growing, no 429 yet. ``TRACK``: near what the key turned out to allow.
    """

    FREE = "free"
    RAMP = "ramp"
    TRACK = "track"


@attrs.define
class Episode:
    """Refusals that say the same.

    Attributes:
        end: the number of the last call that belongs to it.
        refusals: how many there were.
        is_first: they ended the ramp, and nothing else was refused so far.
        is_probe: they came at the end of a cycle.
        lowest: calls per second the rate may fall to because of it.
    """

    end: int = 0
    refusals: int = 0
    is_first: bool = False
    is_probe: bool = False
    lowest: float = 0.0


class Key:
    """What is known of a key, and the copy of its bucket.

    Arguments:
        ceiling: calls per second never to be exceeded: a limit that was given.
        rate: a first guess from an earlier run, in calls per second.
        burst: the burst that was given, or is guessed.

    Attributes:
        phase: what is being done to it.
        rate: calls per second it allows, as far as is known.
        lowest: calls per second below which that never falls.
        granted: calls that were let out, which is the number of the newest: a governor counts its grants in this order.
        leaving: those of them that have to leave yet.
        episode: the newest one.
        last_refused: the call that left last of all that were refused.
        refused_at: when the newest 429 was heard.
    """

    def __init__(self, *, ceiling: float = math.inf, rate: float | None = None, burst: float = math.inf) -> None:
        self.ceiling = min(ceiling, HIGHEST_RATE)
        # What an earlier run has met at worst is in its guess already.
        guess = rate if math.isinf(ceiling) else None
        self.lowest = min(LOWEST_PACE, max(ceiling / 8.0, LOWEST_RATE) if guess is None else guess)
        self.phase = Phase.FREE if math.isfinite(ceiling) else Phase.RAMP if rate is None else Phase.TRACK
        self.rate = min(self.ceiling, HIGHEST_RATE if rate is None else max(self.lowest, rate))
        self.burst = Burst(burst)
        self.history = History()
        self.cycle = Cycle() if rate is None else Cycle.of_known(self.rate)
        self.surge = Surge()
        self.stops = Stops()
        self.crowding = Crowding(burst if math.isfinite(ceiling) else 1.0)
        self.sharing = Sharing(ceiling if math.isfinite(ceiling) else rate or 0.0)

        self.granted = self.leaving = 0
        self._answered = self._returned = 0
        self.episode = Episode()
        self.last_refused: Grant | None = None
        self.refused_at = Moment(0.0, 0)

        # Who told what an earlier run has learnt may have used the key up a moment ago, or not at all since.
        self._level = 0.0 if rate is None else max(1.0, burst / 2.0)
        self._filled_at = math.inf  # from the first call on

    @property
    def pace(self) -> float:
        """Calls per second that are let out."""
        return self.rate * (1.0 + self.surge.excess)

    @property
    def is_told(self) -> bool:
        """Whether a limit was given."""
        return self.ceiling < HIGHEST_RATE

    @property
    def is_far(self) -> bool:
        """Whether it allowed far more a moment ago."""
        return self.rate < FAR * self.sharing.peak

    @property
    def behind(self) -> float:
        """Calls that are on their way behind one that is refused until that is heard."""
        return max(self.rate * self.history.trip, 1e-3)

    # Its calls.

    @property
    def in_flight(self) -> int:
        """Calls that were let out and have not ended."""
        return self.granted - self._answered

    @property
    def heard(self) -> int:
        """Calls that were sent and have ended."""
        return self._answered - self._returned

    def leave(self, grant: Grant) -> None:
        """Enter a call that was let out, and leaves now, if it has not been entered."""
        if not grant.is_entered:
            grant.is_entered, self.leaving = True, self.leaving - 1
            self.history.add(grant)

    def answer(self, grant: Grant) -> None:
        """Count a call that has ended."""
        self.leave(grant)
        self._answered += 1

    # The copy of its bucket.

    @property
    def cushion(self) -> float:
        """Tokens the copy starts below the gateway's bucket."""
        if self.burst.is_small:
            return 0.0
        return min(CUSHION + max(NOISE, self.history.noise) * self.rate, (self.burst.calls - 1.0) / 2.0)

    @property
    def depth(self) -> float:
        """The most calls that may go out at once: after a rest, what is known to be allowed."""
        if self.burst.is_small:
            return 1.0
        if self.burst.first_run or self.stops.seen or not self.burst.is_known:
            return NO_ROOM  # where a refusal stops all calls, what a rest has saved is not worth one
        return max(NO_ROOM, self.burst.calls - self.cushion)

    def level(self, now: float) -> float:
        """Return the calls that may go out now."""
        return min(self.depth, self._level + self._came_in(now))

    def unused(self, now: float) -> float:
        """Return how many more calls might have gone out, had the bucket held them; below 0 if it is not full."""
        return self._level + self._came_in(now) - self.depth

    def _came_in(self, now: float) -> float:
        return max(0.0, now - self._filled_at) * self.pace

    def take(self, now: float) -> None:
        """Let a call out."""
        if not self.granted:
            self.cycle.start(now)
        self.granted, self.leaving = self.granted + 1, self.leaving + 1
        self._level, self._filled_at = self.level(now) - 1.0, now

    def put_back(self, grant: Grant) -> None:
        """Take back a call that was let out and will never be sent."""
        self.leaving -= not grant.is_entered
        grant.is_entered = True
        self._answered, self._returned = self._answered + 1, self._returned + 1
        self._level = min(self.depth, self._level + 1.0)

    def miss(self, now: float) -> None:
        """Learn that a call may not have taken what was counted for it.

        The gateway's bucket is never below empty, so that only those under way can still take what is not there. For
        the rest nothing is to be made up for, which at a first guess of the rate could keep all calls for minutes.
        """
        lowest = -self.in_flight - self.cushion
        if self.level(now) < lowest:
            self._level, self._filled_at = lowest, now

    def refill(self, now: float, level: float, *, excess: float = 0.0) -> None:
        """Start the copy anew after a refusal, from a level; until the next it fills faster by a share of the rate."""
        self._level, self._filled_at = level, now
        self.refused_at = Moment(now, self.granted)
        self.surge.end(self.refused_at, excess)

    def change_rate(self, now: float, factor: float) -> None:
        """Take the rate times a factor from now on, up to what was given."""
        self._level, self._filled_at = self.level(now), now
        self.rate = min(self.ceiling, self.rate * factor)

    def free_at_ceiling(self) -> None:
        """Leave the pacing to the given limit again once the key seems to allow it."""
        if self.is_told and self.rate >= self.ceiling:
            self.phase = Phase.FREE

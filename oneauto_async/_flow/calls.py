"""The calls of one key, as the governor remembers them: when each left, and how it ended. Pure: time is passed in."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from enum import Enum
from itertools import islice

import attrs

NOISE = 0.004
"""Seconds by which the moment a call reaches the gateway is unsure at least: timers, buffers and queues on the way."""

NEAREST = 4.0
"""How many times the noise a count of calls must last to say anything."""

SHORTEST_TRIP = 0.02
"""Seconds a refusal takes at least where a rate is guessed from it: one that comes at once tells nothing."""

TRIP_WEIGHT = 0.1
"""The weight of one round trip in the usual one: the last ten or twenty count."""

REMEMBERED = 2048
"""Calls that are remembered: some seconds of the fastest key. What they tell is exact to a tenth of a percent."""

PAUSES = 32
"""Pauses that are remembered; a pause that old lies before the remembered calls, or the measurement stops at it."""


@attrs.frozen
class Moment:
    """A moment, and the grants given until then."""

    at: float
    granted: int


class Fate(Enum):
    """How a call ended, as far as the key's bucket is concerned."""

    UNDER_WAY = "under way"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    VOID = "void"


class Grant:
    """Leave to send one request, and what became of it.

    Attributes:
        number: counts the grants of a governor.
        at: the moment it was given, on the clock.
        left: the moment its bytes began to leave.
        is_entered: they have, and it is counted among the calls of the key; or it is sure that they never will.
        fate: how it ended.
        pace: calls per second that were let out when it was given; meaningless in the ramp, which has a rate of its
            own.
        is_canary: sent alone to see whether an outage is over, or the time in which others used the key up.
    """

    __slots__ = ("at", "fate", "is_canary", "is_entered", "left", "number", "pace")

    def __init__(self, number: int, at: float, pace: float = math.inf) -> None:
        self.number = number
        self.at = self.left = at
        self.is_entered = False
        self.fate = Fate.UNDER_WAY
        self.pace = pace
        self.is_canary = False

    def __repr__(self) -> str:
        return f"<Grant {self.number} at {self.at:.3f}, {self.fate.value}>"

    @property
    def is_known(self) -> bool:
        """Whether it was accepted or refused."""
        return self.fate is Fate.ACCEPTED or self.fate is Fate.REFUSED

    @property
    def took_a_token(self) -> bool:
        """Whether the gateway counts it; a call under way most probably will be."""
        return self.fate is Fate.ACCEPTED or self.fate is Fate.UNDER_WAY


class History:
    """The newest calls, the pauses between them, and how long a refusal takes to be heard.

    The calls are in the order they left, but for those of a transport that does not tell when: they come as they end.
    """

    def __init__(self) -> None:
        self._calls: deque[Grant] = deque(maxlen=REMEMBERED)
        self._pauses: deque[tuple[float, float]] = deque(maxlen=PAUSES)
        self._fastest = math.inf
        self._usual = 0.0

    def add(self, call: Grant) -> None:
        """Remember a call that leaves now."""
        self._calls.append(call)

    def forget(self, moment: float) -> None:
        """Forget all calls up to a moment: what they would tell is not true any more."""
        while self._calls and self._calls[0].left <= moment:
            self._calls.popleft()

    def heard(self, seconds: float) -> None:
        """Learn how long a refusal took: the gateway itself answers, so this is the way there and back."""
        self._usual = seconds if math.isinf(self._fastest) else self._usual + TRIP_WEIGHT * (seconds - self._usual)
        self._fastest = min(self._fastest, seconds)

    def pause(self, start: float, end: float) -> None:
        """Remember that from ``start`` to ``end`` calls left too slowly: the bucket may have run over."""
        if end > start and self._pauses and start <= self._pauses[-1][1]:
            self._pauses[-1] = (min(start, self._pauses[-1][0]), max(end, self._pauses[-1][1]))
        elif end > start:
            self._pauses.append((start, end))

    def paused(self, start: float, end: float) -> float:
        """Return the seconds of pause between two moments."""
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in self._pauses)

    @property
    def noise(self) -> float:
        """Seconds by which an arrival is unsure: half of what a usual round trip takes beyond the fastest."""
        return NOISE if math.isinf(self._fastest) else max(NOISE, self.unevenness)

    @property
    def unevenness(self) -> float:
        """The same, as far as it was seen; infinity before any refusal was heard."""
        return math.inf if math.isinf(self._fastest) else (self._usual - self._fastest) / 2.0

    @property
    def trip(self) -> float:
        """Seconds a refusal usually takes to be heard."""
        return max(NOISE, self._usual)

    def arrival(self, call: Grant) -> float:
        """Return when a call reached the gateway, as nearly as can be known."""
        return call.left + self.outward

    @property
    def outward(self) -> float:
        """Seconds from a call's leaving to its arrival, as nearly as can be known."""
        return self._fastest / 2.0

    def newest_first(self) -> Iterator[Grant]:
        """Walk back through the calls that may have reached the gateway, from the one that left last."""
        return (call for call in reversed(self._calls) if call.fate is not Fate.VOID)

    def all_newest_first(self) -> Iterator[Grant]:
        """Walk back through all calls, those too of which it is not known whether they took a token."""
        return reversed(self._calls)

    def accepted_after(self, refused: Grant) -> int:
        """Count the calls that left after a refused one and took, or will take, a token."""
        return sum(call.took_a_token and call.left > refused.left for call in self.newest_first())

    def accepted_share(self, calls: int) -> float:
        """Return the share of the newest calls that were accepted, of those it is known of; 1 if they are fewer."""
        fates = [call.fate is Fate.ACCEPTED for call in self._known(calls)]
        return sum(fates) / calls if len(fates) == calls else 1.0

    def refused_of(self, calls: int) -> int:
        """Count those of so many newest calls that were refused."""
        return sum(call.fate is Fate.REFUSED for call in self._known(calls))

    def _known(self, calls: int) -> Iterator[Grant]:
        return islice((call for call in reversed(self._calls) if call.is_known), calls)

    def accepted_rate(self, older: Grant, newer: Grant) -> float:
        """Return the calls per second that left between two refused ones and took, or will take, a token."""
        count = sum(call.took_a_token and older.left < call.left < newer.left for call in self._calls)
        return count / max(newer.left - older.left, NOISE)

    def error(self, rate: float, older: Grant, newer: Grant) -> float:
        """Return by how much such a rate may be wrong: by a token, and by when the two arrived."""
        return (1.5 + 2.0 * self.noise * rate) / max(newer.left - older.left, NOISE)

    def until(self, refused: Grant) -> list[Grant]:
        """Return the remembered calls that left before a refused one or with it, newest first."""
        return [call for call in self.newest_first() if call.left <= refused.left]

    def left_until(self, refused: Grant, since: float) -> int:
        """Count the calls that left from a moment on until a refused one did, itself included."""
        return sum(call.left >= since for call in self.until(refused))

    def sending_rate(self, refused: Grant, now: float) -> float:
        """Return the calls per second that left in the round trip before a call that was refused, until then."""
        trip = max(now - refused.left, NOISE)
        return sum(refused.left - trip < call.left <= refused.left for call in self.newest_first()) / trip

    def first_guess(self, trip: float) -> float:
        """Return the calls per second that were accepted among those that were refused, at a guess, which is low.

        The bucket was empty all that time. One more that came too early counts, and the round trip until it was heard.
        """
        refused = [call.left for call in self._calls if call.fate is Fate.REFUSED]
        if not refused:  # so many calls have left since that it is not remembered
            return 1.0 / max(trip, SHORTEST_TRIP)
        first, last = min(refused), max(refused)  # one that nobody said when it left is entered when it ends
        count = sum(call.fate is Fate.ACCEPTED and first < call.left < last for call in self._calls)
        return max((count + 1.0) / (last - first + max(trip, SHORTEST_TRIP)), self.least())

    def least(self) -> float:
        """Return the calls per second the key must allow: what was accepted since it refused first has come in since.

        It is 0 where those left too near each other to tell.
        """
        first = min((call.left for call in self._calls if call.fate is Fate.REFUSED), default=math.inf)
        later = [call.left for call in self._calls if call.fate is Fate.ACCEPTED and call.left > first]
        apart = max(later, default=first) - first
        return (len(later) - 1.0) / (apart + self.noise) if apart > NEAREST * self.noise else 0.0

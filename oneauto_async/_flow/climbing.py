"""One's share of a key that others use too, where what it allows in all has been told. Pure.

Several who share a key each measure what the others left them, and would keep it, however little. So they do not
measure: each climbs a little with every accepted call, and falls back when one is refused, and whoever has less climbs
that much faster. A fair share for each is the only place where all fall as often as they climb.
"""

from __future__ import annotations

import math

from .calls import Grant
from .key import Key, Phase
from .way import Refusal

MOST_OWED = 1.0
"""Calls by which the copy of the bucket may be below empty: what came in since a refused call left, others take too."""

STEP = 0.1
"""The share of the pace by which it falls when a call is refused: until all have climbed as far again, less is left
unused than a bucket of ten keeps for them."""

USUAL = 95.0
"""Accepted calls between two refusals of one that has half of the key: both together waste one in a hundred or so."""

STEEPNESS = 3.0
"""With what power of the share that grows. Those whose calls leave evenly are refused equally often in a second, the
slow one as often as the fast one, and not in proportion to their calls; so climbing must make up for more than that,
and the more it does, the less chance decides who gets how much."""

SHORTEST = 12.0
"""The fewest: those of whoever has a quarter of the key, as the power has it. One in twelve is refused at most, also
where the key allows much less than was told."""

SOON = 12.0
"""Refused in such a part of the usual calls, there is one more who shares the key than it seemed."""

OVERDUE, FEW = 2.0, 8.0
HASTE = 3.0
"""So many times the usual calls, and a few, after which others have most probably left: by chance that happens to one
in seven. From then on the pace climbs faster with this power of the calls."""

FASTEST = 8.0
SLOWEST_TRIPS = 8.0
"""A climb is an eighth for each call at most, however late; and, as long as nothing is overdue, an eighth of a step in
the time until it is heard what became of the last one."""

AGREEING, FEWEST_AGREEING, GAPS_AGREEING = 3, 100.0, 3.0
"""Refusals, and calls, and usual calls, that must tell the same rate to within a call for the key to be ours alone: of
one that is shared there is less after a fall and more after a climb."""

FADING = 0.99
"""By what factor a refusal lowers what the key is taken to allow in all, down to twice the own pace: it may allow less
than was told, and then everybody would be refused more than needed. Slow enough that a fair share is reached before. In
a volley each one does, so that it may fall as far as that at once: a volley tells that much less is there."""


class Share:
    """How fast one of several goes.

    Arguments:
        told: calls per second the key is told to allow in all.
    """

    def __init__(self, told: float) -> None:
        self._told = self._whole = told
        self._usual = USUAL  # accepted calls until the next refusal, as a rule
        self._accepted = 0  # since the last

    def begin(self, pace: float) -> None:
        """Learn of a refusal, after which calls go on at a pace."""
        self._whole = min(self._told, max(2.0 * pace, FADING * self._whole))
        self._usual, self._accepted = self._usual_at(pace), 0

    def _usual_at(self, pace: float) -> float:
        return max(SHORTEST, USUAL * math.pow(2.0 * pace / self._whole, STEEPNESS))

    def up(self, pace: float, behind: float) -> float:
        """Return the factor of the pace for an accepted call; ``behind`` calls are usually on their way."""
        self._accepted += 1
        behind = max(1.0, behind)
        climb = STEP / max(self._usual_at(pace), SLOWEST_TRIPS * behind)
        late = self._accepted / (OVERDUE * self._usual + FEW)
        return 1.0 + (climb if late <= 1.0 else min(climb * math.pow(late, HASTE), 1.0 / max(FASTEST, behind)))

    def down(self, pace: float) -> float:
        """Return the pace after a call was refused that left at a pace."""
        if self._accepted < self._usual / SOON:
            return pace * self._whole / (pace + self._whole)
        return pace * (1.0 - STEP)

    def is_all(self, refusals: int, accepted: int) -> bool:
        """Tell whether nobody else has a part of it: so many refusals, and calls between them, told the same rate."""
        return refusals >= AGREEING and accepted >= max(FEWEST_AGREEING, GAPS_AGREEING * self._usual)


class Climbing:
    """Takes a fair share of a key that others use too.

    Arguments:
        key: what is known of the key.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self._share = Share(key.ceiling)

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted: take a little more."""
        key = self._key
        if grant.number > key.episode.end:
            key.change_rate(now, self._share.up(key.rate, key.behind))
            key.free_at_ceiling()

    def refuse(self, refusal: Refusal) -> None:
        """Leave a little more to the others, once for an episode; also at the ceiling, where a climb may end.

        There it is not measured what came in since the last refusal: the climb has left some of it unused.
        """
        key = self._key
        key.phase = Phase.TRACK
        if refusal.is_new:
            pace = min(key.rate, max(refusal.grant.pace, key.rate / 2.0))
            key.rate = max(key.lowest, self._share.down(pace))
            key.sharing.remember(key.rate)

    def refill(self, refused: Grant, now: float) -> None:
        """Start the copy anew: the bucket was empty, and what has come in since, others take as well."""
        self._key.refill(now, max(-MOST_OWED, min(0.0, self._key.level(now))))
        self._share.begin(self._key.rate)

    def is_pointless(self, refusal: Refusal) -> bool:
        """Tell whether nobody else has a part of the key."""
        return refusal.is_new and self._share.is_all(refusal.interval.refusals, refusal.interval.accepted)

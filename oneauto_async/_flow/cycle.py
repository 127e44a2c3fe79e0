"""How many calls lie between two 429s: each costs a call, but without any nobody would notice a higher limit. Pure."""

from __future__ import annotations

from .sharing import Sharing

FIRST_CALLS = 50.0
FEWEST_FIRST = 30.0
FIRST_SECONDS = 4.0
FIRST_TRIPS = 3.0
"""The first cycle: fifty calls measure the rate to 2 % each way. Of a slow key fewer, so that the first guess does not
last long; but thirty, so that two such cycles together are a measurement, and those of three round trips."""

SHORTEST = 100.0
GROWTH = 2.0
SHORTEST_TRIPS = 4.0
"""The second cycle, and how much longer each next one may be; so many round trips at least."""

FEWEST = 3.0
"""Calls of a cycle of a key of which others leave hardly anything."""

UNNOTICED = 5.8
"""Seconds for which a limit that has risen may go unnoticed, with a tenth more until somebody looks. A rise from 20 to
50/s then costs at most (1 - 20/50) * 6.4 s, four of the six seconds that are a tenth of a minute."""

MISSED = 0.3
"""The same as a share of the key: of what it is known to allow, no more than this may go unused for so long when others
leave. Of one that is shared by two 3.5 s then cost 1.7, three in a hundred of a minute."""

AGAIN = 0.7
FEWEST_AGAIN = 12.0
"""Seconds after which a rate that has dropped is tried again, and calls: what others leave unused after they met the
limit together is a third of the key, and a slow key need not be asked with every other call."""

SHARE = 0.007
"""So rarely that refused calls are no more than this share of all, though that may take longer, if ..."""

SO_FAR = 0.4
"""... it takes no more than this part of the time for which the key has been the same: whoever was alone with a slow
key for a minute need not look every six seconds, and whoever came to it a moment ago should not wait a minute."""

STOP_SHARE = 0.05
"""The share of its time that a key may stand still where every 429 tells all calls to wait."""


class Cycle:
    """The calls from one 429 to the next.

    Attributes:
        length: so many calls are to be accepted in between.
    """

    def __init__(self, length: float = FIRST_CALLS) -> None:
        self.length = length
        self._usual_refusals = 1.0
        self._steady_since = 0.0

    @classmethod
    def of_known(cls, rate: float) -> Cycle:
        """Make the first one of a key whose rate is known already, in calls per second."""
        return cls(min(SHORTEST, max(FEWEST_AGAIN, UNNOTICED * rate)))

    def start(self, now: float) -> None:
        """Learn when the first call of all was let out."""
        self._steady_since = now

    def ended(self, refusals: int) -> None:
        """Learn how many calls were refused at the end of one: each weighs."""
        self._usual_refusals += 0.5 * (refusals - self._usual_refusals)

    def begin_anew(self, rate: float, behind: float, *, is_shared: bool) -> None:
        """Begin with a short one, since hardly anything is known; ``behind`` calls are usually unanswered."""
        soon = max(FEWEST if is_shared else FEWEST_FIRST, FIRST_SECONDS * rate)
        self.length = max(min(FIRST_CALLS, soon), FIRST_TRIPS * behind)

    def lengthen(self, rate: float, behind: float, now: float, sharing: Sharing) -> None:
        """Begin the next one: as long as all stays the same, each is longer than the one before."""
        if sharing.is_likely:
            self._steady_since = now
        rarely = self._usual_refusals / (SHARE * sharing.highest(rate))
        sooner = UNNOTICED * MISSED / max(MISSED, sharing.taken(rate))
        unnoticed = min(UNNOTICED, max(sooner, FEWEST_AGAIN / rate))
        seconds = max(unnoticed, min(rarely, SO_FAR * (now - self._steady_since)))
        longest = max(seconds * rate, SHORTEST_TRIPS * behind, FEWEST)
        self.length = min(longest, max(SHORTEST, GROWTH * self.length))

    def shorten(self, rate: float, behind: float) -> None:
        """Let this one be short: the rate has dropped, and may be higher again in a moment."""
        self.length = min(self.length, max(FEWEST_AGAIN, AGAIN * rate, SHORTEST_TRIPS / 2.0 * behind))

    def spread_stops(self, rate: float, stop: float, error: float) -> None:
        """Begin one that ends in a stop of so many seconds, and is so long that the stop costs little.

        It costs no more than being slower by the error does, or than `STOP_SHARE` of the time if that is more.
        """
        self.length = max(FIRST_CALLS, stop * rate / max(STOP_SHARE, error))

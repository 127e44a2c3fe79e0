"""Whether a refusal says that a limit which was given is too high, or only that a call was early. Pure."""

from __future__ import annotations

from .calls import History
from .measuring import Interval

TOLERANCE = 0.04
"""How far below a given limit a measurement may be and not contradict it."""

RECENT = 64
STARVED = 0.35
"""Of so many calls to a key with hardly any burst, whose limit is given, a smaller share was accepted than uneven paths
explain: others use it, or it is lower, and going on at that rate would only be refused."""

EVEN = 0.05
STARVED_ON_EVEN_PATHS = 0.7
"""The same on paths whose times differ by less than such a part of a token's time: some calls are refused there until
the margin is wide enough, but never that many."""

UNEVEN = 0.5
MANY = 512
"""On paths that differ by less than such a part, so many calls tell it as well."""

FEW = 16
HARDLY_ANY = 0.2
"""On such paths a smaller share of so few calls tells it at once: alone, no two in a row are early."""

RECENT_AT_STOPS = 16
STARVED_AT_STOPS = 0.75
"""The same where each refusal stops all calls: it is found out sooner."""

BY_CHANCE = 1
"""So many refused of the newest `RECENT` calls to a key with a burst say nothing: one came earlier than the cushion
allows for."""


def is_contradicted(rate: float, measured: Interval) -> bool:
    """Tell whether what was measured is lower than the rate that was given."""
    return measured.high < rate * (1.0 - TOLERANCE)


def was_by_chance(history: History) -> bool:
    """Tell whether so few of the newest calls were refused that the refused one was only early (key with a burst)."""
    return history.refused_of(RECENT) <= BY_CHANCE


def is_starved(history: History, rate: float, stop: float) -> bool:
    """Tell whether fewer calls of a key without a burst are accepted than uneven paths explain.

    ``stop`` is for how many seconds each refusal stops all calls; 0 if it does not.
    """
    share, unevenness = history.accepted_share, history.unevenness * rate  # of the time of a token
    if stop:
        return share(RECENT_AT_STOPS) < STARVED_AT_STOPS
    if unevenness < UNEVEN and share(FEW) < HARDLY_ANY:
        return True
    if share(RECENT) < (STARVED_ON_EVEN_PATHS if unevenness < EVEN else STARVED):
        return True
    return unevenness < UNEVEN and share(MANY) < STARVED_ON_EVEN_PATHS

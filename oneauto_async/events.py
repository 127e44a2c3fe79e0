"""What a client tells its observers: one frozen event per attempt, wait, refusal, pause, outage and outcome.

An observer is any callable that takes one event: ``OneAutoClient(observers=[log_events])``. It is called on the event
loop, in the middle of things: it must be quick and must not block. What it raises is logged and goes no further. No
event holds the key, a request or an answer's body.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

import attrs

from .errors import Billing

__all__ = [
    "AttemptEnded",
    "CircuitChanged",
    "Event",
    "GateShut",
    "LookupEnded",
    "Observer",
    "QuotaUsedUp",
    "Throttled",
    "Waited",
    "log_events",
]

_log = logging.getLogger("oneauto_async")


@attrs.frozen(kw_only=True, eq=False)
class AttemptEnded:
    """One request has ended.

    Attributes:
        evdb_vehicle_id: what it asked for.
        attempt: which request of its lookup it was, from 1.
        status: of the answer, or ``None`` if none came.
        verdict: the name of what it means, as in ``Answer`` or ``Throttled``; ``CutShort`` if it was cancelled, or its
            answer could not be written down.
        billing: whether it was charged.
        elapsed: seconds it took.
    """

    evdb_vehicle_id: str
    attempt: int
    status: int | None
    verdict: str
    billing: Billing
    elapsed: float


@attrs.frozen(kw_only=True, eq=False)
class Waited:
    """A request had to wait for its turn: for the pacing, a pause, or an outage.

    Told together with the end of that request; a lookup that is turned away while it waits tells none.

    Attributes:
        evdb_vehicle_id: what it asks for.
        seconds: how long.
    """

    evdb_vehicle_id: str
    seconds: float


@attrs.frozen(kw_only=True, eq=False)
class Throttled:
    """The gateway refused a request with 429.

    Attributes:
        rate: calls per second the key allows, as far as is known now, or ``None``.
        retry_after: seconds the service asked to wait, or ``None``.
    """

    rate: float | None
    retry_after: float | None


@attrs.frozen(kw_only=True, eq=False)
class GateShut:
    """The service asked for a pause; no call of the client goes out.

    Attributes:
        seconds: how long.
        status: 429 if the key is to rest; 503 if the service is, whichever 5xx said so.
    """

    seconds: float
    status: int


@attrs.frozen(kw_only=True, eq=False)
class CircuitChanged:
    """An outage began or ended; during one a single call at a time asks whether it is over.

    Attributes:
        is_open: whether one began.
    """

    is_open: bool


@attrs.frozen(kw_only=True, eq=False)
class QuotaUsedUp:
    """The key's quota is used up."""


@attrs.frozen(kw_only=True, eq=False)
class LookupEnded:
    """One lookup has ended.

    Attributes:
        evdb_vehicle_id: what it asked for.
        outcome: the name of the outcome's class, as in ``Found``, or of what is raised instead: ``LedgerError``,
            ``ConfigurationError``, or a fault of a transport that was given.
        billing: what is known of its charge.
        attempts: requests made.
        elapsed: seconds from its start.
    """

    evdb_vehicle_id: str
    outcome: str
    billing: Billing
    attempts: int
    elapsed: float


Event: TypeAlias = AttemptEnded | Waited | Throttled | GateShut | CircuitChanged | QuotaUsedUp | LookupEnded

Observer: TypeAlias = Callable[[Event], None]

_LEVELS: dict[type, int] = {
    GateShut: logging.WARNING,
    CircuitChanged: logging.WARNING,
    QuotaUsedUp: logging.ERROR,
    Throttled: logging.INFO,
}


def log_events(event: Event) -> None:
    """Log an event to the logger ``oneauto_async``: outages and pauses as warnings, attempts for debugging."""
    _log.log(_LEVELS.get(type(event), logging.DEBUG), "%s", event)


def tell(observers: tuple[Observer, ...], event: Event) -> None:
    """Call every observer; one that fails is logged, and disturbs neither the others nor the lookup."""
    for observer in observers:
        try:
            observer(event)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  # whatever a user's observer raises is not the lookup's
            _log.exception("an observer failed on %s", type(event).__name__)

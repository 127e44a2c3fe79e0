"""What a person sets on a simulator, checked at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from .._checks import require_whole
from ..errors import ConfigurationError
from ..settings import RateLimit
from ._gateway import SimulatedAnswer, gateway_answer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["LimitChange", "Outage", "checked_changes", "checked_keys", "checked_quota", "checked_range", "failure"]


def _is_seconds(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    checked_range(f"{type(instance).__name__}.{attribute.name}", value)


def _is_failure(instance: object, attribute: attrs.Attribute[Any], value: int) -> None:
    failure(f"Outage.{attribute.name}", value)


@attrs.frozen
class Outage:
    """A time in which the backend answers every call with an error.

    Attributes:
        start: seconds from the simulator's first request to the beginning.
        length: how many seconds it lasts.
        status: the HTTP status that calls get meanwhile, 300 to 599.
        retry_after: the ``Retry-After`` they get, as it is sent; ``None`` for none.
    """

    start: float = attrs.field(validator=_is_seconds)
    length: float = attrs.field(validator=_is_seconds)
    status: int = attrs.field(default=503, kw_only=True, validator=_is_failure)
    retry_after: str | None = attrs.field(default=None, kw_only=True)

    def answer(self, elapsed: float) -> SimulatedAnswer | None:
        """Return the answer to a call so many seconds after the first one, or ``None`` outside the outage."""
        if not self.start <= elapsed < self.start + self.length:
            return None
        return gateway_answer(self.status).with_retry_after(self.retry_after)


@attrs.frozen
class LimitChange:
    """A moment from which each key has another limit. Tokens stay, as far as the new burst holds them.

    Attributes:
        at: seconds from the simulator's first request.
        limit: the new limit; ``RateLimit(rate=None)`` for none.
    """

    at: float = attrs.field(validator=_is_seconds)
    limit: RateLimit


def failure(name: str, status: int, retry_after: str | None = None) -> SimulatedAnswer:
    """Return the gateway's answer with a status that is no success; the name is for the error."""
    require_whole(name, status, 300)
    if status > 599:
        raise ConfigurationError(f"{name} must be an HTTP status of 300 to 599, got {status}")
    return gateway_answer(status).with_retry_after(retry_after)


def checked_keys(keys: Collection[str]) -> tuple[str, ...]:
    """Return the keys, at least one and none of them empty."""
    if isinstance(keys, str) or not keys or not all(keys):
        raise ConfigurationError("Simulator keys must be a collection of at least one key, none of them empty")
    return tuple(keys)


def checked_changes(changes: Iterable[LimitChange]) -> tuple[LimitChange, ...]:
    """Return the changes in the order in which they come."""
    return tuple(sorted(changes, key=lambda change: change.at))


def checked_quota(quota: int | None) -> int | None:
    """Return the quota, a whole number if there is one."""
    if quota is not None:
        require_whole("Simulator quota", quota, 0)
    return quota


def checked_range(name: str, seconds: float | tuple[float, float]) -> tuple[float, float]:
    """Return the lowest and the highest of some seconds, given as one number or as both."""
    low, high = seconds if isinstance(seconds, tuple) else (seconds, seconds)
    if not (0 <= low <= high and math.isfinite(high)):
        raise ConfigurationError(f"{name} must be seconds from 0 up, got {seconds!r}")
    return float(low), float(high)

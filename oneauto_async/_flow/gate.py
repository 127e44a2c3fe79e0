"""The gate in front of every call of the client. Pure: time is passed in."""

from __future__ import annotations

import math
from enum import Enum

import attrs


class Cause(Enum):
    """What shut the gate."""

    THROTTLE = 429
    UNAVAILABLE = 503


@attrs.frozen
class Closing:
    """One closing of the gate.

    Attributes:
        until: the moment it opens, on the clock that is passed in.
        length: seconds it was shut for when it was shut; patience is measured against this, not against what is left.
        cause: what shut it.
    """

    until: float = -math.inf
    length: float = 0.0
    cause: Cause = Cause.THROTTLE


class Gate:
    """Shut by a ``Retry-After``, for everyone at once; a shorter closing never shortens a longer one."""

    def __init__(self) -> None:
        self._closing = Closing()

    def __repr__(self) -> str:
        if self._closing.length == 0.0:
            return "<Gate never shut>"
        return f"<Gate shut until {self._closing.until:.3f} by {self._closing.cause.value}>"

    def shut(self, now: float, seconds: float, cause: Cause) -> None:
        """Keep the gate shut until at least ``seconds`` from ``now``."""
        if now + seconds > self._closing.until:
            self._closing = Closing(now + seconds, seconds, cause)

    def remaining(self, now: float) -> float:
        """Return the seconds until the gate opens; 0 when it is open."""
        return max(0.0, self._closing.until - now)

    def closing(self, now: float) -> Closing | None:
        """Return what keeps the gate shut at ``now``, or ``None`` when it is open."""
        return self._closing if self._closing.until > now else None

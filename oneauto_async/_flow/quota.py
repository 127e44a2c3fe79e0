"""The quota: after the first answer that says it is used up nothing is sent for a while, then one canary. Pure."""

from __future__ import annotations

import math

from .calls import Grant

FIRST_HOLD = 60.0
LONGEST_HOLD = 900.0
"""Seconds every call fails at once before one goes out again; doubling, for services that live on."""


class Quota:
    """Whether the key's quota is used up, as far as is known."""

    def __init__(self) -> None:
        self._until = -math.inf
        self._hold = FIRST_HOLD
        self._is_used_up = False
        self._canary: Grant | None = None

    def __repr__(self) -> str:
        return f"<Quota {'used up' if self._is_used_up else 'not used up'}>"

    def refuses(self, now: float) -> bool:
        """Tell whether a call is to fail at once."""
        return self._is_used_up and now < self._until

    def delay(self) -> float:
        """Return infinity while a canary is under way: what becomes of it is what becomes of the others."""
        return math.inf if self._canary is not None else 0.0

    def take(self, grant: Grant) -> None:
        """Make the call the canary if the quota was used up."""
        if self._is_used_up:
            self._canary = grant

    def used_up(self, grant: Grant, now: float) -> None:
        """Learn that a call was refused because of the quota; those already under way then say nothing new."""
        if self._is_used_up and grant is not self._canary:
            return
        self._is_used_up, self._canary = True, None
        self._until = now + self._hold
        self._hold = min(2 * self._hold, LONGEST_HOLD)

    def accept(self, grant: Grant) -> None:
        """Learn that a call was accepted; only that of the canary lifts the flag."""
        if not self._is_used_up:
            return
        if grant is self._canary:
            self._is_used_up, self._canary, self._hold = False, None, FIRST_HOLD

    def forget(self, grant: Grant) -> None:
        """Learn that a call ended without telling anything; the next one is the canary then."""
        if grant is self._canary:
            self._canary = None

"""The circuit: when a service that worked fails again and again, one call at a time asks whether it is back. Pure."""

from __future__ import annotations

import math

from .calls import Grant

FAILURES_IN_A_ROW = 5
"""One failing id is no outage, and two or three that are in flight together hardly: five in a row are."""

FIRST_CANARY = 0.5
CANARY_SHARE = 0.2
RAREST = 60.0
"""A canary goes after this share of the outage so far, so that a fifth of it is lost by asking rarely; but so many
seconds after the last call at least, and at most so many, for one a minute is no load for anybody."""

AGAIN = 5.0
"""Seconds since the last failure after which whoever comes anew may ask whether an outage is over."""


class Circuit:
    """Open during an outage: nothing goes out but a canary at a time.

    A service that has never answered is not in an outage: its address is wrong or the network is down, and waiting
    would hide that. It is left to the retry policy of each lookup.

    Arguments:
        patience: seconds that calls must have failed before it opens.

    Attributes:
        failed_at: the moment of the newest failure, or the one until which nobody has asked since.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self._patience = patience
        self._has_worked = False
        self._failures = 0
        self._began = 0.0
        self.failed_at = -math.inf
        self._failed_left = -math.inf  # when the newest of the calls that failed had left
        self._next_canary: float | None = None
        self._canary: Grant | None = None
        self._is_held = False  # the service has told when it may be asked again

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self.is_open else 'closed'}, {self._failures} failures in a row>"

    @property
    def is_open(self) -> bool:
        """Whether there is an outage."""
        return self._next_canary is not None

    @property
    def lasts(self) -> float:
        """The seconds for which the outage is known to have lasted; 0 if there is none."""
        return max(0.0, self.failed_at - self._began) if self.is_open else 0.0

    def nobody_asked(self, now: float) -> None:
        """Learn that since the last failure nobody waited or asked: that time is no part of an outage."""
        if self._failures:
            self._began += now - self.failed_at
            self.failed_at = now

    def welcome(self, now: float) -> None:
        """Let someone who comes anew ask, unless that was done a moment ago."""
        if self._next_canary is not None and not self._is_held:
            self._next_canary = min(self._next_canary, max(now, self.failed_at + AGAIN))

    def delay(self, now: float) -> float:
        """Return the seconds until a call may go out; infinity while a canary is under way."""
        if self._next_canary is None:
            return 0.0
        return math.inf if self._canary is not None else max(0.0, self._next_canary - now)

    def take(self, grant: Grant) -> None:
        """Make the call a canary if there is an outage."""
        if self.is_open:
            self._canary, grant.is_canary = grant, True

    def succeed(self, grant: Grant) -> bool:
        """Learn that the service works; return whether an outage has just ended.

        A late reply to a call that left before one that failed tells of the time before the outage.
        """
        ended = self.is_open
        if ended and grant is not self._canary and grant.left <= self._failed_left:
            return False
        self._has_worked, self._failures = True, 0
        self._next_canary = self._canary = None
        self._is_held = False
        return ended

    def fail(self, grant: Grant, now: float) -> bool:
        """Learn that a call failed; return whether an outage has just begun."""
        self._failures += 1
        self._failed_left = max(self._failed_left, grant.left)
        self._note_failure(now)
        if grant is self._canary or (self._is_outage(now) and not self.is_open):
            begins, self._canary, self._is_held = not self.is_open, None, False
            self._next_canary = now + min(RAREST, max(FIRST_CANARY, CANARY_SHARE * (now - self._began)))
            return begins
        return False

    def _note_failure(self, now: float) -> None:
        if self._failures == 1:
            self._began = now
        self.failed_at = now

    def _is_outage(self, now: float) -> bool:
        in_a_row = self._failures >= FAILURES_IN_A_ROW and now - self._began >= self._patience
        return in_a_row and self._has_worked

    def hold(self, now: float, seconds: float) -> bool:
        """Learn that the service asks for a pause: a canary first when it is over. Return whether an outage began."""
        begins = not self.is_open
        longest = self._next_canary if self._is_held and self._next_canary is not None else now
        self._is_held, self._next_canary = True, max(now + seconds, longest)
        return begins

    def forget(self, grant: Grant) -> None:
        """Learn that a call ended without telling anything; the next one is the canary then."""
        if grant is self._canary:
            self._canary = None

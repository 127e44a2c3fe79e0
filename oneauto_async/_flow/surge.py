"""Going faster than the measured rate, for a while, to see whether the key allows more. Pure.

A limit that is a little higher leaves a full bucket, which has to be emptied first: only when more was sent, beyond the
rate, than that can hold, is it sure that the limit is higher. Then the pace that was allowed is the new rate.
"""

from __future__ import annotations

from .calls import Moment

FIRST = 0.08
"""The share by which the copy fills faster to begin with, a few times the error of a measurement; then it doubles."""

LARGEST = 0.3
"""The most it doubles to until it is sure that the limit has risen: a share of what the key has allowed lately."""

SUREST = 1.0
"""The most it doubles to from then on."""

FEW = 6.0
"""Calls a second more than measured that are no storm on any key: whoever gets hardly any may try for so many more."""

FIRST_AT_STOPS, LARGEST_AT_STOPS = 0.16, 0.5
"""The first and the largest share where a 429 stops all calls: it costs the same however many calls are behind it, and
the slower the bucket is emptied the better the rate is known. Twice the error of what is known, between these two."""

REFUSED = 2.0
"""Calls that may be refused because of a surge that finds the limit unchanged: those beyond the rate on their way."""

FIRST_GUESS = 0.25
GUESS_STEPS = 5
"""The share by which the copy fills faster than the first guess of the rate, which may be far too low: at least, and up
to twice that where hardly a call is on its way behind one that is refused. It doubles after so many raises, which are
threefold: a guess is seldom lower, and the higher the pace beyond the limit, the more is refused at once."""

PARTS_OF_CYCLE = 8
PARTS_OF_BURST = 4
FEWEST = 3.0
"""A step uses up such a part of a cycle, or of a full bucket if that is less; three calls if the rate is known."""


class Surge:
    """By how much the copy of the bucket fills faster than measured, and what that has shown.

    Attributes:
        excess: the share.
        raises: how often it was sure since the last 429 that the rate is higher.
        began: when it began.
        is_binding: someone had to wait for the pacer since the last step: only then more was asked for than is known.
    """

    def __init__(self) -> None:
        self.excess = 0.0
        self.raises = 0
        self.began = 0.0
        self.is_binding = False
        self._surplus = 0.0  # calls beyond what the rate allows since it was last sure
        self._stepped_at = 0  # calls let out when it last grew

    @property
    def is_on(self) -> bool:
        """Whether it goes so much faster that the bucket may have run over before; a short cycle may by itself."""
        return self.excess >= FIRST

    def end(self, refused: Moment, excess: float) -> None:
        """Learn of a 429; the next cycle fills faster by ``excess``, which may be a surge already."""
        self.excess, self.raises, self._surplus = excess, 0, 0.0
        self.began, self._stepped_at = refused.at, refused.granted

    def hears_of(self, number: int) -> bool:
        """Tell whether a call was let out since the last step, so that a round trip has passed."""
        return number > self._stepped_at

    def part_of(self, hidden: float) -> float:
        """Return the calls in which a part of the tokens is used up that may be hidden in the bucket."""
        return hidden / (PARTS_OF_BURST * max(self.excess, FIRST))

    def go_on(self, now: float, granted: int, least: float) -> bool:
        """Tell whether at least so many calls were let out in this step, and enter them if so."""
        sent = granted - self._stepped_at
        if sent < least:
            return False
        if not self.is_on:
            self.began = now
        self._surplus += sent * self.excess / (1.0 + self.excess)
        self._stepped_at, self.is_binding = granted, False
        return True

    def rest(self, granted: int) -> None:
        """Learn that nobody asked for a while: the gateway's bucket has filled, whatever was sent before."""
        self._surplus, self._stepped_at, self.is_binding = 0.0, granted, False

    def is_sure(self, hidden: float) -> bool:
        """Tell whether more was sent than can have been hidden."""
        return self._surplus > hidden

    def grow(self, most: float) -> None:
        """Double."""
        self.excess = min(max(self.excess * 2.0, FIRST), most)

    def rise(self, most: float | None) -> None:
        """Begin anew from a rate that has proved to be allowed, and double if there is a most."""
        self._surplus, self.raises = 0.0, self.raises + 1
        if most is not None:
            self.excess = min(self.excess * 2.0, most)

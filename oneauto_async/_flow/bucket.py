"""The client's own copy of the gateway's token bucket. Pure: time is passed in."""

from __future__ import annotations

import math

JITTER = 0.010
"""Seconds by which two calls may drift towards each other on their way to the gateway."""

LEAST_JITTER = 0.003
LEAST_SHARE = 0.02
"""The same for a key without any burst, and its share of a token's time at most, to begin with: there, time spent on
caution is lost."""

MARGIN_STEP = 0.005
ACCEPTED_PER_REFUSED = 250
"""A refused call widens the margin of a key without burst by this share of a token's time, an accepted one narrows it
by the second number's part of that: it settles where one call in so many is refused, well under one in a hundred."""

MOST_DOUBLINGS = 8
"""How often the narrowing doubles, once for each so many calls accepted in a row: even the widest margin of a key of
2/s or more is gone after some 1,900."""

DELAY_WEIGHT = 0.1
DELAY_STEP = 0.001
"""The weight of one call in the usual time from grant to sending, and the most of it, in seconds, that can count: a
call that had to open a connection says nothing of the others."""

UNDOUBTED = 0.2
"""Seconds: so many of the tokens that have come in while less was used are believed to be there still. A fast key makes
up for the others in no time; of a slow one a whole burst would be refused, one call of it after the other."""

ROUNDING = 1e-9
"""A token short by less than this is whole: sums of floats are not exact."""


class _Spacing:
    """How a key without any burst keeps its calls apart: by a margin learnt from refusals, from when they left."""

    def __init__(self, period: float) -> None:
        self.margin = min(LEAST_SHARE * period, LEAST_JITTER)
        self._widest = period
        self._step = min(MARGIN_STEP * period, LEAST_JITTER)
        self._accepted_in_a_row = 0
        self._usual_delay = 0.0

    def widen(self) -> None:
        self.margin = min(self._widest, self.margin + self._step)
        self._accepted_in_a_row = 0

    def narrow(self) -> None:
        """Faster and faster when none is refused any more: the margin is far too wide then."""
        self._accepted_in_a_row += 1
        faster = 2.0 ** min(self._accepted_in_a_row // ACCEPTED_PER_REFUSED, MOST_DOUBLINGS)
        self.margin = max(0.0, self.margin - self._step * faster / ACCEPTED_PER_REFUSED)

    def lateness(self, delay: float) -> float:
        """Return how much longer than usual a call took to leave: only that brings the next one closer to it."""
        late = delay - self._usual_delay
        self._usual_delay += DELAY_WEIGHT * min(max(late, -DELAY_STEP), DELAY_STEP)
        return late


class TokenBucket:
    """A bucket of ``burst`` tokens that fills at ``rate`` per second; each call takes one.

    The copy is kept a little emptier than the gateway's: sent evenly, calls arrive unevenly, and one that arrives early
    must still find a token there. ``JITTER * rate`` tokens cover that, paid once, at the start. A burst of 1 leaves no
    room for it, so there the calls are spaced wider instead, by a margin that is learnt.

    It is counted twice, by the calls that were let out and by those that have left, and holds the lower of the two: a
    call that is held up on its way takes its token late, and what came in meanwhile may have run over.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._period = 1.0 / rate
        self._burst = burst
        # At most half of the burst's room, so that there is some left to make up for a call that went out late.
        self._cushion = min((burst - 1.0) / 2.0, 0.1 + JITTER * rate)
        self._level = self._capacity
        self._filled_at = -math.inf
        self._there, self._there_at = self._capacity, -math.inf  # by what has left, and may have run over meanwhile
        self._counted_to = -math.inf  # what left before is in that, though it may be told later
        self._last_full = -math.inf
        self._before_first = 0  # calls granted since it was full, as long as none of them has left
        self._spacing = _Spacing(self._period) if burst == 1 else None

    def __repr__(self) -> str:
        return f"<TokenBucket {self._level:.1f} of {self._capacity:.1f} tokens, {self.rate:g}/s>"

    @property
    def rate(self) -> float:
        """Calls per second that are let out: the given rate, less what the margin of a key without burst takes."""
        return 1.0 / (self._period if self._spacing is None else self._period + self._spacing.margin)

    @property
    def needs_exact_time(self) -> bool:
        """Whether a call that goes out late loses its token's time for good, as without a burst."""
        return self._spacing is not None

    @property
    def _capacity(self) -> float:
        return self._burst - self._cushion

    @property
    def _most(self) -> float:
        """Calls that may go out at once: of those beyond a full bucket that none has reached yet, one at a time."""
        return max(1.0, self._capacity - self._before_first) if self._before_first else self._capacity

    def level(self, now: float) -> float:
        """Return the tokens there are at ``now``."""
        return min(self._most, self._level + (now - self._filled_at) * self.rate, self._left(now))

    def _left(self, now: float) -> float:
        """Return the tokens there are, by the calls that have left: what came in while others were held up ran over."""
        return min(self._capacity, self._there + (now - self._there_at) * self.rate)

    def delay(self, now: float) -> float:
        """Return the seconds from ``now`` until there is a whole token; 0 if there is one."""
        missing = 1.0 - self.level(now)
        return missing / self.rate if missing > ROUNDING else 0.0

    def take(self, now: float) -> None:
        """Take one token; the level may go below zero by what was taken early."""
        level = self.level(now)
        if self._before_first:
            self._before_first += 1
        elif level >= self._capacity - ROUNDING:
            self._last_full, self._before_first = now, int(self._spacing is None)
        self._level, self._filled_at = level - 1.0, now

    def put_back(self, taken: float) -> None:
        """Return a token that was taken for a call never sent; if the bucket was full since, it would have run over."""
        if taken >= self._last_full:
            self._level = min(self._capacity, self._level + 1.0)

    def miss(self, taken: float) -> None:
        """Learn that a granted call will not leave: a full bucket there does not wait for it."""
        if self._before_first and taken >= self._last_full:
            self._before_first -= 1

    def leave(self, granted: float, sent: float) -> None:
        """Learn when a granted call began to leave.

        Without room for jitter the next one keeps away from that. A gateway's bucket that was full is full until the
        first call reaches it, whatever was granted meanwhile: what came in while a connection was opened, or the event
        loop was busy, has run over.
        """
        if self._spacing is not None:
            self._filled_at = max(self._filled_at, granted + self._spacing.lateness(sent - granted))
            return
        if sent >= self._counted_to:
            now = max(sent, self._there_at)
            self._there, self._there_at = self._left(now) - 1.0, now
        if self._before_first:
            now = max(sent, self._filled_at)
            self._level = min(self.level(now), self._capacity - self._before_first + (now - sent) * self.rate)
            self._filled_at, self._before_first = now, 0

    def accept(self) -> None:
        """Learn that a call was accepted: with no burst, the margin may shrink a little."""
        if self._spacing is not None:
            self._spacing.narrow()

    def doubt(self, now: float) -> None:
        """Learn that the limit seems to hold again: the tokens not used meanwhile may have been taken by others."""
        self._level, self._filled_at = min(self.level(now), UNDOUBTED * self.rate), now
        self._there, self._there_at = min(self._left(now), self._level), now
        self._counted_to = now

    def drain(self, now: float, *, was_early: bool) -> None:
        """Learn that the gateway's bucket is empty, as it is at every 429, and restore the cushion.

        Arguments:
            now: the moment on the clock.
            was_early: the limit still holds, so the refused call came too early: from now on there is room for one more
                that does; without a burst the next ones keep farther apart.
        """
        if was_early:
            self._cushion = min((self._burst - 1.0) / 2.0, self._cushion + 1.0)
        self._level, self._filled_at = min(self.level(now), -self._cushion), now
        self._there, self._there_at = min(self._left(now), 0.0), now
        self._counted_to = now
        self._before_first = 0
        if self._spacing is not None and was_early:
            self._spacing.widen()

    def drain_evenly(self, now: float) -> None:
        """Learn the same of a key whose calls arrive too unevenly for any cushion to keep the next one from a 429."""
        self._level, self._filled_at, self._before_first = min(self.level(now), 0.0), now, 0

"""What a scenario's gateway is like: its limit, its way, its troubles. Plain data, in seconds from the beginning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

ROUNDING = 1e-9
"""A token short by less than this is whole: a client that paces exactly is not refused for the last bit of a float."""


@attrs.frozen
class Limit:
    """A token bucket: ``burst`` calls at once after a rest, then ``rate`` per second."""

    rate: float
    burst: int


@attrs.frozen
class Change:
    """From a moment on the key has another limit. Tokens that are there stay, as far as the new burst holds them."""

    at: float
    limit: Limit


@attrs.frozen
class Latency:
    """Seconds from a call's leaving to its answer, drawn evenly for each call.

    Attributes:
        low, high: the range.
        outward: the share of it that passes before the call arrives.
        refused: the share of it that a call takes which the gateway refuses by itself, and does not pass on.
    """

    low: float
    high: float
    outward: float = 0.5
    refused: float = 1.0

    @property
    def mean(self) -> float:
        """The mean of the range."""
        return (self.low + self.high) / 2


@attrs.frozen
class Gap:
    """A time in which no call can be accepted.

    Attributes:
        start, length: when.
    """

    start: float
    length: float

    @property
    def end(self) -> float:
        """The first moment after it."""
        return self.start + self.length


@attrs.frozen
class Stall(Gap):
    """The clients' event loop does nothing else for a while; the gateway goes on."""


@attrs.frozen
class Outage(Gap):
    """No call gets through.

    Attributes:
        status: the answer to calls that arrive meanwhile, 500 or 503; ``None`` if no connection can be opened at all.
        retry_after: what those answers tell to wait, if anything.
        counts_down: they tell the seconds that are left instead, rounded up, and at least ``retry_after``.
    """

    status: int | None = 503
    retry_after: float | None = attrs.field(default=None, kw_only=True)
    counts_down: bool = attrs.field(default=False, kw_only=True)

    def advice(self, now: float) -> str | None:
        """Return the ``Retry-After`` of a call that arrives at a moment of it."""
        if self.retry_after is None:
            return None
        rest = math.ceil(self.end - now) if self.counts_down else 0
        return f"{max(self.retry_after, rest):g}"


@attrs.frozen
class Quota:
    """So many calls are allowed in each period, counted from the beginning."""

    calls: int
    period: float = math.inf


@attrs.frozen(kw_only=True)
class World:
    """Everything outside the clients.

    Attributes:
        limit: the key's limit at the beginning; the bucket starts full.
        changes: later limits, in order.
        latency: of a call.
        connecting: seconds to open a connection, before a call can leave on it.
        retry_after: what a 429 of a key that is too fast tells to wait; the real ones have none.
        outages: apart from each other, in order.
        quotas: whichever is used up first refuses.
        stalls: apart from each other, in order.
    """

    limit: Limit
    changes: tuple[Change, ...] = ()
    latency: Latency = Latency(0.02, 0.03)
    connecting: float = 0.0
    retry_after: float | None = None
    outages: tuple[Outage, ...] = ()
    quotas: tuple[Quota, ...] = ()
    stalls: tuple[Stall, ...] = ()

    @property
    def limits(self) -> tuple[Limit, ...]:
        """All limits, in order."""
        return (self.limit, *(change.limit for change in self.changes))

    @property
    def highest(self) -> Limit:
        """The highest limit there is at any time: what the contract says."""
        return max(self.limits, key=lambda limit: limit.rate)

    def outage(self, now: float) -> Outage | None:
        """Return the outage at a moment, if there is one."""
        return next((outage for outage in self.outages if outage.start <= now < outage.end), None)


class Bucket:
    """The exact token bucket of a key whose limit may change. Time is passed in, and never runs backwards."""

    def __init__(self, limit: Limit, changes: Sequence[Change] = ()) -> None:
        """Start full."""
        self._limit = limit
        self._changes = list(changes)
        self._level = float(limit.burst)
        self._counted_at = 0.0

    def level(self, now: float) -> float:
        """Return the tokens there are."""
        while self._changes and self._changes[0].at <= now:
            change = self._changes.pop(0)
            self._fill(change.at)
            self._limit = change.limit
            self._level = min(self._level, change.limit.burst)
        self._fill(now)
        return self._level

    def _fill(self, now: float) -> None:
        self._level = min(self._limit.burst, self._level + (now - self._counted_at) * self._limit.rate)
        self._counted_at = now

    def take(self, now: float) -> bool:
        """Take a token if there is one, and tell whether there was."""
        if self.level(now) < 1 - ROUNDING:
            return False
        self._level -= 1
        return True

    def next_token(self, now: float) -> float:
        """Return the first moment, from ``now`` on, at which a token is there."""
        level = self.level(now)
        if level >= 1 - ROUNDING:
            return now
        due = now + (1 - level) / self._limit.rate
        if self._changes and self._changes[0].at < due:
            return self.next_token(self._changes[0].at)
        return due


def gaps(world: World) -> list[tuple[float, float]]:
    """Return the times in which no call can be accepted, joined where they overlap, in order."""
    joined: list[tuple[float, float]] = []
    troubles: tuple[Gap, ...] = (*world.outages, *world.stalls)
    for start, end in sorted((gap.start, gap.end) for gap in troubles):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined

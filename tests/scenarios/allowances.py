"""Goals for scenarios without a name, derived from those that have one.

A named goal is a base and what its trouble adds. The named runs tell how much that is in seconds and in calls, and the
same seconds and calls are allowed wherever that kind of trouble comes: scaled by what it grows with, added up where
troubles come together.
"""

from __future__ import annotations

import math
import random
from functools import cache
from itertools import pairwise

import attrs

from .ideal import ideal_time, within_quotas
from .scenario import Goal
from .world import Bucket, Gap, Limit, Outage, World


@attrs.frozen
class Allowance:
    """Time that may pass beyond the ideal, and calls that may be turned away."""

    seconds: float = 0.0
    calls: float = 0.0

    def __add__(self, other: Allowance) -> Allowance:
        return Allowance(self.seconds + other.seconds, self.calls + other.calls)

    def __mul__(self, factor: float) -> Allowance:
        return Allowance(self.seconds * factor, self.calls * factor)


NOTHING = Allowance()

CALLS = 4000
"""Enough of them to tell a per cent."""


def goal(world: World, count: int, processes: int, *, given: bool) -> Goal:
    """Return the most that so many lookups may take and waste in a world."""
    count, ideal, told = within_quotas(world, count), ideal_time(world, count), world.highest
    world = _until(world, ideal)
    allowed = _base(count, ideal, given=given)
    allowed += _tail(world)
    allowed += _crowding(world) * count
    allowed += NOTHING if given else _learning(world, count)
    allowed += _sharing(world, count, ideal, processes, given=given)
    for outage in world.outages:
        allowed += _outage(world, outage)
    for stall in world.stalls:
        allowed += _stall(world, stall)
    allowed += _changes(world)
    allowed += _untruth(world, told) if given else NOTHING
    allowed += _waiting_when_told(world, ideal, processes, given=given)
    allowed += _end_of_quota(world) * processes
    return Goal(ratio=1 + allowed.seconds / ideal, waste=allowed.calls / count)


def _until(world: World, end: float) -> World:
    """Leave out the troubles that come after the end."""
    return attrs.evolve(
        world,
        changes=tuple(change for change in world.changes if change.at < end),
        outages=tuple(outage for outage in world.outages if outage.start < end),
        stalls=tuple(stall for stall in world.stalls if stall.start < end),
    )


def _base(count: int, ideal: float, *, given: bool) -> Allowance:
    """As at a steady 50/s: 1.01 and 0.1 % with a given limit, which is 3 calls; 1.02 and 1 % with a learnt one.

    Half of that 1 % is for finding the limit, 15 calls however many follow, and half for keeping to it.
    """
    if given:
        return Allowance(0.01 * ideal, max(3, 0.001 * count))
    return Allowance(0.02 * ideal, max(0.01 * count, 15 + 0.005 * count))


def _tail(world: World) -> Allowance:
    """The last call may be a slow one, and have to be made twice; the named runs are too long for that to count."""
    latency = world.latency
    return Allowance(seconds=2 * latency.high - latency.mean + world.connecting)


def _crowding(world: World) -> Allowance:
    """Return what calls lose, each, that leave evenly and arrive unevenly: a small burst cannot take them all.

    Twice as much is allowed as someone loses who knows the limit and the way; and one call in two hundred to find out.
    """
    jitter = (world.latency.high - world.latency.low) * world.latency.outward
    worst = max((crowded(limit, jitter) for limit in world.limits), key=lambda allowance: allowance.seconds)
    return attrs.evolve(worst * 2, calls=max(2 * worst.calls, 0.005)) if worst.seconds else NOTHING


@cache
def crowded(limit: Limit, jitter: float) -> Allowance:
    """Return the loss for each call at the best even pace: slower means later, faster means more are refused.

    A refused call weighs as five late ones: the goals for steady limits are that much stricter on waste, and more.
    """
    paces = (
        [1 + limit.rate * jitter * share / 20 for share in range(21)] if limit.rate * jitter < 20 else [1, 1.25, 1.5]
    )
    losses = [(pace, refused_by_jitter(limit, jitter, pace)) for pace in paces]
    pace, refused = min(losses, key=lambda loss: loss[0] - 1 + 5 * loss[1])
    return Allowance((pace * (1 + refused) - 1) / limit.rate, refused)


def refused_by_jitter(limit: Limit, jitter: float, pace: float) -> float:
    """Return the share refused of calls that leave evenly, ``pace`` periods apart, and travel up to ``jitter`` seconds.

    The first burst is over when it begins.
    """
    chance, bucket = random.Random(0), Bucket(limit)
    for _ in range(limit.burst - 1):
        bucket.take(0.0)
    arrivals = sorted(number * pace / limit.rate + chance.random() * jitter for number in range(CALLS))
    return sum(not bucket.take(moment) for moment in arrivals) / CALLS


def _learning(world: World, count: int) -> Allowance:
    """Doubling up to the limit takes a round trip each time, and one more to hear of the first refusals.

    At 200/s and 165 ms the named goal has 0.01, which is 0.6 s, more than the base: from some 10/s that is less than
    one round trip for each doubling. Its 1 % is more than twice what is on its way when the first 429 comes back. It is
    also more than a burst: while a large one lasts, nothing tells how fast is too fast, and what is then on its way is
    refused.
    """
    rate, latency = world.highest.rate, world.latency.mean + world.connecting
    doublings = max(0.0, math.log2(rate / 10))
    refused = 2 * rate * (world.latency.high + world.connecting) + world.highest.burst
    return Allowance(doublings * latency, max(0.0, refused - _base(count, 0.0, given=False).calls))


def _sharing(world: World, count: int, ideal: float, processes: int, *, given: bool) -> Allowance:
    """As for two processes: 0.04 and 2.4 % more with a given limit, 0.06 and 0.5 % with a learnt one; for each.

    That is also more than the burst which each of them takes for its own.
    """
    burst = world.highest.burst
    if given:
        return Allowance(0.04 * ideal, max(0.024 * count, 1.5 * burst)) * (processes - 1)
    return Allowance(0.06 * ideal, max(0.005 * count, 1.5 * burst)) * (processes - 1)


def _outage(world: World, outage: Outage) -> Allowance:
    """As for 5 s at 50/s.

    With ``Retry-After``, 0.01 (0.65 s) and 12 calls are added: a pause may begin a round trip late, and what is under
    way when it begins is turned away. Whoever names a shorter time is asked again so often, and may be late by it.
    Without, 0.03 (1.9 s) and 33 calls: canaries go after half a second or a fifth of the outage so far, so the last one
    is late by that, and the rest is for climbing back.
    """
    under_way = 1.5 * world.highest.rate * world.latency.high
    round_trips = 3 * (world.latency.high + world.connecting)
    if outage.retry_after is not None:
        late = outage.retry_after if outage.retry_after < outage.length else 0.0
        late = 1.0 if outage.counts_down else late
        return Allowance(0.6 + late + round_trips, 10 + under_way + outage.length / outage.retry_after)
    canaries = 5 + max(0.0, math.log(outage.length / 2.5, 1.2))
    return Allowance(0.9 + max(0.5, 0.2 * outage.length) + round_trips, 22 + under_way + canaries)


def _stall(world: World, stall: Gap) -> Allowance:
    """As for an outage that tells to wait: the clock goes on, and what comes back is old news."""
    under_way = 1.5 * world.highest.rate * world.latency.high
    return Allowance(0.6 + 2 * world.latency.high, 2 + under_way * min(1.0, stall.length / world.latency.high))


def _changes(world: World) -> Allowance:
    """As between 50 and 20/s, either way: 0.09 (6.6 s) and 0.4 % (10 calls) for that factor of 2.5."""
    allowed = NOTHING
    for before, after in pairwise(world.limits):
        allowed += _change(world, before, after)
    return allowed


def _untruth(world: World, told: Limit) -> Allowance:
    """A limit that is given and does not hold at the beginning is one more change, but costs calls alone."""
    return attrs.evolve(_change(world, told, world.limit), seconds=0.0)


def _change(world: World, before: Limit, after: Limit) -> Allowance:
    """What is under way when the limit falls is refused; and may be when it rises, by whoever finds out too eagerly."""
    steps = abs(math.log(after.rate / before.rate, 2.5))
    under_way = 1.5 * max(before.rate, after.rate) * world.latency.high if steps else 0.0
    return Allowance(6.6 * steps + 2 * world.latency.high, 10 * steps + under_way)


def _waiting_when_told(world: World, ideal: float, processes: int, *, given: bool) -> Allowance:
    """Where 429s tell to wait, each costs that time: 0.13 more at 50/s and 1 s, which is eight of them in a minute.

    With a given limit there are none, unless it is not true: somebody else uses the key, or it changes.
    """
    if world.retry_after is None or (given and processes == 1 and not world.changes):
        return NOTHING
    return Allowance(seconds=max(0.13 * ideal, 8 * world.retry_after) * processes)


def _end_of_quota(world: World) -> Allowance:
    """What is on its way when the first such answer comes back is refused too."""
    if not world.quotas:
        return NOTHING
    return Allowance(calls=2 + 2 * world.highest.rate * (world.latency.high + world.connecting))

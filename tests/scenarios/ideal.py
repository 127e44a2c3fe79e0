"""The best there can be: every token used the moment it exists, and one reply time for the last of them."""

from __future__ import annotations

from .world import Bucket, World, gaps


def ideal_time(world: World, count: int) -> float:
    """Return the seconds in which so many lookups could be answered by someone who knows all that will happen.

    The time of a token that is there while no call can get through is over; the token itself is not, as far as the
    burst holds it. Where a quota ends, so do the lookups. The reply time is the mean one, with the opening of a
    connection.
    """
    bucket, closed = Bucket(world.limit, world.changes), gaps(world)
    now = 0.0
    for _ in range(within_quotas(world, count)):
        now = bucket.next_token(now)
        while closed and now >= closed[0][0]:
            now = bucket.next_token(max(now, closed.pop(0)[1]))
        bucket.take(now)
    return now + world.connecting + world.latency.mean


def within_quotas(world: World, count: int) -> int:
    """Return how many of so many lookups the quotas allow before the first refusal ends them.

    A quota that begins anew while the lookups go on would need the times of all calls; no scenario has one.
    """
    return min([count, *(quota.calls for quota in world.quotas)])

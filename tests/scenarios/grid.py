"""Scenarios drawn at random, far beyond those with a name: other keys, other ways, several troubles at once."""

from __future__ import annotations

import math
import random

from .allowances import goal
from .scenario import Scenario
from .world import Change, Latency, Limit, Outage, Quota, Stall, World

SHORTEST, LONGEST, SECONDS = 1500, 12_000, 60.0
"""Lookups of a scenario: what the key allows in a minute, but enough to tell a per cent from chance, and no more than
takes two real seconds."""

WAYS = ((0.5, 1.0), (0.3, 1.0), (0.7, 1.0), (0.25, 0.5), (0.05, 0.1))
"""Shares of the latency: to the gateway, and there and back for what it refuses; the rest is the backend's time."""


def drawn(number: int) -> Scenario:
    """Return one scenario; the same number gives the same one."""
    chance = _Chance(number)
    world, processes, cancelled = chance.world(), chance.processes(), chance.cancelled()
    count = chance.count(world.limit)
    given, learnt = (goal(world, count, processes, given=told) for told in (True, False))
    return Scenario(
        name=f"grid {number}: {_described(world, processes, cancelled)}",
        world=world,
        count=count,
        given=given,
        learnt=learnt,
        processes=processes,
        cancelled=cancelled,
    )


class _Chance:
    """The draws, each kind of trouble from a stream of its own: adding a kind does not change the others."""

    def __init__(self, number: int) -> None:
        self._number = number

    def _stream(self, kind: str) -> random.Random:
        return random.Random(f"{kind} {self._number}")

    def count(self, limit: Limit) -> int:
        return max(SHORTEST, min(LONGEST, round(SECONDS * limit.rate)))

    def world(self) -> World:
        limit, latency = self._limit(), self._latency()
        seconds = self.count(limit) / limit.rate
        return World(
            limit=limit,
            latency=latency,
            connecting=self._connecting(latency),
            retry_after=self._retry_after(),
            changes=self._changes(limit, seconds),
            outages=self._outages(seconds),
            quotas=self._quotas(self.count(limit)),
            stalls=self._stalls(seconds),
        )

    def processes(self) -> int:
        return self._stream("processes").choice((1, 1, 1, 1, 2, 2, 3, 4))

    def cancelled(self) -> float:
        chance = self._stream("cancelled")
        return chance.uniform(0.02, 0.3) if chance.random() < 0.2 else 0.0

    def _limit(self) -> Limit:
        chance = self._stream("limit")
        return Limit(_round(_log_uniform(chance, 2, 500)), round(_log_uniform(chance, 1, 200)))

    def _latency(self) -> Latency:
        chance = self._stream("latency")
        mean, spread = _log_uniform(chance, 0.005, 2.0), chance.choice((0.0, 0.1, 0.3, 0.5))
        outward, refused = chance.choice(WAYS)
        return Latency(_round(mean * (1 - spread)), _round(mean * (1 + spread)), outward=outward, refused=refused)

    def _connecting(self, latency: Latency) -> float:
        chance = self._stream("connecting")
        return 2 * latency.mean if chance.random() < 0.3 else 0.0

    def _retry_after(self) -> float | None:
        chance = self._stream("retry after")
        return chance.choice((1.0, 2.0)) if chance.random() < 0.15 else None

    def _changes(self, limit: Limit, seconds: float) -> tuple[Change, ...]:
        """One or two changes, up to tenfold, never below one call in two seconds."""
        chance = self._stream("changes")
        if chance.random() > 0.3:
            return ()
        changes, rate = [], limit.rate
        for moment in sorted(chance.uniform(0.2, 0.7) * seconds for _ in range(chance.choice((1, 1, 2)))):
            lowest, highest = max(0.5, limit.rate / 10), min(500.0, limit.rate * 10)
            rate = min(max(rate * _log_uniform(chance, 0.1, 10), lowest), highest)
            changes.append(Change(moment, Limit(_round(rate), limit.burst)))
        return tuple(changes)

    def _outages(self, seconds: float) -> tuple[Outage, ...]:
        chance = self._stream("outages")
        if chance.random() > 0.35:
            return ()
        outages = [self._outage(chance, chance.uniform(0.1, 0.4) * seconds)]
        if chance.random() < 0.3:
            outages.append(self._outage(chance, outages[0].end + chance.uniform(0.1, 0.3) * seconds))
        return tuple(outages)

    def _outage(self, chance: random.Random, start: float) -> Outage:
        length = _round(_log_uniform(chance, 0.5, 60))
        status = chance.choice((503, 503, 503, 500, None))
        told = None if status is None else chance.choice((None, None, math.ceil(length), max(1.0, length // 4)))
        return Outage(start, length, status, retry_after=told, counts_down=told == 1.0 and chance.random() < 0.5)

    def _quotas(self, count: int) -> tuple[Quota, ...]:
        """One or several that do not begin anew while the run lasts; the smallest ends it."""
        chance = self._stream("quotas")
        if chance.random() > 0.15:
            return ()
        return tuple(Quota(round(count * chance.uniform(0.3, 1.2))) for _ in range(chance.choice((1, 1, 2, 3))))

    def _stalls(self, seconds: float) -> tuple[Stall, ...]:
        chance = self._stream("stalls")
        if chance.random() > 0.2:
            return ()
        stalls: list[Stall] = []
        for start in sorted(chance.uniform(0.05, 0.8) * seconds for _ in range(chance.choice((1, 2, 5)))):
            if not stalls or start > stalls[-1].end:
                stalls.append(Stall(start, _round(_log_uniform(chance, 0.05, 2.0))))
        return tuple(stalls)


def _log_uniform(chance: random.Random, low: float, high: float) -> float:
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _described(world: World, processes: int, cancelled: float) -> str:
    limit, latency = world.limit, world.latency
    parts = [
        f"{limit.rate:g}/s, burst {limit.burst}, {latency.low * 1000:g} to {latency.high * 1000:g} ms",
        *([f"{world.connecting * 1000:.0f} ms to connect"] if world.connecting else []),
        *([f"429s tell {world.retry_after:g} s"] if world.retry_after else []),
        *(f"{change.limit.rate:g}/s from {change.at:.0f} s" for change in world.changes),
        *(_described_outage(outage) for outage in world.outages),
        *(f"quota {quota.calls}" for quota in world.quotas),
        *([f"{len(world.stalls)} stalls"] if world.stalls else []),
        *([f"{processes} processes"] if processes > 1 else []),
        *([f"{cancelled:.0%} cancelled"] if cancelled else []),
    ]
    return ", ".join(parts)


def _described_outage(outage: Outage) -> str:
    told = "" if outage.retry_after is None else f" that tells {outage.retry_after:g} s"
    return f"{outage.length:g} s of {outage.status or 'no connection'}{told}"

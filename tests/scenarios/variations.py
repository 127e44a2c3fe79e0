"""What lies near the named scenarios: each with another rate, another burst or another way, and some with all three.

The grid is drawn far from them, and mixes troubles; here each trouble comes alone, and lasts as long as it does there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import attrs

from .allowances import goal
from .named import NAMED
from .scenario import Scenario
from .world import Change, Latency, Limit

FACTORS = (0.1, 0.2, 0.4, 2.0)
BURSTS = (2, 3, 5, 20, 50, 100)
WAYS = (0.005, 0.1, 0.3, 1.0)
"""Other rates, as multiples; other bursts; and other ways, in seconds, a fifth more or less."""

ALL_THREE = 8
"""Variations of each in which rate, burst and way are drawn: 0.2 to 6 times, 4 to 60 calls, 10 to 400 ms."""

SPREAD = 0.2


def variations() -> Iterator[Scenario]:
    """Return the variations of all named scenarios whose goals are figures."""
    for scenario in NAMED:
        if scenario.learnt.ratio is not None:
            yield from _variations_of(scenario)


def _variations_of(scenario: Scenario) -> Iterator[Scenario]:
    for factor in FACTORS:
        yield _varied(scenario, factor=factor)
    for burst in BURSTS:
        yield _varied(scenario, burst=burst)
    for way in WAYS:
        yield _varied(scenario, way=way)
    chance = random.Random(scenario.name)
    for _ in range(ALL_THREE):
        factor, calls, seconds = _between(chance, 0.2, 6.0), _between(chance, 4.0, 60.0), _between(chance, 0.01, 0.4)
        yield _varied(scenario, factor=round(factor, 2), burst=round(calls), way=round(seconds, 3))


def _between(chance: random.Random, low: float, high: float) -> float:
    """Draw a number, its logarithm evenly."""
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def _varied(scenario: Scenario, *, factor: float = 1.0, burst: int | None = None, way: float | None = None) -> Scenario:
    """Return a scenario that takes as long, with some things changed."""

    def varied(limit: Limit) -> Limit:
        return Limit(factor * limit.rate, limit.burst if burst is None else burst)

    world = attrs.evolve(
        scenario.world,
        limit=varied(scenario.world.limit),
        changes=tuple(Change(change.at, varied(change.limit)) for change in scenario.world.changes),
        latency=scenario.world.latency if way is None else Latency((1 - SPREAD) * way, (1 + SPREAD) * way),
    )
    count = round(factor * scenario.count)
    named = {"rate times": factor if factor != 1.0 else None, "burst": burst, "seconds": way}
    return attrs.evolve(
        scenario,
        name=f"{scenario.name}: {', '.join(f'{what} {it:g}' for what, it in named.items() if it is not None)}",
        world=world,
        count=count,
        given=goal(world, count, scenario.processes, given=True),
        learnt=goal(world, count, scenario.processes, given=False),
    )

"""A week at five calls a second, three million lookups: ``python -m scenarios.week``, which takes a quarter of an hour.

Nothing that builds up slowly (a rounding that adds up, a list that grows, a rate that drifts) shows in a minute.
"""

from __future__ import annotations

import argparse
import sys

from oneauto_async import Found
from oneauto_async.testing import VirtualClock

from .gateway import Gateway
from .scenario import Goal, Result, Scenario, client_of
from .table import Row, header
from .world import Limit, World

RATE, WEEK = 5, 7 * 24 * 3600
IDS = 100_000
"""Ids are asked for again after so many others: three million in the books would fill more memory than all else."""

GOAL = Goal(ratio=1.01, waste=0.01)
"""Within a hundredth of the limit and with less than a hundredth of waste, also when the limit is learnt."""


def week(seconds: float = WEEK) -> Scenario:
    """Return as much of a week as takes so many seconds."""
    world = World(limit=Limit(RATE, 10))
    return Scenario(
        name=f"{seconds / 3600:g} hours at {RATE}/s",
        world=world,
        count=round(seconds * RATE),
        given=GOAL,
        learnt=GOAL,
        concurrency=10,
    )


def run_week(scenario: Scenario, *, given: bool) -> Result:
    """Run it without keeping more than counts."""
    clock = VirtualClock(0)
    gateway = Gateway(scenario.world, keep_events=False)
    answered, took = clock.run(_run(scenario, gateway, clock, given=given))
    books = gateway.books
    return Result(
        took=took,
        ideal=scenario.ideal,
        expected=scenario.count,
        answered=answered,
        accepted=books.fates["accepted"],
        turned_away=books.wasted,
        double_bills=books.bills.total() - answered,
        after_quota=0,
        books=books,
    )


async def _run(scenario: Scenario, gateway: Gateway, clock: VirtualClock, *, given: bool) -> tuple[int, float]:
    ids = (number % IDS for number in range(scenario.count))
    async with client_of(scenario, gateway, clock, given) as client:
        async with client.batch(ids, deduplicate=False) as batch:
            answered = sum([isinstance(outcome, Found) async for outcome in batch])
        return answered, clock.monotonic()


def main() -> None:
    """Run the week, or some hours of it, with the limit given and learnt."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.week", description="Three million lookups at 5/s.")
    parser.add_argument("--hours", type=float, default=WEEK / 3600, help="how much of the week; default all")
    scenario = week(parser.parse_args().hours * 3600)
    sys.stdout.write(header())
    rows = [Row(scenario, given, [run_week(scenario, given=given)]) for given in (True, False)]
    sys.stdout.write("".join(f"{row}\n" for row in rows))
    sys.exit(0 if all(row.is_good for row in rows) else 1)


if __name__ == "__main__":
    main()

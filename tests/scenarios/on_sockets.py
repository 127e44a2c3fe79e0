"""The same scenarios in real time: a simulator in another process on 127.0.0.1, and each client in a process too.

The simulator is more abrupt than the modelled gateway: a call arrives as soon as it leaves, and what the gateway itself
refuses it refuses at once; only the backend takes the latency.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import attrs

from oneauto_async import Failed, Found, OneAutoClient, QuotaExceededError, RateLimit
from oneauto_async.testing import SIMULATOR_KEY, LimitChange, Outage, Simulator, serve

from .gateway import Books
from .ideal import within_quotas
from .scenario import PATIENCE, Goal, Result, Scenario
from .world import World

ALLOWANCE = Goal(ratio=0.05, waste=0.01)
"""What real time may add to a goal: timers are late, and so are processes that share a machine."""

STARTING = 1.0
"""Seconds from when all processes are there to when they begin, at one moment."""

_SPAWN = get_context("spawn")  # a forked event loop is a broken one


def loosened(goal: Goal) -> Goal:
    """Return a goal with the allowance of real time."""
    assert ALLOWANCE.ratio is not None
    assert ALLOWANCE.waste is not None
    return Goal(
        ratio=None if goal.ratio is None else goal.ratio + ALLOWANCE.ratio,
        waste=None if goal.waste is None else goal.waste + ALLOWANCE.waste,
    )


def run_on_sockets(scenario: Scenario, *, given: bool) -> Result:
    """Run a scenario once, in as many seconds as it takes."""
    with _server(scenario.world) as base_url, ProcessPoolExecutor(scenario.processes, mp_context=_SPAWN) as pool:
        list(pool.map(abs, range(scenario.processes)))  # starts them
        begin = time.monotonic() + STARTING
        tasks = [
            pool.submit(_take_part, scenario, number, base_url, begin, given) for number in range(scenario.processes)
        ]
        parts = [task.result() for task in tasks]
        books = _books(base_url)
    bills, statuses = books["bills"], books["statuses"]
    return Result(
        took=max(part.ended for part in parts) - begin,
        ideal=scenario.ideal,
        expected=within_quotas(scenario.world, scenario.count),
        answered=sum(part.answered for part in parts),
        accepted=statuses.get("200", 0),
        turned_away=sum(statuses.get(status, 0) for status in ("429", "500", "503")),
        double_bills=sum(bills.values()) - len(bills),
        after_quota=max(0, sum(part.quota_refusals for part in parts) - books["max_in_flight"]),
        books=Books(),
    )


@attrs.frozen
class Part:
    """What one client did.

    Attributes:
        answered: lookups.
        quota_refusals: requests that were told that the quota is used up.
        ended: the moment it was done.
    """

    answered: int
    quota_refusals: int
    ended: float


def _take_part(scenario: Scenario, number: int, base_url: str, begin: float, given: bool) -> Part:
    time.sleep(max(0.0, begin - time.monotonic()))
    return asyncio.run(_look_up(scenario, number, base_url, given))


async def _look_up(scenario: Scenario, number: int, base_url: str, given: bool) -> Part:
    ids = range(number, scenario.count, scenario.processes)
    limit = scenario.rate_limit(given=given)
    async with OneAutoClient(
        SIMULATOR_KEY, base_url=base_url, rate_limit=limit, max_concurrency=scenario.slots
    ) as client:
        async with client.batch(ids, deadline=PATIENCE * scenario.ideal) as batch:
            outcomes = [outcome async for outcome in batch]
        ended = time.monotonic()
    refused = sum(isinstance(end, Failed) and isinstance(end.error, QuotaExceededError) for end in outcomes)
    return Part(sum(isinstance(outcome, Found) for outcome in outcomes), refused, ended)


def _books(base_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{base_url}/_simulator/books") as response:
        books: dict[str, Any] = json.load(response)
    return books


@contextmanager
def _server(world: World) -> Iterator[str]:
    """Serve a world from a process of its own until the block is left."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_serve, args=(world, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("that is all")
        process.join()


def _serve(world: World, pipe: Connection) -> None:
    with serve(simulator(world)) as base_url:
        pipe.send(base_url)
        pipe.recv()


def simulator(world: World) -> Simulator:
    """Return a simulator that is like a world, as far as it can be: one outage, one quota, no stalls."""
    outage, quota = next(iter(world.outages), None), next(iter(world.quotas), None)
    return Simulator(
        rate=world.limit.rate,
        burst=world.limit.burst,
        retry_after=None if world.retry_after is None else f"{world.retry_after:g}",
        quota=None if quota is None else quota.calls,
        latency=(world.latency.low, world.latency.high),
        outage=None
        if outage is None
        else Outage(outage.start, outage.length, status=outage.status or 503, retry_after=outage.advice(0)),
        limit_changes=[
            LimitChange(change.at, RateLimit(change.limit.rate, change.limit.burst)) for change in world.changes
        ],
    )

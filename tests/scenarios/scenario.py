"""One scenario run to its end: what was asked for, what came of it, and how that compares with the ideal."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs

from oneauto_async import Found, OneAutoClient, Outcome, RateLimit
from oneauto_async.testing import VirtualClock
from oneauto_async.testing.clock import VirtualEventLoop

from .gateway import Books, Gateway, VirtualHttpClient
from .ideal import ideal_time, within_quotas
from .world import World

KEY = "scenario-key-0123456789abcdef-for-no-service"
BASE_URL = "https://gateway.invalid"

PATIENCE = 5.0
"""Times the ideal after which a run is given up; no goal is near it."""

EXACTLY = 1e-9
"""Floats that should be equal may differ by this much."""


@attrs.frozen
class Goal:
    """The most a run may take and waste; ``None`` where the scenario says nothing of it.

    Attributes:
        ratio: completion time over the ideal.
        waste: calls turned away (429, 500, 503) per accepted one.
    """

    ratio: float | None = None
    waste: float | None = None

    def __str__(self) -> str:
        ratio = "-" if self.ratio is None else f"{self.ratio:.3f}"
        return f"{ratio} / {'-' if self.waste is None else f'{self.waste:.2%}'}"


@attrs.frozen(kw_only=True)
class Scenario:
    """What is asked for, of what gateway, by whom.

    Attributes:
        name: what it is called.
        world: the gateway and its troubles.
        count: lookups in all, shared evenly by the processes.
        given, learnt: the goals, with the limit told to the client and not.
        processes: clients that use the key at once and do not know of each other.
        cancelled: the share of lookups that are cancelled at a random moment, and asked for again at once.
        concurrency: lookups under way at once in each process; at least what the limit needs.
        retry_after_scope: the client's setting of that name, if it is not the default.
    """

    name: str
    world: World
    count: int
    given: Goal
    learnt: Goal
    processes: int = 1
    cancelled: float = 0.0
    concurrency: int = 50
    retry_after_scope: str | None = None

    def __str__(self) -> str:
        return self.name

    def goal(self, *, given: bool) -> Goal:
        """Return what is to be reached."""
        return self.given if given else self.learnt

    @property
    def ideal(self) -> float:
        """The seconds it takes at best."""
        return ideal_time(self.world, self.count)

    @property
    def slots(self) -> int:
        """Lookups under way at once: twice what the highest rate keeps in flight, so that slots never decide."""
        flying = self.world.highest.rate * (self.world.latency.high + self.world.connecting)
        return max(self.concurrency, math.ceil(2 * flying))

    def rate_limit(self, *, given: bool) -> RateLimit:
        """Return what the client is told: the highest limit the key ever has, as a contract would say, or nothing."""
        highest = self.world.highest
        limit = RateLimit(highest.rate, highest.burst) if given else RateLimit.adaptive()
        scope: dict[str, Any] = {"retry_after_scope": self.retry_after_scope} if self.retry_after_scope else {}
        return attrs.evolve(limit, **scope)


@attrs.frozen(kw_only=True)
class Result:
    """What came of a run.

    Attributes:
        took: seconds until the last process was done.
        ideal: seconds it takes at best.
        expected: lookups that could be answered: all, or as many as the quota allows.
        answered: lookups that were.
        accepted: calls that were.
        turned_away: calls answered with 429, 500 or 503.
        double_bills: bills beyond the first of each id.
        after_quota: calls begun by a process that had been told that the quota is used up.
        books: the gateway's own.
    """

    took: float
    ideal: float
    expected: int
    answered: int
    accepted: int
    turned_away: int
    double_bills: int
    after_quota: int
    books: Books = attrs.field(eq=False, repr=False)

    @property
    def ratio(self) -> float:
        """Completion time over the ideal."""
        return self.took / self.ideal

    @property
    def wasted(self) -> float:
        """Calls turned away per accepted one."""
        return self.turned_away / max(1, self.accepted)

    def faults(self, goal: Goal) -> list[str]:
        """Say, one by one, what is not as it should be."""
        checks = {
            f"{self.expected - self.answered} of {self.expected} ids lost": self.expected - self.answered,
            f"{self.double_bills} charged twice": self.double_bills,
            f"{self.after_quota} calls after the quota's end": self.after_quota,
            f"ratio {self.ratio:.3f}": goal.ratio is not None and self.ratio > goal.ratio + EXACTLY,
            f"waste {self.wasted:.2%}": goal.waste is not None and self.wasted > goal.waste + EXACTLY,
        }
        return [fault for fault, is_one in checks.items() if is_one]


def run(scenario: Scenario, seed: int = 0, *, given: bool) -> Result:
    """Run a scenario once; the same seed gives the same result to the last digit."""
    clock = VirtualClock(seed)
    gateway = Gateway(scenario.world, seed=seed)
    answered, took = clock.run(_run(scenario, gateway, clock, given))
    books = gateway.books
    return Result(
        took=took,
        ideal=scenario.ideal,
        expected=within_quotas(scenario.world, scenario.count),
        answered=answered,
        accepted=books.fates["accepted"],
        turned_away=books.wasted,
        double_bills=books.billed_again,
        after_quota=gateway.after_quota,
        books=books,
    )


async def _run(scenario: Scenario, gateway: Gateway, clock: VirtualClock, given: bool) -> tuple[int, float]:
    """Let all processes do their share; return how many answers came, and when the last one was done."""
    arrange_stalls(scenario.world)
    async with AsyncExitStack() as stack:
        processes = [
            _Process(scenario, await stack.enter_async_context(client_of(scenario, gateway, clock, given)), number)
            for number in range(scenario.processes)
        ]
        answered = await asyncio.gather(*(process.run() for process in processes))
        return sum(answered), clock.monotonic()


def arrange_stalls(world: World) -> None:
    """Let the running event loop stall when it should."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualEventLoop)
    for stall in world.stalls:
        loop.call_at(stall.start, loop.jump, stall.length)


@asynccontextmanager
async def client_of(
    scenario: Scenario, gateway: Gateway, clock: VirtualClock, given: bool
) -> AsyncIterator[OneAutoClient]:
    """Open a client as one more process of the scenario has it."""
    async with (
        VirtualHttpClient(gateway.transport()) as http_client,
        OneAutoClient(
            KEY,
            base_url=BASE_URL,
            http_client=http_client,
            clock=clock,
            rate_limit=scenario.rate_limit(given=given),
            max_concurrency=scenario.slots,
        ) as client,
    ):
        yield client


@attrs.define(eq=False)
class _Process:
    """One process's share of a scenario."""

    scenario: Scenario
    client: OneAutoClient
    number: int

    async def run(self) -> int:
        """Look all ids up and return how many were answered."""
        return await (self._with_cancellations() if self.scenario.cancelled else self._in_a_batch())

    def _ids(self) -> range:
        return range(self.number, self.scenario.count, self.scenario.processes)

    @property
    def _deadline(self) -> float:
        return PATIENCE * self.scenario.ideal

    async def _in_a_batch(self) -> int:
        async with self.client.batch(self._ids(), deadline=self._deadline) as batch:
            return sum([isinstance(outcome, Found) async for outcome in batch])

    async def _with_cancellations(self) -> int:
        """Look up with workers, some of which lose their patience now and then."""
        ids, chance = iter(self._ids()), random.Random(self.number)
        workers = [self._work(ids, chance) for _ in range(self.scenario.slots)]
        try:
            async with asyncio.timeout(self._deadline):
                return sum(await asyncio.gather(*workers))
        except TimeoutError:
            return 0

    async def _work(self, ids: Iterator[int], chance: random.Random) -> int:
        return sum([isinstance(await self._impatient(vehicle_id, chance), Found) for vehicle_id in ids])

    async def _impatient(self, vehicle_id: int, chance: random.Random) -> Outcome[Any]:
        """Look an id up; perhaps give up while it waits for its turn or its answer, and then ask again."""
        if chance.random() < self.scenario.cancelled:
            try:
                async with asyncio.timeout(self._impatience(chance)):
                    return await self.client.lookup(vehicle_id)
            except TimeoutError:
                pass
        return await self.client.lookup(vehicle_id)

    def _impatience(self, chance: random.Random) -> float:
        """Draw a time in which a lookup either waits for its turn or, as likely, is on its way."""
        turn = self.scenario.slots / self.scenario.world.limit.rate
        return chance.random() * 2 * min(turn, self.scenario.world.latency.high)

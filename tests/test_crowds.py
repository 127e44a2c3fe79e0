"""Crowds: batches and lookups that share ids, each with a budget, a deadline or an early end, on a moody service.

Whatever happens: no batch reports more than its budget, the client buys no more than its own, what a receipt says was
charged was charged, and every charge is on a receipt or in the ledger, at least as a doubt.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import httpx
import pytest
from support.raw import ANSWER, CANARY_KEY

from oneauto_async import BatchSummary, Billing, Budget, OneAutoClient, Outcome, RateLimit, RetryPolicy, Timeouts
from oneauto_async.ledger import Ledger, MemoryLedger
from oneauto_async.ledger.records import Spending
from oneauto_async.testing import VirtualClock

MOODS = {"answer": 10, "throttle": 1, "unavailable": 1, "fail": 1, "gateway": 1, "break": 1, "unsent": 1, "nothing": 1}
REFUSALS = {"throttle": 429, "unavailable": 503, "fail": 500, "gateway": 504, "nothing": 204}
CHARGED = ("answer", "break")


class Service(httpx.AsyncBaseTransport):
    """Answers by its mood, in its own time, and counts what it charges."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.bills = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        (mood,) = self.random.choices(list(MOODS), list(MOODS.values()))
        self.bills += mood in CHARGED
        await asyncio.sleep(self.random.choice([0.0, 0.01, 0.1, 0.5]))
        if mood == "break":
            raise httpx.ReadError("reset")
        if mood == "unsent":
            raise httpx.ConnectError("refused")
        if mood == "answer":
            return httpx.Response(200, content=ANSWER)
        return httpx.Response(REFUSALS[mood])


class Crowd:
    """All who ask for something of one client, and what they were told."""

    def __init__(self, seed: int, clock: VirtualClock, ledger: Ledger | None) -> None:
        self.random = Random(seed)
        self.clock = clock
        self.ledger = ledger
        self.service = Service(Random(-seed))
        self.most = self.random.choice([5, 20, 1000])
        self.resends = self.random.choice([0, 1, 2])
        self.told: list[Outcome[Any]] = []
        self.summaries: list[tuple[int, BatchSummary]] = []

    async def run(self) -> OneAutoClient:
        """Let everyone ask, come late, give up; return the client, closed."""
        draw = self.random
        client = OneAutoClient(
            CANARY_KEY,
            base_url="https://service.invalid",
            transport=self.service,
            ledger=self.ledger,
            budget=Budget(max_billed=self.most),
            rate_limit=RateLimit(draw.choice([20, 200]), draw.choice([1, 10])),
            retry=RetryPolicy(attempts=draw.choice([1, 3]), total=5, resend_in_doubt=self.resends),
            timeouts=Timeouts(drain=draw.choice([0, 5])),
            max_concurrency=draw.choice([2, 5, 50]),
            clock=self.clock,
        )
        async with client:
            crowd = [draw.choice([self.batch, self.lookup])(client) for _ in range(draw.randint(3, 10))]
            await asyncio.gather(*(self.impatient(one) for one in crowd))
        return client

    async def impatient(self, asking: Any) -> None:
        """Begin at some moment, and in one case of three give up at another."""
        await asyncio.sleep(self.random.choice([0, 0.05, self.random.random()]))
        patience = self.random.choice([None, None, self.random.random()])
        try:
            async with asyncio.timeout(patience):
                await asking
        except TimeoutError:
            pass

    async def lookup(self, client: OneAutoClient) -> None:
        """Ask for one id."""
        self.told.append(await client.lookup(self.random.randrange(20), refresh=self.random.random() < 0.2))

    async def batch(self, client: OneAutoClient) -> None:
        """Ask for many under a budget, and perhaps leave early."""
        draw = self.random
        ids = [draw.randrange(20) for _ in range(draw.randint(1, 30))]
        most, deadline = draw.choice([0, 3, 5, 100]), draw.choice([None, None, 3 * draw.random()])
        takes = draw.choice([1000, 1000, draw.randint(1, 10)])
        batch = client.batch(ids, budget=Budget(max_billed=most), deadline=deadline, refresh=draw.random() < 0.2)
        try:
            async with batch:
                async for outcome in batch:
                    self.told.append(outcome)
                    takes -= 1
                    if not takes:
                        break
        finally:
            self.summaries.append((most, batch.summary))


def count(outcomes: list[Outcome[Any]], billing: Billing) -> int:
    """Count what the receipts say."""
    return sum(outcome.receipt.billing is billing for outcome in outcomes)


SEEDS = [*range(40), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(40, 1000))]


@pytest.mark.parametrize("seed", SEEDS)
def test_receipts_and_bills_agree(seed: int) -> None:
    """For everyone alone, and for all together."""
    clock = VirtualClock(seed)
    crowd = Crowd(seed, clock, None)
    client = clock.run(crowd.run())

    told = [*crowd.told, *client.unclaimed]
    billed, in_doubt = count(told, Billing.BILLED), count(told, Billing.UNKNOWN)
    assert all(summary.spent <= most for most, summary in crowd.summaries)
    assert billed <= crowd.service.bills <= crowd.most
    if not crowd.resends:  # several doubts of one lookup are one on its receipt
        assert crowd.service.bills <= billed + in_doubt


@pytest.mark.parametrize("seed", SEEDS)
def test_ledger_and_bills_agree(seed: int) -> None:
    """The ledger has every charge, also those of which nobody took the answer."""
    clock = VirtualClock(seed)
    ledger = MemoryLedger(clock=clock)
    crowd = Crowd(seed, clock, ledger)

    async def main() -> Spending:
        async with ledger:
            await crowd.run()
            return await ledger.spending("default", "service.invalid")

    spending = clock.run(main())
    assert all(summary.spent <= most for most, summary in crowd.summaries)
    assert count(crowd.told, Billing.BILLED) <= spending.billed <= crowd.service.bills
    assert crowd.service.bills <= spending.spent <= crowd.most
    assert spending.under_way == 0

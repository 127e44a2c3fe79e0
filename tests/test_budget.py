"""Budgets: what may be set, and that no concurrency, failure or second client spends more."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.raw import CANARY_KEY, RawServer, answers, breaks_off, http

from oneauto_async import (
    BatchSummary,
    Billing,
    Budget,
    BudgetExceededError,
    ConfigurationError,
    Found,
    InDoubt,
    NotSent,
    NotSentReason,
    OneAutoClient,
    Outcome,
    RateLimit,
    RetryPolicy,
)
from oneauto_async._flow.budget import Meter, reserve_all
from oneauto_async.ledger import Ledger, MemoryLedger, SqliteLedger
from oneauto_async.testing import Simulator, VirtualClock

asynchronous = pytest.mark.asyncio


@pytest.fixture(params=["none", "memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger | None:
    """With each kind of ledger, and without."""
    made: dict[str, Any] = {
        "none": lambda: None,
        "memory": MemoryLedger,
        "sqlite": lambda: SqliteLedger(tmp_path / "test.ledger"),
    }
    ledger: Ledger | None = made[request.param]()
    return ledger


# What may be set.


@pytest.mark.parametrize(
    ("budget", "most"),
    [
        (Budget(max_billed=0), 0),
        (Budget(max_billed=25), 25),
        (Budget(max_billed=25, price=Decimal("0.5")), 25),
        (Budget(max_cost=Decimal("12.50"), price=Decimal("0.50")), 25),
        (Budget(max_cost=Decimal("0.30"), price=Decimal("0.10")), 3),
        (Budget(max_cost=Decimal("0.29"), price=Decimal("0.10")), 2),
        (Budget(max_cost=Decimal(1), price=3), 0),
        (Budget(max_cost=10**12, price=Decimal("0.000001")), 10**18),
    ],
)
def test_how_many_charges_a_budget_allows(budget: Budget, most: int) -> None:
    """Exactly, and never rounded up."""
    assert budget.most == most
    with localcontext(prec=2):
        assert budget.most == most


@given(st.decimals(0, 1000, places=4), st.decimals("0.0001", 10, places=4))
def test_a_sum_of_money_is_never_exceeded(max_cost: Decimal, price: Decimal) -> None:
    """And not one answer fewer than it pays for."""
    most = Budget(max_cost=max_cost, price=price).most
    assert most * price <= max_cost < (most + 1) * price


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"max_billed": 1, "max_cost": Decimal(1)},
        {"max_cost": Decimal(1)},
        {"max_billed": -1},
        {"max_billed": 1.5},
        {"max_billed": True},
        {"max_cost": 0.5, "price": Decimal(1)},
        {"max_cost": "0.5", "price": Decimal(1)},
        {"max_cost": Decimal("NaN"), "price": Decimal(1)},
        {"max_cost": Decimal("Infinity"), "price": Decimal(1)},
        {"max_cost": Decimal("1e13"), "price": Decimal(1)},
        {"max_cost": Decimal(-1), "price": Decimal(1)},
        {"max_cost": Decimal(1), "price": Decimal(0)},
        {"max_cost": Decimal(1), "price": Decimal("1e-9")},
        {"max_cost": True, "price": Decimal(1)},
        {"max_billed": 1, "price": 0.5},
        {"max_billed": 1, "since": datetime(2026, 1, 1)},
        {"max_billed": 1, "since": "2026-01-01"},
        {"max_billed": 1, "since": 5.0},
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """A budget with a wrong or missing limit, price or beginning cannot be made."""
    with pytest.raises(ConfigurationError):
        Budget(**wrong)


@pytest.mark.parametrize(
    ("since", "seconds"),
    [
        (None, None),
        (date(1970, 1, 2), 86_400.0),
        (datetime(1970, 1, 1, 0, 0, 10, tzinfo=UTC), 10.0),
        (datetime(1970, 1, 1, 2, 0, 0, tzinfo=timezone(timedelta(hours=2))), 0.0),
    ],
)
def test_when_a_budget_begins(since: date | None, seconds: float | None) -> None:
    """A date begins at midnight UTC, wherever the program runs."""
    assert Budget(max_billed=1, since=since).since_seconds == seconds


@pytest.mark.parametrize("kind", ["date", "moment"])
def test_a_budget_that_begins_in_the_future_is_refused(kind: str) -> None:
    """Nothing bought until then would count; but it may be tomorrow somewhere already."""
    now = datetime.now(UTC)
    tomorrow, later = now + timedelta(hours=23), now + timedelta(days=2, hours=1)
    Budget(max_billed=1, since=tomorrow.date() if kind == "date" else tomorrow)
    with pytest.raises(ConfigurationError, match=r"Budget\.since is in the future"):
        Budget(max_billed=1, since=later.date() if kind == "date" else later)


@asynchronous
async def test_a_budget_that_begins_tomorrow_holds_today() -> None:
    """East of Greenwich today's date is ahead of UTC every morning."""
    simulator, ahead = Simulator(), datetime.now(UTC) + timedelta(hours=20)
    budget = Budget(max_billed=1, since=ahead)
    async with OneAutoClient.simulated(simulator, ledger=MemoryLedger(), budget=budget) as client:
        outcomes = await client.lookup_many(range(5))

    assert simulator.total_billed == 1
    assert sum(isinstance(outcome, NotSent) for outcome in outcomes) == 4


@asynchronous
async def test_a_budgeted_batch_without_a_ledger_pays_for_nothing_twice() -> None:
    """What it says of the ages of answers is about a ledger, and changes nothing where there is none."""
    simulator = Simulator(latency=0.02)
    async with OneAutoClient.simulated(simulator) as client:
        alone = asyncio.ensure_future(client.lookup("1"))
        await asyncio.sleep(0.005)
        await client.lookup_many(["1"], budget=Budget(max_billed=5), refresh=True, max_age=60)
        await alone

    assert simulator.bills == {"1": 1}


@asynchronous
async def test_a_budget_from_a_day_on_needs_a_ledger() -> None:
    """Without one nothing is known of other days; and a batch knows only itself."""
    since = Budget(max_billed=1, since=date(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="since"):
        OneAutoClient("key", budget=since)
    async with OneAutoClient.simulated(ledger=MemoryLedger(), budget=since) as client:
        with pytest.raises(ConfigurationError, match="since"):
            client.batch([1], budget=since)


@pytest.mark.parametrize("wrong", [5, Decimal(5), "5"])
@asynchronous
async def test_a_number_is_no_budget(wrong: Any) -> None:
    """Clients and batches refuse a bare number, since it does not say whether it means calls or money."""
    with pytest.raises(ConfigurationError, match="Budget"):
        OneAutoClient("key", budget=wrong)
    async with OneAutoClient.simulated() as client:
        with pytest.raises(ConfigurationError, match="Budget"):
            client.batch([1], budget=wrong)


# Meters.


@given(st.integers(0, 5), st.lists(st.sampled_from(["reserve", "spent", "free"]), max_size=30))
def test_a_meter_never_runs_over(most: int, steps: list[str]) -> None:
    """Whatever is reserved and settled, in whatever order."""
    meter = Meter(most)
    for step in steps:
        if step == "reserve":
            had_room = meter.has_room
            assert reserve_all((meter,)) is had_room
        elif meter.reserved:
            meter.settle(spent=step == "spent")
        assert 0 <= meter.reserved + meter.spent <= most
        assert meter.is_spent is (meter.spent == most)


def test_a_place_is_taken_in_all_meters_or_none() -> None:
    """Where one meter is full, nothing is reserved in the others."""
    wide, narrow = Meter(5), Meter(1)
    assert reserve_all((wide, narrow))
    assert not reserve_all((wide, narrow))
    assert (wide.reserved, narrow.reserved) == (1, 1)


# Over a client.


@asynchronous
async def test_a_client_spends_no_more_than_its_budget(ledger: Ledger | None) -> None:
    """At 50 at once, to the unit; the rest is told, and the batch has stopped (X17)."""
    simulator = Simulator(latency=(0.0, 0.01))
    async with OneAutoClient.simulated(simulator, ledger=ledger, budget=Budget(max_billed=25)) as client:
        async with client.batch(range(100), concurrency=50) as batch:
            outcomes = [outcome async for outcome in batch]

    assert simulator.total_billed == simulator.requests.total() == 25
    assert sum(isinstance(outcome, Found) for outcome in outcomes) == 25
    unsent = [outcome for outcome in outcomes if isinstance(outcome, NotSent)]
    assert {outcome.reason for outcome in unsent} == {NotSentReason.BUDGET}
    assert len(unsent) == 75
    assert all(isinstance(outcome.error, BudgetExceededError) for outcome in unsent)
    assert (batch.summary.stopped, batch.summary.spent) == (NotSentReason.BUDGET, 25)


@asynchronous
async def test_failures_cost_no_budget(ledger: Ledger | None) -> None:
    """What surely was not charged is free for the next id, and what is in doubt is spent."""
    simulator = Simulator(latency=(0.0, 0.005))
    async with OneAutoClient.simulated(simulator, ledger=ledger, budget=Budget(max_billed=30)) as client:
        simulator.fail_next(20, 400)
        simulator.fail_next(5, 502)
        simulator.fail_next(2, 503)
        simulator.fail_next(3, 504)
        outcomes = await client.lookup_many(range(100), concurrency=50)

    doubts = sum(isinstance(outcome, InDoubt) for outcome in outcomes)
    assert doubts == 8
    assert simulator.total_billed == 30 - doubts
    assert sum(isinstance(outcome, Found) for outcome in outcomes) == 30 - doubts


@asynchronous
async def test_a_single_lookup_over_budget(ledger: Ledger | None) -> None:
    """A value or an exception, as for everything else; what is kept is served all the same."""
    simulator = Simulator()
    async with OneAutoClient.simulated(simulator, ledger=ledger, budget=Budget(max_billed=1)) as client:
        await client.lookup(1)
        outcome = await client.lookup(2)
        assert isinstance(outcome, NotSent)
        assert outcome.reason is NotSentReason.BUDGET
        assert (outcome.receipt.billing, outcome.receipt.attempts) == (Billing.NOT_BILLED, 0)
        with pytest.raises(BudgetExceededError, match="allows 1"):
            await client.bidirectional_charging(3)
        if ledger is not None:
            assert isinstance(await client.lookup(1), Found)
    assert simulator.requests == {"1": 1}


@asynchronous
async def test_retries_and_resends_stay_within_the_budget(server: RawServer, ledger: Ledger | None) -> None:
    """A retry of what was not charged needs no more; a resend of a doubt does."""
    server.on("1", breaks_off(billed=True))
    options: Any = {"base_url": server.base_url, "ledger": ledger, "retry": RetryPolicy(resend_in_doubt=9)}
    async with OneAutoClient(CANARY_KEY, budget=Budget(max_billed=3), **options) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert isinstance(outcome.error, BudgetExceededError)
    assert (outcome.receipt.attempts, outcome.receipt.billing) == (3, Billing.UNKNOWN)
    assert server.requests["1"] == 3


@asynchronous
async def test_a_budget_outlives_the_client_with_a_ledger(tmp_path: Path) -> None:
    """Raising it and running again goes on where it stopped."""
    simulator, path = Simulator(), tmp_path / "test.ledger"
    for most, bought in ((10, 10), (10, 10), (15, 15), (None, 30)):
        budget = None if most is None else Budget(max_billed=most)
        async with OneAutoClient.simulated(simulator, ledger=SqliteLedger(path), budget=budget) as client:
            await client.lookup_many(range(30), concurrency=8)
        assert simulator.total_billed == bought
    assert set(simulator.bills.values()) == {1}


@asynchronous
async def test_two_clients_share_the_budget_of_a_ledger(tmp_path: Path) -> None:
    """To the unit, with failures mixed in (X17)."""
    simulator, path = Simulator(latency=(0.0, 0.01)), tmp_path / "test.ledger"
    simulator.fail_next(20, 400)

    def client() -> OneAutoClient:
        return OneAutoClient.simulated(simulator, ledger=SqliteLedger(path), budget=Budget(max_billed=25))

    async with client() as one, client() as other:
        await asyncio.gather(one.lookup_many(range(100), concurrency=25), other.lookup_many(range(200, 300)))
    assert simulator.total_billed == 25


@asynchronous
async def test_what_was_spent_before_a_moment_does_not_count(tmp_path: Path) -> None:
    """A budget for the month leaves the last one alone."""
    simulator, path = Simulator(), tmp_path / "test.ledger"
    async with OneAutoClient.simulated(simulator, ledger=SqliteLedger(path)) as client:
        await client.lookup_many(range(5))
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    budget = Budget(max_billed=3, since=tomorrow)
    async with OneAutoClient.simulated(simulator, ledger=SqliteLedger(path), budget=budget) as client:
        assert (await client.plan(range(10))).most_billed == 3
    budget = Budget(max_billed=7, since=tomorrow - timedelta(days=7))
    async with OneAutoClient.simulated(simulator, ledger=SqliteLedger(path), budget=budget) as client:
        assert (await client.plan(range(10))).most_billed == 2
        await client.lookup_many(range(10))
    assert simulator.total_billed == 7


# Over a batch.


@asynchronous
async def test_a_batch_spends_no_more_than_its_budget(ledger: Ledger | None) -> None:
    """The batch stops at its own limit, and its client can go on buying."""
    simulator = Simulator(latency=(0.0, 0.01))
    async with OneAutoClient.simulated(simulator, ledger=ledger) as client:
        async with client.batch(range(100), concurrency=50, budget=Budget(max_billed=10)) as batch:
            outcomes = [outcome async for outcome in batch]
        assert sum(isinstance(outcome, Found) for outcome in outcomes) == simulator.total_billed == 10
        assert batch.summary.stopped is NotSentReason.BUDGET
        await client.lookup_many(range(1000, 1010))
    assert simulator.total_billed == 20


@asynchronous
async def test_the_narrower_of_two_budgets_holds(ledger: Ledger | None) -> None:
    """The client's and the batch's, whichever is reached first."""
    simulator = Simulator()
    async with OneAutoClient.simulated(simulator, ledger=ledger, budget=Budget(max_billed=12)) as client:
        await client.lookup_many(range(100), budget=Budget(max_billed=8))
        assert simulator.total_billed == 8
        await client.lookup_many(range(100, 200), budget=Budget(max_billed=8))
    assert simulator.total_billed == 12


@asynchronous
async def test_what_is_kept_costs_a_batch_nothing(tmp_path: Path) -> None:
    """It is served first, and buys the rest."""
    simulator, ledger = Simulator(), SqliteLedger(tmp_path / "test.ledger")
    async with ledger, OneAutoClient.simulated(simulator, ledger=ledger) as client:
        await client.lookup_many(range(50))
        outcomes = await client.lookup_many(range(60), budget=Budget(max_billed=5))
    assert sum(isinstance(outcome, Found) for outcome in outcomes) == 55


@asynchronous
async def test_lookups_joined_cost_a_batch_nothing() -> None:
    """A batch that joins a lookup under way gets its answer without room in its budget."""
    simulator = Simulator(latency=0.02)
    async with OneAutoClient.simulated(simulator) as client:
        alone = asyncio.create_task(client.lookup(1))
        await asyncio.sleep(0)
        (outcome,) = await client.lookup_many([1], budget=Budget(max_billed=0))
        await alone
    assert isinstance(outcome, Found)
    assert simulator.total_billed == 1


@asynchronous
async def test_a_lookup_is_not_refused_because_of_the_budget_of_another(ledger: Ledger | None) -> None:
    """It shares the call of a batch whose budget is spent, and goes on without it."""
    simulator = Simulator(latency=0.05)

    async with OneAutoClient.simulated(simulator, ledger=ledger) as client:
        capped = asyncio.ensure_future(client.lookup_many([1, 2], budget=Budget(max_billed=1)))
        await asyncio.sleep(0.02)
        free = await client.lookup_many([2, 3])
        roomy = await client.lookup_many([2, 4], refresh=True, budget=Budget(max_billed=2))

    assert [type(outcome) for outcome in await capped] == [Found, NotSent]
    assert all(isinstance(outcome, Found) for outcome in (*free, *roomy))
    assert simulator.bills["2"] == 2


@asynchronous
async def test_refreshes_at_once_use_up_one_budget_after_the_other(ledger: Ledger | None) -> None:
    """What the first cannot pay for is bought by the second, and for the third nothing is left to pay."""
    simulator = Simulator(latency=0.01)

    async with OneAutoClient.simulated(simulator, ledger=ledger) as client:
        first, second, third = await asyncio.gather(
            *(client.lookup_many(range(10), refresh=True, budget=Budget(max_billed=7)) for _ in range(3))
        )

    billed = [sum(outcome.receipt.billing is Billing.BILLED for outcome in one) for one in (first, second, third)]
    assert billed == [7, 3, 0]
    assert sum(isinstance(outcome, NotSent) for outcome in first) == 3
    assert all(isinstance(outcome, Found) for outcome in (*second, *third))
    assert simulator.total_billed == 10


@pytest.mark.parametrize("left", ["lookups", "a batch"])
def test_what_others_began_and_left_is_bought_within_the_budget(
    clock: VirtualClock, ledger: Ledger | None, left: str
) -> None:
    """Their requests under way are theirs; all that leaves after them is paid by whoever stayed, or not at all."""
    simulator = Simulator(latency=0.1)

    async def main() -> tuple[int, int, int]:
        limit = RateLimit(10, 1)
        async with OneAutoClient.simulated(simulator, ledger=ledger, rate_limit=limit, clock=clock) as client:
            ids = range(10)
            if left == "lookups":
                others: list[asyncio.Future[Any]] = [asyncio.ensure_future(client.lookup(number)) for number in ids]
            else:
                others = [asyncio.ensure_future(client.lookup_many(ids))]
            await asyncio.sleep(0.02)
            async with client.batch(ids, budget=Budget(max_billed=3)) as batch:
                await asyncio.sleep(0.05)
                for other in others:
                    other.cancel()
                sent = simulator.requests.total()
                outcomes = [outcome async for outcome in batch]
            assert len(outcomes) == 10
            return batch.summary.spent, simulator.total_billed - sent, batch.summary.not_sent

    spent, bought_after, not_sent = clock.run(main())
    assert spent == 3
    assert bought_after <= 3
    assert not_sent > 0


@asynchronous
async def test_a_guest_of_a_lookup_that_is_left_gets_its_answer(ledger: Ledger | None) -> None:
    """One who joined and has another budget, or none, loses nothing by the other's leaving."""
    simulator = Simulator(latency=0.05)

    async with OneAutoClient.simulated(simulator, ledger=ledger, rate_limit=RateLimit(20, 1)) as client:
        await client.lookup(0)
        capped = asyncio.ensure_future(client.lookup_many([1, 2, 3], budget=Budget(max_billed=3)))
        await asyncio.sleep(0.01)
        guests = [asyncio.ensure_future(client.lookup(number)) for number in (1, 2, 3)]
        await asyncio.sleep(0.01)
        capped.cancel()
        outcomes = await asyncio.gather(*guests)

    assert all(isinstance(outcome, Found) for outcome in outcomes)
    assert simulator.bills == {"0": 1, "1": 1, "2": 1, "3": 1}


@pytest.mark.parametrize("ending", ["its deadline", "its budget"])
def test_what_others_have_in_doubt_is_no_expense_of_a_batch_that_ends(
    ending: str, ledger: Ledger | None, clock: VirtualClock
) -> None:
    """It shared their calls, and stops while those are under way, or between two of them."""
    simulator = Simulator(latency=0.1)
    simulator.fail_next(3, 504)  # then in doubt, and asked again, which takes a while
    policy = RetryPolicy(resend_in_doubt=2)

    async def main() -> BatchSummary:
        async with OneAutoClient.simulated(simulator, ledger=ledger, retry=policy, clock=clock) as client:
            others = asyncio.ensure_future(client.lookup_many([1, 2, 3]))
            await asyncio.sleep(0.05 if ending == "its deadline" else 0.12)
            more = [4] if ending == "its budget" else []
            deadline = 0.01 if ending == "its deadline" else None
            async with client.batch([1, 2, 3, *more], budget=Budget(max_billed=0), deadline=deadline) as batch:
                outcomes = [outcome async for outcome in batch]
            assert len(outcomes) == 3 + len(more)
            assert batch.summary.stopped is not None
            await others
            return batch.summary

    summary = clock.run(main())
    assert (summary.spent, summary.billed, summary.unknown) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@asynchronous
async def test_a_budget_counts_from_any_year(kind: str, tmp_path: Path) -> None:
    """A year written with two digits is a year long ago."""
    simulator = Simulator()
    budget = Budget(max_billed=2, since=date(26, 11, 1))

    async with MemoryLedger() if kind == "memory" else SqliteLedger(tmp_path / "test.ledger") as ledger:
        for run in range(2):
            async with OneAutoClient.simulated(simulator, ledger=ledger, budget=budget) as client:
                await client.lookup_many([f"{run}-{number}" for number in range(5)])

    assert simulator.total_billed == 2


def test_waiting_for_room_takes_as_long_as_it_takes(clock: VirtualClock) -> None:
    """What others have reserved may be free again, so the last of a budget is used however slow the service is."""
    simulator = Simulator(latency=20.0)
    simulator.fail_next(4, 400)

    async def main() -> list[Outcome[Any]]:
        options: Any = {"clock": clock, "retry": RetryPolicy(total=30), "budget": Budget(max_billed=2)}
        async with OneAutoClient.simulated(simulator, **options) as client:
            return await client.lookup_many(range(20), concurrency=10)

    outcomes = clock.run(main())
    assert simulator.total_billed == 2
    assert simulator.requests.total() == 6
    assert sum(isinstance(outcome, NotSent) for outcome in outcomes) == 14


# Plans.


@asynchronous
async def test_a_plan_tells_the_most_it_can_cost(ledger: Ledger | None) -> None:
    """Within what the budgets allow, in charges and in money (L11)."""
    budget = Budget(max_cost=Decimal("10.00"), price=Decimal("0.50"))
    async with OneAutoClient.simulated(ledger=ledger, budget=budget) as client:
        assert (await client.plan(range(5))).most_cost == Decimal("2.50")
        await client.lookup_many(range(5))
        plan = await client.plan(range(100))
        assert (plan.most_billed, plan.most_cost) == (15, Decimal("7.50"))
        plan = await client.plan(range(100), budget=Budget(max_billed=3, price=Decimal("0.40")))
        assert (plan.most_billed, plan.most_cost) == (3, Decimal("1.20"))


@asynchronous
async def test_what_others_have_reserved_makes_a_plan_no_cheaper(ledger: Ledger | None) -> None:
    """It may come free, and then the batch may buy as much more."""
    simulator = Simulator(latency=2.0)
    async with OneAutoClient.simulated(simulator, ledger=ledger, budget=Budget(max_billed=10)) as client:
        others = asyncio.ensure_future(client.lookup_many(["SIM-400", 1, 2, 3, 4]))
        await asyncio.sleep(0.5)
        plan = await client.plan(range(10, 30))
        await others
    assert plan.most_billed == 10


@asynchronous
async def test_an_answer_that_is_no_answer_costs_all_the_same(server: RawServer, ledger: Ledger | None) -> None:
    """A 200 that cannot be used was charged."""
    server.on("1", answers(http(200, b"")))
    async with OneAutoClient(
        CANARY_KEY, base_url=server.base_url, ledger=ledger, budget=Budget(max_billed=1)
    ) as client:
        await client.lookup(1)
        assert isinstance(await client.lookup(2), NotSent)

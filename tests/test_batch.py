"""Many lookups at once: bounded, lazy, in order or not, stopped for good reasons, and left without loss."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import suppress
from typing import Any

import attrs
import httpx
import pytest
from support.raw import ANSWER, CANARY_KEY, RawServer, answers, http, never_answers

from oneauto_async import (
    VAN_BIDIRECTIONAL_CHARGING,
    Batch,
    Billing,
    ClientClosedError,
    ConfigurationError,
    Failed,
    Found,
    InDoubt,
    LedgerError,
    NoData,
    NotSent,
    NotSentReason,
    OneAutoClient,
    Outcome,
    RateLimit,
    RetryPolicy,
    Source,
    Timeouts,
    make_converter,
)
from oneauto_async.ledger import Claim, MemoryLedger, Settlement
from oneauto_async.testing import Simulator, VirtualClock
from oneauto_async.transport import HTTP11Transport

asynchronous = pytest.mark.asyncio


@asynchronous
async def test_every_kind_of_outcome_comes_back_and_one_failure_loses_nothing() -> None:
    """A batch is a list of ways lookups end."""
    ids = ["1", "SIM-204", "SIM-206", "SIM-400", "SIM-502", "SIM-FALSE", "not\x00an id", "2"]

    async with OneAutoClient.simulated() as client:
        outcomes = await client.lookup_many(ids)

    assert [type(outcome) for outcome in outcomes] == [Found, NoData, Found, Failed, InDoubt, Failed, NotSent, Found]
    assert [outcome.index for outcome in outcomes] == list(range(8))


@asynchronous
async def test_the_summary_adds_up() -> None:
    """Counts, money and calls, read at the end and after it."""
    simulator = Simulator()
    ids: list[str | int] = ["1", "1", "SIM-204", "SIM-206", "SIM-400", "SIM-502", "SIM-FALSE", True, "SIM-429-ONCE"]

    async with OneAutoClient.simulated(simulator) as client, client.batch(ids) as batch:
        outcomes = [outcome async for outcome in batch]

    done = batch.summary
    assert done.total == len(outcomes) == len(ids)
    assert done.found + done.partial + done.no_data + done.failed + done.in_doubt + done.not_sent == done.total
    assert (done.found, done.partial, done.no_data, done.failed, done.in_doubt, done.not_sent) == (3, 1, 1, 2, 1, 1)
    assert (done.billed, done.unknown, done.duplicates, done.wasted) == (3, 1, 1, 1)
    assert done.billed == simulator.total_billed
    assert done.attempts == simulator.requests.total()
    assert done.elapsed > 0


@pytest.mark.parametrize("concurrency", [1, 5, 50])
def test_no_more_than_concurrency_are_under_way(concurrency: int, clock: VirtualClock) -> None:
    """It is reached, and never exceeded."""
    simulator = Simulator(latency=0.05)

    async def main() -> None:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            await client.lookup_many(range(4 * concurrency), concurrency=concurrency)

    clock.run(main())

    assert simulator.max_in_flight == concurrency


@asynchronous
async def test_all_batches_of_a_client_share_its_bound() -> None:
    """Two batches of ten under a client of five are five at once."""
    simulator = Simulator(latency=0.005)

    async with OneAutoClient.simulated(simulator, max_concurrency=5) as client:
        await asyncio.gather(
            client.lookup_many(range(20), concurrency=10), client.lookup_many(range(100, 120), concurrency=10)
        )

    assert simulator.max_in_flight == 5


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "5"])
@asynchronous
async def test_a_concurrency_that_makes_no_sense_is_refused(concurrency: Any) -> None:
    """Making a batch raises `ConfigurationError` unless the concurrency is a whole number above 0."""
    async with OneAutoClient.simulated() as client:
        with pytest.raises(ConfigurationError):
            client.batch([1], concurrency=concurrency)


@pytest.mark.parametrize("ids", ["12345", b"12345", 12345, None, 3.5])
@asynchronous
async def test_one_id_is_not_taken_for_many(ids: Any) -> None:
    """A text would be five ids of one character each, all paid for."""
    async with OneAutoClient.simulated() as client:
        with pytest.raises(ConfigurationError, match="lookup"):
            client.batch(ids)


@asynchronous
async def test_an_empty_input_ends_at_once(server: RawServer) -> None:
    """No connection is opened for nothing."""
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        assert await client.lookup_many([]) == []

    assert server.connections == 0


@asynchronous
async def test_outcomes_come_as_they_finish_or_in_input_order(server: RawServer) -> None:
    """A slow first id holds nothing up, unless order was asked for."""
    server.on("1", answers(delay=0.1))

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        async with client.batch([1, 2, 3]) as batch:
            finished = [outcome.evdb_vehicle_id async for outcome in batch]
        async with client.batch([1, 2, 3], ordered=True) as batch:
            ordered = [outcome.evdb_vehicle_id async for outcome in batch]

    assert finished[-1] == "1"
    assert ordered == ["1", "2", "3"]


@asynchronous
async def test_an_async_iterable_is_read_as_well() -> None:
    """Ids may come from a queue or a database cursor."""

    async def ids() -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0)
            yield number

    async with OneAutoClient.simulated() as client:
        assert len(await client.lookup_many(ids())) == 5


@pytest.mark.parametrize("ordered", [False, True])
@asynchronous
async def test_ids_are_read_no_further_than_there_is_room(ordered: bool) -> None:
    """With nobody taking outcomes, at most two per slot are started."""
    read = 0

    def ids() -> Iterator[int]:
        nonlocal read
        for read in range(1, 1_000_001):  # noqa: UP028  # how far it was read is the point
            yield read

    async with OneAutoClient.simulated() as client, client.batch(ids(), concurrency=5, ordered=ordered) as batch:
        for _ in range(200):
            await asyncio.sleep(0)
        assert read <= 11
        first = await anext(aiter(batch))
        assert isinstance(first, Found)


@asynchronous
async def test_equal_ids_are_asked_once_and_answered_each_time() -> None:
    """1001 and "1001" and " 1001 " are one van; only the first place pays."""
    simulator = Simulator()

    async with OneAutoClient.simulated(simulator) as client:
        outcomes = await client.lookup_many([1001, "1001", " 1001 ", 2, "1001"])

    assert simulator.bills == {"1001": 1, "2": 1}
    assert [outcome.receipt.source for outcome in outcomes].count(Source.JOINED) == 3
    assert [outcome.evdb_vehicle_id for outcome in outcomes] == ["1001", "1001", "1001", "2", "1001"]


@asynchronous
async def test_without_deduplication_an_answered_id_is_asked_again() -> None:
    """That is what it says, and what it costs."""
    simulator = Simulator()

    async with OneAutoClient.simulated(simulator) as client:
        await client.lookup_many([1, 1, 1], deduplicate=False, concurrency=1)

    assert simulator.bills == {"1": 3}


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (http(401), NotSentReason.ACCESS_DENIED),
        (http(403, b'{"message":"Forbidden"}'), NotSentReason.ACCESS_DENIED),
        (http(404), NotSentReason.WRONG_ROUTE),
        (http(429, b'{"message":"Limit Exceeded"}'), NotSentReason.QUOTA),
        (http(429, Retry_After="1000"), NotSentReason.RATE_LIMITED),
        (http(503, Retry_After="1000"), NotSentReason.SERVICE_UNAVAILABLE),
    ],
)
@asynchronous
async def test_what_is_wrong_for_every_id_stops_the_batch(
    server: RawServer, response: bytes, reason: NotSentReason
) -> None:
    """At most ``concurrency`` requests leave; the rest comes back unsent with the reason, and the found stay found."""
    server.on("10", answers(response))

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        async with client.batch(range(1000), concurrency=8) as batch:
            outcomes = {outcome.evdb_vehicle_id: outcome async for outcome in batch}

    assert len(outcomes) == 1000
    assert len(server.asked) <= 10 + 2 * 8
    assert isinstance(outcomes["10"], Failed)
    last = outcomes["999"]
    assert isinstance(last, NotSent)
    assert last.reason is batch.summary.stopped is reason
    assert all(isinstance(outcomes[str(number)], Found) for number in range(3))


@asynchronous
async def test_a_refused_key_costs_at_most_one_request_per_slot(server: RawServer) -> None:
    """Every answer is a 403: no more requests than were under way when the first came back."""
    for number in range(1000):
        server.on(str(number), answers(http(403, b'{"message":"Forbidden"}')))

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        outcomes = await client.lookup_many(range(1000), concurrency=10)

    assert len(server.asked) <= 10
    assert sum(isinstance(outcome, NotSent) for outcome in outcomes) >= 990


def test_a_quota_that_runs_out_keeps_what_was_answered(clock: VirtualClock) -> None:
    """After the quota answer nothing is sent but what was under way, and everyone who waits is told at once."""
    simulator = Simulator(quota=30, latency=0.05)

    async def main() -> tuple[list[Any], float]:
        async with OneAutoClient.simulated(simulator, clock=clock, rate_limit=RateLimit(100, 5)) as client:
            return await client.lookup_many(range(500), concurrency=20), clock.monotonic()

    outcomes, now = clock.run(main())

    assert sum(isinstance(outcome, Found) for outcome in outcomes) == simulator.total_billed == 30
    assert simulator.requests.total() <= 30 + 20
    assert now < 1.0


def test_a_deadline_returns_what_there_is(clock: VirtualClock) -> None:
    """At two seconds: the found, those under way in doubt with their answers kept, the rest unsent."""
    simulator = Simulator(latency=0.5)

    async def main() -> tuple[list[Any], float, int]:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            outcomes = await client.lookup_many(range(1000), concurrency=10, deadline=2.2)
            now = clock.monotonic()
            await asyncio.sleep(1)
            return outcomes, now, len(client.unclaimed)

    outcomes, now, unclaimed = clock.run(main())

    counts = {kind: sum(isinstance(outcome, kind) for outcome in outcomes) for kind in (Found, InDoubt, NotSent)}
    assert counts == {Found: 40, InDoubt: 10, NotSent: 950}
    assert now == pytest.approx(2.2)
    assert unclaimed == 10
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, NotSent)} == {NotSentReason.DEADLINE}


@asynchronous
async def test_what_a_deadline_reports_as_not_billed_is_not_sent_afterwards(server: RawServer) -> None:
    """The second lookup waits for a connection; what waits for one is not under way."""
    server.on("1", answers(delay=0.3))
    transport = HTTP11Transport(max_connections=1)

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, transport=transport) as client:
        first, second = await client.lookup_many(["1", "2"], deadline=0.1)

    assert isinstance(first, InDoubt)
    assert (type(second), second.receipt.billing) == (Failed, Billing.NOT_BILLED)
    assert server.bills == {"1": 1}


def test_after_a_stop_what_is_under_way_is_not_tried_again(clock: VirtualClock) -> None:
    """It may end, and tells its own failure, not that of the id which stopped the batch."""
    simulator = Simulator(latency=(0.1, 0.2))
    simulator.fail_next(2, 503)

    async def main() -> list[Outcome[Any]]:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            return await client.lookup_many(["2", "3", "SIM-403"])

    outcomes = clock.run(main())

    assert [outcome.receipt.status for outcome in outcomes] == [503, 503, 403]
    assert [outcome.receipt.attempts for outcome in outcomes] == [1, 1, 1]


def test_a_deadline_holds_for_a_batch_that_has_stopped_before(clock: VirtualClock) -> None:
    """Though a request under way is let finish otherwise."""

    async def main() -> tuple[list[Outcome[Any]], float]:
        async with OneAutoClient.simulated(Simulator(latency=0.1), clock=clock) as client:
            return await client.lookup_many(["SIM-403", "SIM-SILENT"], deadline=5.0), clock.monotonic()

    (denied, silent), now = clock.run(main())

    assert (type(denied), type(silent)) == (Failed, InDoubt)
    assert now == pytest.approx(5.0)


@asynchronous
async def test_a_doubt_shows_nothing_of_the_reply_before_it(server: RawServer) -> None:
    """Its request id would be the wrong one to ask the vendor about."""
    first, second = answers(http(503, b"busy", X_Request_Id="of the first")), never_answers()

    async def first_then_second(*asked: Any) -> None:
        await (first if server.requests["1"] == 1 else second)(*asked)

    server.on("1", first_then_second)

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, timeouts=Timeouts(drain=0.0)) as client:
        (outcome,) = await client.lookup_many(["1"], deadline=1.0)

    assert isinstance(outcome, InDoubt)
    assert (outcome.receipt.attempts, outcome.receipt.status, outcome.receipt.request_id) == (2, None, None)


@pytest.mark.parametrize("way", ["break", "cancel", "raise"])
@asynchronous
async def test_leaving_early_loses_no_paid_answer(server: RawServer, way: str) -> None:
    """It returns at once, starts nothing more, and everything billed was taken or is unclaimed."""
    for number in range(1000):
        server.on(str(number), answers(delay=0.02))
    taken = []

    async def consume(client: OneAutoClient) -> None:
        async with client.batch(range(1000), concurrency=10) as batch:
            async for outcome in batch:
                taken.append(outcome)
                if len(taken) == 15:
                    if way == "break":
                        break
                    if way == "raise":
                        raise ZeroDivisionError
                    asyncio.current_task().cancel()  # type: ignore[union-attr]  # there is a current task

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        await asyncio.gather(asyncio.create_task(consume(client)), return_exceptions=True)
    assert len(server.asked) <= len(taken) + 2 * 10
    assert len(taken) + len(client.unclaimed) == server.bills.total()
    assert {outcome.receipt.billing for outcome in client.unclaimed} == {Billing.BILLED}


@pytest.mark.parametrize("stop", ["SIM-403", "SIM-404", "SIM-QUOTA", "deadline"])
def test_a_stop_reports_no_paid_answer_as_unpaid(clock: VirtualClock, stop: str) -> None:
    """Answers that arrive in the very moment of the stop are found, or at worst in doubt: never unsent."""
    simulator = Simulator(latency=0.1)
    ids = [stop if stop != "deadline" else "99", *map(str, range(20))]

    async def main() -> list[Any]:
        async with OneAutoClient.simulated(simulator, clock=clock, max_concurrency=10) as client:
            return await client.lookup_many(ids, deadline=0.1 if stop == "deadline" else None)

    outcomes = clock.run(main())

    paid = [outcome for outcome in outcomes if simulator.bills[outcome.evdb_vehicle_id]]
    assert len(paid) >= 9
    assert all(outcome.receipt.billing is not Billing.NOT_BILLED for outcome in paid)


def test_a_cancelled_lookup_many_keeps_what_it_had_collected(clock: VirtualClock) -> None:
    """Every answer that was billed is unclaimed."""
    simulator = Simulator(latency=0.1)

    async def main() -> tuple[int, int]:
        async with OneAutoClient.simulated(simulator, clock=clock, max_concurrency=10) as client:
            many = asyncio.create_task(client.lookup_many(range(200)))
            await asyncio.sleep(1.05)
            many.cancel()
            await asyncio.gather(many, return_exceptions=True)
            await asyncio.sleep(1)
            return len(client.unclaimed), simulator.total_billed

    unclaimed, billed = clock.run(main())

    assert unclaimed == billed >= 100


def test_batches_left_together_lose_nothing(clock: VirtualClock) -> None:
    """Five slow consumers of one client, all cancelled at once."""
    simulator = Simulator(latency=0.1)
    taken = []

    async def consume(client: OneAutoClient, start: int) -> None:
        async with client.batch(range(start, start + 100)) as batch:
            async for outcome in batch:
                taken.append(outcome)
                await asyncio.sleep(1000)

    async def main() -> int:
        async with OneAutoClient.simulated(simulator, clock=clock, max_concurrency=10) as client:
            consumers = [asyncio.create_task(consume(client, 1000 * number)) for number in range(5)]
            await asyncio.sleep(30)
            for task in consumers:
                task.cancel()
            await asyncio.gather(*consumers, return_exceptions=True)
            await asyncio.sleep(1)
            return len(client.unclaimed)

    unclaimed = clock.run(main())

    assert len(taken) + unclaimed == simulator.total_billed > 50


def test_an_answer_that_came_is_not_replaced_by_a_doubt(clock: VirtualClock) -> None:
    """The deadline reported five in doubt; the answers came; leaving the batch does not undo that."""
    simulator = Simulator(latency=1)

    async def main() -> tuple[Any, ...]:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            async with client.batch(range(5), deadline=0.5) as batch:
                await anext(batch)
                await asyncio.sleep(2)
            return client.unclaimed

    assert [type(outcome) for outcome in clock.run(main())] == [Found] * 5


def test_a_deadline_ends_a_batch_whose_input_never_does(clock: VirtualClock) -> None:
    """An async iterable that has gone silent is not waited for."""

    async def ids() -> AsyncIterator[int]:
        for number in range(5):
            yield number
        await asyncio.sleep(10_000)

    async def main() -> tuple[int, float]:
        async with OneAutoClient.simulated(clock=clock) as client:
            return len(await client.lookup_many(ids(), deadline=2)), clock.monotonic()

    count, now = clock.run(main())

    assert count == 5
    assert now == pytest.approx(2.0)


def test_a_deadline_ends_a_batch_whose_input_falls_silent_afterwards(clock: VirtualClock) -> None:
    """The feeder waited for a slot when it came, and reads on."""

    async def ids() -> AsyncIterator[int]:
        for number in range(3):
            yield number
        await asyncio.sleep(10_000)

    async def main() -> tuple[list[Outcome[Any]], float]:
        async with OneAutoClient.simulated(Simulator(latency=60), clock=clock) as client:
            outcomes = await client.lookup_many(ids(), concurrency=1, deadline=2)
            return outcomes, clock.monotonic()

    outcomes, now = clock.run(main())

    assert [type(outcome) for outcome in outcomes] == [InDoubt, NotSent, NotSent]
    assert now == pytest.approx(2.0)


def test_a_stop_during_a_back_off_keeps_an_earlier_doubt(clock: VirtualClock) -> None:
    """With resends allowed, a lookup given up between two attempts may have been charged by the first."""
    simulator = Simulator()

    async def main() -> list[Any]:
        policy = RetryPolicy(resend_in_doubt=50)
        async with OneAutoClient.simulated(simulator, clock=clock, retry=policy) as client:
            return await client.lookup_many(["SIM-504"], deadline=1)

    (outcome,) = clock.run(main())

    assert isinstance(outcome, InDoubt)
    assert outcome.receipt.attempts == simulator.requests["SIM-504"]


@asynchronous
async def test_leaving_early_buys_nothing_more_whatever_the_input_does() -> None:
    """An iterable that swallows the cancellation brings one id more, which is not asked for."""
    simulator = Simulator(latency=0.02)

    async def stubborn() -> AsyncIterator[int]:
        for number in range(30):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            yield number

    async with OneAutoClient.simulated(simulator) as client:
        async with client.batch(stubborn()) as batch:
            async for _ in batch:
                break
            sent = simulator.requests.total()
        await asyncio.sleep(0.1)

    assert simulator.requests.total() == sent


def test_a_deadline_is_kept_while_every_slot_of_the_client_is_taken(clock: VirtualClock) -> None:
    """Whatever holds them, the batch ends, and says of each id that it was not sent."""
    simulator = Simulator()
    simulator.fail_next(2, 503, retry_after="60")

    async def main() -> tuple[list[Outcome[Any]], float]:
        async with OneAutoClient.simulated(simulator, clock=clock, max_concurrency=2) as client:
            held = [asyncio.ensure_future(client.lookup(number)) for number in ("a", "b")]
            await asyncio.sleep(0.1)
            began = clock.monotonic()
            outcomes = await client.lookup_many(range(10), deadline=1.0)
            took = clock.monotonic() - began
            await asyncio.gather(*held)
            return outcomes, took

    outcomes, took = clock.run(main())
    assert took == pytest.approx(1.0)
    assert len(outcomes) == 10
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, NotSent)} == {NotSentReason.DEADLINE}


@asynchronous
async def test_a_batch_of_a_client_that_is_not_open_is_refused() -> None:
    """A batch needs its client to be opened first, and raises `ClientClosedError` otherwise."""
    client = OneAutoClient.simulated()
    with pytest.raises(ClientClosedError, match="not open"):
        await client.lookup_many(["1"])


@asynchronous
async def test_who_joins_a_batch_has_no_place_in_its_input() -> None:
    """A single lookup's outcome has no index, whoever began it."""
    async with OneAutoClient.simulated(Simulator(latency=0.02)) as client:
        batch = asyncio.ensure_future(client.lookup_many(["x", "y", "z"]))
        await asyncio.sleep(0.005)
        outcome = await client.lookup("z")
        await batch

    assert outcome.index is None
    assert outcome.receipt.source is Source.JOINED


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("ordered", [False, True])
def test_eager_tasks_change_nothing(ordered: bool) -> None:
    """Under a task factory that runs tasks at once, every id is answered, through an outage too."""
    simulator = Simulator(latency=0.001)

    async def main() -> list[Outcome[Any]]:
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  # not on 3.11
        async with OneAutoClient.simulated(simulator, rate_limit=RateLimit(500, 5)) as client:
            await client.lookup("first")
            simulator.fail_next(8, 503)
            async with client.batch(range(60), ordered=ordered) as batch:
                return [outcome async for outcome in batch]

    outcomes = asyncio.run(asyncio.wait_for(main(), 20.0))
    assert sum(isinstance(outcome, Found) for outcome in outcomes) == 60


@asynchronous
async def test_leaving_early_leaves_no_task() -> None:
    """Not the feeder, not a lookup, not the async generator that was read."""
    closed = False

    async def ids() -> AsyncIterator[int]:
        nonlocal closed
        try:
            for number in range(1000):
                yield number
        finally:
            closed = True

    async with OneAutoClient.simulated() as client:
        async with client.batch(ids(), concurrency=5) as batch:
            async for _ in batch:
                break
    assert closed
    assert [task for task in asyncio.all_tasks() if "oneauto" in task.get_name()] == []


@asynchronous
async def test_a_fault_in_the_input_is_raised() -> None:
    """An iterable that fails ends the batch loudly."""

    def ids() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    async with OneAutoClient.simulated() as client:
        with pytest.raises(ZeroDivisionError):
            await client.lookup_many(ids())


@asynchronous
async def test_a_fault_of_one_lookup_ends_the_batch_loudly() -> None:
    """An exception that is a bug is raised by the batch and not turned into an outcome."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    async with OneAutoClient(CANARY_KEY, transport=httpx.MockTransport(broken)) as client:
        with pytest.raises(ZeroDivisionError):
            await client.lookup_many(range(10))


@asynchronous
async def test_closing_the_client_ends_its_batches() -> None:
    """Every id still gets an outcome; those not sent yet say that the client was closed."""
    client = OneAutoClient.simulated(Simulator(latency=0.01))
    await client.__aenter__()
    async with client.batch(range(100), concurrency=5) as batch:
        outcomes = [await anext(batch)]
        await client.aclose()
        outcomes += [outcome async for outcome in batch]

    assert len(outcomes) == 100
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, NotSent)} == {NotSentReason.CLOSED}


@asynchronous
async def test_a_batch_is_used_inside_async_with() -> None:
    """Iterating one that was not entered says how to use it."""
    async with OneAutoClient.simulated() as client:
        with pytest.raises(RuntimeError, match="async with"):
            await anext(client.batch([1]))


async def _grown_by(count: int) -> int:
    """Return by how many bytes memory grows, at its peak, when so many ids are streamed in process."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=ANSWER))
    async with OneAutoClient(CANARY_KEY, transport=transport) as client:
        await client.lookup_many(range(200), deduplicate=False)
        tracemalloc.start()
        async with client.batch(iter(range(count)), deduplicate=False) as batch:
            async for _ in batch:
                pass
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return grown


@asynchronous
@pytest.mark.parametrize("count", [300, pytest.param(1_500, marks=pytest.mark.slow)])
async def test_memory_does_not_grow_with_the_input(count: int) -> None:
    """Four times as many ids take no more."""
    assert await _grown_by(4 * count) < 1.5 * await _grown_by(count) + 200_000


# Ends that are easily got wrong.


def test_an_input_that_raises_a_cancellation_of_its_own_is_not_taken_for_complete(clock: VirtualClock) -> None:
    """A producer that was cancelled: the ids behind it would be lost without a word."""

    async def main() -> None:
        producers = [asyncio.create_task(asyncio.sleep(number, str(number))) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        producers[1].cancel()
        await asyncio.wait(producers)
        async with OneAutoClient.simulated(clock=clock) as client:
            with pytest.raises(RuntimeError, match="some may be missing") as raised:
                await client.lookup_many(producer.result() for producer in producers)
            assert isinstance(raised.value.__cause__, asyncio.CancelledError)

    clock.run(main())


def test_whoever_waits_for_an_outcome_is_told_when_the_block_is_left(clock: VirtualClock) -> None:
    """Another task, and the input has been read to its end."""

    async def main() -> list[Any]:
        async with OneAutoClient.simulated(Simulator(latency=10), clock=clock) as client:
            async with client.batch([1, 2]) as batch:
                waiting = asyncio.create_task(_all_of(batch))
                await asyncio.sleep(1)
            async with asyncio.timeout(5):
                return await waiting

    assert clock.run(main()) == []


async def _all_of(batch: Batch[Any]) -> list[Outcome[Any]]:
    return [outcome async for outcome in batch]


def test_an_outcome_that_was_given_back_is_not_handed_out_as_well(clock: VirtualClock) -> None:
    """The charge is told once: by the lookup that takes it from ``unclaimed``."""
    simulator = Simulator(latency=0.1)

    async def main() -> tuple[list[Any], Outcome[Any]]:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            async with client.batch([1, 2]) as batch:
                await anext(batch)
                await asyncio.sleep(1)
            return await _all_of(batch), await client.lookup(2)

    afterwards, taken = clock.run(main())

    assert afterwards == []
    assert taken.receipt.billing is Billing.BILLED
    assert simulator.total_billed == 2


async def _take_slowly(batch: Batch[Any]) -> None:
    async with batch:
        async for _ in batch:
            await asyncio.sleep(60)


def test_after_a_fault_nothing_more_is_sent(clock: VirtualClock) -> None:
    """However long the consumer takes to hear of it."""
    simulator = Simulator(latency=0.1)

    class Failing(MemoryLedger):
        def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
            if simulator.total_billed > 20:
                counted.append(simulator.requests.total())
                raise LedgerError("the disk is full")
            return super().settle(claim, settlement)

    async def main() -> None:
        ledger = Failing(clock=clock)
        async with OneAutoClient.simulated(
            simulator, ledger=ledger, clock=clock, rate_limit=RateLimit(100, 1)
        ) as client:
            with pytest.raises(LedgerError):
                await _take_slowly(client.batch(range(200), concurrency=30))

    counted: list[int] = []
    clock.run(main())

    assert simulator.requests.total() == counted[0]


def test_after_a_fault_nothing_more_is_read_from_an_input_that_swallows_cancellations(clock: VirtualClock) -> None:
    """It would be asked for as well."""
    simulator = Simulator(latency=0.1)

    class FailsOnce(MemoryLedger):
        def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
            if not failed:
                failed.append(simulator.requests.total())
                raise LedgerError("the disk is full")
            return super().settle(claim, settlement)

    async def ids() -> AsyncIterator[int]:
        for number in range(60):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01 if number < 5 else 1)
            yield number

    async def main() -> None:
        async with OneAutoClient.simulated(simulator, ledger=FailsOnce(clock=clock), clock=clock) as client:
            with pytest.raises(LedgerError):
                await _take_slowly(client.batch(ids(), concurrency=30))

    failed: list[int] = []
    clock.run(main())

    assert simulator.requests.total() <= failed[0] + 1


def test_a_deadline_that_comes_after_everything_was_answered_stops_nothing(clock: VirtualClock) -> None:
    """The consumer was slow, and the service was not."""

    async def main() -> Any:
        async with OneAutoClient.simulated(clock=clock) as client, client.batch([1, 2, 3], deadline=5) as batch:
            async for _ in batch:
                await asyncio.sleep(3)
            return batch.summary

    done = clock.run(main())

    assert (done.total, done.found, done.stopped) == (3, 3, None)


def test_a_cancelled_lookup_many_leaves_no_doubt_for_what_is_still_to_come(clock: VirtualClock) -> None:
    """At its deadline it was reported in doubt; the lookup that asks again joins the request under way."""
    simulator = Simulator(latency=10)

    async def ids() -> AsyncIterator[int]:
        yield 1
        with suppress(asyncio.CancelledError):  # reads on after the deadline
            await asyncio.sleep(1000)
        await asyncio.sleep(1000)

    async def main() -> tuple[Outcome[Any], int]:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            many = asyncio.create_task(client.lookup_many(ids(), deadline=1))
            await asyncio.sleep(2)
            many.cancel()
            await asyncio.wait([many])
            return await client.lookup(1), simulator.requests.total()

    outcome, requests = clock.run(main())

    assert isinstance(outcome, Found)
    assert requests == 1


def test_endpoints_without_number_make_the_client_forget_no_flight_and_no_answer(clock: VirtualClock) -> None:
    """One made anew for each call is another endpoint each time; that of everyone else is the same as before."""
    simulator = Simulator(latency=10)

    async def main() -> tuple[int, int]:
        async with OneAutoClient.simulated(simulator, clock=clock, rate_limit=RateLimit(1000, 1000)) as client:
            left = asyncio.create_task(client.lookup(7))
            await asyncio.sleep(1)
            left.cancel()
            joined = asyncio.create_task(client.lookup(8))
            others = [
                client.lookup(number, endpoint=attrs.evolve(VAN_BIDIRECTIONAL_CHARGING, converter=make_converter()))
                for number in range(100, 200)
            ]
            await asyncio.sleep(1)
            await asyncio.gather(*others, joined, client.lookup(8))
            await client.lookup(7)
            return simulator.requests["7"], simulator.requests["8"]

    assert clock.run(main()) == (1, 1)


def test_an_outcome_that_was_seen_already_does_not_change(clock: VirtualClock) -> None:
    """The batch that takes it from ``unclaimed`` hands out another, with its place in the input."""

    async def main() -> tuple[Outcome[Any], list[Outcome[Any]]]:
        async with OneAutoClient.simulated(Simulator(latency=1), clock=clock) as client:
            left = asyncio.create_task(client.lookup(1))
            await asyncio.sleep(0.5)
            left.cancel()
            await asyncio.sleep(1)
            (seen,) = client.unclaimed
            return seen, await client.lookup_many([2, 1])

    seen, outcomes = clock.run(main())

    assert seen.index is None
    assert outcomes[1] == attrs.evolve(seen, index=1)


def test_of_two_answers_to_an_id_that_nobody_took_the_better_one_is_kept(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a doubt in place of an answer; the other is in the log, for it may have been paid for."""
    simulator = Simulator(latency=1)

    async def main() -> tuple[Outcome[Any], ...]:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            async with client.batch([1, 1], deduplicate=False, concurrency=1):
                await asyncio.sleep(0.5)
                simulator.fail_next(1, 504)
                await asyncio.sleep(5)
            return client.unclaimed

    assert [type(outcome) for outcome in clock.run(main())] == [Found]
    assert caplog.text.count("dropped an answer that may have been paid for") == 1

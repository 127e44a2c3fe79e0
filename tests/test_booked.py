"""Lookups under a ledger: what is kept is served, what is bought is written down, and what is in doubt is held."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from support.raw import ANSWER, CANARY_KEY, RawServer, answers, answers_in_turn, breaks_off, http, never_answers

from oneauto_async import (
    CAR_BIDIRECTIONAL_CHARGING,
    VAN_BIDIRECTIONAL_CHARGING,
    Billing,
    Budget,
    ClientClosedError,
    ConfigurationError,
    Endpoint,
    Failed,
    Found,
    InDoubt,
    InDoubtError,
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
)
from oneauto_async._bookkeeping import host_of
from oneauto_async._flow.calls import Grant
from oneauto_async.events import AttemptEnded, Event, GateShut, LookupEnded, QuotaUsedUp
from oneauto_async.ledger import (
    Busy,
    Claim,
    Entry,
    Ledger,
    MemoryLedger,
    Settlement,
    SqliteLedger,
    Standing,
    State,
    Terms,
)
from oneauto_async.ledger.records import checksum_of, headers_text
from oneauto_async.testing import Simulator, VirtualClock
from oneauto_async.transport import HTTP11Transport

asynchronous = pytest.mark.asyncio


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """One of each kind, in turn."""
    return MemoryLedger() if request.param == "memory" else SqliteLedger(tmp_path / "test.ledger")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.ledger"


def client_of(server: RawServer, ledger: Ledger, **options: Any) -> OneAutoClient:
    return OneAutoClient(CANARY_KEY, base_url=server.base_url, ledger=ledger, **options)


async def entries_in(ledger: Ledger) -> list[Entry]:
    """Return all entries, also of a ledger that is closed."""
    was_open = ledger.is_open
    await ledger.open()
    try:
        return [entry async for entry in ledger.entries()]
    finally:
        if not was_open:
            await ledger.aclose()


# Serving what is kept.


@asynchronous
async def test_a_second_run_costs_nothing(ledger: Ledger) -> None:
    """The same answers come from the ledger, and nothing is sent (D01)."""
    simulator = Simulator()
    for run in range(2):
        async with OneAutoClient.simulated(simulator, ledger=ledger) as client, client.batch(range(50)) as batch:
            values = {outcome.evdb_vehicle_id: outcome.unwrap() async for outcome in batch}
        assert len(values) == 50
        assert (batch.summary.from_ledger, batch.summary.billed, batch.summary.spent) == (
            (50, 0, 0) if run else (0, 50, 50)
        )

    assert simulator.requests.total() == simulator.total_billed == 50


@asynchronous
async def test_what_is_served_says_so(server: RawServer, ledger: Ledger) -> None:
    """Source, cost, and the facts of the request that paid for it."""
    server.on("1", answers(http(200, ANSWER, x_amzn_RequestId="request-7")))
    async with client_of(server, ledger) as client:
        bought = await client.lookup(1)
        served = await client.lookup(1)

    assert (bought.receipt.source, bought.receipt.billing) == (Source.NETWORK, Billing.BILLED)
    receipt = served.receipt
    assert (receipt.source, receipt.billing, receipt.attempts) == (Source.LEDGER, Billing.NOT_BILLED, 0)
    assert (receipt.status, receipt.request_id, served.raw) == (200, "request-7", ANSWER)
    assert served.unwrap() == bought.unwrap()


@asynchronous
async def test_a_refresh_pays_once_more(ledger: Ledger) -> None:
    """And whoever asks for it at the same time shares it (D21)."""
    simulator = Simulator()
    async with OneAutoClient.simulated(simulator, ledger=ledger) as client:
        await client.lookup(1)
        first, second = await asyncio.gather(client.lookup(1, refresh=True), client.lookup(1, refresh=True))
        await client.bidirectional_charging(1)

        assert simulator.bills == {"1": 2}
        assert {first.receipt.source, second.receipt.source} == {Source.SIMULATOR, Source.JOINED}
        await client.bidirectional_charging(1, refresh=True)
        await client.lookup_many([1, 1], refresh=True)
    assert simulator.bills == {"1": 4}
    assert [entry.state for entry in await entries_in(ledger)] == [State.ANSWERED] * 4


def test_an_answer_older_than_wished_is_bought_again(clock: VirtualClock) -> None:
    """By the time of day of the ledger's clock."""
    simulator, ledger = Simulator(), MemoryLedger(clock=clock)

    async def main() -> None:
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            await client.lookup(1)
            await clock.sleep(100)
            assert (await client.lookup(1, max_age=200)).receipt.source is Source.LEDGER
            assert (await client.lookup(1, max_age=50)).receipt.source is Source.SIMULATOR
            async with client.batch([1], max_age=50) as batch:
                assert [outcome.receipt.source async for outcome in batch] == [Source.LEDGER]

    clock.run(main())
    assert simulator.bills == {"1": 2}


def test_no_data_is_asked_for_again_after_a_day(clock: VirtualClock) -> None:
    """204 and 206 have an age of their own."""
    simulator, ledger = Simulator(), MemoryLedger(clock=clock)

    async def main() -> list[str]:
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            seen = []
            for _ in range(3):
                seen += [
                    f"{type(o).__name__} {o.receipt.source}" for o in await client.lookup_many(["SIM-204", "SIM-206"])
                ]
                await clock.sleep(50_000)
            return seen

    assert clock.run(main()) == [
        *("NoData simulator", "Found simulator"),
        *("NoData ledger", "Found ledger"),
        *("NoData simulator", "Found simulator"),
    ]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (http(200, b'{"success":false,"error":"no"}'), "ApiFailureError"),
        (http(200, b"not json"), "MalformedAnswerError"),
        (http(200, b'{"success":true,"result":{"vehicle_to_load_power_output_kw":"11"}}'), "SchemaMismatchError"),
        (http(200, ANSWER)[:-20], "TruncatedAnswerError"),
    ],
)
@asynchronous
async def test_a_paid_answer_that_cannot_be_used_is_not_bought_again(
    server: RawServer, ledger: Ledger, response: bytes, error: str
) -> None:
    """It is kept as it came, and fails each time in the same way, until it is refreshed."""
    broken = breaks_off(response, billed=True) if error.startswith("Trunc") else answers(response)
    server.on("1", broken)
    async with client_of(server, ledger) as client:
        first, second = await client.lookup(1), await client.lookup(1)
        assert server.bills == {"1": 1}
        assert isinstance(first, Failed)
        assert isinstance(second, Failed)
        assert type(first.error).__name__ == type(second.error).__name__ == error
        assert (second.raw, second.receipt.source) == (first.raw, Source.LEDGER)
        server.on("1", answers())
        assert isinstance(await client.lookup(1, refresh=True), Found)
        assert isinstance(await client.lookup(1), Found)


@attrs.frozen
class _Renamed:
    vehicle_to_load_power_output_kw: str


@asynchronous
async def test_kept_answers_are_structured_anew(server: RawServer, ledger: Ledger) -> None:
    """Today's class over yesterday's bytes: a mistake in it costs nothing to mend."""
    wrong = Endpoint(VAN_BIDIRECTIONAL_CHARGING.path, VAN_BIDIRECTIONAL_CHARGING.parameter, _Renamed)
    async with client_of(server, ledger) as client:
        assert isinstance(await client.lookup(1, endpoint=wrong), Failed)
        assert isinstance(await client.lookup(1), Found)
    assert server.bills == {"1": 1}


@asynchronous
async def test_a_free_answer_that_cannot_be_used_is_asked_for_again(server: RawServer, ledger: Ledger) -> None:
    """A broken 206 costs nothing, so the next lookup sends a request, and keeps what that brings."""
    server.on("1", answers_in_turn(http(206, b"not json"), http(206, ANSWER)))
    async with client_of(server, ledger) as client:
        assert isinstance(await client.lookup(1), Failed)
        found = await client.lookup(1)
        assert isinstance(found, Found)
        assert found.partial
        assert (await client.lookup(1)).receipt.source is Source.LEDGER


@asynchronous
async def test_a_free_answer_that_was_waited_for_and_cannot_be_used_is_asked_for_again(
    server: RawServer, ledger: Ledger
) -> None:
    """Once, by whoever waited for another's purchase of it."""
    server.on("1", answers(http(206, b"not json"), delay=0.05))
    async with ledger:  # type: ignore[attr-defined]  # both kinds can be opened so
        async with client_of(server, ledger) as one, client_of(server, ledger) as other, asyncio.timeout(10):
            outcomes = await asyncio.gather(one.lookup(1), other.lookup(1))
    assert [type(outcome) for outcome in outcomes] == [Failed, Failed]
    assert server.requests == {"1": 2}


@pytest.mark.parametrize("status", [202, 400, 429, 500, 503])
def test_what_cost_nothing_is_asked_for_again(clock: VirtualClock, status: int) -> None:
    """Each time, and no budget is touched."""
    simulator, ledger = Simulator(), MemoryLedger(clock=clock)

    async def main() -> tuple[Outcome[Any], Outcome[Any]]:
        retry = RetryPolicy(attempts=1, poll_total=0)
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock, retry=retry) as client:
            simulator.fail_next(1, status) if status >= 300 else None
            first = await client.lookup(1 if status >= 300 else "SIM-202-FOREVER")
            return first, await client.lookup(1)

    first, second = clock.run(main())
    assert isinstance(first, Failed)
    assert isinstance(second, Found)
    assert clock.run(_spent(ledger, "simulator.invalid")) == (1, 0)


async def _spent(ledger: Ledger, host: str) -> tuple[int, int]:
    spending = await ledger.spending("default", host)
    return spending.billed, spending.in_doubt + spending.under_way


@asynchronous
async def test_a_plan_does_not_count_a_free_answer_that_turns_out_to_be_of_no_use(
    server: RawServer, ledger: Ledger
) -> None:
    """That shows only when it is read; then it is asked for again, and may be charged."""
    server.on("1", answers_in_turn(http(206, b"not json"), http(200, ANSWER)))
    async with client_of(server, ledger) as client:
        await client.lookup(1)
        plan = await client.plan([1])
        outcome = await client.lookup(1)

    assert (plan.answered, plan.most_billed) == (1, 0)
    assert outcome.receipt.billing is Billing.BILLED


@asynchronous
async def test_accounts_hosts_and_endpoints_are_kept_apart(server: RawServer, ledger: Ledger) -> None:
    """A sandbox answer is never served for a live one (D13)."""
    async with ledger:  # type: ignore[attr-defined]  # both kinds can be opened so
        async with client_of(server, ledger) as client:
            await client.lookup(1)
            await client.lookup(1, endpoint=CAR_BIDIRECTIONAL_CHARGING)
        async with client_of(server, ledger, account="other") as client:
            await client.lookup(1)
        async with OneAutoClient(CANARY_KEY, base_url=f"{server.base_url}/prefix", ledger=ledger) as client:
            await client.lookup(1)
    assert server.bills == {"1": 4}


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.oneautoapi.com", "api.oneautoapi.com"),
        ("https://API.OneAutoApi.com:443", "api.oneautoapi.com"),
        ("https://sandbox.oneautoapi.com", "sandbox.oneautoapi.com"),
        ("http://127.0.0.1:8080/prefix", "127.0.0.1:8080/prefix"),
        ("http://localhost:80", "localhost:80"),
        ("https://[::1]:8443", "[::1]:8443"),
    ],
)
def test_what_a_service_is_called(url: str, host: str) -> None:
    """Spellings of one base URL give one host: in lower case, without a default port, with any path."""
    assert host_of(url) == host


# In doubt.


@asynchronous
async def test_what_is_in_doubt_is_held(server: RawServer, ledger: Ledger) -> None:
    """Over runs, until somebody says otherwise."""
    server.on("1", breaks_off(billed=True))
    async with client_of(server, ledger) as client:
        assert isinstance(await client.lookup(1), InDoubt)
    server.on("1", answers())
    async with client_of(server, ledger) as client:
        for refresh in (False, True):
            held = await client.lookup(1, refresh=refresh)
            assert isinstance(held, InDoubt)
            assert (held.receipt.source, held.receipt.billing) == (Source.LEDGER, Billing.UNKNOWN)
            assert isinstance(held.error, InDoubtError)
            assert not held.error.retryable
        assert client.unclaimed == ()
    assert server.requests == {"1": 1}


@asynchronous
async def test_a_doubt_is_sent_again_by_policy(server: RawServer, ledger: Ledger) -> None:
    """Once per lookup, whether the doubt is of this run or an earlier one; both may be charged, and both count."""
    server.on("1", breaks_off(billed=True))
    async with client_of(server, ledger, retry=RetryPolicy(resend_in_doubt=1)) as client:
        outcome = await client.lookup(1)
        assert (type(outcome), outcome.receipt.doubts, server.requests["1"]) == (InDoubt, 2, 2)
        outcome = await client.lookup(1)
        assert (type(outcome), outcome.receipt.doubts, server.requests["1"]) == (InDoubt, 1, 3)
        server.on("1", answers())
        outcome = await client.lookup(1)
        assert (type(outcome), outcome.receipt.doubts) == (Found, 0)
        assert (await client.lookup(1)).receipt.source is Source.LEDGER
    assert server.requests["1"] == server.bills["1"] == 4
    assert [entry.state for entry in await entries_in(ledger)] == [*[State.IN_DOUBT] * 3, State.ANSWERED]


@pytest.mark.parametrize(("reply", "reason"), [(http(403), "access denied"), (http(404), "wrong route")])
@asynchronous
async def test_what_is_wrong_for_every_id_stops_a_batch_of_doubts_as_well(
    server: RawServer, ledger: Ledger, reply: bytes, reason: str
) -> None:
    """A key that is refused is not shown once for each of them."""
    for number in range(12):
        server.on(str(number), breaks_off(billed=True))
    async with client_of(server, ledger) as client:
        await client.lookup_many(range(12))
    for number in range(12):
        server.on(str(number), answers(reply))
    retry = RetryPolicy(resend_in_doubt=1)
    async with client_of(server, ledger, retry=retry) as client, client.batch(range(12), concurrency=1) as batch:
        outcomes = [outcome async for outcome in batch]
    assert (len(outcomes), str(batch.summary.stopped)) == (12, reason)
    assert server.requests.total() == 12 + 1


@asynchronous
async def test_requests_that_were_held_back_are_not_counted_as_made(server: RawServer, ledger: Ledger) -> None:
    """The entry says what the vendor's log says."""
    asked: list[str] = []

    async def unavailable_twice(*details: Any) -> None:
        asked.append("")
        reply = http(503, b"", Retry_After="0.1") if len(asked) <= 2 else http(200, ANSWER)
        await answers(reply, delay=0.02)(*details)

    for number in range(5):
        server.on(str(number), unavailable_twice)
    transport = HTTP11Transport(max_connections=1)
    async with client_of(server, ledger, transport=transport) as client:
        outcomes = await asyncio.gather(*(client.lookup(number) for number in range(5)))
    kept = {entry.key.vehicle_id: entry.attempts for entry in await entries_in(ledger)}
    assert kept == {outcome.evdb_vehicle_id: outcome.receipt.attempts for outcome in outcomes}


@pytest.mark.parametrize("reply", [http(400), http(503)], ids=["refused", "unavailable"])
@asynchronous
async def test_a_doubt_stays_one_if_the_request_sent_in_its_place_is_free(
    server: RawServer, ledger: Ledger, reply: bytes
) -> None:
    """The earlier one may have been charged all the same; it is counted once."""
    server.on("1", breaks_off(billed=True))
    async with client_of(server, ledger) as client:
        await client.lookup(1)
    server.on("1", answers(reply))
    retry = RetryPolicy(resend_in_doubt=1, attempts=1)
    async with client_of(server, ledger, retry=retry) as client, client.batch([1]) as batch:
        (outcome,) = [outcome async for outcome in batch]
    assert isinstance(outcome, InDoubt)
    assert not outcome.error.retryable
    assert (outcome.receipt.billing, outcome.receipt.doubts, outcome.receipt.attempts) == (Billing.UNKNOWN, 0, 1)
    assert (batch.summary.unknown, batch.summary.spent) == (1, 0)
    assert [entry.state for entry in await entries_in(ledger)] == [State.IN_DOUBT, State.FAILED]


@asynchronous
async def test_a_doubt_that_no_budget_allows_to_send_again_is_still_told(server: RawServer, ledger: Ledger) -> None:
    """It has used up the budget itself."""
    server.on("1", breaks_off(billed=True))
    retry, budget = RetryPolicy(resend_in_doubt=1), Budget(max_billed=1)
    async with client_of(server, ledger) as client:
        await client.lookup(1)
    async with client_of(server, ledger, retry=retry, budget=budget) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert outcome.receipt.billing is Billing.UNKNOWN
    assert "not sent again: budget" in str(outcome.error)
    assert server.requests["1"] == 1


@asynchronous
async def test_a_free_answer_that_could_not_be_written_down_is_on_the_error_alone(
    server: RawServer, path: Path
) -> None:
    """The ledger's error carries its bytes, and `unclaimed` lists only paid answers."""
    server.on("1", answers(http(206, ANSWER), delay=0.2))
    async with client_of(server, SqliteLedger(path)) as client:
        looking = asyncio.create_task(client.lookup(1))
        await asyncio.sleep(0.1)
        path.rename(path.with_suffix(".away"))
        with pytest.raises(LedgerError, match="was free, and is on this error") as raised:
            await looking
        path.with_suffix(".away").rename(path)
        assert raised.value.raw == ANSWER
        assert client.unclaimed == ()


@asynchronous
async def test_every_request_in_doubt_counts_as_spent(server: RawServer, ledger: Ledger) -> None:
    """Also those of one lookup, and of one that was answered in the end; what was held before does not."""
    server.on("1", breaks_off(billed=True))
    server.on("2", answers_in_turn(http(504), http(200, ANSWER)))
    async with client_of(server, ledger) as client:
        await client.lookup(1)
    async with client_of(server, ledger, retry=RetryPolicy(resend_in_doubt=1)) as client:
        async with client.batch([1, 2]) as batch:
            doubts = {outcome.evdb_vehicle_id: outcome.receipt.doubts async for outcome in batch}
    async with client_of(server, ledger) as client, client.batch([1, 2]) as held:
        assert [outcome.receipt.doubts async for outcome in held] == [0, 0]
    assert (doubts, batch.summary.billed, batch.summary.unknown, batch.summary.spent) == ({"1": 1, "2": 1}, 1, 1, 3)
    assert (held.summary.unknown, held.summary.spent) == (1, 0)


@asynchronous
async def test_a_doubt_that_is_resolved_by_hand_is_bought_again(server: RawServer, ledger: Ledger) -> None:
    """Whatever it was found to have cost."""
    server.on("1", breaks_off())
    async with client_of(server, ledger) as client:
        await client.lookup(1)
        (entry,) = await entries_in(ledger)
        await ledger.resolve(entry.seq, billed=False)
        server.on("1", answers())
        assert isinstance(await client.lookup(1), Found)


@pytest.mark.parametrize("status", [201, 502, 504])
@asynchronous
async def test_a_reply_that_proves_nothing_is_kept(server: RawServer, ledger: Ledger, status: int) -> None:
    """With its bytes and the request id, for whoever reconciles."""
    server.on("1", answers(http(status, b'{"message":"?"}', x_amzn_RequestId="request-9")))
    async with client_of(server, ledger) as client:
        await client.lookup(1)
        assert isinstance(await client.lookup(1), InDoubt)
    (entry,) = await entries_in(ledger)
    assert (entry.state, entry.status, entry.request_id, entry.raw) == (
        State.IN_DOUBT,
        status,
        "request-9",
        b'{"message":"?"}',
    )


# Before anything is sent, and before anyone is told.


@asynchronous
async def test_it_is_written_down_before_it_is_sent_and_before_it_is_told(server: RawServer, path: Path) -> None:
    """When the request arrives the file says ``sent``; when the caller has the answer, ``answered``."""
    seen: list[Any] = []

    async def look(server: RawServer, asked: Any, reader: Any, writer: Any) -> None:
        seen.append(_state_in(path))
        await answers()(server, asked, reader, writer)

    server.on("1", look)
    async with client_of(server, SqliteLedger(path)) as client:
        await client.lookup(1)
        seen.append(_state_in(path))
    assert seen == [[("1", "sent")], [("1", "answered")]]


def _state_in(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as stranger:
        return stranger.execute("SELECT vehicle_id, state FROM lookups").fetchall()


@asynchronous
async def test_bytes_are_kept_before_they_are_read(
    server: RawServer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in our own reading of an answer does not lose it."""

    def broken(*args: Any) -> Any:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("oneauto_async._lookup.classify", broken)
        async with client_of(server, ledger) as client:
            with pytest.raises(RuntimeError, match="a fault of ours"):
                await client.lookup(1)
    async with client_of(server, ledger) as client:
        assert (await client.lookup(1)).unwrap().vehicle_to_grid_dc.power_output_kw == 11.0
    assert server.bills == {"1": 1}


@asynchronous
async def test_the_key_is_nowhere_in_the_file(server: RawServer, path: Path) -> None:
    """Though the service echoes it (D16)."""
    echo = http(200, ANSWER[:-1] + b',"key":"' + CANARY_KEY.encode() + b'"}', x_echo=CANARY_KEY)
    server.on("1", answers(echo))
    server.on("2", answers(http(502, CANARY_KEY.encode(), x_echo=CANARY_KEY)))
    async with SqliteLedger(path) as ledger:
        async with client_of(server, ledger) as client:
            await client.lookup_many([1, 2, 3])
        contents = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"evdb_vehicle_id" in contents
    assert CANARY_KEY.encode() not in contents


# Opening and closing.


@asynchronous
async def test_a_client_closes_the_ledger_it_opened(server: RawServer, path: Path) -> None:
    """And leaves alone one that was open."""
    ledger = SqliteLedger(path)
    were_open = []
    async with client_of(server, ledger):
        were_open.append(ledger.is_open)
    were_open.append(ledger.is_open)
    async with ledger:
        async with client_of(server, ledger) as client:
            await client.lookup(1)
        were_open.append(ledger.is_open)
        assert were_open == [True, False, True]
        assert [entry.state for entry in await entries_in(ledger)] == [State.ANSWERED]


@asynchronous
async def test_a_ledger_that_cannot_be_opened_stops_the_client(server: RawServer, tmp_path: Path) -> None:
    """Before the first request, and without a forgotten client (D09)."""
    client = client_of(server, SqliteLedger(tmp_path / "missing" / "test.ledger"))
    with pytest.raises(LedgerError):
        await client.__aenter__()
    with pytest.raises(ClientClosedError):
        await client.lookup(1)
    assert server.connections == 0


@pytest.mark.parametrize("account", ["", " ", "a\nb", None, 5, "x" * 201])
def test_a_label_must_be_readable(account: Any) -> None:
    """It stands in the ledger for people."""
    with pytest.raises(ConfigurationError, match="account"):
        OneAutoClient("key", account=account)


@pytest.mark.parametrize("options", [{"max_age": 0}, {"max_age": "1"}, {"max_age": -1}, {"refresh": 1}])
@asynchronous
async def test_wishes_that_make_no_sense_are_refused(ledger: Ledger, options: dict[str, Any]) -> None:
    """Lookups and batches raise `ConfigurationError` for a wrong ``max_age`` or ``refresh``."""
    async with OneAutoClient.simulated(ledger=ledger) as client:
        with pytest.raises(ConfigurationError):
            await client.lookup(1, **options)
        with pytest.raises(ConfigurationError):
            client.batch([1], **options)


# Cancelling.


@asynchronous
async def test_a_lookup_cancelled_before_it_is_sent_gives_the_id_back(ledger: Ledger) -> None:
    """Its claim is given up at once, so that others can buy the id."""
    async with OneAutoClient.simulated(ledger=ledger, rate_limit=RateLimit(rate=0.1)) as client:
        await client.lookup(1)
        waiting = asyncio.create_task(client.lookup(2))
        await _until(ledger, State.CLAIMED)
        waiting.cancel()
        await asyncio.wait([waiting])
        await _until(ledger, State.FAILED)


async def _until(ledger: Ledger, state: State) -> None:
    """Wait until an entry is in a state."""
    async with asyncio.timeout(10):
        while state not in [entry.state for entry in await entries_in(ledger)]:  # noqa: ASYNC110  # it is in a file
            await asyncio.sleep(0.005)


async def _until_asked(server: RawServer) -> None:
    """Wait until a request has arrived."""
    async with asyncio.timeout(10):
        while not server.in_flight:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.005)


@asynchronous
async def test_a_request_under_way_is_seen_through_and_written_down(server: RawServer, ledger: Ledger) -> None:
    """A lookup cancelled after its request left still ends with its answer in the ledger."""
    server.on("1", answers(delay=0.1))
    async with client_of(server, ledger) as client:
        waiting = asyncio.create_task(client.lookup(1))
        await _until_asked(server)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert [entry.state for entry in await entries_in(ledger)] == [State.ANSWERED]


@asynchronous
async def test_a_closing_that_does_not_wait_leaves_a_doubt(server: RawServer, ledger: Ledger) -> None:
    """A request cut short by closing is in doubt, both to its caller and in the ledger."""
    server.on("1", never_answers())
    async with client_of(server, ledger, timeouts=Timeouts(drain=0)) as client:
        waiting = asyncio.create_task(client.lookup(1))
        await _until_asked(server)
    assert isinstance(await waiting, InDoubt)
    assert [entry.state for entry in await entries_in(ledger)] == [State.IN_DOUBT]


class SlowToSettle(MemoryLedger):
    """A ledger whose disk takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work = asyncio.Event()
        self.go_on = asyncio.Event()
        self._writing: list[asyncio.Future[None]] = []

    def settle(self, *args: Any) -> Any:
        writing = asyncio.ensure_future(self._settle(*args))
        self._writing.append(writing)
        return writing

    async def _settle(self, *args: Any) -> None:
        self.at_work.set()
        await asyncio.shield(asyncio.ensure_future(self.go_on.wait()))
        await super().settle(*args)

    async def flush(self) -> None:
        await self.go_on.wait()


@asynchronous
async def test_an_answer_that_is_being_written_when_the_client_closes_is_no_doubt(server: RawServer) -> None:
    """It has come, and whoever waits gets it."""
    ledger = SlowToSettle()
    client = client_of(server, ledger, timeouts=Timeouts(drain=0))
    async with client:
        waiting = asyncio.create_task(client.lookup(1))
        await ledger.at_work.wait()
        asyncio.get_running_loop().call_later(0.05, ledger.go_on.set)
    outcome = await waiting
    assert isinstance(outcome, Found)
    assert outcome.receipt.billing is Billing.BILLED


@asynchronous
async def test_an_answer_that_is_being_written_holds_up_nobody(server: RawServer) -> None:
    """Its place is free, for the batch and for the client: what it waits for is the disk alone."""
    ledger = SlowToSettle()
    async with client_of(server, ledger, max_concurrency=1) as client, client.batch([1, 2]) as batch:
        await ledger.at_work.wait()
        async with asyncio.timeout(10):
            while not server.requests["2"]:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.005)
        assert batch.summary.total == 0

        ledger.go_on.set()
        outcomes = [outcome async for outcome in batch]
        assert client._boarding._slots._value == batch._slots._value == 1

    assert [type(outcome) for outcome in outcomes] == [Found, Found]


@asynchronous
async def test_a_power_cut_at_any_moment_leaves_no_more_doubts_than_calls_under_way(
    server: RawServer, path: Path
) -> None:
    """What the file says was sent and not answered is looked at all the while."""
    most, ended = 0, asyncio.Event()

    def look() -> int:
        with closing(sqlite3.connect(path)) as file:
            count: int = file.execute("SELECT count(*) FROM lookups WHERE state = 'sent'").fetchone()[0]
            return count

    async def look_on() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, await asyncio.to_thread(look))

    async with client_of(server, SqliteLedger(path), max_concurrency=4) as client:
        watching = asyncio.create_task(look_on())
        assert len(await client.lookup_many(range(300))) == 300
        ended.set()
        await watching

    assert 1 <= most <= 4


@asynchronous
async def test_a_deadline_calls_off_what_waits_for_the_ledger(server: RawServer, ledger: Ledger) -> None:
    """Another has the id for longer than the batch has time."""
    async with ledger:  # type: ignore[attr-defined]  # both kinds can be opened so
        async with client_of(server, ledger) as other, client_of(server, ledger) as client:
            server.on("1", never_answers())
            waiting = asyncio.create_task(other.lookup(1))
            await _until_asked(server)
            async with client.batch([1], deadline=0.1) as batch:
                (outcome,) = [outcome async for outcome in batch]
            waiting.cancel()
            other._flights.cut_short()
    assert isinstance(outcome, NotSent)
    assert outcome.reason is NotSentReason.DEADLINE


# Two clients on one ledger.


@asynchronous
async def test_two_clients_never_buy_an_id_twice(server: RawServer, ledger: Ledger) -> None:
    """Each waits for what the other is buying, and then is served (D05)."""
    async with ledger:  # type: ignore[attr-defined]  # both kinds can be opened so
        async with client_of(server, ledger) as one, client_of(server, ledger) as other:
            outcomes = await asyncio.gather(*(client.lookup_many(range(60)) for client in (one, other)))
    assert set(server.bills.values()) == {1}
    assert all(isinstance(outcome, Found) for found in outcomes for outcome in found)


def test_a_purchase_by_somebody_else_is_not_waited_for_for_ever(clock: VirtualClock) -> None:
    """After the time allowed for a lookup it is told; the batch goes on."""
    ledger = MemoryLedger(clock=clock)

    async def main() -> list[Outcome[Any]]:
        async with (
            OneAutoClient.simulated(ledger=ledger, clock=clock, timeouts=Timeouts(attempt=1000, read=1000)) as other,
            OneAutoClient.simulated(ledger=ledger, clock=clock, retry=RetryPolicy(total=20)) as client,
        ):
            waiting = asyncio.create_task(other.lookup("SIM-SILENT"))
            await asyncio.sleep(1)
            outcomes = await client.lookup_many(["SIM-SILENT", 2])
            waiting.cancel()
            other._flights.cut_short()
            return outcomes

    busy, found = clock.run(main())
    assert isinstance(busy, NotSent)
    assert busy.reason is NotSentReason.BUSY
    assert "somebody else" in str(busy.error)
    assert isinstance(found, Found)


# A ledger that fails.


class Failing(MemoryLedger):
    """A ledger that fails from a given step on."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    async def claim(self, *args: Any, **options: Any) -> Any:
        self._fail("claim")
        return await super().claim(*args, **(options | {"sending": False}))  # in two steps, so that each can fail

    async def mark_sent(self, *args: Any) -> bool:
        self._fail("mark_sent")
        return await super().mark_sent(*args)

    def settle(self, *args: Any) -> Any:
        self._fail("settle")
        return super().settle(*args)

    def _fail(self, step: str) -> None:
        if self.step == step:
            raise LedgerError("the disk is full")


@pytest.mark.parametrize(("step", "least", "most"), [("claim", 0, 0), ("mark_sent", 0, 0), ("settle", 1, 5)])
@asynchronous
async def test_a_ledger_that_fails_ends_a_batch_loudly(server: RawServer, step: str, least: int, most: int) -> None:
    """Nothing more is sent, and what came is not lost: it is where unclaimed answers are."""
    async with client_of(server, Failing(step)) as client:
        with pytest.raises(LedgerError, match="disk is full"):
            await _run(client)
    assert least <= server.requests.total() <= most
    assert len(client.unclaimed) == server.bills.total() == server.requests.total()
    assert all(isinstance(outcome, Found) for outcome in client.unclaimed)


@asynchronous
async def test_the_error_holds_what_could_not_be_written(server: RawServer) -> None:
    """The bytes and what they cost."""
    async with client_of(server, Failing("settle")) as client:
        with pytest.raises(LedgerError) as caught:
            await client.lookup(1)
    error = caught.value
    assert (error.raw, error.billing, error.status) == (ANSWER, Billing.BILLED, 200)


@pytest.mark.parametrize(("step", "billing"), [("claim", Billing.NOT_BILLED), ("settle", Billing.BILLED)])
@asynchronous
async def test_observers_hear_of_the_end_of_a_lookup_that_the_ledger_failed(
    server: RawServer, step: str, billing: Billing
) -> None:
    """And of what it cost; a request that was answered was sent, though nothing is known of the key by it."""
    seen: list[Event] = []
    async with client_of(server, Failing(step), observers=[seen.append]) as client:
        with pytest.raises(LedgerError):
            await client.lookup(1)

    (end,) = [event for event in seen if isinstance(event, LookupEnded)]
    assert (end.evdb_vehicle_id, end.outcome, end.billing) == ("1", "LedgerError", billing)
    attempts = [event.verdict for event in seen if isinstance(event, AttemptEnded)]
    assert attempts == (["CutShort"] if step == "settle" else [])
    assert client.governor.statistics().granted == server.requests["1"]


@asynchronous
async def test_a_ledger_that_fails_before_a_doubt_is_sent_again_leaves_it_a_doubt(server: RawServer) -> None:
    """The error and what is unclaimed tell of the request that may have been charged."""

    class FailsLater(MemoryLedger):
        async def claim(self, *args: Any, **options: Any) -> Any:
            if server.requests["1"]:
                raise LedgerError("the disk is full")
            return await super().claim(*args, **options)

    server.on("1", breaks_off(billed=True))
    async with client_of(server, FailsLater(), retry=RetryPolicy(resend_in_doubt=1)) as client:
        with pytest.raises(LedgerError, match="the disk is full; an earlier request is in doubt") as caught:
            await client.lookup(1)

    (kept,) = client.unclaimed
    assert (caught.value.billing, type(kept), kept.receipt.doubts) == (Billing.UNKNOWN, InDoubt, 1)


@asynchronous
async def test_a_full_disk_stops_a_batch_and_loses_nothing(server: RawServer, path: Path) -> None:
    """The same with a real file; the next run buys only what is not there."""
    ledger = SqliteLedger(path)
    client = client_of(server, ledger)
    await client.__aenter__()
    await _limit_pages(ledger, 30)
    with pytest.raises(LedgerError, match="full"):
        await _run(client)
    with suppress(LedgerError):  # what is owed is tried once more, and may find room in the pages that are left
        await client.aclose()
    paid = server.bills.total()
    kept = [entry for entry in await entries_in(ledger) if entry.state is State.ANSWERED]
    assert 0 < paid < 500
    assert len(kept) + len(client.unclaimed) >= paid
    unclaimed = {outcome.evdb_vehicle_id for outcome in client.unclaimed}
    assert unclaimed | {entry.key.vehicle_id for entry in kept} == set(server.bills)


async def _run(client: OneAutoClient) -> None:
    async with client.batch(range(1000), concurrency=5) as batch:
        async for _ in batch:
            pass


async def _limit_pages(ledger: SqliteLedger, more: int) -> None:
    """Let the file grow by a few pages and no more, as a full disk would."""
    threads = ledger._threads
    assert threads is not None
    assert threads._writer is not None
    connection = threads._writer._connection

    def limit() -> None:
        ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
        connection.execute(f"PRAGMA max_page_count = {pages + more}")

    await asyncio.get_running_loop().run_in_executor(threads._writing, limit)


@asynchronous
async def test_a_damaged_answer_is_told_and_not_served(server: RawServer, path: Path) -> None:
    """Nor bought again by itself; a refresh does (D23)."""
    async with client_of(server, SqliteLedger(path)) as client:
        await client.lookup_many([1, 2])
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute("UPDATE answers SET raw = replace(CAST(raw AS TEXT), 'Announced', 'Announcee') WHERE seq = 1")
    async with client_of(server, SqliteLedger(path)) as client:
        damaged, sound = await client.lookup_many([1, 2])
        assert isinstance(damaged, Failed)
        assert isinstance(damaged.error, LedgerError)
        assert "refresh=True" in str(damaged.error)
        assert isinstance(sound, Found)
        assert server.bills.total() == 2
        assert isinstance(await client.lookup(1, refresh=True), Found)


@pytest.mark.parametrize("status", [200, 204, 206])
@asynchronous
async def test_an_answer_that_is_gone_is_damaged(server: RawServer, path: Path, status: int) -> None:
    """It is not taken for an empty one: what was charged is not bought again, and no data is not made up."""
    server.on("1", answers(http(status, b"" if status == 204 else ANSWER)))
    async with client_of(server, SqliteLedger(path)) as client:
        await client.lookup(1)
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute("DELETE FROM answers")
    async with client_of(server, SqliteLedger(path)) as client:
        gone = await client.lookup(1)
    assert isinstance(gone, Failed)
    assert isinstance(gone.error, LedgerError)
    assert "damaged" in str(gone.error)
    assert server.requests == {"1": 1}


@pytest.mark.parametrize("resealed", [False, True])
@asynchronous
async def test_a_flaw_that_nobody_knows_is_damage(server: RawServer, path: Path, resealed: bool) -> None:
    """Whether the checksum tells it or not."""
    async with client_of(server, SqliteLedger(path)) as client:
        await client.lookup(1)
    (entry,) = await entries_in(SqliteLedger(path))
    checksum = checksum_of(entry.key, entry.status, "SPOILT", headers_text(entry.headers), entry.raw or b"")
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute("UPDATE answers SET flaw = 'SPOILT', checksum = ?", (checksum if resealed else entry.checksum,))
    async with client_of(server, SqliteLedger(path)) as client:
        damaged = await client.lookup(1)
    assert isinstance(damaged, Failed)
    assert isinstance(damaged.error, LedgerError)
    assert server.bills.total() == 1


@pytest.mark.parametrize("damage", ["lookups SET sent_at = 1e300", "answers SET flaw = 'SPOILT'"])
@asynchronous
async def test_a_doubt_that_is_damaged_is_held(server: RawServer, path: Path, damage: str) -> None:
    """An entry in doubt whose row is damaged still keeps its id from being sent again."""
    server.on("1", answers(http(504, b"no answer in time")))
    async with client_of(server, SqliteLedger(path)) as client:
        await client.lookup(1)
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute(f"UPDATE {damage}")
    async with client_of(server, SqliteLedger(path)) as client:
        held = await client.lookup(1)
    assert isinstance(held, InDoubt)
    assert "in doubt" in str(held.error)
    assert server.requests == {"1": 1}


@asynchronous
async def test_a_transport_that_fails_leaves_a_doubt(ledger: Ledger) -> None:
    """A fault of what was given, of which nobody can say how far it got."""

    class Broken(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise RuntimeError("a fault of theirs")

    async with OneAutoClient(
        CANARY_KEY, transport=Broken(), base_url="https://service.invalid", ledger=ledger
    ) as client:
        with pytest.raises(RuntimeError, match="a fault of theirs"):
            await client.lookup(1)
    assert [entry.state for entry in await entries_in(ledger)] == [State.IN_DOUBT]


@asynchronous
async def test_a_doubt_stays_one_when_somebody_else_buys_the_answer(ledger: Ledger) -> None:
    """It may have been charged, though the answer that is served was paid for by another."""
    simulator, retry = Simulator(), RetryPolicy(resend_in_doubt=1)

    async with (
        OneAutoClient.simulated(simulator, ledger=ledger, retry=retry) as first,
        OneAutoClient.simulated(simulator, ledger=ledger, retry=retry) as second,
    ):
        simulator.fail_next(1, 504)
        async with first.batch([7]) as batch:
            while not [entry async for entry in ledger.entries(State.IN_DOUBT)]:  # noqa: ASYNC110  # nothing tells it
                await asyncio.sleep(0.001)
            await second.lookup(7)
            (outcome,) = [outcome async for outcome in batch]

    assert isinstance(outcome, Found)
    assert (outcome.receipt.source, outcome.receipt.billing) == (Source.LEDGER, Billing.UNKNOWN)
    assert outcome.receipt.attempts == 1
    assert (batch.summary.spent, batch.summary.unknown) == (1, 1)


@asynchronous
async def test_whoever_waits_for_a_purchase_takes_what_it_brings_whatever_its_age(ledger: Ledger) -> None:
    """It came after it was asked for."""
    simulator = Simulator(latency=0.05)

    async with (
        OneAutoClient.simulated(simulator, ledger=ledger) as first,
        OneAutoClient.simulated(simulator, ledger=ledger) as second,
    ):
        await asyncio.gather(
            first.lookup(7, max_age=0.005), second.lookup(7, max_age=0.005), second.lookup(7, max_age=0.001)
        )

    assert simulator.bills == {"7": 1}


def test_with_a_ledger_nothing_stale_is_taken_from_unclaimed(clock: VirtualClock) -> None:
    """What nobody took is written down, and the ledger knows how old it is and what became of it."""
    simulator, ledger = Simulator(latency=0.1), MemoryLedger(clock=clock)

    async def main() -> tuple[Outcome[Any], Outcome[Any]]:
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            for vehicle in ("9", "SIM-504"):
                left = asyncio.ensure_future(client.lookup(vehicle, max_age=1.0))
                await asyncio.sleep(0.05)
                left.cancel()
            await asyncio.sleep(5.0)
            async for entry in ledger.entries(State.IN_DOUBT):
                await ledger.resolve(entry.seq, billed=False)
            return await client.lookup("9", max_age=1.0), await client.lookup("SIM-504", max_age=1.0)

    aged, resolved = clock.run(main())
    assert aged.receipt.billing is Billing.BILLED
    assert simulator.bills["9"] == 2
    assert resolved.receipt.source is Source.SIMULATOR
    assert simulator.requests["SIM-504"] == 2


@pytest.mark.parametrize("wishes", [{}, {"refresh": True}, {"max_age": 0.01}])
def test_an_answer_served_by_the_ledger_is_unclaimed_no_longer(clock: VirtualClock, wishes: dict[str, Any]) -> None:
    """Whatever the lookup wished that nobody waited for: the ledger hands out what it brought."""
    simulator, ledger = Simulator(latency=0.1), MemoryLedger(clock=clock)

    async def main() -> tuple[int, Outcome[Any], int]:
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            left = asyncio.ensure_future(client.lookup("9", **wishes))
            await asyncio.sleep(0.05)
            left.cancel()
            await asyncio.sleep(5.0)
            return len(client.unclaimed), await client.lookup("9"), len(client.unclaimed)

    before, served, after = clock.run(main())
    assert (before, served.receipt.source, after) == (1, Source.LEDGER, 0)
    assert simulator.bills["9"] == 1


@asynchronous
async def test_what_is_taken_over_from_unclaimed_stays_within_a_batch_s_budget() -> None:
    """An answer that somebody else had paid for counts if there is room, and else comes as one that cost nothing."""
    simulator = Simulator(latency=0.02)

    async with OneAutoClient.simulated(simulator) as client:
        left = asyncio.ensure_future(client.lookup_many([1, 2, 3]))
        await asyncio.sleep(0.01)
        left.cancel()
        await asyncio.sleep(0.05)
        assert len(client.unclaimed) == 3
        async with client.batch([1, 2, 3], budget=Budget(max_billed=2)) as batch:
            outcomes = [outcome async for outcome in batch]
        (kept,) = list(client.unclaimed)

    assert all(isinstance(outcome, Found) for outcome in outcomes)
    assert (batch.summary.spent, simulator.total_billed) == (2, 3)
    assert kept.receipt.billing is Billing.BILLED
    (unpaid,) = (outcome for outcome in outcomes if outcome.receipt.billing is Billing.NOT_BILLED)
    assert kept.evdb_vehicle_id == unpaid.evdb_vehicle_id


@asynchronous
async def test_without_a_ledger_a_refresh_is_any_lookup() -> None:
    """Programs need not care whether there is one."""
    simulator = Simulator()
    async with OneAutoClient.simulated(simulator) as client:
        await client.lookup(1, refresh=True)
        await client.lookup(1, max_age=5)
    assert simulator.bills == {"1": 2}


# Plans.


@asynchronous
async def test_a_plan_sends_nothing(ledger: Ledger) -> None:
    """It counts what a batch would meet (L11)."""
    simulator = Simulator()
    async with OneAutoClient.simulated(simulator, ledger=ledger) as client:
        await client.lookup_many([1, 2, "SIM-204", "SIM-502", "SIM-400"])
        before = simulator.requests.total()
        plan = await client.plan([1, 1, 2, 3, 4, "SIM-204", "SIM-502", "SIM-400", "", "\x00"])
        assert simulator.requests.total() == before

    assert (plan.total, plan.new, plan.answered, plan.in_doubt) == (10, 3, 3, 1)
    assert (plan.duplicates, plan.invalid, plan.under_way, plan.most_billed, plan.most_cost) == (1, 2, 0, 3, None)


@asynchronous
async def test_a_plan_counts_what_others_are_buying_and_what_was_spent(ledger: Ledger) -> None:
    """What another has claimed may come to nothing, and is bought then; what was paid counts against a budget."""
    async with OneAutoClient.simulated(Simulator(latency=0.2), ledger=ledger) as client:
        await client.lookup_many([1, "SIM-502", "SIM-400"])
        buying = asyncio.create_task(client.lookup(2))
        await asyncio.sleep(0.1)
        plan = await client.plan([1, 2, 3])
        await buying

    assert (plan.answered, plan.under_way, plan.new, plan.most_billed) == (1, 1, 1, 2)
    assert plan.spent == 2  # one answer and one doubt


@asynchronous
async def test_a_plan_counts_what_a_policy_may_send_again(ledger: Ledger) -> None:
    """Each doubt may cost once more."""
    async with OneAutoClient.simulated(ledger=ledger) as client:
        await client.lookup("SIM-502")
    async with OneAutoClient.simulated(ledger=ledger, retry=RetryPolicy(resend_in_doubt=2)) as client:
        plan = await client.plan(["SIM-502", 1])
    assert plan.most_billed == 3 + 2


@asynchronous
async def test_a_plan_for_a_refresh_buys_all_again(ledger: Ledger) -> None:
    """Ids that are answered count as new in the plan, and ids in doubt do not."""
    async with OneAutoClient.simulated(ledger=ledger) as client:
        await client.lookup_many([1, 2, "SIM-502"])
        plan = await client.plan([1, 2, "SIM-502"], refresh=True)
    assert (plan.new, plan.answered, plan.in_doubt) == (2, 0, 1)


@asynchronous
async def test_a_plan_without_a_ledger() -> None:
    """Each distinct id counts as new, and a repeated one as a duplicate."""
    async with OneAutoClient.simulated() as client:
        plan = await client.plan(iter([1, 2, 2]))
    assert (plan.new, plan.duplicates, plan.most_billed) == (2, 1, 2)


@asynchronous
async def test_where_ids_stand_is_asked_of_the_ledger(ledger: Ledger) -> None:
    """By the names the client uses."""
    async with OneAutoClient.simulated(ledger=ledger, account="fleet") as client:
        await client.lookup(1)
        (entry,) = await entries_in(ledger)
        service = entry.key.service
        assert (service.account, service.host) == ("fleet", "simulator.invalid")
        assert service.endpoint == "/evdatabase/uk/van/bidirectionalcharging/?evdb_vehicle_id"
        assert await ledger.standings(service, ["1", "2"], Terms()) == {"1": Standing.ANSWERED}
        assert isinstance(await client.lookup("SIM-204"), NoData)


@pytest.mark.parametrize("seed", range(4))
def test_whoever_asks_for_everyone_does_not_wait_for_what_others_have_reserved(seed: int) -> None:
    """A canary that needs a place in the budget for its second call would wait for those who wait for it."""
    clock, simulator = VirtualClock(seed), Simulator(latency=0.05)
    policy = RetryPolicy(resend_in_doubt=1)

    async def main() -> set[type]:
        budget = Budget(max_billed=3)
        async with OneAutoClient.simulated(simulator, clock=clock, budget=budget, retry=policy) as client:
            await client.lookup("1")
            simulator.fail_next(1, 502)
            simulator.fail_next(1, 503, "1")
            both = asyncio.gather(client.lookup("2"), client.lookup("3"))
            return {type(outcome) for outcome in await asyncio.wait_for(both, 600)}

    assert Found in clock.run(main())
    assert simulator.bills.total() <= 3


class _SlowLedger(MemoryLedger):
    """One whose every order takes a while, as on a slow disk."""

    async def claim(self, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(0.05)
        return await super().claim(*args, **options)

    async def mark_sent(self, claim: Any) -> bool:
        await asyncio.sleep(0.05)
        return await super().mark_sent(claim)


@pytest.mark.parametrize("reason", ["quota", "gate"])
def test_what_is_being_written_down_when_a_stop_is_told_does_not_leave(clock: VirtualClock, reason: str) -> None:
    """It was granted, but nothing had been sent: it is held back, and asks again."""
    simulator = Simulator(latency=0.02, quota=20 if reason == "quota" else None)
    ledger = _SlowLedger(clock=clock)
    told: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, GateShut | QuotaUsedUp) and not told:
            told.append(clock.monotonic())

    async def main() -> tuple[int, list[Outcome[Any]]]:
        options: dict[str, Any] = {"observers": [listen], "rate_limit": RateLimit(200, 5)}
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock, **options) as client:
            await client.lookup("first")
            if reason == "gate":
                simulator.fail_next(1, 503, retry_after="5")
            lookups = [asyncio.ensure_future(client.lookup(number)) for number in range(100)]
            while not told:  # noqa: ASYNC110  # the moment matters, not the event
                await asyncio.sleep(0.001)
            before = simulator.requests.total()
            await asyncio.sleep(4.0)
            return simulator.requests.total() - before, await asyncio.gather(*lookups)

    sent_meanwhile, outcomes = clock.run(main())
    assert sent_meanwhile == 0
    assert simulator.total_billed == 1 + sum(isinstance(outcome, Found) for outcome in outcomes)
    assert any(isinstance(outcome, NotSent) for outcome in outcomes) is (reason == "quota")


@asynchronous
async def test_a_claim_that_was_lost_before_its_request_is_bought_anew(server: RawServer) -> None:
    """Nothing was sent yet, so nothing is paid twice."""
    ledger = Forgetful()
    async with client_of(server, ledger) as client:
        outcome = await client.lookup(1)

    assert isinstance(outcome, Found)
    assert (ledger.lost, server.bills.total()) == (1, 1)


class Forgetful(MemoryLedger):
    """Loses the first claim that is to be marked as sent."""

    lost = 0

    async def claim(self, *args: Any, **wishes: Any) -> Any:
        return await super().claim(*args, **{**wishes, "sending": False})

    async def mark_sent(self, claim: Any) -> bool:
        if not self.lost:
            self.lost += 1
            self.settle(claim, Settlement(state=State.FAILED, billing=Billing.NOT_BILLED))
            return False
        return await super().mark_sent(claim)


@pytest.mark.parametrize("reply", ["quota", "gate"])
def test_what_nothing_is_asked_for_leaves_no_entry(clock: VirtualClock, reply: str) -> None:
    """While nothing may be sent, what is kept is served all the same, and the rest makes the ledger no longer."""
    simulator = Simulator(quota=2 if reply == "quota" else None)
    ledger = MemoryLedger(clock=clock)

    async def main() -> tuple[int, list[Outcome[Any]]]:
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            await client.lookup_many([1, 2])
            if reply == "gate":
                simulator.fail_next(1, 503, retry_after="1000")
            await client.lookup(3)
            before = len(await entries_in(ledger))
            outcomes = [await client.lookup(number) for number in (1, 2, *range(3, 100))]
            return len(await entries_in(ledger)) - before, outcomes

    added, outcomes = clock.run(main())

    assert added == 0
    assert [type(outcome) for outcome in outcomes[:2]] == [Found, Found]
    assert all(isinstance(outcome, NotSent) for outcome in outcomes[2:])


@pytest.mark.parametrize("end", ["deadline", "close", "quota"])
def test_a_doubt_whose_turn_to_be_sent_again_never_came_is_one_still(clock: VirtualClock, end: str) -> None:
    """It is told as the ledger holds it, and is no answer that anybody could take."""
    simulator, ledger = Simulator(latency=0.1), MemoryLedger(clock=clock)

    async def main() -> tuple[Outcome[Any], tuple[Outcome[Any], ...]]:
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            await client.lookup("SIM-504")
        limit, retry = RateLimit(0.001, 1), RetryPolicy(resend_in_doubt=1)
        options: dict[str, Any] = {"ledger": ledger, "clock": clock, "rate_limit": limit, "retry": retry}
        client = OneAutoClient.simulated(simulator, **options)
        async with client, client.batch([1, "SIM-504"], ordered=True, deadline=2) as batch:
            await anext(batch)
            if end == "close":
                await client.aclose()
            elif end == "quota":
                client.governor.quota_used_up(Grant(99, clock.monotonic()))
            return await anext(batch), client.unclaimed

    outcome, unclaimed = clock.run(main())

    assert isinstance(outcome, InDoubt)
    assert (outcome.receipt.source, outcome.receipt.attempts) == (Source.LEDGER, 0)
    assert unclaimed == ()


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_leaves_early_changes_nothing_for_those_who_stay(clock: VirtualClock, fails: bool) -> None:
    """The doubt was told to the one; the other pays for the answer, and hears of that alone."""

    class Failing(MemoryLedger):
        def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
            if fails and claim.key.vehicle_id == "1" and settlement.state is State.ANSWERED:
                raise LedgerError("the disk is full")
            return super().settle(claim, settlement)

    simulator, ledger = Simulator(latency=0.1), Failing(clock=clock)

    async def main() -> tuple[Outcome[Any], Outcome[Any] | LedgerError, tuple[Outcome[Any], ...]]:
        simulator.fail_next(1, 504)
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            await client.lookup(1)
        retry = RetryPolicy(resend_in_doubt=1)
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock, retry=retry) as client:
            simulator.fail_next(1, 503, retry_after="1")
            await asyncio.wait([asyncio.ensure_future(client.lookup(2))], timeout=0.2)
            early, late = await asyncio.gather(
                client.lookup_many([1], deadline=0.2), client.lookup(1), return_exceptions=True
            )
            assert isinstance(early, list)
            assert isinstance(late, Found | LedgerError)
            return early[0], late, client.unclaimed

    early, late, unclaimed = clock.run(main())

    assert isinstance(early, InDoubt)
    if fails:
        assert isinstance(late, LedgerError)
        assert [outcome.receipt.billing for outcome in unclaimed] == [Billing.BILLED]
    else:
        assert isinstance(late, Found)
        assert (late.receipt.billing, late.receipt.source) == (Billing.BILLED, Source.SIMULATOR)


def test_a_doubt_that_one_budget_cannot_send_again_is_sent_by_another(clock: VirtualClock) -> None:
    """Two batches ask for it; the one with a budget of its own has no room."""
    simulator, ledger = Simulator(latency=0.1), MemoryLedger(clock=clock)

    async def main() -> tuple[list[Outcome[Any]], list[Outcome[Any]]]:
        simulator.fail_next(1, 504)
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            await client.lookup(1)
        retry = RetryPolicy(resend_in_doubt=1)
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock, retry=retry) as client:
            return await asyncio.gather(
                client.lookup_many([9, 1], budget=Budget(max_billed=1), concurrency=1),
                client.lookup_many([1, 2, 3, 4]),
            )

    poor, rich = clock.run(main())

    assert isinstance(poor[0], Found)
    assert all(isinstance(outcome, Found) for outcome in rich)


def test_a_budget_that_a_doubt_has_used_up_stops_its_own_batch_alone(clock: VirtualClock) -> None:
    """The other shares the flight in which it was made, and goes on."""
    simulator = Simulator(latency=0.1)

    async def main() -> tuple[list[Outcome[Any]], list[Outcome[Any]]]:
        simulator.fail_next(1, 504)
        retry = RetryPolicy(resend_in_doubt=1)
        async with OneAutoClient.simulated(simulator, clock=clock, retry=retry) as client:
            return await asyncio.gather(
                client.lookup_many([9, 1], budget=Budget(max_billed=1), concurrency=1),
                client.lookup_many([9, 2, 3, 4], budget=Budget(max_billed=50), concurrency=1),
            )

    poor, rich = clock.run(main())

    assert [type(outcome) for outcome in poor] == [InDoubt, NotSent]
    assert [type(outcome) for outcome in rich] == [InDoubt, Found, Found, Found]
    assert simulator.requests["1"] == 0


@asynchronous
async def test_an_earlier_doubt_is_told_also_if_its_claim_was_lost_and_taken(server: RawServer) -> None:
    """Somebody else buys it now; what was sent before is in doubt all the same."""

    class Taken(MemoryLedger):
        is_losing = is_lost = False

        async def claim(self, *args: Any, **wishes: Any) -> Any:
            return Busy(99) if self.is_lost else await super().claim(*args, **{**wishes, "sending": False})

        async def mark_sent(self, claim: Any) -> bool:
            self.is_lost = self.is_losing
            return not self.is_lost and await super().mark_sent(claim)

    server.on("1", breaks_off(billed=True))
    ledger = Taken()
    async with client_of(server, ledger) as client:
        await client.lookup(1)
    ledger.is_losing = True
    async with client_of(server, ledger, retry=RetryPolicy(resend_in_doubt=1, total=0.1)) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert (outcome.receipt.source, outcome.receipt.attempts) == (Source.LEDGER, 0)

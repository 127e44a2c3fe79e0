"""The client's contract: opening and closing, shared flights, cancellation, and answers nobody took."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
from pathlib import Path
from typing import Any, cast

import attrs
import httpx
import pytest
from cattrs import Converter
from support.raw import ANSWER, CANARY_KEY, RawServer, answers, http, never_answers
from support.sockets import until
from support.tracebacks import with_locals

from oneauto_async import (
    CAR_BIDIRECTIONAL_CHARGING,
    VAN_BIDIRECTIONAL_CHARGING,
    BidirectionalCharging,
    Billing,
    ClientClosedError,
    ConfigurationError,
    ConnectionFailedError,
    Endpoint,
    Failed,
    Found,
    Governor,
    InDoubt,
    InvalidVehicleIdError,
    NoDataError,
    NotSent,
    NotSentReason,
    OneAutoClient,
    OneAutoError,
    Outcome,
    PartialDataError,
    RateLimit,
    RetryPolicy,
    Source,
    Timeouts,
    make_converter,
)
from oneauto_async._flow.flights import Flight, Flights, FutureSeat
from oneauto_async._recent import MOST
from oneauto_async._wire import http11
from oneauto_async.events import Throttled
from oneauto_async.ledger import SqliteLedger
from oneauto_async.testing import LiveHostRefusedError, Simulator, VirtualClock
from oneauto_async.transport import HTTP11Transport

asynchronous = pytest.mark.asyncio


def client_of(server: RawServer, **options: Any) -> OneAutoClient:
    """Return a client of a raw server."""
    return OneAutoClient(CANARY_KEY, base_url=server.base_url, **options)


# A first lookup.


@asynchronous
async def test_a_lookup_returns_the_typed_record(server: RawServer) -> None:
    """The vendor's sample comes back as the grouped, typed view, billed once."""
    async with client_of(server) as client:
        charging = await client.bidirectional_charging("12345")

    assert charging.vehicle_to_grid_dc.power_output_kw == 11.0
    assert server.bills == {"12345": 1}


@asynchronous
async def test_what_goes_out_is_what_the_vendor_documents(server: RawServer) -> None:
    """GET, the path with its slash, one id, one key, nothing else that identifies anyone."""
    async with client_of(server) as client:
        await client.lookup("007 é&x=1")

    (asked,) = server.asked
    headers = dict(asked.headers)
    assert asked.head.startswith(b"GET ")
    assert asked.target == "/evdatabase/uk/van/bidirectionalcharging/?evdb_vehicle_id=007%20%C3%A9%26x%3D1"
    assert [value for name, value in asked.headers if name == "x-api-key"] == [CANARY_KEY]
    assert not {"cookie", "authorization", "content-length", "referer"} & headers.keys()
    assert headers["user-agent"].startswith("oneauto-async")


@asynchronous
async def test_the_car_twin_is_one_argument_away(server: RawServer) -> None:
    """The endpoint is chosen per call."""
    async with client_of(server) as client:
        outcome = await client.lookup(12345, endpoint=CAR_BIDIRECTIONAL_CHARGING)

    assert isinstance(outcome, Found)
    assert "/uk/car/" in server.asked[0].target


@attrs.frozen
class _Port:
    vehicle_to_load_exterior_port_details: str | None


@asynchronous
async def test_a_users_own_endpoint_gives_their_own_class(server: RawServer) -> None:
    """An attrs class and a path are all it takes."""
    ports = Endpoint("/evdatabase/uk/van/ports/", "evdb_vehicle_id", _Port)

    async with client_of(server) as client:
        outcome: Outcome[_Port] = await client.lookup(1, endpoint=ports)

    assert outcome.unwrap() == _Port("1 x Type 2 (Adapter)")


@asynchronous
async def test_endpoints_that_differ_in_their_converter_do_not_share_it(server: RawServer) -> None:
    """Each answer is made by the converter of its own endpoint."""

    class Shouting(Converter):
        def get_structure_hook(self, type: Any, cache_result: bool = True) -> Any:  # noqa: A002  # cattrs's name
            return lambda value, _: _Port(value["vehicle_to_load_exterior_port_details"].upper())

    def ports(converter: Converter) -> Endpoint[_Port]:
        return Endpoint("/evdatabase/uk/van/ports/", "evdb_vehicle_id", _Port, converter)

    async with client_of(server) as client:
        quiet = await client.lookup(1, endpoint=ports(Converter()))
        loud = await client.lookup(1, endpoint=ports(Shouting()))

    assert (quiet.unwrap(), loud.unwrap()) == (_Port("1 x Type 2 (Adapter)"), _Port("1 X TYPE 2 (ADAPTER)"))


@asynchronous
async def test_the_single_call_raises_what_is_no_full_record() -> None:
    """204 and 206 are errors there, the second with the record as far as it came."""
    async with OneAutoClient.simulated() as client:
        with pytest.raises(NoDataError):
            await client.bidirectional_charging("SIM-204")
        with pytest.raises(PartialDataError) as caught:
            await client.bidirectional_charging("SIM-206")

    assert isinstance(caught.value.value, BidirectionalCharging)


@asynchronous
async def test_simulated_answers_are_marked() -> None:
    """Nobody takes a made-up van for a real one."""
    async with OneAutoClient.simulated() as client:
        outcome = await client.lookup("12345")

    assert outcome.receipt.source is Source.SIMULATOR
    assert outcome.unwrap().extra == {"simulated": True}


@asynchronous
@pytest.mark.parametrize("wrong", ["", "  ", None, True, 7.0, ["1", "2"], b"1", "x" * 65, "\ud800", "a\x00b", -1])
async def test_an_id_that_cannot_be_one_is_refused_unsent(server: RawServer, wrong: Any) -> None:
    """Nothing is sent, nothing is paid."""
    async with client_of(server) as client:
        with pytest.raises(InvalidVehicleIdError):
            await client.lookup(wrong)

    assert server.asked == []


# Opening and closing.


@asynchronous
async def test_a_client_that_is_not_open_says_so() -> None:
    """Before ``async with`` and after it, with what to do."""
    client = OneAutoClient.simulated()
    with pytest.raises(ClientClosedError, match="async with"):
        await client.lookup(1)
    async with client:
        await client.lookup(1)
    with pytest.raises(ClientClosedError, match="new OneAutoClient"):
        await client.lookup(1)


@asynchronous
async def test_a_client_is_opened_once() -> None:
    """Entering it again is an error, not a client in an unknown state."""
    client = OneAutoClient.simulated()
    async with client:
        pass
    with pytest.raises(ClientClosedError):
        await client.__aenter__()


@asynchronous
async def test_opening_a_client_reads_the_authorities_if_it_will_need_them(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lookups that hold a grant would have to wait for that; without TLS nobody does."""
    read: list[str] = []
    monkeypatch.setattr(http11, "default_ssl_context", lambda: read.append("authorities"))

    async with client_of(server) as client:
        await client.bidirectional_charging("13003")
    assert not read
    async with OneAutoClient(CANARY_KEY, base_url="https://127.0.0.1:9"):
        assert read == ["authorities"]
    async with OneAutoClient(CANARY_KEY, base_url="https://127.0.0.1:9", transport=HTTP11Transport()):
        assert len(read) == 2


@asynchronous
async def test_a_client_that_cannot_read_the_authorities_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken installation is heard of before a ledger is opened, and the client may be opened once it is mended."""

    def unreadable() -> None:
        raise FileNotFoundError("cacert.pem")

    ledger = SqliteLedger(tmp_path / "answers.ledger")
    client = OneAutoClient(CANARY_KEY, base_url="https://127.0.0.1:9", ledger=ledger)
    with monkeypatch.context() as broken:
        broken.setattr(http11, "default_ssl_context", unreadable)
        with pytest.raises(ConfigurationError, match="certifi anew"):
            await client.__aenter__()
    assert not ledger.is_open
    async with client:
        assert ledger.is_open


@asynchronous
async def test_a_wrong_key_log_is_not_taken_for_a_broken_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named that is to be mended."""
    monkeypatch.setenv("SSLKEYLOGFILE", "/nowhere/keys")
    http11.default_ssl_context.cache_clear()
    with pytest.raises(ConfigurationError, match="SSLKEYLOGFILE names '/nowhere/keys', which cannot be written"):
        await OneAutoClient(CANARY_KEY, base_url="https://127.0.0.1:9").__aenter__()


def test_a_second_event_loop_is_refused() -> None:
    """A client kept beyond its ``asyncio.run`` says that it belongs to another loop."""
    client = OneAutoClient.simulated()
    asyncio.run(client.__aenter__())
    with pytest.raises(ClientClosedError, match="one client per loop"):
        asyncio.run(client.lookup(1))
    holder = [client]
    del client
    with pytest.warns(ResourceWarning, match="unclosed"):
        _forget(holder)


def _forget(holder: list[OneAutoClient]) -> None:
    """Drop the last reference; the client and what it owns refer to each other."""
    holder.clear()
    gc.collect()


@asynchronous
async def test_a_second_thread_is_refused() -> None:
    """The same for a thread with a loop of its own."""
    errors: list[BaseException] = []

    def use(client: OneAutoClient) -> None:
        try:
            asyncio.run(client.lookup(1))
        except ClientClosedError as error:
            errors.append(error)

    async with OneAutoClient.simulated() as client:
        thread = threading.Thread(target=use, args=(client,))
        thread.start()
        await asyncio.to_thread(thread.join)

    assert len(errors) == 1


@asynchronous
async def test_closing_waits_for_requests_under_way(server: RawServer) -> None:
    """Their answers still reach whoever waits for them."""
    server.on("1", answers(delay=0.1))
    client = client_of(server)
    await client.__aenter__()
    lookup = asyncio.create_task(client.lookup(1))
    await until(lambda: server.in_flight == 1)

    await client.aclose()

    assert isinstance(await lookup, Found)


@asynchronous
async def test_closing_waits_no_longer_than_the_drain(server: RawServer) -> None:
    """A request without an answer is then in doubt."""
    server.on("1", never_answers())
    client = client_of(server, timeouts=Timeouts(drain=0.05))
    await client.__aenter__()
    lookup = asyncio.create_task(client.lookup(1))
    await until(lambda: server.in_flight == 1)

    await client.aclose()

    outcome = await lookup
    assert isinstance(outcome, InDoubt)
    assert outcome.receipt.billing is Billing.UNKNOWN


@asynchronous
async def test_cancelling_the_close_ends_the_wait_and_still_closes(server: RawServer) -> None:
    """What was under way is in doubt, the sockets are gone, and the cancellation goes on."""
    server.on("1", never_answers())
    client = client_of(server)
    await client.__aenter__()
    lookup = asyncio.create_task(client.lookup(1))
    await until(lambda: server.in_flight == 1)
    closing = asyncio.create_task(client.aclose())
    await asyncio.sleep(0.01)

    closing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await closing
    assert isinstance(await lookup, InDoubt)
    await until(lambda: server.in_flight == 0)


@asynchronous
async def test_closing_twice_is_closing_once() -> None:
    """In turn or at the same time, each call returns when the transport is closed, which happens once."""
    transport = _ClosingTransport()
    client = OneAutoClient(CANARY_KEY, transport=transport)
    await client.__aenter__()

    async def close() -> int:
        await client.aclose()
        return transport.closed

    assert await asyncio.gather(*(close() for _ in range(3))) == [1, 1, 1]
    assert [await close(), await close()] == [1, 1]


def test_closing_ends_lookups_that_only_wait(clock: VirtualClock) -> None:
    """In the queue they were never sent; in a back-off they have failed; both at once."""
    simulator = Simulator()

    async def main() -> tuple[list[Outcome[BidirectionalCharging]], float]:
        client = OneAutoClient.simulated(simulator, clock=clock, rate_limit=RateLimit(0.01))
        await client.__aenter__()
        await client.lookup(1)
        lookups = [asyncio.create_task(client.lookup(number)) for number in (2, 3)]
        await asyncio.sleep(1)
        await client.aclose()
        return await asyncio.gather(*lookups), clock.monotonic()

    outcomes, now = clock.run(main())

    assert [type(outcome) for outcome in outcomes] == [NotSent, NotSent]
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, NotSent)} == {NotSentReason.CLOSED}
    assert now == pytest.approx(1.0)


def test_closing_wakes_lookups_that_wait_for_a_slot(clock: VirtualClock) -> None:
    """They are told at once, not when the slot is free."""

    async def main() -> tuple[list[Any], list[float]]:
        client = OneAutoClient.simulated(Simulator(latency=20), clock=clock, max_concurrency=1)
        await client.__aenter__()
        lookups = [asyncio.create_task(client.lookup(number)) for number in range(3)]
        ends: list[float] = []
        for lookup in lookups:
            lookup.add_done_callback(lambda _: ends.append(clock.monotonic()))
        await asyncio.sleep(1)
        await client.aclose()
        return await asyncio.gather(*lookups, return_exceptions=True), ends

    outcomes, ends = clock.run(main())

    assert [type(outcome) for outcome in outcomes] == [Found, ClientClosedError, ClientClosedError]
    assert ends == pytest.approx([1.0, 1.0, 20.0])


@asynchronous
async def test_what_was_given_stays_open_and_what_was_made_is_closed(server: RawServer) -> None:
    """A user's own httpx client outlives ours; a transport given to us is ours to close."""
    async with httpx.AsyncClient() as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
            assert isinstance(await client.lookup(1), Found)
        assert not own.is_closed

    transport = _ClosingTransport()
    async with OneAutoClient(CANARY_KEY, transport=transport):
        pass
    assert transport.closed == 1


class _ClosingTransport(httpx.AsyncBaseTransport):
    """Takes a moment to close, and counts how often it was closed."""

    closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=ANSWER)

    async def aclose(self) -> None:
        await asyncio.sleep(0.01)
        self.closed += 1


@pytest.mark.parametrize(
    "options",
    [
        {"transport": httpx.MockTransport(lambda request: httpx.Response(200)), "http_client": httpx.AsyncClient()},
        {"max_concurrency": 0},
        {"max_concurrency": 1.5},
        {"sandbox": True, "base_url": "https://example.com"},
        {"base_url": "http://example.com"},
        *({"base_url": f"https://{host}"} for host in ("10.0.0.256", "ª.example", "a" * 70_000)),
        {"transport": "https"},
        {"http_client": httpx.Client()},
    ],
    ids=lambda options: ", ".join(options),
)
def test_options_that_make_no_sense_are_refused_at_construction(options: dict[str, Any]) -> None:
    """Before any network, with a `ConfigurationError`."""
    with pytest.raises(ConfigurationError):
        OneAutoClient(CANARY_KEY, **options)


def test_no_key_is_refused_at_construction() -> None:
    """The error names the variable to set."""
    with pytest.raises(ConfigurationError, match="ONEAUTO_API_KEY"):
        OneAutoClient()


# Single flight, cancellation, unclaimed answers.


@asynchronous
async def test_lookups_of_one_id_share_one_request(server: RawServer) -> None:
    """Ten at once cost one; the nine that joined say so."""
    server.on("1", answers(delay=0.05))

    async with client_of(server) as client:
        outcomes = await asyncio.gather(*(client.lookup(1) for _ in range(10)))

    assert server.bills == {"1": 1}
    assert sorted(outcome.receipt.source for outcome in outcomes) == [Source.JOINED] * 9 + [Source.NETWORK]
    assert [outcome.receipt.billing for outcome in outcomes].count(Billing.BILLED) == 1


@asynchronous
async def test_a_waiter_that_leaves_does_not_disturb_the_others(server: RawServer) -> None:
    """The first of two is cancelled; the second gets the answer, as the one that paid."""
    server.on("1", answers(delay=0.05))

    async with client_of(server) as client:
        first, second = (asyncio.create_task(client.lookup(1)) for _ in range(2))
        await until(lambda: server.in_flight == 1)
        first.cancel()
        outcome = await second

    assert isinstance(outcome, Found)
    assert outcome.receipt.billing is Billing.BILLED
    assert server.requests == {"1": 1}


@asynchronous
async def test_a_cancelled_lookup_returns_at_once_and_its_answer_is_kept(server: RawServer) -> None:
    """The request is seen through; the next lookup of the id takes the answer without paying again."""
    server.on("1", answers(delay=0.1))

    async with client_of(server) as client:
        lookup = asyncio.create_task(client.lookup(1))
        await until(lambda: server.in_flight == 1)
        lookup.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lookup
        assert server.in_flight == 1
        await until(lambda: len(client.unclaimed) == 1)
        outcome = await client.lookup(1)
        assert client.unclaimed == ()

    assert isinstance(outcome, Found)
    assert server.bills == {"1": 1}


@asynchronous
async def test_a_lookup_joins_a_request_everyone_else_has_left(server: RawServer) -> None:
    """Asking again while the abandoned request is still under way costs nothing more."""
    server.on("1", answers(delay=0.1))

    async with client_of(server) as client:
        lookup = asyncio.create_task(client.lookup(1))
        await until(lambda: server.in_flight == 1)
        lookup.cancel()
        await asyncio.sleep(0)
        assert isinstance(await client.lookup(1), Found)
        assert client.unclaimed == ()

    assert server.requests == {"1": 1}


def test_cancelling_a_back_off_starts_no_further_attempt(clock: VirtualClock) -> None:
    """The cancellation arrives at once; no request follows."""
    simulator = Simulator()

    async def main() -> None:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            lookup = asyncio.create_task(client.lookup("SIM-500"))
            await asyncio.sleep(0.01)
            lookup.cancel()
            with pytest.raises(asyncio.CancelledError):
                await lookup
            assert clock.monotonic() == pytest.approx(0.01)
            await asyncio.sleep(60)

    clock.run(main())

    assert simulator.requests == {"SIM-500": 1}


@asynchronous
async def test_a_client_that_was_never_opened_can_be_closed() -> None:
    """Whoever watches the same governor through another client goes on watching."""
    seen: list[object] = []
    governor = Governor()
    async with OneAutoClient.simulated(rate_limit=governor, observers=[seen.append]) as client:
        await OneAutoClient.simulated(rate_limit=governor, observers=[seen.append]).aclose()
        await client.lookup("SIM-429-ONCE")

    assert any(isinstance(event, Throttled) for event in seen)


@asynchronous
async def test_endpoints_that_are_made_for_each_call_do_not_pile_up() -> None:
    """A converter makes each one different."""
    async with OneAutoClient.simulated() as client:
        for _ in range(MOST + 50):
            await client.lookup("1", endpoint=attrs.evolve(VAN_BIDIRECTIONAL_CHARGING, converter=make_converter()))

        assert len(client._routes) == MOST


@asynchronous
async def test_a_seat_is_left_once() -> None:
    """Leaving again, as a lookup does that is cancelled in the moment it ends, is no fault."""

    class Waiting:
        is_sent = False

        async def run(self, flight: Flight) -> Outcome[Any]:
            await asyncio.sleep(60)
            raise AssertionError

        def interrupted(self, *, is_closing: bool) -> Outcome[Any]:
            error = ClientClosedError("left")
            return NotSent(evdb_vehicle_id="1", reason=NotSentReason.CLOSED, error=error)

        def called_off(self, reason: NotSentReason, error: type[OneAutoError], text: str) -> Outcome[Any]:
            raise AssertionError

    slots_freed: list[None] = []
    flights, seat = (
        Flights(keep=1, on_slot_free=lambda: slots_freed.append(None), on_dropped=lambda _key, _outcome: None),
        FutureSeat(),
    )
    flight = flights.launch("1", "1", Waiting(), seat)
    for _ in range(2):
        flights.leave(flight, seat)
    await flights.ground(1.0)

    assert flight.landed
    assert slots_freed == [None]


@asynchronous
async def test_closing_counts_the_answers_nobody_took(server: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    """The log says how many, so that money does not vanish silently."""
    server.on("1", answers(delay=0.05))
    async with client_of(server) as client:
        lookup = asyncio.create_task(client.lookup(1))
        await until(lambda: server.in_flight == 1)
        lookup.cancel()

    assert "1 answers that nobody took" in caplog.text
    assert len(client.unclaimed) == 1


@asynchronous
async def test_a_thousand_cancellations_leave_nothing_behind() -> None:
    """Cancelled at every stage, the client works on, with no task and no slot lost."""
    async with OneAutoClient.simulated(Simulator(latency=(0.0, 0.01)), max_concurrency=5) as client:
        for number in range(1000):
            lookup = asyncio.create_task(client.lookup(number))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            lookup.cancel()
            await asyncio.wait([lookup])
            assert lookup.cancelled() or isinstance(lookup.result(), Found)
        outcomes = await client.lookup_many(range(5000, 5020))
        assert all(isinstance(outcome, Found) for outcome in outcomes)
        assert [task for task in asyncio.all_tasks() if "oneauto" in task.get_name()] == []


@asynchronous
async def test_a_fault_in_the_transport_is_heard() -> None:
    """An exception that is no fault of the network is a bug, and reaches whoever waits."""

    def broken(request: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    async with OneAutoClient(CANARY_KEY, transport=httpx.MockTransport(broken)) as client:
        with pytest.raises(ZeroDivisionError):
            await client.lookup(1)


@asynchronous
async def test_an_http_client_closed_under_us_is_a_connection_failure(server: RawServer) -> None:
    """Surely unsent, and one of our own errors."""
    own = httpx.AsyncClient()
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
        await own.aclose()
        outcome = await client.lookup(1)

    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ConnectionFailedError)
    assert server.asked == []


@asynchronous
async def test_a_fault_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The lookup was left by everyone; its id and the fault are not lost."""

    async def broken(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.02)
        raise ZeroDivisionError

    async with OneAutoClient(CANARY_KEY, transport=httpx.MockTransport(broken)) as client:
        lookup = asyncio.create_task(client.lookup("4711"))
        await asyncio.sleep(0.01)
        lookup.cancel()

    assert "4711" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# Secrets.


def test_the_key_is_in_no_view_of_the_client() -> None:
    """repr, str and vars do not show it; pickle and copy are refused, without it."""
    client = OneAutoClient(CANARY_KEY)

    assert CANARY_KEY not in repr(client) + str(client) + str(vars(client)) + repr(vars(client))
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            attempt(client)
        assert CANARY_KEY not in str(caught.value)


@asynchronous
async def test_a_traceback_with_locals_of_a_lookup_shows_no_key() -> None:
    """As of a test that has forgotten the simulator, and is run with ``pytest -l``."""
    async with OneAutoClient(CANARY_KEY) as client:
        with pytest.raises(LiveHostRefusedError) as caught:
            await client.lookup(1)

    assert "<request head, " in with_locals(caught.value)
    assert CANARY_KEY not in with_locals(caught.value)


@pytest.mark.parametrize("wrong", [{}, {"base_url": "htp://x"}, {"max_concurrency": 0}], ids=str)
def test_a_traceback_with_locals_of_a_refused_client_shows_no_key(wrong: dict[str, Any]) -> None:
    """Nor does it fail for showing a client that was not made."""
    with pytest.raises(ConfigurationError) as caught:
        OneAutoClient(CANARY_KEY if wrong else f"{CANARY_KEY} {CANARY_KEY}", **wrong)

    assert "<OneAutoClient not made>" in with_locals(caught.value)
    assert CANARY_KEY not in with_locals(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_limit": 5},
        {"retry": 3},
        {"retry": None},
        {"timeouts": 5},
        {"ledger": "answers.ledger"},
        {"ledger": SqliteLedger},
        {"observers": 3},
        {"observers": ["log"]},
    ],
    ids=str,
)
def test_an_argument_of_another_kind_is_refused_at_once(wrong: dict[str, Any]) -> None:
    """By its name, and before anything begins."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        OneAutoClient("key", **wrong)


@pytest.mark.asyncio
async def test_what_is_no_endpoint_is_refused() -> None:
    """Anything else in place of an endpoint raises `ConfigurationError`, and no request is sent."""
    simulator = Simulator()
    async with OneAutoClient.simulated(simulator) as client:
        others: tuple[object, ...] = ("van", None, [])
        for other in others:
            with pytest.raises(ConfigurationError, match="endpoint"):
                await client.lookup(1, endpoint=cast("Endpoint[Any]", other))
    assert not simulator.requests


def test_a_path_is_no_ssl_context() -> None:
    """It is told before anything is sent, and not by the first lookup."""
    with pytest.raises(ConfigurationError, match=r"ssl_context must be an ssl\.SSLContext, got str"):
        OneAutoClient(CANARY_KEY, ssl_context="ca.pem")  # type: ignore[arg-type]  # that is the point


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "reply", [http(502, b"x" * 1000), http(503), http(200, b'{"success": true, "result": {"a": 1}}')]
)
async def test_a_lookup_that_failed_is_gone_once_its_outcome_is(server: RawServer, reply: bytes) -> None:
    """Whatever waited for the garbage collector would hold its answer, which may be large."""

    @attrs.frozen
    class Strict:
        a: str

    endpoint = Endpoint("/evdatabase/uk/van/bidirectionalcharging/", "evdb_vehicle_id", Strict)
    server.on("1", answers(reply))
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=RetryPolicy(attempts=2)) as client:
        await client.lookup("1", endpoint=endpoint)
        gc.collect()
        before = _lookups_alive()  # those that other tests have left
        gc.disable()
        try:
            assert not isinstance(await client.lookup("1", endpoint=endpoint), Found)
            await asyncio.sleep(0)
            left = _lookups_alive().keys() - before.keys()
        finally:
            gc.enable()

    assert not left


def _lookups_alive() -> dict[int, object]:
    """Return by its identity each lookup and reply in this process."""
    return {id(one): one for one in gc.get_objects() if type(one).__name__ in {"Lookup", "Reply"}}


def test_lookups_of_one_id_that_wait_for_a_slot_share_one_call(clock: VirtualClock) -> None:
    """One of them waits for all; if it leaves, the next one does."""
    simulator = Simulator(latency=1)

    async def main() -> list[str]:
        async with OneAutoClient.simulated(simulator, clock=clock, max_concurrency=1) as client:
            tasks = [asyncio.create_task(client.lookup(number)) for number in (7, 8, 8, 8, 8)]
            await asyncio.sleep(0.5)
            tasks[1].cancel()
            await asyncio.wait(tasks)
            return sorted(str(task.result().receipt.billing) for task in tasks if not task.cancelled())

    assert clock.run(main()) == ["billed", "billed", "not billed", "not billed"]
    assert simulator.bills == {"7": 1, "8": 1}

"""What a long-lived service meets: hooks, mocks and observers that fail, doubts told once, closing at any moment."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from oneauto_async import (
    Billing,
    Budget,
    ClientClosedError,
    Failed,
    Found,
    InDoubt,
    NoData,
    NotSentReason,
    OneAutoClient,
    RetryPolicy,
    Timeouts,
)
from oneauto_async._wire import exchange
from oneauto_async._wire.connection import Connection
from oneauto_async.clock import SystemClock
from oneauto_async.errors import LedgerError
from oneauto_async.events import Event, LookupEnded
from oneauto_async.ledger import Claim, MemoryLedger, SqliteLedger, State
from oneauto_async.ledger.records import Settlement
from oneauto_async.testing import Simulator, VirtualClock, serve
from oneauto_async.transport import HTTP11Transport

asynchronous = pytest.mark.asyncio

Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def answered(client: httpx.AsyncClient, simulator: Simulator, address: str, **options: Any) -> OneAutoClient:
    return OneAutoClient(simulator.api_key, base_url=address, http_client=client, **options)


def of_mock(handler: Handler, clock: VirtualClock, **options: Any) -> OneAutoClient:
    transport = httpx.MockTransport(handler)
    return OneAutoClient("k" * 20, base_url="https://x.invalid", transport=transport, clock=clock, **options)


@asynccontextmanager
async def giving(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve one answer to each request, none for an empty one; after the last nobody listens any more."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        if len(seen) == len(answers):
            server.close()
        writer.write(answers[len(seen) - 1])
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def bare(status: int, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body


# Hooks of an httpx client that was given.


class Unusual(BaseException):
    """What no ``except Exception`` sees, as the failure of a test."""


@pytest.mark.parametrize("failure", [KeyError, Unusual])
@asynchronous
async def test_a_hook_that_fails_on_an_answer_does_not_lose_it(failure: type[BaseException]) -> None:
    """It came whole and is paid for: it is returned, and kept in the ledger."""

    async def hook(response: httpx.Response) -> None:
        raise failure("x-trace-id")

    simulator, ledger = Simulator(), MemoryLedger()
    with serve(simulator) as address:
        async with httpx.AsyncClient(transport=HTTP11Transport(), event_hooks={"response": [hook]}) as http:
            async with answered(http, simulator, address, ledger=ledger) as client:
                outcome = await client.lookup("1")
                again = await client.lookup("1")
    assert isinstance(outcome, Found)
    assert outcome.receipt.billing is Billing.BILLED
    assert again.receipt.billing is Billing.NOT_BILLED
    assert simulator.bills == {"1": 1}


@asynchronous
async def test_over_the_stock_transport_a_failing_hook_leaves_no_doubt_about_the_charge() -> None:
    """The status was seen, and what the hook has left unread is told as broken off."""

    async def hook(response: httpx.Response) -> None:
        raise KeyError("x-trace-id")

    simulator = Simulator()
    with serve(simulator) as address:
        async with httpx.AsyncClient(trust_env=False, event_hooks={"response": [hook]}) as http:
            async with answered(http, simulator, address) as client:
                outcome = await client.lookup("1")
    assert isinstance(outcome, Failed)
    assert (outcome.receipt.billing, outcome.receipt.status) == (Billing.BILLED, 200)


@asynchronous
async def test_a_hook_that_reads_and_refuses_an_answer_does_not_hide_a_used_up_quota() -> None:
    """What it has read tells the two kinds of 429 apart."""

    async def hook(response: httpx.Response) -> None:
        await response.aread()
        response.raise_for_status()

    simulator = Simulator(quota=0)
    with serve(simulator) as address:
        async with httpx.AsyncClient(trust_env=False, event_hooks={"response": [hook]}) as http:
            async with answered(http, simulator, address) as client, client.batch(range(3), concurrency=1) as batch:
                assert [type(outcome).__name__ async for outcome in batch] == ["Failed", "NotSent", "NotSent"]
    assert batch.summary.stopped is NotSentReason.QUOTA


@asynchronous
async def test_a_hook_s_own_request_is_not_taken_for_ours() -> None:
    """The status of an error that it raises may be of another service."""

    async def hook(response: httpx.Response) -> None:
        request = httpx.Request("GET", "https://elsewhere.invalid")
        httpx.Response(403, request=request).raise_for_status()

    simulator = Simulator()
    with serve(simulator) as address:
        async with httpx.AsyncClient(transport=HTTP11Transport(), event_hooks={"response": [hook]}) as http:
            async with answered(http, simulator, address) as client:
                assert isinstance(await client.lookup("1"), Found)


# Transports that were given.


@asynccontextmanager
async def stuttering_server() -> AsyncIterator[str]:
    """Answer each vehicle with its own number as power, and the first of them twice."""
    seen: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                vehicle = int(head.split(b"evdb_vehicle_id=")[1].split()[0])
                seen.append(vehicle)
                result = {"vehicle_to_load_power_output_kw": vehicle}
                body = json.dumps({"success": True, "result": result}).encode()
                whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                writer.write(whole * (2 if len(seen) == 1 else 1))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynchronous
@pytest.mark.parametrize("is_client", [True, False])
async def test_the_stock_pool_never_gives_one_vehicle_the_surplus_of_another(is_client: bool) -> None:
    """It would take surplus bytes for the next answer: so each of its connections carries one request."""
    async with stuttering_server() as url:
        given: dict[str, Any] = (
            {"http_client": httpx.AsyncClient(trust_env=False)}
            if is_client
            else {"transport": httpx.AsyncHTTPTransport(trust_env=False)}
        )
        async with OneAutoClient("k" * 20, base_url=url, **given) as client:
            for vehicle in (1, 2, 3):
                outcome = await client.lookup(vehicle)
                assert isinstance(outcome, Found)
                assert outcome.value.vehicle_to_load_power_output_kw == vehicle


class Wrapper(httpx.AsyncBaseTransport):
    """Does nothing but to hand on, as one that logs would."""

    def __init__(self) -> None:
        self.transport = HTTP11Transport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self.transport.aclose()


@asynchronous
async def test_a_refused_connection_behind_a_wrapper_is_surely_unsent(unused_tcp_port: int) -> None:
    """Our transport inside it knows, whatever is around it."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    retry = RetryPolicy(attempts=2, total=2)
    async with OneAutoClient("k" * 20, base_url=url, transport=Wrapper(), retry=retry) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, Failed)
    assert (outcome.receipt.billing, outcome.receipt.doubts) == (Billing.NOT_BILLED, 0)


class Stubborn(Wrapper):
    """Sends what has failed once more, as packages that add retries to httpx do."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.transport.handle_async_request(request)
        except httpx.TransportError:
            return await self.transport.handle_async_request(request)


@asynchronous
async def test_what_a_retrying_transport_has_sent_once_is_never_surely_unsent() -> None:
    """Its second try found no connection, and the first may have been charged."""
    async with giving(b"") as (url, seen), OneAutoClient("k" * 20, base_url=url, transport=Stubborn()) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert (len(seen), outcome.receipt.doubts) == (1, 1)


class Closing(httpx.AsyncByteStream):
    """A body that is closed in a way of its own."""

    def __init__(self, stream: httpx.AsyncByteStream, close: Callable[[], Awaitable[object]]) -> None:
        self._stream, self._close = stream, close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
        await self._close()


class Closer(httpx.AsyncBaseTransport):
    """Gives every response such a body."""

    def __init__(self, transport: httpx.AsyncBaseTransport, close: Callable[[], Awaitable[object]]) -> None:
        self._transport, self._close = transport, close

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = Closing(response.stream, self._close)
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


STOCK_OR_OURS = pytest.mark.parametrize(
    "make", [HTTP11Transport, lambda: httpx.AsyncHTTPTransport(trust_env=False)], ids=["ours", "stock"]
)


@STOCK_OR_OURS
@asynchronous
async def test_every_response_is_closed(make: Callable[[], httpx.AsyncBaseTransport]) -> None:
    """Whoever wraps a transport may count on it, to let the next call go, say."""
    free = asyncio.Semaphore(1)

    async def release() -> None:
        free.release()

    class Limited(Closer):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await free.acquire()
            return await super().handle_async_request(request)

    simulator = Simulator()
    with serve(simulator) as url:
        async with OneAutoClient(simulator.api_key, base_url=url, transport=Limited(make(), release)) as client:
            outcomes = [await client.lookup(vehicle) for vehicle in ("1", "2", "SIM-204", "3")]
    assert [type(outcome) for outcome in outcomes] == [Found, Found, NoData, Found]


async def _fail() -> None:
    raise httpx.CloseError("the other side was faster")


async def _break() -> None:
    raise RuntimeError("a cache is full")


async def _hang() -> None:
    await asyncio.sleep(60.0)


@STOCK_OR_OURS
@pytest.mark.parametrize("close", [_fail, _break, _hang])
@asynchronous
async def test_a_response_that_cannot_be_closed_is_an_answer_all_the_same(
    make: Callable[[], httpx.AsyncBaseTransport],
    close: Callable[[], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is whole, and paid for."""
    monkeypatch.setattr(exchange, "LONGEST_CLOSING", 0.05)
    simulator = Simulator()
    with serve(simulator) as url:
        async with OneAutoClient(simulator.api_key, base_url=url, transport=Closer(make(), close)) as client:
            outcome = await client.lookup("1")
    assert (type(outcome), simulator.total_billed) == (Found, 1)


@STOCK_OR_OURS
@asynchronous
async def test_an_answer_whose_closing_is_cancelled_is_kept(make: Callable[[], httpx.AsyncBaseTransport]) -> None:
    """A client that closes, and does not wait, has it."""
    closing = asyncio.Event()

    async def hang() -> None:
        closing.set()
        await asyncio.sleep(60.0)

    simulator = Simulator()
    with serve(simulator) as url:
        timeouts = Timeouts(drain=0)
        client = OneAutoClient(simulator.api_key, base_url=url, transport=Closer(make(), hang), timeouts=timeouts)
        async with client:
            lookup = asyncio.ensure_future(client.lookup("1"))
            await closing.wait()
        assert isinstance(await lookup, Found)


@asynchronous
async def test_what_was_sent_once_stays_in_doubt_though_a_tracer_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wraps httpx's stock transport is asked instead of ours, and nothing of it is traced."""
    untraced = httpx.AsyncHTTPTransport.handle_async_request

    async def traced(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        return await untraced(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", traced)
    async with giving(b"") as (url, seen), OneAutoClient("k" * 20, base_url=url, transport=Stubborn()) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert (len(seen), outcome.receipt.doubts) == (1, 1)


@pytest.mark.parametrize("status", [204, 429, 503])
@asynchronous
async def test_an_answer_for_nothing_to_what_was_sent_twice_leaves_a_doubt(status: int) -> None:
    """The first request was read and never answered: that the second is free says nothing of it."""
    async with giving(b"", bare(status)) as (url, seen):
        async with OneAutoClient("k" * 20, base_url=url, transport=Stubborn()) as client:
            outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert (len(seen), outcome.receipt.doubts) == (2, 1)


class Detour(Wrapper):
    """Goes by a proxy, which lets nobody through, when our transport has failed."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.transport.handle_async_request(request)
        except httpx.TransportError:
            raise httpx.ProxyError("503 Busy") from None


@asynchronous
async def test_a_proxy_that_lets_nobody_through_says_nothing_of_what_was_sent_before_it_was_tried() -> None:
    """It is neither told as unsent nor sent again."""
    async with giving(b"") as (url, seen), OneAutoClient("k" * 20, base_url=url, transport=Detour()) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert (len(seen), outcome.receipt.attempts, outcome.receipt.doubts) == (1, 1, 1)


class Patient(Wrapper):
    """Sends once more what was answered with 503."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.transport.handle_async_request(request)
        return await self.transport.handle_async_request(request) if response.status_code == 503 else response


@asynchronous
async def test_what_was_answered_for_nothing_is_in_no_doubt_when_it_is_sent_again() -> None:
    """A transport that retries by itself changes nothing about what a 503 costs."""
    async with giving(bare(503), bare(503)) as (url, seen):
        async with OneAutoClient("k" * 20, base_url=url, transport=Patient(), retry=RetryPolicy(attempts=1)) as client:
            outcome = await client.lookup(1)
    assert isinstance(outcome, Failed)
    assert (len(seen), outcome.receipt.billing) == (2, Billing.NOT_BILLED)


class Failover(Wrapper):
    """Asks elsewhere when our transport finds no connection, or a service that is away."""

    def __init__(self, elsewhere: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]) -> None:
        super().__init__()
        self.elsewhere = httpx.MockTransport(elsewhere)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self.transport.handle_async_request(request)
        except httpx.ConnectError:
            return await self.elsewhere.handle_async_request(request)
        return await self.elsewhere.handle_async_request(request) if response.status_code == 503 else response


@asynchronous
async def test_what_goes_another_way_after_a_refused_connection_may_be_charged(unused_tcp_port: int) -> None:
    """Only that nothing left by our transport is known then."""
    sent: list[httpx.Request] = []

    async def loses_it(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise httpx.ReadTimeout("no answer", request=request)

    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with OneAutoClient(
        "k" * 20, base_url=url, transport=Failover(loses_it), budget=Budget(max_billed=1)
    ) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert len(sent) == 1


async def loses(request: httpx.Request) -> httpx.Response:
    """Send a request the other way, where no answer comes from."""
    await asyncio.sleep(0.2)
    raise httpx.ReadTimeout("no answer", request=request)


@asynchronous
async def test_what_goes_another_way_after_an_answer_for_nothing_may_be_charged() -> None:
    """Ours was told 503; of what was sent then nothing is known."""
    async with giving(bare(503)) as (url, _):
        async with OneAutoClient("k" * 20, base_url=url, transport=Failover(loses)) as client:
            outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert (outcome.receipt.attempts, outcome.receipt.doubts) == (1, 1)


@asynchronous
async def test_what_is_on_another_way_when_its_lookup_is_cancelled_is_in_doubt() -> None:
    """Once the client closes, nobody will ever hear of it."""
    async with giving(bare(503)) as (url, seen):
        async with OneAutoClient("k" * 20, base_url=url, transport=Failover(loses)) as client:
            asking = asyncio.create_task(client.lookup(1))
            while not seen:  # noqa: ASYNC110  # the server tells nobody
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        (outcome,) = client.unclaimed
    assert isinstance(outcome, InDoubt)


class Impatient(Failover):
    """Gives our transport a moment to find a connection, and then asks elsewhere."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(0.1):
                return await self.transport.handle_async_request(request)
        except TimeoutError:
            return await self.elsewhere.handle_async_request(request)


@asynchronous
async def test_whatever_ended_our_try_another_way_may_be_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the time that a transport around it allows: ours would have been sent nowhere."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(HTTP11Transport, "fetch", never)
    async with OneAutoClient("k" * 20, base_url="http://127.0.0.1:9", transport=Impatient(loses)) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, InDoubt)
    assert outcome.receipt.attempts == 1


class Spoiler(Wrapper):
    """Adds a header that cannot be sent."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["x-trace"] = "one\ntwo"
        return await self.transport.handle_async_request(request)


@asynchronous
async def test_what_cannot_be_sent_is_in_no_doubt_behind_a_wrapper() -> None:
    """Our transport refuses it, and nobody else has it."""
    async with OneAutoClient("k" * 20, base_url="http://127.0.0.1:9", transport=Spoiler()) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, Failed)
    assert (outcome.receipt.billing, outcome.receipt.doubts) == (Billing.NOT_BILLED, 0)


class Heir(HTTP11Transport):
    """Is ours, and asks elsewhere after a 503."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if response.status_code != 503:
            return response
        return httpx.Response(200, json={"success": True, "result": {}})


@asynchronous
async def test_what_is_made_of_our_transport_may_answer_for_itself() -> None:
    """Its answer is the one that counts, not what ours had heard before."""
    async with giving(bare(503)) as (url, _), OneAutoClient("k" * 20, base_url=url, transport=Heir()) as client:
        assert isinstance(await client.lookup(1), Found)


@asynchronous
async def test_an_answer_to_the_second_of_two_requests_leaves_a_doubt_about_the_first() -> None:
    """It is paid for, and the one that was never answered may be as well: a budget counts both."""
    async with giving(b"", bare(200, b'{"success":true,"result":{}}')) as (url, _):
        async with OneAutoClient("k" * 20, base_url=url, transport=Stubborn()) as client:
            outcome = await client.lookup(1)
    assert isinstance(outcome, Found)
    assert (outcome.receipt.billing, outcome.receipt.doubts, outcome.receipt.charges) == (Billing.BILLED, 1, 2)


@asynchronous
async def test_a_whole_answer_is_kept_though_its_hook_is_too_slow_for_the_client_that_closes() -> None:
    """The time for what is under way ends while the hook still looks at it."""

    async def hook(response: httpx.Response) -> None:
        asyncio.get_running_loop().call_soon(looked_at.set)
        await asyncio.sleep(60)

    looked_at, hooks = asyncio.Event(), {"response": [hook]}
    answer = bare(200, b'{"success":true,"result":{}}')
    async with (
        giving(answer) as (url, _),
        httpx.AsyncClient(transport=HTTP11Transport(), event_hooks=hooks) as http_client,
        OneAutoClient("k" * 20, base_url=url, http_client=http_client, timeouts=Timeouts(drain=0.1)) as client,
    ):
        asking = asyncio.create_task(client.lookup(1))
        await looked_at.wait()
        await client.aclose()
        assert isinstance(await asking, Found)


@asynchronous
async def test_the_answer_that_comes_another_way_is_the_answer() -> None:
    """Our transport had one already, which was free, and the one that was paid for came after it."""
    sent: list[httpx.Request] = []

    async def finds(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"success": True, "result": {}})

    async with giving(bare(503)) as (url, _):
        async with OneAutoClient("k" * 20, base_url=url, transport=Failover(finds)) as client:
            outcome = await client.lookup(1)
    assert isinstance(outcome, Found)
    assert (len(sent), outcome.receipt.billing) == (1, Billing.BILLED)


@asynchronous
async def test_a_whole_answer_is_kept_though_its_hook_is_cancelled() -> None:
    """What has come is paid for, whatever becomes of the hook that sees it."""

    async def hook(response: httpx.Response) -> None:
        raise asyncio.CancelledError

    hooks, answer = {"response": [hook]}, bare(200, b'{"success":true,"result":{}}')
    async with (
        giving(answer) as (url, _),
        httpx.AsyncClient(transport=HTTP11Transport(), event_hooks=hooks) as http_client,
    ):
        async with OneAutoClient("k" * 20, base_url=url, http_client=http_client) as client:
            assert isinstance(await client.lookup(1), Found)


@asynchronous
async def test_a_packed_answer_that_comes_together_with_a_cancellation_is_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is paid for, and would be kept in the ledger as it came, of no use to anyone."""
    packed = gzip.compress(b'{"success":true,"result":{}}')
    head = b"HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    received = Connection.data_received

    def in_haste(connection: Connection, data: bytes) -> None:
        closing.cancel()  # closing waits for the answer, and in the turn in which it comes is to wait no longer
        received(connection, data)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await asyncio.sleep(0.1)
        writer.write(head + packed)
        writer.close()

    asked = asyncio.Event()
    monkeypatch.setattr(Connection, "data_received", in_haste)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with OneAutoClient("k" * 20, base_url=url) as client:
            asking = asyncio.create_task(client.lookup(1))
            await asked.wait()
            closing = asyncio.create_task(client.aclose())
            await asyncio.wait([closing])
            outcome = await asking
    assert isinstance(outcome, Found)
    assert outcome.raw == gzip.decompress(packed)


class Stopping(SystemClock):
    """A clock that may stop working."""

    works = True

    def monotonic(self) -> float:
        if not self.works:
            raise OSError("no time")
        return super().monotonic()


@asynchronous
async def test_a_lookup_that_cannot_even_begin_gives_its_slot_back() -> None:
    """Here the clock fails that the client was given."""
    clock = Stopping()
    async with OneAutoClient.simulated(clock=clock, max_concurrency=1) as client:
        clock.works = False
        with pytest.raises(OSError, match="no time"):
            await client.lookup(1)
        clock.works = True
        async with asyncio.timeout(10):
            assert isinstance(await client.lookup(1), Found)


@pytest.mark.parametrize("by_child", [False, True])
@asynchronous
async def test_a_lookup_cannot_close_the_client_that_it_belongs_to(by_child: bool) -> None:
    """Each would wait for the other's end; the client stays open, and can be closed from elsewhere."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await (asyncio.gather(client.aclose()) if by_child else client.aclose())
        raise AssertionError("not reached")

    async with OneAutoClient("k", base_url="https://x.invalid", transport=httpx.MockTransport(handler)) as client:
        async with asyncio.timeout(10):
            with pytest.raises(ClientClosedError, match="its own end"):
                await client.lookup(1)


@asynchronous
async def test_a_fault_is_logged_without_what_it_quotes(caplog: pytest.LogCaptureFixture) -> None:
    """The headers of a request hold the key; whoever waits gets the fault as it is, and the event its name."""
    events: list[Event] = []

    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"unexpected: {request.headers.raw}")

    transport, key = httpx.MockTransport(handler), "key-that-nobody-may-see"
    async with OneAutoClient(
        key, base_url="https://x.invalid", transport=transport, observers=[events.append]
    ) as client:
        with pytest.raises(AssertionError, match=key):
            await client.lookup(1)
    assert "AssertionError" in caplog.text
    assert key not in caplog.text
    (ended,) = (event for event in events if isinstance(event, LookupEnded))
    assert (ended.outcome, ended.billing) == ("AssertionError", Billing.UNKNOWN)


def test_a_doubt_is_told_once_though_payer_and_guest_leave_together(clock: VirtualClock) -> None:
    """Two batches with a budget each, one id, one deadline: the second that leaves must not hand it on as untold."""
    sent: list[httpx.Request] = []

    async def gateway(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        await asyncio.sleep(0.1)
        if len(sent) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(429, headers={"Retry-After": "3"}, json={"message": "Too Many Requests"})

    async def main() -> tuple[list[int], int]:
        async with of_mock(gateway, clock, retry=RetryPolicy(resend_in_doubt=1, total=20)) as client:

            async def spent() -> int:
                async with client.batch([1], deadline=0.8, budget=Budget(max_billed=5)) as batch:
                    assert len([outcome async for outcome in batch]) == 1
                return batch.summary.spent

            both = await asyncio.gather(spent(), spent())
            return sorted(both), len(client.unclaimed)

    assert clock.run(main()) == ([0, 1], 0)


@asynchronous
async def test_a_mock_that_fails_a_test_is_heard_and_its_slot_is_free_again() -> None:
    """pytest.fail raises what is no Exception."""

    def handler(request: httpx.Request) -> httpx.Response:
        pytest.fail("the service must not be asked")

    transport = httpx.MockTransport(handler)
    async with OneAutoClient("k", base_url="https://x.invalid", transport=transport, max_concurrency=1) as client:
        for _ in range(2):
            async with asyncio.timeout(10):
                with pytest.raises(pytest.fail.Exception, match="must not be asked"):
                    await client.lookup("1")
        async with asyncio.timeout(10), client.batch(["1", "2"]) as batch:
            with pytest.raises(pytest.fail.Exception, match="must not be asked"):
                await anext(batch)


@asynchronous
async def test_an_observer_that_fails_a_test_does_not_hold_up_a_lookup() -> None:
    """What it raises is logged and goes no further, whatever it is."""

    def observer(event: Event) -> None:
        pytest.fail("no event is expected")

    async with OneAutoClient.simulated(observers=[observer]) as client, asyncio.timeout(10):
        assert isinstance(await client.lookup("1"), Found)


def test_a_transport_that_is_cancelled_by_somebody_else_does_not_look_like_closing(clock: VirtualClock) -> None:
    """The client is open, and the request may have been charged."""

    async def handler(request: httpx.Request) -> httpx.Response:
        raise asyncio.CancelledError

    async def main() -> Any:
        async with of_mock(handler, clock) as client:
            return await client.lookup("1")

    outcome = clock.run(main())
    assert isinstance(outcome, InDoubt)
    assert "closed" not in str(outcome.error)


# Charges that are told once.


def test_an_answer_with_a_doubt_is_taken_over_only_where_both_charges_have_room(clock: VirtualClock) -> None:
    """A budget of two holds a doubt and a bill, and then nothing more."""

    async def main() -> Any:
        simulator = Simulator(latency=1)
        retry = RetryPolicy(resend_in_doubt=1)
        async with OneAutoClient.simulated(simulator, clock=clock, retry=retry) as client:
            simulator.fail_next(1, 504)
            visitor = asyncio.create_task(client.lookup("1"))
            await asyncio.sleep(1.9)
            visitor.cancel()
            await asyncio.sleep(5)
            async with client.batch(["1", "2"], budget=Budget(max_billed=2)) as batch:
                kinds = [type(outcome).__name__ async for outcome in batch]
            return kinds, batch.summary.spent

    assert clock.run(main()) == (["Found", "NotSent"], 2)


def test_a_doubt_that_a_batch_was_told_of_is_not_unclaimed(clock: VirtualClock) -> None:
    """The next who asks would count it once more."""
    sent: list[str] = []

    async def gateway(request: httpx.Request) -> httpx.Response:
        vehicle = request.url.params["evdb_vehicle_id"]
        sent.append(vehicle)
        await asyncio.sleep(0.1 if vehicle == "1" else 0.11)
        return httpx.Response({"1": 504, "2": 403}[vehicle], json={"message": "x"})

    async def main() -> Any:
        async with of_mock(gateway, clock, retry=RetryPolicy(resend_in_doubt=1)) as client:
            async with client.batch(["1", "2"]) as batch:
                outcomes = {outcome.evdb_vehicle_id: outcome async for outcome in batch}
            await asyncio.sleep(1)
            return outcomes["1"], batch.summary.spent, client.unclaimed

    outcome, spent, unclaimed = clock.run(main())
    assert isinstance(outcome, InDoubt)
    assert (spent, len(sent), unclaimed) == (1, 2, ())


def test_a_doubt_is_told_to_the_payer_who_leaves_and_not_to_the_guest_as_well(clock: VirtualClock) -> None:
    """The guest's budget has room still for an id of its own."""
    sent: list[str] = []

    async def gateway(request: httpx.Request) -> httpx.Response:
        vehicle = request.url.params["evdb_vehicle_id"]
        sent.append(vehicle)
        await asyncio.sleep(0.1)
        if vehicle == "2":
            return httpx.Response(200, json={"success": True, "result": {}})
        if sent.count("1") == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(429, headers={"Retry-After": "3"}, json={"message": "Too Many Requests"})

    async def main() -> Any:
        async with of_mock(gateway, clock, retry=RetryPolicy(resend_in_doubt=1, total=20)) as client:

            async def guest() -> Any:
                await asyncio.sleep(0.05)
                async with client.batch([1, 2], budget=Budget(max_billed=1), concurrency=1) as batch:
                    return [outcome async for outcome in batch], batch.summary.spent

            waiting = asyncio.create_task(guest())
            async with client.batch([1], deadline=0.8, budget=Budget(max_billed=5)) as batch:
                told = [outcome async for outcome in batch]
            return told, batch.summary.spent, await waiting

    told, spent, (theirs, their_spent) = clock.run(main())
    assert (spent, told[0].receipt.doubts) == (1, 1)
    assert (their_spent, [outcome.receipt.doubts for outcome in theirs]) == (1, [0, 0])
    assert isinstance(theirs[1], Found)


def test_an_answer_that_stops_a_batch_is_counted_once_for_all_its_places(clock: VirtualClock) -> None:
    """Without deduplication three places share one flight, and one of them has its receipt."""
    sent: list[None] = []

    async def gateway(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        sent.append(None)
        return httpx.Response(504 if len(sent) == 1 else 403, json={"message": "Forbidden"})

    async def main() -> Any:
        async with of_mock(gateway, clock, retry=RetryPolicy(resend_in_doubt=1)) as client:
            async with client.batch(["1", "1", "1"], deduplicate=False) as batch:
                async for _ in batch:
                    pass
            return batch.summary

    summary = clock.run(main())
    assert (len(sent), summary.attempts, summary.spent, summary.duplicates) == (2, 2, 1, 2)


class FailsOnce(MemoryLedger):
    """A ledger whose next end of a claim cannot be written."""

    is_full = False

    def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
        written = super().settle(claim, settlement)
        if not self.is_full or settlement.state is not State.ANSWERED:
            return written
        self.is_full = False
        full: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        full.set_exception(LedgerError("the disk is full"))
        return full


@pytest.mark.parametrize(
    ("wishes", "bills"), [({"max_age": 60}, 2), ({"refresh": True}, 2), ({"max_age": 86400}, 1), ({}, 1)]
)
def test_what_a_ledger_failed_to_keep_is_served_only_to_whom_it_will_do(
    clock: VirtualClock, wishes: dict[str, Any], bills: int
) -> None:
    """Two hours later it is too old for some, and those who refresh want none that is kept."""

    async def main() -> Any:
        simulator, ledger = Simulator(), FailsOnce(clock=clock)
        async with OneAutoClient.simulated(simulator, ledger=ledger, clock=clock) as client:
            ledger.is_full = True
            with pytest.raises(LedgerError, match="unclaimed"):
                await client.lookup("1", **wishes)
            await asyncio.sleep(7200)
            outcome = await client.lookup("1", **wishes)
            return outcome, simulator.bills

    outcome, billed = clock.run(main())
    assert isinstance(outcome, Found)
    assert billed == {"1": bills}


# Closing.


def test_a_batch_whose_input_is_idle_ends_when_the_client_closes(clock: VirtualClock) -> None:
    """An id may never come, and nothing could be sent for it."""

    async def main() -> Any:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def ids() -> AsyncIterator[str]:
            while True:
                yield await queue.get()

        client = OneAutoClient.simulated(Simulator(), clock=clock)
        await client.__aenter__()

        async def consume() -> Any:
            async with client.batch(ids()) as batch:
                kinds = [type(outcome).__name__ async for outcome in batch]
            return kinds, batch.summary.stopped

        consumer = asyncio.create_task(consume())
        queue.put_nowait("1")
        await asyncio.sleep(1)
        await client.aclose()
        async with asyncio.timeout(10):
            return await consumer

    assert clock.run(main()) == (["Found"], NotSentReason.CLOSED)


@asynchronous
async def test_closing_while_it_is_being_opened_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither the ledger, which was opened meanwhile, nor the connections."""
    ledger = SqliteLedger(tmp_path / "a.ledger")
    client = OneAutoClient.simulated(Simulator(), ledger=ledger)
    opening = asyncio.create_task(client.__aenter__())
    await asyncio.sleep(0)
    await client.aclose()
    with pytest.raises(ClientClosedError, match="while it was being opened"):
        await opening
    assert not ledger.is_open

"""The same on uvloop, which has no happy eyeballs and connections of its own."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import ssl
import time
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

import httpx
import pytest
from support.raw import (
    ANSWER,
    CANARY_KEY,
    RawServer,
    answers,
    answers_then,
    breaks_off,
    http,
    never_answers,
    pours,
    raw_server,
    serving,
    trusting,
)
from support.sockets import black_hole, until

from oneauto_async import Found, InDoubt, OneAutoClient, Timeouts
from oneauto_async.transport import FlightRecord, HTTP11Transport, Stage

uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
pytestmark = pytest.mark.slow  # the session that runs the slow tests is the one that installs uvloop

T = TypeVar("T")
every_wire = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop; nothing may be left open at its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(main)
        gc.collect()
    return result


def url(server: RawServer, vehicle_id: object = 1) -> str:
    return f"{server.base_url}/?evdb_vehicle_id={vehicle_id}"


def context(tls: bool) -> ssl.SSLContext | None:
    return trusting() if tls else None


@every_wire
def test_lookups_are_answered_over_few_connections(tls: bool) -> None:
    """A batch of a hundred under uvloop bills each id once, over ten connections at most."""

    async def main() -> None:
        assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
        async with raw_server(tls=serving("127.0.0.1") if tls else None) as server:
            client = OneAutoClient(CANARY_KEY, base_url=server.base_url, ssl_context=context(tls))
            async with client:
                outcomes = await client.lookup_many(range(100), concurrency=5)
            assert all(isinstance(outcome, Found) for outcome in outcomes)
            assert server.bills.total() == len(server.asked) == 100
            assert server.connections <= 10

    run(main())


FAILURES: dict[str, tuple[Any, type[Exception], Stage]] = {
    "FIN": (breaks_off(), httpx.RemoteProtocolError, Stage.SENT),
    "RST": (breaks_off(reset=True), httpx.ReadError, Stage.SENT),
    "silence": (never_answers(), httpx.ReadTimeout, Stage.SENT),
    "no HTTP": (answers(b"SSH-2.0-x\r\n"), httpx.RemoteProtocolError, Stage.SENT),
    "half a body": (
        breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
        httpx.RemoteProtocolError,
        Stage.ANSWERED,
    ),
    "a drip": (pours(b"HTTP/1.1 200 OK\r\n\r\n", b"a", pause=0.01), httpx.ReadTimeout, Stage.ANSWERED),
}


@every_wire
@pytest.mark.parametrize(("behaviour", "kind", "stage"), FAILURES.values(), ids=FAILURES.keys())
def test_failures_are_told_apart(behaviour: Any, kind: type[Exception], stage: Stage, tls: bool) -> None:
    """The same errors and the same stages; the next request works."""

    async def main() -> None:
        async with raw_server(tls=serving("127.0.0.1") if tls else None) as server:
            server.on("1", behaviour)
            async with httpx.AsyncClient(transport=HTTP11Transport(context(tls), deadline=0.3)) as client:
                request = client.build_request("GET", url(server))
                with pytest.raises(httpx.TransportError) as caught:
                    await client.send(request)
                assert (await client.get(url(server, 2))).content == ANSWER
            record = request.extensions["oneauto_async.flight"]
            assert isinstance(record, FlightRecord)
            assert record.stage is stage
            # uvloop tells some resets under TLS as plain ends.
            assert type(caught.value) is kind or (tls and kind is httpx.ReadError)

    run(main())


def test_a_closed_port_and_an_unknown_name_are_connect_errors() -> None:
    """Under uvloop too, both raise the error of httpx that means nothing was sent."""

    async def main() -> None:
        async with httpx.AsyncClient(transport=HTTP11Transport()) as client:
            for address in ("http://127.0.0.1:9/", "http://nowhere.invalid/"):
                with pytest.raises(httpx.ConnectError):
                    await client.get(address)

    run(main())


@pytest.mark.parametrize(("names", "trusted"), [("127.0.0.1", False), ("elsewhere.invalid", True)])
def test_a_certificate_that_does_not_fit_is_refused(names: str, trusted: bool) -> None:
    """Nothing is sent, and it is final for `OneAutoClient`."""

    async def main() -> None:
        async with raw_server(tls=serving(names)) as server:
            client = OneAutoClient(CANARY_KEY, base_url=server.base_url, ssl_context=context(trusted))
            async with client:
                outcome = await client.lookup(1)
            assert outcome.receipt.attempts == 1
            assert server.asked == []

    run(main())


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name have these addresses."""

    async def getaddrinfo(self: Any, host: str, port: int, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    class Loop(uvloop.Loop):  # type: ignore[misc, name-defined]  # an extension type without stubs
        pass

    Loop.getaddrinfo = getaddrinfo
    monkeypatch.setattr(uvloop, "new_event_loop", Loop)


def test_localhost_falls_back_to_the_address_that_listens() -> None:
    """The machine's own resolver, and an IPv4-only listener."""

    async def main() -> None:
        async with raw_server() as server, httpx.AsyncClient(transport=HTTP11Transport()) as client:
            response = await client.get(url(server).replace("127.0.0.1", "localhost"))
            assert response.content == ANSWER

    run(main())


def test_an_address_that_refuses_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first of two addresses refuses, the request goes to the second."""
    _resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")

    async def main() -> None:
        async with raw_server() as server, httpx.AsyncClient(transport=HTTP11Transport()) as client:
            port = httpx.URL(server.base_url).port
            assert (await client.get(f"http://two.invalid:{port}/")).content == ANSWER

    run(main())


def test_an_address_that_hangs_costs_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of two is reached within the connect timeout."""

    async def main(hole: tuple[str, int]) -> None:
        listening = await asyncio.start_server(RawServer().handle, "127.0.0.2", hole[1])
        limit = httpx.Timeout(5, connect=1)
        async with httpx.AsyncClient(transport=HTTP11Transport(), timeout=limit) as client:
            started = time.monotonic()
            assert (await client.get(f"http://two.invalid:{hole[1]}/")).content == ANSWER
            assert time.monotonic() - started < 1.5
        listening.close()

    with black_hole() as hole:
        _resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
        run(main(hole))


def test_waiting_for_every_address_ends_with_the_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two addresses that never answer share the connect timeout."""

    async def main(port: int) -> None:
        limit = httpx.Timeout(5, connect=0.3)
        async with httpx.AsyncClient(transport=HTTP11Transport(), timeout=limit) as client:
            started = time.monotonic()
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"http://two.invalid:{port}/")
            assert time.monotonic() - started < 1.3

    with black_hole() as hole:
        _resolve_to(monkeypatch, "127.0.0.1", "127.0.0.1")
        run(main(hole[1]))


@every_wire
def test_cancelled_calls_leave_nothing_behind(tls: bool) -> None:
    """A few hundred at random moments; then the client works, and every descriptor is back."""

    async def main() -> None:
        chance, cancelled = random.Random(5), 0
        async with raw_server(tls=serving("127.0.0.1") if tls else None) as server:
            for number in range(300):
                server.on(str(number), answers(delay=chance.choice([0, 0.001, 0.004])))
            before = len(os.listdir("/dev/fd"))  # noqa: PTH208
            transport = HTTP11Transport(context(tls), max_connections=4)
            async with httpx.AsyncClient(transport=transport) as client:
                for number in range(300):
                    asking = asyncio.ensure_future(client.get(url(server, number)))
                    await asyncio.sleep(chance.choice([0, 0, chance.random() * 0.008]))
                    asking.cancel()
                    await asyncio.wait([asking])
                    cancelled += asking.cancelled()
                assert cancelled > 100
                assert "0 lent," in repr(transport)
                responses = await asyncio.gather(*(client.get(url(server, number)) for number in range(20)))
                assert {response.content for response in responses} == {ANSWER}
            await until(lambda: server.open == 0)
            await asyncio.sleep(0.05)
            assert abs(len(os.listdir("/dev/fd")) - before) <= 2  # noqa: PTH208
            assert max(server.requests.values()) <= 2

    run(main())


def test_a_connection_the_server_closes_is_dropped_at_once() -> None:
    """An idle connection leaves the pool when it ends or shows a byte nobody asked for."""

    async def main() -> None:
        transport = HTTP11Transport(keepalive_expiry=60)
        async with raw_server() as server, httpx.AsyncClient(transport=transport) as client:
            for last in (b"", b"x", http(200, b"of another")):
                server.on("1", answers_then(last))
                await client.get(url(server))
                await until(lambda: "0 idle" in repr(transport))
            assert server.connections == 3

    run(main())


def test_closing_the_client_closes_every_socket() -> None:
    """A lookup under way is in doubt when the drain ends."""

    async def main() -> None:
        async with raw_server() as server:
            server.on("1", never_answers())
            client = OneAutoClient(CANARY_KEY, base_url=server.base_url, timeouts=Timeouts(drain=0.05))
            async with client:
                asking = asyncio.ensure_future(client.lookup(1))
                await until(lambda: server.in_flight == 1)
            assert isinstance(await asking, InDoubt)
            await until(lambda: server.open == 0)

    run(main())

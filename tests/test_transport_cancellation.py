"""Cancelled at any moment, thousands of times: nothing is left behind, and the next call works at once."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest
from support.raw import ANSWER, CANARY_KEY, Asked, RawServer, answers, http, raw_server, serving, trusting
from support.sockets import until

from oneauto_async import Found, OneAutoClient, RateLimit
from oneauto_async._wire.connection import Connection
from oneauto_async.transport import HTTP11Transport

pytestmark = pytest.mark.asyncio

WORKERS = 20
every_wire = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
every_other_wire = pytest.mark.parametrize(
    "tls", [pytest.param(False, marks=pytest.mark.slow), True], ids=["tcp", "tls"]
)


async def moody(server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer after a random moment, in one piece or two; close now and then."""
    chance = random.Random(asked.vehicle_id)
    server.bills[asked.vehicle_id] += 1
    await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
    response = http(200, ANSWER, Connection=chance.choice(["keep-alive", "close"]))
    cut = chance.randrange(len(response))
    writer.write(response[:cut])
    await writer.drain()
    await asyncio.sleep(chance.choice([0, 0.001]))
    writer.write(response[cut:])
    await writer.drain()
    if b"close" in response:
        raise ConnectionError


@asynccontextmanager
async def moody_server(tls: bool) -> AsyncIterator[RawServer]:
    async with raw_server(tls=serving("127.0.0.1") if tls else None) as server:
        server.behaviours = _Always(moody)
        yield server


class _Always(dict[str, Any]):
    """One behaviour for every id."""

    def __init__(self, behaviour: Any) -> None:
        super().__init__()
        self._behaviour = behaviour

    def get(self, key: str, default: Any = None) -> Any:
        return self._behaviour


async def storm(ask: Callable[[int], Awaitable[object]], count: int, seed: int) -> int:
    """Start so many calls and cancel each at a random moment; return how many were cancelled before they ended."""
    chance = random.Random(seed)
    numbers = iter(range(count))

    async def work() -> int:
        cancelled = 0
        for number in numbers:
            asking = asyncio.ensure_future(ask(number))
            if chance.random() < 0.5:
                for _ in range(chance.randrange(40)):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(chance.random() * 0.006)
            asking.cancel()
            await asyncio.wait([asking])
            cancelled += asking.cancelled()
            assert asking.cancelled() or asking.exception() is None
        return cancelled

    return sum(await asyncio.gather(*(work() for _ in range(WORKERS))))


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208  # a pathlib object for each would be of no use


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Check that no descriptor stays open, no warning of a resource is given and no exception goes unheard."""
    loop, unheard = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: unheard.append(context["message"]))
    gc.collect()
    before = descriptors()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
        gc.collect()
    loop.set_exception_handler(None)
    assert [str(warning.message) for warning in warned if warning.category is ResourceWarning] == []
    assert [message for message in unheard if "never retrieved" in message] == []
    assert abs(descriptors() - before) <= 2


async def settle(server: RawServer) -> None:
    """Wait until the server has seen every connection end."""
    await until(lambda: server.open == 0)
    await asyncio.sleep(0.05)


async def cancel_through_httpx(tls: bool, count: int, seed: int) -> None:
    """A plain client with few places, so that calls are cancelled in the line, connecting, sending and reading."""
    with nothing_left_behind():
        async with moody_server(tls) as server:
            transport = HTTP11Transport(trusting() if tls else None, max_connections=8, keepalive_expiry=0.05)
            async with httpx.AsyncClient(transport=transport, timeout=10) as client:
                cancelled = await storm(
                    lambda number: client.get(f"{server.base_url}/?evdb_vehicle_id={number}"), count, seed
                )
                assert cancelled > count / 3
                assert "0 lent," in repr(transport)
                assert "0 waiting" in repr(transport)
                await until(lambda: server.in_flight == 0)
                server.behaviours, server.max_in_flight = _Always(answers(delay=0.05)), 0
                urls = [f"{server.base_url}/?evdb_vehicle_id=after{number}" for number in range(16)]
                responses = await asyncio.gather(*map(client.get, urls))
                assert [response.content for response in responses] == [ANSWER] * 16
                assert server.max_in_flight == 8
            await settle(server)
        assert max(server.requests.values()) == 1


async def cancel_through_our_client(tls: bool, count: int, seed: int) -> None:
    """`OneAutoClient` sees requests under way through; nothing is asked twice, and every bill is on its books."""
    with nothing_left_behind():
        async with moody_server(tls) as server:
            client = OneAutoClient(
                CANARY_KEY,
                base_url=server.base_url,
                ssl_context=trusting() if tls else None,
                rate_limit=RateLimit(1e6, burst=1000),
            )
            async with client:
                cancelled = await storm(client.lookup, count, seed)
                assert cancelled > count / 3
                outcomes = await client.lookup_many(f"after{number}" for number in range(100))
                assert all(isinstance(outcome, Found) for outcome in outcomes)
            assert [task.get_name() for task in asyncio.all_tasks() if "oneauto" in task.get_name()] == []
            await settle(server)
        assert max(server.requests.values()) == 1


@every_other_wire
async def test_calls_through_httpx_are_cancelled_cleanly(tls: bool) -> None:
    """Some hundreds; every place is there again afterwards, and every socket closed."""
    await cancel_through_httpx(tls, 400 if tls else 800, seed=11)


@every_other_wire
async def test_lookups_are_cancelled_cleanly(tls: bool) -> None:
    """After hundreds of cancelled lookups others are answered, and no socket or task is left."""
    await cancel_through_our_client(tls, 300 if tls else 500, seed=12)


@pytest.mark.slow
@every_wire
@pytest.mark.parametrize("through", [cancel_through_httpx, cancel_through_our_client])
async def test_ten_thousand_cancellations(through: Callable[[bool, int, int], Awaitable[None]], tls: bool) -> None:
    """Either client over either wire takes 2500 calls and leaves no socket open and no task behind."""
    await through(tls, 2500, 13)


@every_wire
async def test_cancelled_in_every_turn_of_the_event_loop(tls: bool) -> None:
    """One call for each turn from the first to beyond the last: what opens a socket closes it."""
    with nothing_left_behind():
        async with raw_server(tls=serving("127.0.0.1", "localhost") if tls else None) as server:
            urls = [server.base_url, server.base_url.replace("127.0.0.1", "localhost")]
            transport = HTTP11Transport(trusting() if tls else None, keepalive_expiry=0)
            async with httpx.AsyncClient(transport=transport) as client:
                for turns in range(40):
                    for url in urls * 2:
                        asking = asyncio.ensure_future(client.get(url))
                        for _ in range(turns):
                            await asyncio.sleep(0)
                        asking.cancel()
                        await asyncio.wait([asking])
                        assert "unused" in repr(transport) or "0 lent," in repr(transport)
            await settle(server)


async def test_cancelling_during_the_handshake_closes_the_socket() -> None:
    """The server sees the end of the connection as soon as the call is cancelled."""
    seen = asyncio.get_running_loop().create_future()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        try:
            while await reader.read(65536):
                pass
        finally:
            seen.set_result(None)
            writer.close()

    listening = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with httpx.AsyncClient(transport=HTTP11Transport(max_connections=1)) as client:
        url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        asking = asyncio.ensure_future(client.get(url))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(5):
            await seen
    listening.close()


async def test_cancelling_as_the_handshake_ends_closes_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the other side never answers TLS's farewell: nobody waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen = asyncio.create_task(asyncio.to_thread(_shake_hands_and_wait_for_the_end, listening))
        made = Connection.connection_made

        def made_and_cancelled(self: Connection, transport: asyncio.BaseTransport) -> None:
            made(self, transport)
            asking.cancel()

        monkeypatch.setattr(Connection, "connection_made", made_and_cancelled)
        async with httpx.AsyncClient(transport=HTTP11Transport(trusting())) as client:
            asking = asyncio.ensure_future(client.get(f"https://127.0.0.1:{listening.getsockname()[1]}/"))
            await asyncio.wait([asking])
            assert asking.cancelled()
            assert await seen


def _shake_hands_and_wait_for_the_end(listening: socket.socket) -> bool:
    """Take part in a handshake and say nothing more; tell whether the other side closed its socket within 3 s."""
    connection, _ = listening.accept()
    with connection, serving("127.0.0.1").wrap_socket(connection, server_side=True) as shaken:
        with socket.socket(fileno=shaken.detach()) as beneath:
            beneath.settimeout(3)
            try:
                while beneath.recv(65536):
                    pass
            except TimeoutError:
                return False
            except ConnectionError:
                pass
    return True

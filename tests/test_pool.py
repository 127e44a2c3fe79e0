"""The pool over real sockets: who is served by which connection, who waits, and that no place is ever lost."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
from support.raw import ANSWER, RawServer, answers, answers_then, http, never_answers, raw_server
from support.sockets import until

from oneauto_async._wire.connection import Connection
from oneauto_async._wire.dialing import Dialer, Origin
from oneauto_async.transport import FlightRecord, HTTP11Transport, Stage

pytestmark = pytest.mark.asyncio


def client_of(transport: HTTP11Transport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, timeout=5)


def url(server: RawServer, vehicle_id: object) -> str:
    return f"{server.base_url}/?evdb_vehicle_id={vehicle_id}"


def counts(transport: HTTP11Transport) -> tuple[int, int, int]:
    """Return the connections lent and idle and the requests waiting, as the repr tells them."""
    found = re.search(r"(\d+) lent, (\d+) idle, (\d+) waiting", repr(transport))
    assert found, repr(transport)
    lent, idle, waiting = map(int, found.groups())
    return lent, idle, waiting


async def test_the_repr_tells_the_live_state(server: RawServer) -> None:
    """Unused, lent, idle, waiting."""
    server.on("slow", answers(delay=0.1))
    transport = HTTP11Transport(max_connections=1)
    assert repr(transport) == "<HTTP11Transport unused>"
    async with client_of(transport) as client:
        asking = [asyncio.create_task(client.get(url(server, "slow"))) for _ in range(3)]
        await until(lambda: server.in_flight == 1)
        assert repr(transport) == "<HTTP11Transport <Pool of 1: 1 lent, 0 idle, 2 waiting>>"
        await asyncio.gather(*asking)
        assert counts(transport) == (0, 1, 0)
    assert counts(transport) == (0, 0, 0)


async def test_the_connection_used_last_is_used_next(server: RawServer) -> None:
    """A busy few stay warm; the others are left to expire."""
    for vehicle_id, delay in (("a", 0.02), ("b", 0.2), ("c", 0.1)):
        server.on(vehicle_id, answers(delay=delay))
    async with client_of(HTTP11Transport()) as client:
        await asyncio.gather(*(client.get(url(server, vehicle_id)) for vehicle_id in "abc"))
        for _ in range(3):
            await client.get(url(server, "next"))

    last = next(asked.connection for asked in server.asked if asked.vehicle_id == "b")
    assert [asked.connection for asked in server.asked if asked.vehicle_id == "next"] == [last] * 3
    assert server.connections == 3


async def test_whoever_waits_longest_is_served_first(server: RawServer) -> None:
    """Also before whoever comes while a place is free for an instant."""
    server.on("0", answers(delay=0.05))
    async with client_of(HTTP11Transport(max_connections=1)) as client:
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(client.get(url(server, number)))
                await asyncio.sleep(0)

    assert [asked.vehicle_id for asked in server.asked] == [str(number) for number in range(10)]
    assert server.max_in_flight == server.connections == 1


async def test_no_more_connections_than_allowed(server: RawServer) -> None:
    """Sixty requests at once share the four connections that are allowed, and use all of them."""
    for number in range(60):
        server.on(str(number), answers(delay=0.005))
    async with client_of(HTTP11Transport(max_connections=4)) as client:
        await asyncio.gather(*(client.get(url(server, number)) for number in range(60)))
    assert server.max_in_flight == server.connections == 4


async def test_waiting_too_long_is_a_pool_timeout(server: RawServer) -> None:
    """Nothing was sent, the line is left, and the next one is served."""
    server.on("slow", answers(delay=0.3))
    transport = HTTP11Transport(max_connections=1)
    async with client_of(transport) as client:
        slow = asyncio.create_task(client.get(url(server, "slow")))
        await until(lambda: server.in_flight == 1)
        request = client.build_request("GET", url(server, 1), timeout=httpx.Timeout(5, pool=0.05))
        with pytest.raises(httpx.PoolTimeout):
            await client.send(request)
        assert counts(transport) == (1, 0, 0)
        await slow
        assert (await client.get(url(server, 2))).status_code == 200

    record = request.extensions["oneauto_async.flight"]
    assert isinstance(record, FlightRecord)
    assert (record.stage, record.sent_at, record.bytes_sent) == (Stage.NOT_SENT, None, 0)
    assert server.requests == {"slow": 1, "2": 1}


async def test_an_idle_connection_expires(server: RawServer) -> None:
    """The server sees it go, without anyone asking for anything."""
    transport = HTTP11Transport(keepalive_expiry=0.1)
    async with client_of(transport) as client:
        await asyncio.gather(*(client.get(url(server, number)) for number in range(5)))
        assert counts(transport)[1] == server.open > 0
        await until(lambda: server.open == 0)
        assert counts(transport) == (0, 0, 0)


async def test_a_connection_idle_beyond_its_expiry_is_not_lent(server: RawServer) -> None:
    """Not even between two rounds of whoever closes them."""
    server.on("b", answers(delay=0.3))
    async with client_of(HTTP11Transport(keepalive_expiry=0.4)) as client:
        await asyncio.gather(client.get(url(server, "a")), client.get(url(server, "b")))
        await asyncio.sleep(0.45)
        await client.get(url(server, "c"))
    assert server.asked[-1].connection == 3


async def test_a_connection_in_use_does_not_expire(server: RawServer) -> None:
    """An answer may take longer than ``keepalive_expiry``, which counts idle time alone."""
    server.on("slow", answers(delay=0.2))
    async with client_of(HTTP11Transport(keepalive_expiry=0.05)) as client:
        assert (await client.get(url(server, "slow"))).content == ANSWER


async def test_a_connection_the_server_closes_is_dropped_at_once(server: RawServer) -> None:
    """When its end arrives, not when it would next be used."""
    server.on("1", answers_then(b""))
    transport = HTTP11Transport(keepalive_expiry=60)
    async with client_of(transport) as client:
        await client.get(url(server, 1))
        assert counts(transport) == (0, 1, 0)
        await until(lambda: counts(transport) == (0, 0, 0))


@pytest.mark.parametrize("surplus", [b"\n", b"HTTP/1.1 408 Request Timeout\r\n\r\n", http(200, b"of another")])
async def test_a_byte_while_idle_drops_the_connection(server: RawServer, surplus: bytes) -> None:
    """It is nobody's answer, least of all the next one's."""
    server.on("1", answers_then(surplus))
    transport = HTTP11Transport(keepalive_expiry=60)
    async with client_of(transport) as client:
        await client.get(url(server, 1))
        await until(lambda: counts(transport) == (0, 0, 0))
        assert (await client.get(url(server, 2))).content == ANSWER
    assert [asked.connection for asked in server.asked] == [1, 2]


class Sleeper:
    """A server in a thread: when told, it ends its first connection, or sends on it what nobody asked for."""

    def __init__(self, listening: socket.socket, last: bytes) -> None:
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        self.requests: list[int] = []
        self._told, self._done = threading.Event(), threading.Event()
        self._last = last
        self._listening = listening
        self.thread = threading.Thread(target=self._serve)

    def tell(self) -> None:
        """Return when it has done so, whatever the event loop has seen of it."""
        self._told.set()
        assert self._done.wait(5)

    def _serve(self) -> None:
        for number in range(2):
            with suppress(ConnectionError), self._accept() as connection:
                self._answer(connection, number)
                if number == 0:
                    self._told.wait(5)
                    connection.sendall(self._last)
                    if not self._last:
                        connection.shutdown(socket.SHUT_WR)
                    self._done.set()
                while self._answer(connection, number):
                    pass

    def _accept(self) -> socket.socket:
        connection, _ = self._listening.accept()
        connection.settimeout(5)
        return connection

    def _answer(self, connection: socket.socket, number: int) -> bool:
        if connection.recv(65536):
            self.requests.append(number)
            connection.sendall(http(200, b"{}"))
            return True
        return False


@contextmanager
def sleeper(last: bytes) -> Iterator[Sleeper]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        serving = Sleeper(listening, last)
        serving.thread.start()
        yield serving
        serving.thread.join(10)


@pytest.mark.parametrize("last", [b"", b"x", http(200, b"of another")], ids=["FIN", "a byte", "a response"])
async def test_a_connection_is_never_written_to_after_its_end_has_arrived(last: bytes) -> None:
    """Even if the event loop has not looked yet: the request would be in doubt, or its answer another's."""
    with sleeper(last) as serving:
        async with client_of(HTTP11Transport()) as client:
            await client.get(serving.url)
            serving.tell()
            time.sleep(0.05)  # noqa: ASYNC251  # the event loop must not notice
            assert (await client.get(serving.url)).content == b"{}"
    assert serving.requests == [0, 1]


async def test_an_idle_connection_to_another_origin_makes_room(server: RawServer) -> None:
    """It holds a place that someone needs; its own origin gets a new one when it comes again."""
    transport = HTTP11Transport(max_connections=1, keepalive_expiry=60)
    async with raw_server() as other, client_of(transport) as client:
        for _ in range(2):
            await client.get(url(server, 1))
            await client.get(url(other, 1))
            await until(lambda: (server.open, other.open) == (0, 1))
        assert counts(transport) == (0, 1, 0)
    assert (server.connections, other.connections) == (2, 2)


async def test_connections_are_shared_by_one_origin_only(server: RawServer) -> None:
    """Host, port and scheme: an answer of one service is never read as another's."""
    by_name = server.base_url.replace("127.0.0.1", "localhost")
    async with client_of(HTTP11Transport()) as client:
        for base_url in (server.base_url, by_name, server.base_url, by_name):
            await client.get(f"{base_url}/?evdb_vehicle_id=1")
    assert [asked.connection for asked in server.asked] == [1, 2, 1, 2]


async def test_a_connection_that_cannot_be_opened_gives_its_place_back(server: RawServer) -> None:
    """A hundred refusals later both places are there."""
    transport = HTTP11Transport(max_connections=2)
    async with client_of(transport) as client:
        for _ in range(50):
            outcomes = await asyncio.gather(
                *(client.get("http://127.0.0.1:9/") for _ in range(2)), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [httpx.ConnectError] * 2
        await asyncio.gather(*(client.get(url(server, number)) for number in range(4)))
        assert counts(transport) == (0, 2, 0)


async def test_places_are_neither_lost_nor_doubled(server: RawServer) -> None:
    """A thousand requests, a third of them cancelled at a random moment, some out of patience, some reset."""
    chance = random.Random(3)
    for number in range(10):
        server.on(f"slow{number}", answers(delay=number / 1000))
    server.on("silent", never_answers())
    ids = ["fast", "fast", *(f"slow{number}" for number in range(10)), "silent"]
    transport = HTTP11Transport(max_connections=3, keepalive_expiry=0.02)

    async def one(client: httpx.AsyncClient) -> None:
        limit = httpx.Timeout(5, pool=chance.choice([0.001, 0.02, 5]), read=chance.choice([0.002, 0.05]))
        asking = asyncio.create_task(client.get(url(server, chance.choice(ids)), timeout=limit))
        if chance.random() < 0.35:
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.005]))
            asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled() or isinstance(asking.exception(), httpx.TimeoutException | None)

    async def many(client: httpx.AsyncClient) -> None:
        for _ in range(50):
            await one(client)
            lent, idle, _ = counts(transport)  # a place on its way to a waiter is lent, its connection still idle
            assert 0 <= lent <= 3
            assert 0 <= idle <= 3

    async with client_of(transport) as client:
        await asyncio.gather(*(many(client) for _ in range(20)))
        assert counts(transport)[0] == counts(transport)[2] == 0
        await until(lambda: server.in_flight == 0)
        server.max_in_flight = 0
        server.on("again", answers(delay=0.05))
        await asyncio.gather(*(client.get(url(server, "again")) for _ in range(9)))
        assert server.max_in_flight == 3


async def test_what_a_new_connection_says_before_it_is_asked_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was meant for somebody else, and may have come without the event loop having looked."""
    spoken = threading.Event()
    dial = Dialer.dial

    def speak(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(http(200, ANSWER))
            spoken.set()
            connection.settimeout(5)
            with suppress(OSError):
                heard.append(connection.recv(100))

    async def dial_and_dawdle(self: Dialer, origin: Origin, seconds: float) -> Connection:
        connection = await dial(self, origin, seconds)
        assert spoken.wait(5)
        return connection

    heard: list[bytes] = []
    monkeypatch.setattr(Dialer, "dial", dial_and_dawdle)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        speaker = threading.Thread(target=speak, args=(listener,))
        speaker.start()
        async with client_of(HTTP11Transport()) as client:
            with pytest.raises(httpx.ConnectError, match="spoke before"):
                await client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        speaker.join()

    assert not any(heard)

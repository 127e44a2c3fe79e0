"""A raw HTTP server with one behaviour per vehicle id: what mocks at the level of httpx cannot show.

It counts requests and bills per id, so that both sides' books can be compared.
"""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

import attrs
import trustme

CANARY_KEY = "canary-key-0123456789abcdef-never-to-be-seen"

RESULT = {
    "vehicle_to_load_support_status": "Announced",
    "vehicle_to_load_power_output_kw": 11,
    "vehicle_to_load_exterior_port_details": "1 x Type 2 (Adapter)",
    "vehicle_to_load_interior_port_details": "1 x UK Socket (BS1363)",
    "vehicle_to_home_ac_support_status": "Not Available",
    "vehicle_to_home_ac_power_output_kw": 11,
    "vehicle_to_home_dc_support_status": "Announced",
    "vehicle_to_home_dc_power_output_kw": 10,
    "vehicle_to_grid_ac_support_status": "Announced",
    "vehicle_to_grid_ac_power_output_kw": 11,
    "vehicle_to_grid_dc_support_status": "Announced",
    "vehicle_to_grid_dc_power_output_kw": 11,
}
ANSWER = json.dumps({"success": True, "result": RESULT, "error": ""}).encode()


@attrs.frozen
class Asked:
    """One request as it came; ``connection`` counts the server's connections from 1."""

    vehicle_id: str
    target: str
    head: bytes
    connection: int = 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, and values."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]


Behaviour: TypeAlias = Callable[["RawServer", Asked, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """Speaks HTTP/1.1 just well enough; what it does to an id is the test's choice."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Behaviour] = {}
        self.asked: list[Asked] = []
        self.bills: Counter[str] = Counter()
        self.connections = 0
        self.open = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.base_url = ""
        self._handlers: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Task[None]] = set()

    @property
    def requests(self) -> Counter[str]:
        """Requests per id."""
        return Counter(asked.vehicle_id for asked in self.asked)

    def on(self, vehicle_id: str, behaviour: Behaviour) -> None:
        """Set what happens to an id; any other gets the vendor's sample answer."""
        self.behaviours[vehicle_id] = behaviour

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.connections += 1
        self.open += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._serve(number, head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._handlers.discard(task)
            writer.close()
            self._hear_the_end(writer)

    def _hear_the_end(self, writer: asyncio.StreamWriter) -> None:
        """Ask how the connection ended: asyncio's streams leave it to garbage collection, which may complain first."""
        end = asyncio.create_task(writer.wait_closed())
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)
        end.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _serve(
        self, number: int, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        target = head.split(b" ", 2)[1].decode()
        vehicle_id = parse_qs(urlsplit(target).query).get("evdb_vehicle_id", [""])[0]
        asked = Asked(vehicle_id, target, head[:-4], number)
        self.asked.append(asked)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await self.behaviours.get(vehicle_id, answers())(self, asked, reader, writer)
        finally:
            self.in_flight -= 1

    async def stop(self) -> None:
        """End every connection."""
        for task in tuple(self._handlers):
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


@functools.cache
def authority() -> trustme.CA:
    """Return a certificate authority that only `trusting` contexts trust."""
    return trustme.CA()


def serving(*names: str) -> ssl.SSLContext:
    """Return a server's context, with a certificate of the `authority` for these names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert(*names).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    """Return a client's context that trusts the `authority` and checks host names."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


@asynccontextmanager
async def raw_server(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    """Run a `RawServer` on a free port of this machine."""
    server = RawServer()
    listening = await asyncio.start_server(server.handle, host, 0, limit=2**20, ssl=tls)
    shown = f"[{host}]" if ":" in host else host
    server.base_url = f"http{'s' if tls else ''}://{shown}:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        await server.stop()


def http(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a whole response; header names are given with underscores."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def answers(response: bytes | None = None, *, delay: float = 0.0) -> Behaviour:
    """Answer with these bytes, or the vendor's sample; a 200 is a bill."""
    response = http(200, ANSWER, Content_Type="application/json") if response is None else response

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server.bills[asked.vehicle_id] += response.startswith(b"HTTP/1.1 200")
        if delay:
            await asyncio.sleep(delay)
        writer.write(response)
        await writer.drain()

    return behave


def answers_in_turn(*responses: bytes) -> Behaviour:
    """Answer with these one after the other, then with the last for ever."""
    waiting = list(responses)

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        response = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        await answers(response)(server, asked, reader, writer)

    return behave


def breaks_off(before: bytes = b"", *, reset: bool = False, billed: bool = False) -> Behaviour:
    """Send these bytes, then end the connection: with FIN, or with RST."""

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server.bills[asked.vehicle_id] += billed
        writer.write(before)
        await writer.drain()
        if reset:
            await asyncio.sleep(0.01)  # what was written must leave before the reset overtakes it
            # Without this an abort ends in FIN like any other end, unless something was left unread.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        raise ConnectionError

    return behave


def never_answers(*, billed: bool = True) -> Behaviour:
    """Bill the request and say nothing more."""

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server.bills[asked.vehicle_id] += billed
        await reader.read()

    return behave


def answers_then(surplus: bytes) -> Behaviour:
    """Answer, and a moment later send these bytes, or close if there are none."""

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await answers()(server, asked, reader, writer)
        await asyncio.sleep(0.05)
        if not surplus:
            raise ConnectionError
        writer.write(surplus)

    return behave


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut bytes at these places; places beyond the end cut nothing."""
    places = sorted({0, len(data), *(cut for cut in cuts if 0 < cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


def sends_in_pieces(pieces: Iterable[bytes], *, billed: bool = True, ends: str = "") -> Behaviour:
    """Send these pieces one by one, each in a read of its own as far as the network allows.

    Arguments:
        pieces: what to send.
        billed: count a bill.
        ends: "fin" or "rst" to end the connection afterwards.
    """

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server.bills[asked.vehicle_id] += billed
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.0005)
        if ends:
            await breaks_off(reset=ends == "rst")(server, asked, reader, writer)

    return behave


def pours(head: bytes, piece: bytes, *, pause: float = 0.0) -> Behaviour:
    """Send the head, then the piece again and again until the other side closes."""

    async def behave(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server.bills[asked.vehicle_id] += head.startswith(b"HTTP/1.1 200")
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave

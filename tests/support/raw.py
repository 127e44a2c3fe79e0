"""A raw HTTP server with one behaviour per vehicle id: what mocks at the level of httpx cannot show.

It counts requests and bills per id, so that both sides' books can be compared.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

import attrs

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
    """One request as it came."""

    vehicle_id: str
    target: str
    head: bytes

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
        self.in_flight = 0
        self.max_in_flight = 0
        self.base_url = ""
        self._handlers: set[asyncio.Task[None]] = set()

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
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._serve(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = head.split(b" ", 2)[1].decode()
        vehicle_id = parse_qs(urlsplit(target).query).get("evdb_vehicle_id", [""])[0]
        asked = Asked(vehicle_id, target, head[:-4])
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


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    """Run a `RawServer` on a free port of 127.0.0.1."""
    server = RawServer()
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**20)
    server.base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
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

"""One connection without a network: any bytes, any end, and it is never used again when in doubt."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.raw import ANSWER, http, split

from oneauto_async._wire.connection import Allowed, Connection
from oneauto_async._wire.reading import Bounds, ResponseReader
from oneauto_async.transport import FlightRecord, Stage

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ONE = http(200, b"{}")


class Wire(asyncio.Transport):
    """A transport that only remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.aborted
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


@attrs.define
class Line:
    """A connection on a wire, and how often it said that it ended."""

    connection: Connection
    wire: Wire
    ends: list[Connection]
    record: FlightRecord = attrs.field(factory=FlightRecord)

    def ask(self, patience: Allowed | None = None) -> asyncio.Task[ResponseReader]:
        """Start an exchange."""
        patience = Allowed() if patience is None else patience
        return asyncio.create_task(self.connection.exchange(REQUEST, self.record, patience))


def open_line() -> Line:
    """Return an open connection."""
    ends: list[Connection] = []
    connection, wire = Connection(Bounds(head=4096, body=4096), ends.append), Wire()
    connection.connection_made(wire)
    return Line(connection, wire, ends)


@pytest.mark.asyncio
async def test_a_connection_serves_one_exchange_after_the_other() -> None:
    """Its state can be read from its repr all the way, and the record follows."""
    line = open_line()
    assert repr(line.connection) == "<Connection idle, 0 served>"

    asking = line.ask()
    await asyncio.sleep(0)
    assert line.wire.written == REQUEST
    assert (line.record.stage, line.record.bytes_sent) == (Stage.SENT, len(REQUEST))
    line.connection.data_received(ONE[:-1])
    assert "busy" in repr(line.connection)
    assert "in the body" in repr(line.connection)
    line.connection.data_received(ONE[-1:])

    assert (await asking).body == b"{}"
    assert line.record.stage is Stage.COMPLETE
    assert repr(line.connection) == "<Connection idle, 1 served>"
    assert line.connection.is_usable
    line.connection.close()
    assert repr(line.connection) == "<Connection closed, 1 served>"
    assert line.ends == [line.connection]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "pieces",
    [
        [ONE],
        [ONE[:20], ONE[20:]],
        [b"HTTP/1.1 100 Continue\r\n\r\n" + ONE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"],
    ],
)
async def test_an_exchange_leaves_nothing_to_the_garbage_collector(pieces: list[bytes]) -> None:
    """Else it would have thousands of readers to find, at the lookups' cost."""
    line = open_line()
    gc.collect()
    gc.disable()
    try:
        asking = line.ask()
        await asyncio.sleep(0)
        for piece in pieces:
            line.connection.data_received(piece)
        await asyncio.wait([asking])
        assert asking.result().complete
        del asking
        assert ResponseReader not in map(type, gc.get_objects())
    finally:
        gc.enable()


@pytest.mark.asyncio
async def test_a_byte_while_idle_closes() -> None:
    """Whatever it is, it would become part of the next answer."""
    line = open_line()
    line.connection.data_received(b"\n")
    assert not line.connection.is_usable
    assert line.wire.aborted
    assert line.ends == [line.connection]


@pytest.mark.asyncio
@pytest.mark.parametrize("surplus", [b"\r\n", b"x", ONE])
@pytest.mark.parametrize("same_read", [True, False])
async def test_a_byte_beyond_the_response_closes(surplus: bytes, same_read: bool) -> None:
    """The response itself is good; the connection is not."""
    line = open_line()
    asking = line.ask()
    await asyncio.sleep(0)
    for piece in [ONE + surplus] if same_read else [ONE, surplus]:
        line.connection.data_received(piece)

    assert (await asking).body == b"{}"
    assert line.record.stage is Stage.COMPLETE
    assert not line.connection.is_usable
    assert line.ends == [line.connection]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "response",
    [http(200, b"{}", Connection="close"), b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"],
)
async def test_a_response_that_forbids_reuse_closes(response: bytes) -> None:
    """It says close, or is of a version that closes."""
    line = open_line()
    asking = line.ask()
    await asyncio.sleep(0)
    line.connection.data_received(response)
    await asking
    assert line.wire.aborted


ENDS: dict[str, Exception | None] = {"FIN": None, "RST": ConnectionResetError()}


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize(
    ("came", "stage"),
    [(b"", Stage.SENT), (ONE[:20], Stage.SENT), (ONE[:-1], Stage.ANSWERED)],
    ids=["nothing", "half a head", "half a body"],
)
async def test_an_early_end_is_an_error(came: bytes, stage: Stage, end: Exception | None) -> None:
    """The record tells how far it got and keeps what came."""
    line = open_line()
    asking = line.ask()
    await asyncio.sleep(0)
    line.connection.data_received(came)
    if end is None:
        line.connection.eof_received()
    line.connection.connection_lost(end)

    with pytest.raises(httpx.TransportError) as caught:
        await asking
    assert type(caught.value) is (httpx.RemoteProtocolError if end is None else httpx.ReadError)
    assert line.record.stage is stage
    assert line.record.body == (b"{" if stage is Stage.ANSWERED else b"")
    assert line.ends == [line.connection]


@pytest.mark.asyncio
async def test_cancelling_closes() -> None:
    """The answer on its way must not meet the next request."""
    line = open_line()
    asking = line.ask()
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert line.wire.aborted
    assert line.record.stage is Stage.SENT


@pytest.mark.asyncio
@pytest.mark.parametrize("limits", [{"until": 0.03}, {"silence": 0.03}], ids=str)
async def test_patience_ends(limits: dict[str, float]) -> None:
    """By the deadline, or by silence; the connection is gone then."""
    now = asyncio.get_running_loop().time()
    line = open_line()
    with pytest.raises(httpx.ReadTimeout):
        await line.ask(Allowed(**{name: value + (now if name == "until" else 0) for name, value in limits.items()}))
    assert line.wire.aborted
    assert line.record.stage is Stage.SENT


@pytest.mark.asyncio
async def test_nothing_is_written_once_the_deadline_has_come() -> None:
    """Getting the connection took too long; it is as good as it was."""
    line = open_line()
    with pytest.raises(httpx.ConnectTimeout):
        await line.ask(Allowed(until=asyncio.get_running_loop().time()))
    assert line.wire.written == b""
    assert line.record.stage is Stage.NOT_SENT
    assert repr(line.connection) == "<Connection idle, 0 served>"
    assert line.connection.is_usable


@pytest.mark.asyncio
async def test_each_byte_renews_the_patience_with_silence_but_not_the_deadline() -> None:
    """A drip outlives the first and not the second."""
    loop = asyncio.get_running_loop()
    line = open_line()
    asking = line.ask(Allowed(until=loop.time() + 0.5, silence=0.2))
    await asyncio.sleep(0)
    line.connection.data_received(http(200, b" " * 2000)[:-1990])
    dripped = 0
    while not asking.done():
        line.connection.data_received(b" ")
        dripped += 1
        await asyncio.sleep(0.02)
    with pytest.raises(httpx.ReadTimeout):
        await asking
    assert dripped > 10
    assert line.record.stage is Stage.ANSWERED


# Any bytes, any cuts, any end.

FRAGMENTS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 N\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"\r\n",
    b"{}",
    b"2\r\n{}\r\n",
    b"0\r\n\r\n",
    ONE,
    http(200, ANSWER),
]
BYTES = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), max_size=8).map(b"".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=4)), max_size=8).map(b"".join),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@given(data=BYTES, cuts=st.lists(st.integers(0, 300), max_size=6), turns=st.booleans(), end=st.sampled_from([*ENDS]))
@examples(500)
def test_any_bytes_are_an_answer_or_a_typed_error(
    runner: asyncio.Runner, data: bytes, cuts: list[int], turns: bool, end: str
) -> None:
    """Never another exception, never a hang, and what serves again has nothing left over."""
    runner.run(_any_bytes(split(data, cuts), turns, end))


async def _any_bytes(pieces: list[bytes], turns: bool, end: str) -> None:
    line = open_line()
    asking = line.ask()
    await asyncio.sleep(0)
    for piece in pieces:
        if not line.wire.aborted:  # asyncio delivers nothing after an abort
            line.connection.data_received(piece)
        if turns:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    if line.connection.is_usable:
        assert b"".join(pieces).endswith(await _taken(asking))
    elif end == "FIN" and not line.wire.aborted:
        line.connection.eof_received()
    line.connection.connection_lost(ENDS[end])
    try:
        async with asyncio.timeout(1):
            reader = await asking
    except (httpx.RemoteProtocolError, httpx.ReadError):
        assert line.record.stage is not Stage.COMPLETE
    else:
        assert reader.complete
        assert line.record.stage is Stage.COMPLETE
    assert line.ends == [line.connection]
    assert not line.connection.is_usable


async def _taken(asking: asyncio.Task[ResponseReader]) -> bytes:
    """Return what the bytes must end with if the connection may serve again: nothing is left behind the body."""
    reader = await asking
    assert reader.complete
    assert not reader.surplus
    return b"\r\n" if reader.framing.name == "CHUNKED" else bytes(reader.body)

"""`HTTP11Transport` in a plain `httpx.AsyncClient`, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from support.raw import (
    ANSWER,
    CANARY_KEY,
    RawServer,
    answers,
    breaks_off,
    http,
    never_answers,
    pours,
    raw_server,
    sends_in_pieces,
    serving,
    trusting,
)
from support.sockets import black_hole, until
from support.tracebacks import with_locals

from oneauto_async import Billing, ConfigurationError, Failed, MalformedAnswerError, OneAutoClient
from oneauto_async._wire import http11
from oneauto_async._wire.http11 import default_ssl_context
from oneauto_async.transport import FlightRecord, HTTP11Transport, Stage

HEAD = b"HTTP/1.1 200 OK\r\n"
PATH = "/?evdb_vehicle_id=1"


def ours(**options: Any) -> httpx.AsyncClient:
    """Return a plain client over our transport."""
    return httpx.AsyncClient(transport=HTTP11Transport(**options), timeout=5)


def record_of(request: httpx.Request) -> FlightRecord:
    record = request.extensions["oneauto_async.flight"]
    assert isinstance(record, FlightRecord)
    return record


async def attempt(client: httpx.AsyncClient, url: str, **options: Any) -> tuple[FlightRecord, object]:
    """Return the record of one request, and its response or its error."""
    request = client.build_request("GET", url, **options)
    try:
        outcome: object = await client.send(request)
    except httpx.HTTPError as error:
        outcome = error
    return record_of(request), outcome


# The same as stock httpx.

TEXT = ANSWER * 20
SOUND = {
    "a length": http(200, ANSWER, Content_Type="application/json"),
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "until close": HEAD + b"Content-Type: text/plain; charset=latin-1\r\n\r\n\xe9",
    "no content": http(204),
    "not found": http(404, b"no"),
    "an error of the server": http(503, b"later", Retry_After="5"),
    "a redirect not followed": http(302, b"", Location="/elsewhere"),
    "repeated headers": HEAD + b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nX: 1\r\nx: 2\r\nContent-Length: 0\r\n\r\n",
    "white space around values": HEAD + b"X: \t a  b \t\r\nY:\r\nContent-Length: 0\r\n\r\n",
    "bytes beyond ASCII": HEAD + b"X: caf\xe9\r\nContent-Length: 0\r\n\r\n",
    "interim responses": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + http(200, b"x"),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "a status of nobody's": http(599, b"what"),
    "gzip": http(200, gzip.compress(TEXT), Content_Encoding="gzip"),
    "deflate": http(200, zlib.compress(TEXT), Content_Encoding="deflate"),
    "raw deflate": http(200, zlib.compress(TEXT, wbits=-15), Content_Encoding="deflate"),
    "identity": http(200, TEXT, Content_Encoding="identity"),
    "a coding nobody undoes": http(200, TEXT, Content_Encoding="compress"),
    "gzip in chunks": HEAD
    + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(gzip.compress(TEXT, mtime=0)), gzip.compress(TEXT, mtime=0)),
}
CODED = {"content-encoding", "content-length"}
UNDONE = {"gzip", "deflate"}


@pytest.mark.asyncio
@pytest.mark.parametrize("response", SOUND.values(), ids=SOUND.keys())
async def test_a_sound_response_is_what_stock_httpx_makes_of_it(server: RawServer, response: bytes) -> None:
    """Status, headers, body, text and cookies; only the header of a coding that is undone is gone."""
    server.on("1", breaks_off(response))
    async with ours() as one, httpx.AsyncClient(timeout=5) as other:
        got, expected = await one.get(server.base_url + PATH), await other.get(server.base_url + PATH)
        assert dict(one.cookies) == dict(other.cookies)

    assert (got.status_code, got.content, got.text) == (expected.status_code, expected.content, expected.text)
    drop = CODED if expected.headers.get("content-encoding") in UNDONE else set()
    assert got.headers.multi_items() == [item for item in expected.headers.multi_items() if item[0] not in drop]


@pytest.mark.asyncio
async def test_the_same_request_goes_out_as_from_stock_httpx(server: RawServer) -> None:
    """Line for line, in the same order."""
    options: dict[str, Any] = {"params": {"a b": "é&?"}, "headers": {"x-api-key": CANARY_KEY, "accept": "x"}}
    async with ours() as one, httpx.AsyncClient() as other:
        for client in (one, other):
            await client.get(server.base_url + "/päth/%20x", **options)
    first, second = server.asked
    assert first.head == second.head


@pytest.mark.asyncio
async def test_a_response_can_be_streamed(server: RawServer) -> None:
    """It is there already, and comes in pieces all the same."""
    server.on("1", answers(http(200, TEXT)))
    async with ours() as client, client.stream("GET", server.base_url + PATH) as response:
        assert b"".join([piece async for piece in response.aiter_bytes(1000)]) == TEXT


@pytest.mark.asyncio
async def test_redirects_and_hooks_and_auth_work_in_a_plain_client(server: RawServer) -> None:
    """They are httpx's, above the transport."""
    server.on("1", answers(http(302, b"", Location="/?evdb_vehicle_id=2")))
    seen: list[int] = []

    async def note(response: httpx.Response) -> None:
        seen.append(response.status_code)

    async with ours() as client:
        client.event_hooks = {"response": [note]}
        response = await client.get(server.base_url + PATH, follow_redirects=True, auth=("user", "password"))

    assert (response.content, seen) == (ANSWER, [302, 200])
    assert all("authorization" in dict(asked.headers) for asked in server.asked)


@pytest.mark.asyncio
async def test_cookies_of_a_plain_client_are_kept_by_httpx(server: RawServer) -> None:
    """The transport itself keeps none."""
    server.on("1", answers(http(200, b"", Set_Cookie="session=1")))
    async with ours() as client:
        await client.get(server.base_url + PATH)
        await client.get(server.base_url + PATH)
    assert [dict(asked.headers).get("cookie") for asked in server.asked] == [None, "session=1"]


# What it does not do.


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get", "X"])
async def test_only_get_is_sent(server: RawServer, method: str) -> None:
    """Anything else is refused by name, unsent; httpx itself puts names in capitals."""
    async with ours() as client:
        request = client.build_request(method, server.base_url + PATH)
        request.method = method
        with pytest.raises(httpx.UnsupportedProtocol, match=method):
            await client.send(request)
    assert record_of(request).stage is Stage.NOT_SENT
    assert server.connections == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("body", [{"content": b"x"}, {"json": {}}, {"data": {"a": "b"}}], ids=str)
async def test_a_get_with_a_body_is_refused(server: RawServer, body: dict[str, Any]) -> None:
    """Its length would be announced, and the next request taken for it."""
    async with ours() as client:
        with pytest.raises(httpx.UnsupportedProtocol, match="bodies"):
            await client.request("GET", server.base_url + PATH, **body)
    assert server.connections == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("url", ["ws://127.0.0.1/", "ftp://127.0.0.1/", "unix:///tmp/x"])
async def test_other_schemes_are_refused(url: str) -> None:
    """With the one that was asked for, and those there are."""
    async with ours() as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get(url)
        request = httpx.Request("GET", url)
        with pytest.raises(httpx.UnsupportedProtocol, match=f"http and https, not '{url[:2]}"):
            await client._transport.handle_async_request(request)


INJECTIONS = {
    "a line end in a value": ("x-api-key", f"{CANARY_KEY}\r\nx-evil: 1"),
    "a trailing line end, as in a file": ("x-api-key", f"{CANARY_KEY}\n"),
    "a carriage return": ("x-api-key", f"{CANARY_KEY}\r"),
    "a NUL": ("x-api-key", f"{CANARY_KEY}\0"),
    "a line end in a name": (f"x: {CANARY_KEY}\r\nx-evil", "1"),
    "a space in a name": (f"x {CANARY_KEY}", "1"),
    "a colon in a name": (f"x:{CANARY_KEY}", "1"),
    "an empty name": ("", CANARY_KEY),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "value"), INJECTIONS.values(), ids=INJECTIONS.keys())
async def test_a_header_that_would_be_two_is_refused_without_being_shown(
    server: RawServer, name: str, value: str
) -> None:
    """The error does not show the value, which may be the key, and nothing is sent."""
    async with ours() as client:
        request = client.build_request("GET", server.base_url + PATH, headers={name: value})
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await client.send(request)
    assert CANARY_KEY not in str(caught.value) + repr(caught.value)
    assert caught.traceback[-1].name == "request_head"
    assert CANARY_KEY not in repr(caught.traceback[-1].locals)
    assert record_of(request).stage is Stage.NOT_SENT
    assert server.connections == 0


# What the record tells after each kind of failure.

TRUNCATED = HEAD + b"Content-Length: 9\r\n\r\nhalf"
FAILURES: dict[str, tuple[Any, dict[str, Any], type[Exception], Stage]] = {
    "silence": (never_answers(), {"timeout": 0.05}, httpx.ReadTimeout, Stage.SENT),
    "FIN": (breaks_off(), {}, httpx.RemoteProtocolError, Stage.SENT),
    "RST": (breaks_off(reset=True), {}, httpx.ReadError, Stage.SENT),
    "half a head": (breaks_off(HEAD), {}, httpx.RemoteProtocolError, Stage.SENT),
    "no HTTP": (breaks_off(b"SSH-2.0-OpenSSH_9.2\r\n"), {}, httpx.RemoteProtocolError, Stage.SENT),
    "RTSP": (answers(b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"), {}, httpx.RemoteProtocolError, Stage.SENT),
    "half a body, FIN": (breaks_off(TRUNCATED), {}, httpx.RemoteProtocolError, Stage.ANSWERED),
    "half a body, RST": (breaks_off(TRUNCATED, reset=True), {}, httpx.ReadError, Stage.ANSWERED),
    "half a body, silence": (answers(TRUNCATED), {"timeout": 0.05}, httpx.ReadTimeout, Stage.ANSWERED),
    "bad chunks": (
        answers(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n"),
        {},
        httpx.RemoteProtocolError,
        Stage.ANSWERED,
    ),
    "not gzip": (answers(http(200, b"half", Content_Encoding="gzip")), {}, httpx.DecodingError, Stage.COMPLETE),
}


@pytest.mark.asyncio
@pytest.mark.parametrize(("behaviour", "options", "kind", "stage"), FAILURES.values(), ids=FAILURES.keys())
async def test_after_a_failure_the_record_tells_how_far_it_got(
    server: RawServer, behaviour: Any, options: dict[str, Any], kind: type[Exception], stage: Stage
) -> None:
    """The error is of httpx's own kind, the moment of sending is known, what came is kept, and the client works on."""
    server.on("1", behaviour)
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with ours() as client:
        record, error = await attempt(client, server.base_url + PATH, **options)
        assert type(error) is kind
        assert (await client.get(f"{server.base_url}/?evdb_vehicle_id=2")).content == ANSWER

    assert record.stage is stage
    assert record.bytes_sent == len(server.asked[0].head) + 4
    assert record.sent_at is not None
    assert before <= record.sent_at <= loop.time()
    assert record.status == (None if stage is Stage.SENT else 200)
    assert record.body == (b"" if stage is Stage.SENT else b"half")
    assert server.requests["1"] == 1


@pytest.mark.asyncio
async def test_after_success_the_record_is_complete(server: RawServer) -> None:
    """The flight's record has the status, the headers and the decoded body that came."""
    server.on("1", answers(http(200, gzip.compress(ANSWER), Content_Encoding="gzip", X="y")))
    async with ours() as client:
        record, response = await attempt(client, server.base_url + PATH)
    assert isinstance(response, httpx.Response)
    assert (record.stage, record.status, record.body, record.flaw) == (Stage.COMPLETE, 200, ANSWER, None)
    assert ("X", "y") in record.headers


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:9/", httpx.ConnectError),
        ("http://nowhere.invalid/", httpx.ConnectError),
        (f"http://{'a' * 64}.invalid/", httpx.ConnectError),
    ],
)
async def test_what_never_connected_was_surely_not_sent(url: str, kind: type[Exception]) -> None:
    """The flight's record has no moment of sending, no bytes sent and no status."""
    async with ours() as client:
        record, error = await attempt(client, url)
    assert type(error) is kind
    assert (record.stage, record.sent_at, record.bytes_sent, record.status) == (Stage.NOT_SENT, None, 0, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("second", ["the record of a failure", "the record of a refused connection"])
async def test_a_request_that_is_sent_again_is_recorded_again(server: RawServer, second: str) -> None:
    """What is told is of the last exchange, not of the one before."""
    async with ours() as client:
        request = client.build_request("GET", server.base_url + PATH)
        await client.send(request)
        first = record_of(request).sent_at
        if second == "the record of a failure":
            server.on("1", breaks_off())
        else:
            request.url = httpx.URL("http://127.0.0.1:9/")
        with pytest.raises(httpx.TransportError):
            await client.send(request)

    record = record_of(request)
    assert (record.status, record.body) == (None, b"")
    if second == "the record of a failure":
        assert record.stage is Stage.SENT
        assert first is not None
        assert record.sent_at is not None
        assert record.sent_at > first
    else:
        assert (record.stage, record.sent_at, record.bytes_sent) == (Stage.NOT_SENT, None, 0)


# Addresses.


@pytest.mark.asyncio
async def test_an_ipv6_literal_is_reached() -> None:
    """With its brackets in the Host header alone."""
    try:
        async with raw_server("::1") as server, ours() as client:
            assert (await client.get(server.base_url + PATH)).content == ANSWER
            assert dict(server.asked[0].headers)["host"] == server.base_url.removeprefix("http://")
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.asyncio
async def test_localhost_falls_back_to_the_address_that_listens(server: RawServer) -> None:
    """The other one refuses, if the machine has it."""
    async with ours() as client:
        assert (await client.get(server.base_url.replace("127.0.0.1", "localhost") + PATH)).content == ANSWER


@pytest.mark.asyncio
async def test_an_address_that_hangs_does_not_hold_up_the_other(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Happy eyeballs: the second is tried beside the first, long before the connect timeout."""
    port = httpx.URL(server.base_url).port
    with black_hole() as hole:
        _resolve_to(monkeypatch, [hole, ("127.0.0.1", port or 0)])
        started = time.monotonic()
        async with ours() as client:
            assert (await client.get("http://two-addresses.invalid" + PATH)).content == ANSWER
        assert time.monotonic() - started < 3


def slow_resolver(monkeypatch: pytest.MonkeyPatch, server: RawServer) -> tuple[list[str], threading.Event]:
    """Let every name lead to a server once the event is set; return the names that were asked for, and the event."""
    port, asked, may_answer = httpx.URL(server.base_url).port, list[str](), threading.Event()

    def resolve(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        may_answer.wait(5)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked, may_answer


@pytest.mark.asyncio
async def test_all_who_dial_a_host_at_once_look_its_name_up_once(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver has a few threads; whoever leaves takes nothing from the others, and an address needs none."""
    asked, may_answer = slow_resolver(monkeypatch, server)
    async with ours() as client:
        gets = [asyncio.create_task(client.get("http://name.invalid" + PATH)) for _ in range(20)]
        await until(lambda: bool(asked))
        gets[0].cancel()
        await asyncio.sleep(0)
        may_answer.set()
        answers = await asyncio.gather(*gets, return_exceptions=True)
        await client.get(server.base_url + PATH)

    assert [type(answer) for answer in answers] == [asyncio.CancelledError] + [httpx.Response] * 19
    assert asked == ["name.invalid"]


@pytest.mark.asyncio
async def test_a_name_nobody_waits_for_any_more_is_forgotten(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No task is left behind, and the next one to dial looks it up anew."""
    asked, may_answer = slow_resolver(monkeypatch, server)
    async with ours() as client:
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://name.invalid" + PATH, timeout=httpx.Timeout(5, connect=0.05))
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        may_answer.set()
        assert (await client.get("http://name.invalid" + PATH)).content == ANSWER

    assert asked == ["name.invalid"] * 2


def _resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: list[tuple[str, int]]) -> None:
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: infos)


@pytest.mark.asyncio
async def test_the_host_that_is_asked_is_the_host_that_is_named(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IDNA 2003 and 2008 turn straße into two different names: the key must go where Host says."""
    asked: list[str] = []

    def resolve(host: str | bytes, port: int, *args: Any, **options: Any) -> Any:
        asked.append(host if isinstance(host, str) else host.decode("ascii"))
        address = ("127.0.0.1", httpx.URL(server.base_url).port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with ours() as client:
        await client.get("http://straße.invalid" + PATH)
    assert asked == ["xn--strae-oqa.invalid"]
    assert dict(server.asked[0].headers)["host"] == asked[0]


# TLS.


@pytest.mark.asyncio
async def test_tls_is_spoken_and_the_connection_kept() -> None:
    """By name and by address, with one handshake for all."""
    async with raw_server(tls=serving("127.0.0.1", "localhost")) as server, ours(ssl_context=trusting()) as client:
        for _ in range(4):
            assert (await client.get(server.base_url + PATH)).content == ANSWER
            await asyncio.sleep(0.005)
        # What follows a handshake, as session tickets, may cost the connection its reuse once, and no more.
        assert server.connections <= 2
        by_name = server.base_url.replace("127.0.0.1", "localhost")
        assert (await client.get(by_name + PATH)).content == ANSWER


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("names", "trusted"), [(["127.0.0.1"], False), (["elsewhere.invalid"], True), (["127.0.0.2"], True)]
)
async def test_a_certificate_that_does_not_fit_is_refused(names: list[str], trusted: bool) -> None:
    """Of an unknown authority, for another name, for another address: nothing is sent."""
    context = trusting() if trusted else None
    async with raw_server(tls=serving(*names)) as server, ours(ssl_context=context) as client:
        record, error = await attempt(client, server.base_url + PATH)
        assert isinstance(error, httpx.ConnectError)
        assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
        assert record.stage is Stage.NOT_SENT
        assert server.asked == []


@pytest.mark.asyncio
async def test_tls_before_1_2_is_refused() -> None:
    """A server that offers TLS 1.1 alone gives a connection error and receives no request."""
    context = serving("127.0.0.1")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with raw_server(tls=context) as server, ours(ssl_context=trusting()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(server.base_url + PATH)
        assert server.asked == []


@pytest.mark.asyncio
async def test_failed_handshakes_leave_nothing_behind() -> None:
    """Neither a place nor a connection that is remembered for ever."""
    async with raw_server(tls=serving("elsewhere.invalid")) as server:
        transport = HTTP11Transport(trusting(), max_connections=2)
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(5):
                with pytest.raises(httpx.ConnectError):
                    await client.get(server.base_url)
            assert transport._pool is not None
            assert len(transport._pool._all) == 0  # a part of the transport
            assert "0 lent, 0 idle, 0 waiting" in repr(transport)


@pytest.mark.asyncio
async def test_a_body_cut_without_tls_saying_so_is_no_record() -> None:
    """Anyone on the way can cut a connection, and asyncio does not tell (RFC 9112, 9.8): half a JSON is no answer."""

    async def cut(server: Any, asked: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n" + ANSWER[:40])
        await writer.drain()
        with socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno())) as beneath:
            beneath.shutdown(socket.SHUT_WR)
        await reader.read()

    async with raw_server(tls=serving("127.0.0.1")) as server:
        server.on("1", cut)
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, ssl_context=trusting()) as client:
            outcome = await client.lookup(1)

    assert isinstance(outcome, Failed)
    assert (type(outcome.error), outcome.raw) == (MalformedAnswerError, ANSWER[:40])


@pytest.mark.asyncio
async def test_a_tls_end_with_notice_ends_a_body() -> None:
    """A body without a length is whole if TLS is closed as it should be."""
    async with raw_server(tls=serving("127.0.0.1")) as server, ours(ssl_context=trusting()) as client:
        server.on("1", breaks_off(HEAD + b"\r\n" + ANSWER))
        assert (await client.get(server.base_url + PATH)).content == ANSWER


@pytest.mark.asyncio
@pytest.mark.parametrize("early", [b"SSH-2.0-x\r\n", http(200, b"of another")], ids=["banner", "response"])
async def test_a_server_that_talks_first_is_not_talked_to(early: bytes) -> None:
    """With TLS 1.2 its bytes are there before the first request: nothing is written, and so nothing is in doubt."""
    context = serving("127.0.0.1")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    received = asyncio.get_running_loop().create_future()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(early)
        with suppress(ConnectionError):
            received.set_result(await reader.read())
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    async with ours(ssl_context=trusting()) as client:
        record, error = await attempt(client, f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}/")
        assert isinstance(error, httpx.TransportError)
        assert record.stage is Stage.NOT_SENT
        assert (await received) == b""
    listening.close()


# One deadline over everything.


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Check that it takes no more than this beyond its deadline; generous, for slow machines."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + 1


DRIPS = {
    "headers": pours(b"HTTP/1.1 200 OK\r\nX: ", b"a", pause=0.01),
    "interim responses": pours(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", pause=0.01),
    "empty lines": pours(b"", b"\r\n", pause=0.01),
    "a body": pours(HEAD + b"Content-Length: 999999\r\n\r\n", b"a", pause=0.01),
    "a body without a length": pours(HEAD + b"\r\n", b"a", pause=0.01),
    "chunks": pours(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", pause=0.01),
    "a chunk extension": pours(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a", pause=0.01),
    "trailers": pours(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n", pause=0.01),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("behaviour", DRIPS.values(), ids=DRIPS.keys())
async def test_the_deadline_ends_what_drips(server: RawServer, behaviour: Any) -> None:
    """Each byte comes well within the read timeout; together they would go on for ever."""
    server.on("1", behaviour)
    async with ours(deadline=0.2) as client:
        with within(0.2), pytest.raises(httpx.ReadTimeout):
            await client.get(server.base_url + PATH)
        assert (await client.get(f"{server.base_url}/?evdb_vehicle_id=2")).content == ANSWER


@pytest.mark.asyncio
async def test_the_deadline_covers_connecting() -> None:
    """An address that never answers."""
    async with ours(deadline=0.2) as client:
        with black_hole() as (host, port), within(0.2), pytest.raises(httpx.ConnectTimeout):
            await client.get(f"http://{host}:{port}/")


@contextmanager
def silent_listener() -> Iterator[str]:
    """Accept connections, and never say a word of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"https://127.0.0.1:{listening.getsockname()[1]}/"


@pytest.mark.asyncio
async def test_the_deadline_covers_the_handshake() -> None:
    """A server that accepts and says nothing."""
    async with ours(deadline=0.2) as client:
        with silent_listener() as url, within(0.2), pytest.raises(httpx.ConnectTimeout):
            await client.get(url)


@pytest.mark.asyncio
async def test_the_deadline_covers_resolving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that hangs ends the request at the deadline with a connect timeout."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: time.sleep(0.5))
    async with ours(deadline=0.1) as client:
        started = time.monotonic()
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("http://slow.invalid/")
        assert time.monotonic() - started < 0.45
        await asyncio.sleep(0.5)  # its thread ends before the test does


@pytest.mark.asyncio
async def test_waiting_in_line_uses_up_the_deadline(server: RawServer) -> None:
    """What is left is for connecting: the two together take no longer than one."""
    server.on("1", answers(delay=0.9))
    async with httpx.AsyncClient(transport=HTTP11Transport(max_connections=1, deadline=1), timeout=None) as client:
        held = asyncio.create_task(client.get(server.base_url + PATH))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        with black_hole() as (host, port), pytest.raises(httpx.ConnectTimeout):
            await client.get(f"http://{host}:{port}/")
        assert time.monotonic() - started < 1.5  # 1.85 if connecting had a second of its own
        await held


@pytest.mark.asyncio
async def test_the_record_may_name_its_own_deadline(server: RawServer) -> None:
    """As `OneAutoClient` does for each attempt."""
    server.on("1", never_answers())
    record = FlightRecord(deadline=0.1)
    async with ours() as client:
        with within(0.1), pytest.raises(httpx.ReadTimeout):
            await client.get(server.base_url + PATH, extensions={"oneauto_async.flight": record})
    assert record.stage is Stage.SENT


@pytest.mark.asyncio
@pytest.mark.parametrize("connected", [False, True])
async def test_no_request_leaves_after_its_deadline(server: RawServer, connected: bool) -> None:
    """Connecting may take no time, and come too late all the same."""
    record = FlightRecord(deadline=0.0)
    async with ours() as client:
        if connected:
            await client.get(server.base_url + PATH)
        with pytest.raises(httpx.ConnectTimeout):
            await client.get(server.base_url + PATH, extensions={"oneauto_async.flight": record})
    assert record.stage is Stage.NOT_SENT
    assert len(server.asked) == connected


@pytest.mark.asyncio
async def test_silence_ends_before_the_deadline(server: RawServer) -> None:
    """The read timeout is httpx's: between two pieces."""
    server.on("1", never_answers())
    async with ours() as client:
        with within(0.1), pytest.raises(httpx.ReadTimeout):
            await client.get(server.base_url + PATH, timeout=httpx.Timeout(5, read=0.1))


# Bounds.


@pytest.mark.asyncio
async def test_bodies_are_bounded(server: RawServer) -> None:
    """Before and after undoing the coding; what came is kept up to the bound."""
    server.on("plain", answers(http(200, b"a" * 1001)))
    server.on("coded", answers(http(200, gzip.compress(b"a" * 1001), Content_Encoding="gzip")))
    server.on("just", answers(http(200, gzip.compress(b"a" * 1000), Content_Encoding="gzip")))
    async with ours(max_body=1000) as client:
        record, error = await attempt(client, f"{server.base_url}/?evdb_vehicle_id=plain")
        assert isinstance(error, httpx.RemoteProtocolError)
        assert record.body == b"a" * 1000
        record, error = await attempt(client, f"{server.base_url}/?evdb_vehicle_id=coded")
        assert isinstance(error, httpx.DecodingError)
        assert record.body == b"a" * 1000
        assert (await client.get(f"{server.base_url}/?evdb_vehicle_id=just")).content == b"a" * 1000


@pytest.mark.asyncio
async def test_heads_are_bounded(server: RawServer) -> None:
    """A typed refusal, and the client works on."""
    server.on("1", answers(HEAD + b"X: " + b"a" * 1000 + b"\r\nContent-Length: 0\r\n\r\n"))
    async with ours(max_head=1000) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="bytes of headers"):
            await client.get(server.base_url + PATH)
        assert (await client.get(f"{server.base_url}/?evdb_vehicle_id=2")).content == ANSWER


@pytest.mark.asyncio
@pytest.mark.parametrize(("surplus", "same_read"), [(http(200, b"of another"), True), (b"\r\n", True), (b"x", False)])
async def test_surplus_bytes_never_become_the_next_answer(server: RawServer, surplus: bytes, same_read: bool) -> None:
    """The answer is good, its connection is not: the next request goes out on another."""
    sound = http(200, ANSWER)
    server.on("1", sends_in_pieces([sound + surplus] if same_read else [sound, surplus]))
    async with ours() as client:
        for _ in range(5):
            assert (await client.get(server.base_url + PATH)).content == ANSWER
            await asyncio.sleep(0 if same_read else 0.02)
    assert len({asked.connection for asked in server.asked}) == 5


# Lifetimes.


def test_a_second_event_loop_is_refused() -> None:
    """In words, before it fails in its own way under load."""
    transport = HTTP11Transport()

    async def ask() -> None:
        async with raw_server() as server:
            request = httpx.Request("GET", server.base_url)
            await transport.handle_async_request(request)
            await server.stop()
            await asyncio.sleep(0.01)

    asyncio.run(ask())
    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(ask())


def test_a_second_event_loop_is_refused_in_a_lookup_too() -> None:
    """As the library's own error, whose traceback shows no key even where it shows locals."""
    transport = HTTP11Transport()

    async def look_up() -> None:
        async with (
            raw_server() as server,
            OneAutoClient(CANARY_KEY, base_url=server.base_url, transport=transport) as client,
        ):
            await client.lookup(1)

    asyncio.run(look_up())
    with pytest.raises(ConfigurationError, match="another event loop") as caught:
        asyncio.run(look_up())
    assert CANARY_KEY not in with_locals(caught.value)


@pytest.mark.asyncio
async def test_closing_closes_every_socket(server: RawServer) -> None:
    """Idle ones and those in use; whoever waits gets an error of httpx's, and later requests too."""
    server.on("slow", never_answers())
    transport = HTTP11Transport(max_connections=3)
    client = httpx.AsyncClient(transport=transport)
    asking = [
        asyncio.create_task(client.get(f"{server.base_url}/?evdb_vehicle_id={vehicle_id}"))
        for vehicle_id in ("slow", "slow", "1", "slow", "slow")
    ]
    await asyncio.wait([asking[2]])
    await asyncio.sleep(0.05)

    await transport.aclose()

    async with asyncio.timeout(5):
        errors = await asyncio.gather(*asking[:2], *asking[3:], return_exceptions=True)
        assert all(isinstance(error, httpx.TransportError) for error in errors)
        while server.open:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    with pytest.raises(httpx.TransportError):
        await client.get(server.base_url)
    await transport.aclose()
    assert server.requests == {"slow": 3, "1": 1}
    assert "0 lent, 0 idle, 0 waiting" in repr(transport)


Close = Callable[[HTTP11Transport], Coroutine[Any, Any, None]]


async def _close(transport: HTTP11Transport) -> None:
    await transport.aclose()


async def _close_as_the_dial_times_out(transport: HTTP11Transport) -> None:
    """Close in the turn between the end of the dial's time and the dial's hearing of it."""
    time.sleep(0.6)  # noqa: ASYNC251
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await transport.aclose()


@pytest.mark.asyncio
@pytest.mark.parametrize("close", [_close, _close_as_the_dial_times_out])
async def test_closing_ends_a_connection_that_is_being_opened(close: Close) -> None:
    """It does not go on to its own timeout."""
    transport = HTTP11Transport()
    async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(5, connect=0.5)) as client:
        with silent_listener() as url:
            asking = asyncio.create_task(client.get(url))
            await asyncio.sleep(0.1)
            started = time.monotonic()
            await asyncio.create_task(close(transport))
            with pytest.raises(httpx.TransportError):
                await asking
    assert close is not _close or time.monotonic() - started < 0.35


@pytest.mark.asyncio
async def test_a_transport_is_its_own_context(server: RawServer) -> None:
    """``async with`` gives the transport and closes its connections at the end."""
    async with HTTP11Transport() as transport:
        response = await transport.handle_async_request(httpx.Request("GET", server.base_url + PATH))
        assert await response.aread() == ANSWER
        assert server.open == 1
    await asyncio.sleep(0.05)
    assert server.open == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("uses", [0, 1])
async def test_a_transport_that_is_closed_asks_nobody(server: RawServer, uses: int) -> None:
    """Whether it was used before, or not."""
    transport, question = HTTP11Transport(), httpx.Request("GET", server.base_url + PATH)
    for _ in range(uses):
        await (await transport.handle_async_request(question)).aread()
    await transport.aclose()
    with pytest.raises(httpx.ConnectError, match="the transport is closed"):
        await transport.handle_async_request(question)


@pytest.mark.asyncio
async def test_the_environment_is_not_read(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither proxies nor certificates."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setattr(http11, "default_ssl_context", default_ssl_context.__wrapped__)  # made here and now
    async with ours() as client:
        assert (await client.get(server.base_url + PATH)).content == ANSWER


@pytest.mark.asyncio
async def test_a_context_that_agrees_on_http2_is_told_before_anything_is_sent() -> None:
    """An HTTP/2 client that shares it makes it offer that to every server."""
    theirs, context = serving("127.0.0.1"), trusting()
    theirs.set_alpn_protocols(["h2", "http/1.1"])
    context.set_alpn_protocols(["http/1.1", "h2"])
    async with raw_server(tls=theirs) as server:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, ssl_context=context) as client:
            outcome = await client.lookup(1)

    assert isinstance(outcome, Failed)
    assert (outcome.receipt.billing, outcome.receipt.attempts) == (Billing.NOT_BILLED, 1)
    assert "give each its own" in str(outcome.error)
    assert server.asked == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("line", "version"), [(b"HTTP/1.0 200 Very Fine", "HTTP/1.0"), (b"HTTP/1.1 200 OK", "HTTP/1.1")]
)
async def test_the_status_line_is_told_as_it_came(server: RawServer, line: bytes, version: str) -> None:
    """httpx's log line and its errors are made of it."""
    server.on("1", answers(line + b"\r\nContent-Length: 0\r\n\r\n"))
    async with ours() as client:
        response = await client.get(f"{server.base_url}/?evdb_vehicle_id=1")

    assert (response.http_version, response.reason_phrase) == (version, line.decode().split(" ", 2)[2])

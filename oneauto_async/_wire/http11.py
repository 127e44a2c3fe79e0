"""An httpx transport for HTTP/1.1 GETs, made for calls that cost money: see `HTTP11Transport`."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

import httpx

from ..errors import ConfigurationError
from .connection import Allowed
from .decoding import decode
from .dialing import Origin
from .mocks import stock_transport_is_mocked
from .pool import Pool
from .reading import MAX_BODY, Bounds, ResponseReader
from .record import EXTENSION, FlightRecord, Stage

PORTS = {"http": 80, "https": 443}


class HTTP11Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 GETs over asyncio, for any `httpx.AsyncClient`; the default under `OneAutoClient`.

    It is built for calls that cost money. A connection about which anything is in doubt is never used again, nothing
    is ever sent twice, one deadline covers an exchange from its first step to its last byte, nothing a server sends
    makes memory grow beyond the bounds, and cancelling at any moment frees the place and closes the socket. How far a
    request got stands in ``request.extensions["oneauto_async.flight"]`` (a `FlightRecord`), whatever exception comes.

    Responses are read whole; gzip and deflate are undone within the same bound, and their header dropped. Another
    coding, which a server sends only to a client that asks for it, is left to httpx, which undoes it without any. It
    speaks no HTTP/2 and knows no proxies: use `httpx.AsyncHTTPTransport` for those. It follows no redirects, keeps no
    cookies and reads no environment. It needs asyncio, or uvloop.

    A host is looked up once for all connections that are opened at the same time. The authorities are read once for
    all transports, when the first one needs them.

    When httpx's stock transport is mocked (respx, pytest-httpx), requests go there, and no byte leaves but by the mock.
    So they do when a tracer has wrapped it; then each has a connection of its own.

    Arguments:
        ssl_context: for https; else certifi's authorities, TLS 1.2 or newer.
        max_connections: open at once; further requests wait in line, up to the request's ``pool`` timeout.
        keepalive_expiry: seconds an idle connection is kept.
        max_body: bytes of a body, before and after undoing its content coding.
        max_head: bytes of status lines and headers.
        deadline: seconds for a whole exchange, unless the request's record names its own.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None = None,
        *,
        max_connections: int = 100,
        keepalive_expiry: float = 2.0,
        max_body: int = MAX_BODY,
        max_head: int = 256 * 1024,
        deadline: float = 45.0,
    ) -> None:
        self._ssl_context = ssl_context
        self._max_connections = max_connections
        self._keepalive_expiry = keepalive_expiry
        self._bounds = Bounds(head=max_head, body=max_body)
        self._deadline = deadline
        self._pool: Pool | None = None
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stand_in: httpx.AsyncHTTPTransport | None = None

    def __repr__(self) -> str:
        return f"<HTTP11Transport {self._pool or 'unused'}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one GET and return its whole response.

        Raises:
            httpx.TransportError: httpx's own kinds. Before anything was sent: `UnsupportedProtocol`,
                `LocalProtocolError`, `PoolTimeout`, `ConnectTimeout`, `ConnectError`. After: `ReadTimeout`,
                `ReadError`, `RemoteProtocolError`.
            httpx.DecodingError: the body is not coded as it says.
            HeldBack: the request's record says that it may not leave any more; see `FlightRecord`.
            ConfigurationError: the transport belongs to another event loop; nothing was sent.

        Cancelling leaves the line for a connection, or closes the one the request was on. The record tells how far it
        got.
        """
        record = request.extensions.get(EXTENSION)
        if record is None:
            record = request.extensions[EXTENSION] = FlightRecord()
        is_wrapped = record.is_assumed or type(self) is not HTTP11Transport
        if record.stage is not Stage.NOT_SENT:
            record.send_again()
        if stock_transport_is_mocked():
            record.sent(asyncio.get_running_loop().time())  # a mock may do anything, and does not say what
            return await self._stock_transport().handle_async_request(request)
        record.is_kept = True
        timeouts = request.extensions.get("timeout", {})
        try:
            reader = await self.fetch(origin_of(request.url), request_head(request), timeouts, record)
        except BaseException as error:
            if is_wrapped and record.stage is Stage.NOT_SENT:
                record.let_go(error, asyncio.get_running_loop().time())
            raise
        response = _response(reader, record)
        response.extensions[EXTENSION] = record  # tells it from one that somebody else returns in its place
        return response

    async def fetch(
        self, origin: Origin, head: bytes, timeouts: Mapping[str, float | None], record: FlightRecord
    ) -> ResponseReader:
        """Exchange bytes for bytes, below httpx's objects: what came stands in the record, its coding undone.

        Arguments:
            origin: where to.
            head: the whole request, as `request_head` makes it.
            timeouts: ``connect``, ``read`` and ``pool``, in seconds, as httpx has them.
            record: written at each step.

        Raises:
            httpx.TransportError: as `handle_async_request`.
            httpx.DecodingError: the body is not coded as it says.
            HeldBack: it took a while to get a connection, and the record says that the request may not leave any more.
            ConfigurationError: the transport belongs to another event loop; nothing was sent.

        Cancelling: as for `handle_async_request`.
        """
        record.is_kept = True
        pool = self._open_pool()
        left = self._deadline if record.deadline is None else record.deadline
        until = asyncio.get_running_loop().time() + left
        at_once = pool.take_at_once(origin)
        connection = at_once or await pool.take(
            origin, wait=timeouts.get("pool"), connect=timeouts.get("connect"), until=until
        )
        try:
            if at_once is None:
                record.require_leave()
            read = timeouts.get("read")
            reader = await connection.exchange(head, record, Allowed(until, left if read is None else read))
        except BaseException:
            if record.stage is Stage.COMPLETE:  # a cancellation came together with the whole answer, which is paid for
                with suppress(httpx.DecodingError):
                    _undo_coding(record, self._bounds.body)
            raise
        finally:
            pool.give_back(origin, connection)
        if reader.is_coded:
            _undo_coding(record, self._bounds.body)
        return reader

    def prepare_tls(self) -> None:
        """Read the authorities now, which takes tens of milliseconds, and not when the first connection needs them."""
        self._tls()

    def _tls(self) -> ssl.SSLContext:
        return self._ssl_context or default_ssl_context()

    async def aclose(self) -> None:
        """Close every connection at once, those in use included.

        Cancelling leaves none of its own open: they are closed before it waits for anything.
        """
        self._is_closed = True
        if self._pool is not None:
            self._pool.close()
        if self._stand_in is not None:
            await self._stand_in.aclose()
        await asyncio.sleep(0)  # sockets are closed by the loop, in its next turn

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def _open_pool(self) -> Pool:
        loop = asyncio.get_running_loop()
        if self._pool is None:
            if self._is_closed:
                raise httpx.ConnectError("the transport is closed")
            self._loop = loop
            self._pool = Pool(
                tls=self._tls,
                most=self._max_connections,
                expiry=self._keepalive_expiry,
                bounds=self._bounds,
            )
        elif loop is not self._loop:
            raise ConfigurationError("this HTTP11Transport belongs to another event loop: make one for each")
        return self._pool

    def _stock_transport(self) -> httpx.AsyncHTTPTransport:
        """Return the stock transport a mock has its hands on."""
        if self._stand_in is None:
            # Without keep-alive: its pool would take surplus bytes for the answer to the next request.
            limits = httpx.Limits(max_connections=self._max_connections, max_keepalive_connections=0)
            verify = self._ssl_context or True
            self._stand_in = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits)
        return self._stand_in


@functools.cache  # reading the authorities takes longer than all else about a client
def default_ssl_context() -> ssl.SSLContext:
    """Return a context that trusts certifi's authorities; the standard library's own defaults forbid TLS before 1.2."""
    import certifi  # only needed by a client that opens TLS connections of its own

    return ssl.create_default_context(cafile=certifi.where())


def origin_of(url: httpx.URL) -> Origin:
    """Return where connections for this address lead; the host as it stands in the Host header, IDNA included."""
    if url.scheme not in PORTS:
        raise httpx.UnsupportedProtocol(f"HTTP11Transport speaks http and https, not {url.scheme or 'nothing'!r}")
    port = PORTS[url.scheme] if url.port is None else url.port
    return Origin(url.scheme, url.raw_host.decode("ascii").strip("[]"), port)


class RequestHead(bytes):
    """A request as bytes that a traceback which shows locals does not show: the key is in it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<request head, {len(self)} bytes>"

    __str__ = __repr__


def request_head(request: httpx.Request) -> RequestHead:
    """Return the request as bytes.

    Raises:
        httpx.UnsupportedProtocol: anything but a GET without a body.
        httpx.LocalProtocolError: a header that would end its line, or whose name is none.
    """
    if request.method != "GET":
        raise httpx.UnsupportedProtocol(f"HTTP11Transport sends GET requests only, not {request.method}")
    if "content-length" in request.headers or "transfer-encoding" in request.headers:
        raise httpx.UnsupportedProtocol("HTTP11Transport sends no bodies")
    if not all(map(_is_token, [name for name, _ in request.headers.raw])):
        raise httpx.LocalProtocolError("a header name holds a character that none may")
    head, ends = _joined(request), len(request.headers.raw) + 2
    if head.count(b"\r") != ends or head.count(b"\n") != ends or head.count(b"\0"):
        # The value is not shown: it may be the key.
        raise httpx.LocalProtocolError("a header holds a line end or a NUL")
    return head


def _joined(request: httpx.Request) -> RequestHead:
    """Join the lines of a request, in a frame of its own: they are not to be seen where it is refused."""
    lines = [b"GET %b HTTP/1.1" % request.url.raw_path]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return RequestHead(b"\r\n".join([*lines, b"", b""]))


@functools.lru_cache(maxsize=256)
def _is_token(name: bytes) -> bool:
    """Tell whether a header may have this name (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(name) is not None


_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _response(reader: ResponseReader, record: FlightRecord) -> httpx.Response:
    headers = reader.headers
    if reader.is_coded and record.body != reader.body:  # its coding was undone: httpx must not try
        headers = [header for header in headers if header[0].lower() not in ("content-encoding", "content-length")]
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]  # httpx takes text for ASCII
    extensions = {"http_version": f"HTTP/{reader.version}".encode(), "reason_phrase": reader.reason}
    return httpx.Response(reader.status, headers=raw, stream=httpx.ByteStream(record.body), extensions=extensions)


def _undo_coding(record: FlightRecord, limit: int) -> None:
    coding = ", ".join(value for name, value in record.headers if name.lower() == "content-encoding")
    record.body, record.flaw = decode(coding, record.body, limit)
    if record.flaw is not None:
        raise httpx.DecodingError(f"the body is not sound {coding}: {record.flaw.name.lower()}")

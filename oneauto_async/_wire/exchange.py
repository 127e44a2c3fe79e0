"""One attempt: a request out, and what came of it as a value. httpx's exceptions end here.

What matters for money is told apart here once: *surely not sent* (`Unsent`), *sent and answered* (`Reply`), and *sent,
no trustworthy answer* (`Lost`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, TypeAlias

import attrs
import httpx

from .._classify import Flaw, Headers, charge_of, excerpt
from .._key import Secret
from .._recent import Recent
from .._waiting import put_off_cancelling
from ..clock import Clock
from ..endpoints import Endpoint
from ..errors import Billing
from ..settings import Timeouts
from .decoding import decode
from .http11 import HTTP11Transport
from .masking import Mask
from .mocks import stock_transport_is_mocked
from .reading import MAX_BODY
from .record import EXTENSION, FlightRecord, Stage
from .requests import Mould, httpx_timeouts
from .straight import is_plain, straight_way


class Reply(NamedTuple):
    """A status line was seen. ``flaw`` says why the body is not whole, if it is not."""

    status: int
    headers: Headers
    body: bytes
    flaw: Flaw | None = None


@attrs.frozen(kw_only=True)
class Unsent:
    """Surely nothing reached the service. ``final`` when trying again cannot help, as with a wrong certificate."""

    text: str
    final: bool = False
    proxy: bool = False
    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen(kw_only=True)
class Lost:
    """Sent, and no status line came back that can be trusted."""

    text: str
    billing: ClassVar[Billing] = Billing.UNKNOWN


Attempted: TypeAlias = Reply | Unsent | Lost

_log = logging.getLogger("oneauto_async")

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
"""What httpx, a transport or a socket under it may raise; a timeout is an OSError."""


LONGEST_CLOSING = 5.0
"""Seconds that a transport which was given has to let go of a response: it may write it into a cache, say."""


class Exchange:
    """Asks one question over an `httpx.AsyncClient`, once: no redirect, no cookie, no auth, no resend."""

    def __init__(
        self, client: httpx.AsyncClient, *, base_url: str, key: Secret, timeouts: Timeouts, clock: Clock
    ) -> None:
        self._client = client
        self._key = key
        self._mask = Mask(key)
        self._timeouts = timeouts
        self._clock = clock
        self._base_url = base_url
        self._seconds = httpx_timeouts(timeouts)
        self._moulds: Recent[Endpoint[Any], Mould] = Recent()

    def __repr__(self) -> str:
        return f"<Exchange with {self._base_url}>"

    async def ask(self, endpoint: Endpoint[Any], vehicle_id: str, record: FlightRecord) -> Attempted:
        """Send one request and return what came of it.

        Cancellation passes through; the record then tells whether the request had left.
        """
        mould = self._moulds.get(endpoint) or self._cast(endpoint)
        if self._client.is_closed:
            return Unsent(text="the http_client that was given is closed", final=True)
        record.deadline = self._timeouts.attempt
        failure = await self._exchanged(mould, vehicle_id, record)
        return await self._reply(record) if failure is None else failure

    async def _exchanged(self, mould: Mould, vehicle_id: str, record: FlightRecord) -> Unsent | Lost | None:
        """Send and receive; return why there is no answer that counts, or ``None`` once the record has one."""
        transport = straight_way(self._client, mould.url)
        try:
            if transport is not None:
                await transport.fetch(mould.origin, mould.head(vehicle_id), self._seconds, record)
            else:
                await self._heard(mould.request(vehicle_id, self._seconds, record), record)
        except _FAILURES as error:
            failure = self._failure(error, record)
            if self._may_be_sent_elsewhere(record, mould):
                return Lost(text=failure.text)
            return failure if record.status is None else None
        except asyncio.CancelledError:
            if record.stage is not Stage.COMPLETE or self._may_be_sent_elsewhere(record, mould):
                raise
            put_off_cancelling()  # the whole answer is there, and paid for
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if record.status is None:
                raise
            failure = self._failure(error, record)  # of a hook, say: what has come is paid for all the same
            _log.warning("an answer had come when the http_client failed: %s", failure.text)
        return None

    async def _reply(self, record: FlightRecord) -> Reply | Lost:
        """Return the answer without the key; one that cost nothing says nothing of an earlier request."""
        assert record.status is not None
        if record.was_sent and charge_of(record.status) is Billing.NOT_BILLED:
            return Lost(text=f"only the second of two requests was answered, with HTTP {record.status}")
        headers, body = record.headers, record.body
        if self._mask.may_be_in(headers, body):
            headers, body = self._mask.headers(headers), await self._mask.body(body)
        if record.flaw is not None:
            body = self._mask.cut_off_body(body)
        return Reply(status=record.status, headers=headers, body=body, flaw=record.flaw)

    def _cast(self, endpoint: Endpoint[Any]) -> Mould:
        mould = self._moulds[endpoint] = Mould.cast(endpoint, self._base_url, self._key)
        return mould

    def _may_be_sent_elsewhere(self, record: FlightRecord, mould: Mould) -> bool:
        """Tell whether a transport around ours may have gone another way after an answer that cost nothing."""
        if record.stage is not Stage.COMPLETE or record.status is None or charge_of(record.status) is Billing.BILLED:
            return False
        return type(self._client._transport_for_url(mould.url)) is not HTTP11Transport

    async def _heard(self, request: httpx.Request, record: FlightRecord) -> None:
        """Send through httpx, and let the record hear how it ended."""
        try:
            await self._through_httpx(request, record)
        except BaseException as error:
            record.hear(error)
            raise

    async def _through_httpx(self, request: httpx.Request, record: FlightRecord) -> None:
        """Send the full way: hooks, logs, mounts and mocks see the request, and any transport may be under it."""
        transport = self._client._transport_for_url(request.url)  # mounts are private
        if type(transport) is httpx.AsyncHTTPTransport:  # a subclass may do anything before it traces a step
            request.extensions["trace"] = self._tracer(record)
            if not _speaks_http2(transport):
                request.headers["connection"] = "close"  # its pool takes surplus bytes for the next answer
            may_be_replaced = any(self._client.event_hooks.values())  # the trace, by a hook
            record.is_kept = not may_be_replaced and is_plain(self._client) and _traces_each_step(transport)
        elif not isinstance(transport, HTTP11Transport):
            record.assume_sent(self._clock.monotonic())
        response: httpx.Response | None = None
        try:
            async with asyncio.timeout(self._timeouts.attempt):
                response = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
                if record.stage is not Stage.COMPLETE or response.extensions.get(EXTENSION) is not record:
                    await receive(response, record)  # else our transport has put the whole response there
        finally:
            if response is not None:
                await _close(response)

    def _tracer(self, record: FlightRecord) -> Callable[[str, dict[str, Any]], Awaitable[None]]:
        async def trace(event: str, info: dict[str, Any]) -> None:
            record.is_kept = True
            if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
                record.require_leave()
                record.sent(self._clock.monotonic())
            elif event == "http11.send_request_headers.failed" and _is_of_h11(info["exception"]):
                record.restart()  # it was looked at, and none of it written
            elif event == "http11.receive_response_headers.complete" and record.stage is Stage.SENT:
                _, record.status, _, headers, *_ = info["return_value"]  # known, should a hook fail on it
                record.headers = _decoded(headers)

        return trace

    def _failure(self, error: BaseException, record: FlightRecord) -> Unsent | Lost:
        """Note why no whole answer came, and return what that says of the money in case no status came either."""
        if record.stage is Stage.COMPLETE or record.flaw is not None:
            return self._translate(error, record)  # a hook has failed, and not the answer
        late = isinstance(error, TimeoutError | httpx.TimeoutException)
        record.flaw = Flaw.TIMED_OUT if late else Flaw.TRUNCATED
        if isinstance(error, httpx.HTTPStatusError) and _is_of(error.response, record):  # raised by a hook
            record.status = error.response.status_code
            record.headers = tuple(error.response.headers.multi_items())
            with suppress(httpx.ResponseNotRead):
                record.body, record.flaw = error.response.content, None
        return self._translate(error, record)

    def _translate(self, error: BaseException, record: FlightRecord) -> Unsent | Lost:
        """Turn an exception into what it says of the money, and drop it: it holds the request, and so the key."""
        text = f"{type(error).__name__}: {excerpt(self._mask.text(str(error)))}".rstrip(": ")
        if record.was_sent or not (record.stage is Stage.NOT_SENT if record.is_kept else _is_surely_unsent(error)):
            return Lost(text=text)
        if isinstance(error, httpx.ProxyError):
            return Unsent(text=text, proxy=True, final=str(error).startswith("407"))
        return Unsent(text=text, final=_is_final(error))


async def receive(response: httpx.Response, record: FlightRecord) -> None:
    """Read a foreign transport's response into the record, within bounds."""
    record.stage, record.status = Stage.ANSWERED, response.status_code
    record.headers = _decoded(response.headers.raw)
    if response.is_stream_consumed:  # a mock's response comes read and decoded
        record.body = response.content
        return
    stream, body = response.stream, bytearray()  # `aiter_raw` would close it as well, and fail if that does
    assert isinstance(stream, httpx.AsyncByteStream)
    try:
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_BODY:
                record.flaw = Flaw.TOO_LARGE
                return
    finally:
        record.body = bytes(body)  # also when it breaks off
    if coding := response.headers.get("content-encoding"):
        record.body, record.flaw = decode(coding, record.body, MAX_BODY)


async def _close(response: httpx.Response) -> None:
    """Let go of a response that was read: what has come is paid for, whatever becomes of this."""
    try:
        async with asyncio.timeout(LONGEST_CLOSING):
            await response.aclose()
    except asyncio.CancelledError:
        put_off_cancelling()
    except Exception as error:  # noqa: BLE001  # whatever a transport raises, it says nothing of the answer
        _log.warning("the transport could not close a response: %s", type(error).__name__)


def _is_of(response: httpx.Response, record: FlightRecord) -> bool:
    """Tell an answer to our request from one to a request that a hook has made."""
    request = getattr(response, "_request", None)
    return request is not None and request.extensions.get(EXTENSION) is record


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _speaks_http2(transport: httpx.AsyncHTTPTransport) -> bool:
    """Tell whether a stock transport may agree on HTTP/2, which has no word for closing; in doubt, yes."""
    return bool(getattr(transport._pool, "_http2", True))


def _traces_each_step(transport: httpx.AsyncHTTPTransport) -> bool:
    """Tell whether a stock transport leaves the network to the pool that it was made with, and nobody comes between."""
    if "handle_async_request" in vars(transport) or "handle_async_request" in vars(transport._pool):
        return False
    return type(transport._pool).__module__.partition(".")[0] == "httpcore" and not stock_transport_is_mocked()


def _is_surely_unsent(error: BaseException) -> bool:
    kinds = (
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.ProxyError,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
    )
    return isinstance(error, kinds)


def _is_of_h11(error: Exception) -> bool:
    """Tell what refuses to send a request from what fails to; over HTTP/2 the service may be to blame for the same."""
    return type(error).__name__ == "LocalProtocolError"


def _is_final(error: BaseException) -> bool:
    """A certificate that does not verify, or what httpx refuses to send, will be no better next time."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError | httpx.InvalidURL):
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False

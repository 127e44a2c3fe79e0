"""One attempt: a request out, and what came of it as a value. httpx's exceptions end here.

What matters for money is told apart here once: *surely not sent* (`Unsent`), *sent and answered* (`Reply`), and *sent,
no trustworthy answer* (`Lost`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias
from urllib.parse import quote

import attrs
import httpx

from .._classify import Flaw, Headers, excerpt
from ..clock import Clock
from ..endpoints import Endpoint
from ..errors import Billing
from ..settings import Secret, Timeouts
from .decoding import decode

USER_AGENT = "oneauto-async"
MAX_BODY = 8 * 1024 * 1024
"""Largest body accepted, in bytes, before and after decompression; an answer of this service is below a thousand."""

SHORTEST_MASKED_KEY = 12
"""A shorter key may occur in an answer by chance, and an answer must not be changed; real keys have 20 and more."""


@attrs.frozen(kw_only=True)
class Reply:
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


@attrs.define(eq=False)
class Progress:
    """How far one attempt has got; written here, read by whoever must know after a cancellation.

    Attributes:
        on_sent: called with the moment on the clock when the request begins to leave.
        connecting: the transport said that it is opening a connection.
        sent_at: that moment, or ``None`` before it.
    """

    on_sent: Callable[[float], None]
    connecting: bool = False
    sent_at: float | None = None

    def sent(self, moment: float) -> None:
        """Note, once, that the request begins to leave."""
        if self.sent_at is None:
            self.sent_at = moment
            self.on_sent(moment)


class Exchange:
    """Asks one question over an `httpx.AsyncClient`, once: no redirect, no cookie, no auth, no resend."""

    def __init__(
        self, client: httpx.AsyncClient, *, base_url: str, key: Secret, timeouts: Timeouts, clock: Clock
    ) -> None:
        self._client = client
        self._base_url = base_url
        self._key = key
        self._timeouts = timeouts
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Exchange with {self._base_url}>"

    async def ask(self, endpoint: Endpoint[Any], vehicle_id: str, progress: Progress) -> Attempted:
        """Send one request and return what came of it.

        Cancellation passes through; ``progress`` then tells whether the request had left.
        """
        request = self._request(endpoint, vehicle_id, progress)
        incoming = _Incoming()
        try:
            async with asyncio.timeout(self._timeouts.attempt):
                await self._collect(request, incoming, progress)
        except TimeoutError:
            incoming.flaw, failure = Flaw.TIMED_OUT, self._overdue(progress)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            incoming.flaw, failure = Flaw.TRUNCATED, self._translate(error, progress)
        reply = incoming.reply()
        return failure if reply is None else self._mask(reply)

    async def _collect(self, request: httpx.Request, incoming: _Incoming, progress: Progress) -> None:
        if not _reports_progress(self._client, request):
            progress.sent(self._clock.monotonic())
        response = await self._client.send(request, stream=True, auth=None, follow_redirects=False)
        try:
            await incoming.receive(response)
        finally:
            await response.aclose()

    def _request(self, endpoint: Endpoint[Any], vehicle_id: str, progress: Progress) -> httpx.Request:
        url = f"{self._base_url}{endpoint.path}?{endpoint.parameter}={quote(vehicle_id, safe='')}"
        headers = {
            "x-api-key": self._key.reveal(),
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": USER_AGENT,
        }
        return httpx.Request("GET", url, headers=headers, extensions=self._extensions(progress))

    def _extensions(self, progress: Progress) -> dict[str, Any]:
        async def trace(event: str, info: dict[str, Any]) -> None:
            progress.connecting = True
            if event.endswith("send_request_headers.started"):
                progress.sent(self._clock.monotonic())

        timeouts = self._timeouts
        seconds = {"connect": timeouts.connect, "read": timeouts.read, "write": timeouts.read, "pool": timeouts.attempt}
        return {"timeout": seconds, "trace": trace}

    def _overdue(self, progress: Progress) -> Unsent | Lost:
        text = f"no answer within {self._timeouts.attempt:g} s"
        return Unsent(text=text) if progress.connecting and progress.sent_at is None else Lost(text=text)

    def _translate(self, error: Exception, progress: Progress) -> Unsent | Lost:
        """Turn an exception into what it says of the money, and drop it: it holds the request, and so the key."""
        text = f"{type(error).__name__}: {self._masked(excerpt(str(error)))}".rstrip(": ")
        if isinstance(error, httpx.ProxyError):
            return Unsent(text=text, proxy=True, final="407" in text)
        if _is_surely_unsent(error) or (progress.connecting and progress.sent_at is None):
            return Unsent(text=text, final=_is_final(error))
        return Lost(text=text)

    def _mask(self, reply: Reply) -> Reply:
        """Take the key out of a reply that echoes it, so that nothing downstream can show it."""
        key = self._key.reveal()
        if len(key) < SHORTEST_MASKED_KEY:
            return reply
        if key.encode() not in reply.body and not any(key in value for _, value in reply.headers):
            return reply
        headers = tuple((name, value.replace(key, "***")) for name, value in reply.headers)
        return attrs.evolve(reply, headers=headers, body=reply.body.replace(key.encode(), b"***"))

    def _masked(self, text: str) -> str:
        return text.replace(self._key.reveal(), "***")


def _reports_progress(client: httpx.AsyncClient, request: httpx.Request) -> bool:
    """Tell whether the transport under this request traces its steps; another may send without a word."""
    return isinstance(client._transport_for_url(request.url), httpx.AsyncHTTPTransport)  # mounts are private


def _is_surely_unsent(error: Exception) -> bool:
    kinds = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.InvalidURL)
    return isinstance(error, kinds)


def _is_final(error: Exception) -> bool:
    """A certificate that does not verify, or an address httpx cannot use, will be no better next time."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return True
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@attrs.define(eq=False)
class _Incoming:
    """A reply as it comes in."""

    status: int | None = None
    headers: Headers = ()
    body: bytearray = attrs.field(factory=bytearray)
    flaw: Flaw | None = None

    async def receive(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in response.headers.raw)
        if response.is_stream_consumed:  # a mock's response comes read and decoded
            self.body += response.content
            return
        async for chunk in response.aiter_raw():
            self.body += chunk
            if len(self.body) > MAX_BODY:
                self.flaw = Flaw.TOO_LARGE
                return
        self._undo_coding(response.headers.get("content-encoding", ""))

    def _undo_coding(self, coding: str) -> None:
        if coding:
            decoded, self.flaw = decode(coding, bytes(self.body), MAX_BODY)
            self.body = bytearray(decoded)

    def reply(self) -> Reply | None:
        """Return what came, or ``None`` if not even a status did."""
        if self.status is None:
            return None
        return Reply(status=self.status, headers=self.headers, body=bytes(self.body), flaw=self.flaw)

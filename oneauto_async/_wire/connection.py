"""One HTTP/1.1 connection: it carries one exchange at a time, and knows at every moment what it is doing."""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import Callable
from typing import NamedTuple, cast

import httpx

from .._classify import Flaw
from .reading import BadResponseError, Bounds, ResponseReader
from .record import ANSWERED, COMPLETE, FlightRecord

MOMENT = 0.01
"""Seconds in which an event loop takes in what has come already; some look at their timers first if it is none."""


class Allowed(NamedTuple):
    """How long an exchange may take.

    Attributes:
        until: the moment on the loop's clock by which it must be over.
        silence: seconds without a byte after which it is given up.
    """

    until: float = math.inf
    silence: float = math.inf

    def next_look(self, heard_at: float) -> float:
        """Return when to look at the clock again, having heard something at ``heard_at``."""
        return min(self.until, heard_at + self.silence)


class Connection(asyncio.Protocol):
    """Idle, busy with one exchange, or closed.

    It is closed, and never used again, as soon as anything about it is in doubt: a byte while idle, a byte beyond the
    response, an early end, a response that forbids reuse, or an exchange that was left.
    """

    def __init__(self, bounds: Bounds, on_end: Callable[[Connection], None]) -> None:
        """Make a connection that calls ``on_end`` once, when it is no longer of use."""
        self._bounds = bounds
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._poll: select.poll | None = None
        self._reader: ResponseReader | None = None
        self._answer: asyncio.Future[ResponseReader] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._patience = Allowed()
        self._heard_at = 0.0
        self._has_listened = False
        self._ended = False
        self.served = 0
        self.idle_since = 0.0

    def __repr__(self) -> str:
        state = "closed" if self._ended else "busy" if self._answer is not None else "idle"
        reading = f", {self._reader!r}" if self._reader is not None else ""
        return f"<Connection {state}, {self.served} served{reading}>"

    @property
    def is_idle(self) -> bool:
        """Whether it is open and carries no exchange."""
        return not self._ended and self._answer is None

    @property
    def is_usable(self) -> bool:
        """Whether a request may be written: idle, not closing, and with nothing waiting to be read, an end included."""
        if not self.is_idle or self._transport is None or self._transport.is_closing():
            return False
        # The other side's end may have arrived without the loop having looked; a request written now would be in doubt.
        return self._poll is None or not self._poll.poll(0)

    async def exchange(self, request: bytes, record: FlightRecord, patience: Allowed) -> ResponseReader:
        """Write a request and return its whole response; the record tells how far it got.

        Raises:
            httpx.ConnectTimeout: the patience had ended before; nothing was written, and the connection is still good.
            httpx.ReadTimeout: the patience ended.
            httpx.ReadError: the connection broke.
            httpx.RemoteProtocolError: what came is not a response that can be trusted, or ended early.

        Cancelling closes the connection.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= patience.until:
            raise httpx.ConnectTimeout("no time was left to send the request")
        assert self._transport is not None
        answer: asyncio.Future[ResponseReader] = loop.create_future()
        reader = ResponseReader(self._bounds)
        self._answer, self._reader = answer, reader
        self._transport.write(request)
        record.sent(now, len(request))
        self._heard_at, self._patience, self._has_listened = now, patience, False
        self._look_again_at(patience.next_look(now))
        try:
            return await answer
        finally:
            self._finish(reader)
            _note(reader, record)

    def _finish(self, reader: ResponseReader) -> None:
        self._answer = self._reader = None
        reader.release()
        self.served += 1
        if reader.surplus or not (reader.complete and reader.keep_alive):
            self.close()

    def _look_again_at(self, due: float) -> None:
        """See that the timer goes off by then: that of an exchange long over will do, and saves a new one for each."""
        if self._timer is None or self._timer.when() > due:
            self._stop_the_timer()
            self._timer = asyncio.get_running_loop().call_at(due, self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        due = self._patience.next_look(self._heard_at)
        loop = asyncio.get_running_loop()
        if loop.time() < due:
            self._look_again_at(due)
        elif not self._has_listened and self._poll is not None and self._poll.poll(0):
            # A process that was stopped for a while looks at its timers first, and at what has come meanwhile after.
            self._has_listened = True
            self._timer = loop.call_later(MOMENT, self._look_at_the_clock)
        else:
            self._fail(httpx.ReadTimeout("the answer did not come in time"))

    def _stop_the_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Close at once; nothing that is still on its way is waited for."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._stop_the_timer()
            self._on_end(self)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, TLS included."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        reader, answer = self._reader, self._answer
        if reader is None or answer is None or answer.done():
            self.close()  # nobody asked for them
            return
        self._heard_at = asyncio.get_running_loop().time()
        try:
            reader.feed(data)
        except BadResponseError as error:
            self._fail(httpx.RemoteProtocolError(str(error)))
        else:
            if reader.complete:
                answer.set_result(reader)

    def eof_received(self) -> bool:
        """The other side is done; over TLS asyncio says so too when the connection was cut without TLS's own notice.

        A body without a length then ends here as well, as with httpx's stock transport: a cut answer is no whole JSON.
        """
        self._ended_by(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone; without an end announced before it, what came may not be all."""
        self._ended_by(error or ConnectionResetError())
        self._end()

    def _ended_by(self, error: Exception | None) -> None:
        """Judge an end from the other side: an answer may just be complete by it, or it came too early."""
        reader, answer = self._reader, self._answer
        if reader is None or answer is None or answer.done():
            self.close()
            return
        if error is not None:
            self._fail(httpx.ReadError(f"the connection broke: {type(error).__name__}"))
            return
        try:
            reader.feed_eof()
        except BadResponseError as early:
            self._fail(httpx.RemoteProtocolError(str(early)))
        else:
            answer.set_result(reader)

    def _fail(self, error: httpx.TransportError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self.close()


def _note(reader: ResponseReader, record: FlightRecord) -> None:
    """Write into the record what came, whole or not."""
    if reader.head_complete:
        record.stage = COMPLETE if reader.complete else ANSWERED
        record.status = reader.status
        record.headers = reader.headers
        record.body = bytes(reader.body)
        record.flaw = Flaw.TOO_LARGE if reader.too_large else None

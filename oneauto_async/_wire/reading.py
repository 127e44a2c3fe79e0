"""Reading one response from bytes as they come: the one door to httptools. No I/O.

llhttp, under httptools, is strict about syntax. What it leaves open is judged here: where exactly a response ends (so
that a surplus byte is never taken for the next answer), what an early end means, statuses that are none, and bounds.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

import httptools

HEAD_END = b"\r\n\r\n"
CHUNK_OVERHEAD = 16
"""Bytes of framing allowed per byte of a chunked body: chunks of one byte need five. Extensions and trailers, which are
dropped, have the bound of the head for themselves."""

READ_SIZE = 256 * 1024
"""The most that asyncio reads at once; it may hold all of a body that has not been counted yet."""

NO_BODY = frozenset({204, 304})


MAX_BODY = 8 * 1024 * 1024
"""Bytes of a body at most, unless told otherwise, before and after undoing its content coding."""


class Bounds(NamedTuple):
    """The most a response may hold: nothing a server sends makes memory grow beyond it.

    Attributes:
        head: bytes of status lines and headers, interim responses included.
        headers: header lines.
        interim: responses (1xx) before the final one; each costs a parser.
        body: bytes of the body, before and after undoing a content coding.
    """

    head: int = 256 * 1024
    headers: int = 10_000
    interim: int = 100
    body: int = MAX_BODY


class BadResponseError(Exception):
    """What came is not an HTTP/1.1 response that can be trusted."""


class Framing(Enum):
    """How the end of a body is known (RFC 9112, 6.3)."""

    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()


NONE, LENGTH, CHUNKED, UNTIL_CLOSE = Framing  # taken out once: each look into an enum costs as much as a call


class ResponseReader:
    """One response: feed it bytes until it is ``complete``, or tell it that the connection ended."""

    # One is made for each lookup: without a dictionary of its own it is smaller, and quicker to make.
    __slots__ = (
        *("_beyond_head", "_bounds", "_head_seen", "_interim", "_interims", "_parser", "_rest", "_start", "_tail"),
        *("body", "complete", "framing", "head_complete", "headers", "is_coded", "keep_alive", "status"),
        *("reason", "surplus", "too_large", "version"),
    )

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._parser: httptools.HttpResponseParser | None = None
        self._head_seen = 0
        self._interim = False
        self._interims = 0
        self._rest = 0
        self._start = b""
        self._beyond_head = 0
        self._tail = b""
        self.status = 0
        self.version = ""
        self.reason = b""
        self.headers: list[tuple[str, str]] = []
        self.body: bytes | bytearray = b""
        self.framing = NONE
        self.head_complete = False
        self.complete = False
        self.keep_alive = False
        self.surplus = False
        self.too_large = False
        self.is_coded = False

    def __repr__(self) -> str:
        state = "complete" if self.complete else "in the body" if self.head_complete else "in the head"
        return f"<ResponseReader {self.status or 'no status'}, {state}, {len(self.body)} bytes of body>"

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            BadResponseError: they cannot be trusted; what was read before stays readable.
        """
        while data and not self.head_complete:
            data = self._feed_head(data if self._start else self._without_empty_lines(data))
        if data or (self.head_complete and not self.complete):
            self._feed_body(data)
        if self.complete:
            self.release()

    def feed_eof(self) -> None:
        """Learn that the connection ended.

        Raises:
            BadResponseError: too early.
        """
        if self.head_complete and self.framing is UNTIL_CLOSE:
            self.complete = True
        elif not self.complete:
            raise BadResponseError("the connection ended before the answer did")

    def release(self) -> None:
        """Let go of the parser, which is not needed any more.

        Each of the two refers to the other: left so, every response would wait for the garbage collector.
        """
        self._parser = None

    # The head: fed up to its very end, so that what follows is known to be body.

    def _feed_head(self, data: bytes) -> bytes:
        """Feed what belongs to the head and return what does not."""
        end = self._end_of_head(data)
        self._head_seen += end
        if self._head_seen > self._bounds.head:
            raise BadResponseError(f"more than {self._bounds.head} bytes of headers")
        head = data[:end]
        self._start = (self._start + head).lstrip(b"\r\n")[:5]
        self._parse(head)
        if self._interim:
            self._expect_another_head()
        return data[end:]

    def _without_empty_lines(self, data: bytes) -> bytes:
        """Drop what may stand before a status line, in one step: there may be very many."""
        kept = data.lstrip(b"\r\n")
        self._head_seen += len(data) - len(kept)
        return kept

    def _end_of_head(self, data: bytes) -> int:
        """Return how many of these bytes belong to the head; its end may lie across two reads."""
        found = (self._tail + data).find(HEAD_END)
        if found < 0:
            self._tail = (self._tail + data)[-3:]
            return len(data)
        end = found + len(HEAD_END) - len(self._tail)
        self._tail = b""
        return end

    def _expect_another_head(self) -> None:
        """Drop an interim response (1xx); the final one follows."""
        self._interim = False
        self._interims += 1
        if self._interims > self._bounds.interim:
            raise BadResponseError(f"more than {self._bounds.interim} interim responses")
        self._start = self.reason = b""
        self.release()
        self.headers = []

    def _parse(self, data: bytes) -> None:
        if self._parser is None:  # made late: a request that waits for its answer needs none
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BadResponseError("the server switches protocols, which nobody asked for") from None
        except httptools.HttpParserError as error:
            # A callback's own verdict comes wrapped; it says more than the parser's.
            cause = error.__context__
            raise (cause if isinstance(cause, BadResponseError) else BadResponseError(f"not HTTP: {error}")) from None

    # The body.

    def _feed_body(self, data: bytes) -> None:
        if self.complete:
            self.surplus = self.surplus or bool(data)
        elif self.framing is CHUNKED:
            self._feed_chunked(data)
        elif self.framing is LENGTH:
            self._append(data[: self._rest])
            self.surplus = len(data) > self._rest
            self._rest -= min(len(data), self._rest)
            self.complete = self._rest == 0
        else:
            self._append(data)

    def _feed_chunked(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-5:]
        self._beyond_head += len(data)
        if self._beyond_head > self._bounds.head + CHUNK_OVERHEAD * len(self.body) + READ_SIZE:
            raise BadResponseError("far more framing than body")
        try:
            self._parse(data)
        except BadResponseError:
            if not self.complete:
                raise
            self.surplus = True
        # llhttp skips line ends behind the last chunk without a word; a response ends with exactly one empty line.
        if self.complete and not (self._tail.endswith(HEAD_END) and self._tail[:1] not in b"\r\n"):
            self.surplus = True

    def _append(self, data: bytes) -> None:
        room = self._bounds.body - len(self.body)
        piece = data[:room]
        if not self.body:
            self.body = piece  # most bodies come in one piece, which needs no buffer
        else:
            self.body = self.body if isinstance(self.body, bytearray) else bytearray(self.body)
            self.body += piece
        if len(data) > room:
            self.too_large = True
            raise BadResponseError(f"more than {self._bounds.body} bytes of body")

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A response begins; a second one in the same bytes is surplus."""
        self.surplus = self.surplus or self.complete

    def on_status(self, reason: bytes) -> None:
        """The text behind the status, or a piece of it."""
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, or a trailer, which nobody asked for and which is dropped."""
        if self.head_complete:
            return
        headers = self.headers
        # llhttp leaves the white space behind a value, which RFC 9110, 5.5, says is no part of it.
        headers.append((name.decode("latin-1"), value.rstrip(b" \t").decode("latin-1")))
        if len(headers) > self._bounds.headers:
            raise BadResponseError(f"more than {self._bounds.headers} header lines")

    def on_headers_complete(self) -> None:
        """The head is whole: judge the status, and learn where the body ends."""
        if self.head_complete:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        self.version = self._parser.get_http_version()
        # llhttp reads RTSP and ICE too.
        if self._start != b"HTTP/" or status < 100 or self.version not in ("1.1", "1.0"):
            raise BadResponseError("not a response of HTTP/1.1")
        if status < 200:
            self._interim = True
            return
        self.status = status
        self.keep_alive = self._parser.should_keep_alive()
        self.head_complete = True
        self._frame()

    def on_body(self, data: bytes) -> None:
        """A piece of a chunked body."""
        if not self.complete:
            self._append(data)

    def on_message_complete(self) -> None:
        """The parser saw the end; it decides that for a chunked body alone."""
        if self.head_complete and self.framing is CHUNKED:
            self.complete = True

    def _frame(self) -> None:
        """Find the end of the body, as RFC 9112, 6.3, says; llhttp has refused contradictions."""
        if self.status in NO_BODY:
            self.complete = True
            return
        self.framing = UNTIL_CLOSE
        for name, value in self.headers:
            match name.lower():
                case "content-length":
                    self.framing, self._rest = LENGTH, int(value)
                    self.complete = self._rest == 0
                case "transfer-encoding" if self.framing is CHUNKED or value.lower() != "chunked":
                    raise BadResponseError("a transfer coding that was not asked for")
                case "transfer-encoding":
                    self.framing = CHUNKED
                case "content-encoding":
                    self.is_coded = True
                case _:
                    pass
        if self.framing is UNTIL_CLOSE or (self.framing is CHUNKED and self.version == "1.0"):
            self.keep_alive = False  # RFC 9112, 6.1: HTTP/1.0 knows no chunks, and whoever sends them is confused

"""Reading a response without I/O: where it ends, what is no response, and that no bytes break out of the bounds."""

from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples
from support.raw import split

from oneauto_async._wire.reading import BadResponseError, Bounds, Framing, ResponseReader

SMALL = Bounds(head=4096, headers=50, body=16 * 1024)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def read(*pieces: bytes, eof: bool = False, bounds: Bounds = SMALL) -> ResponseReader:
    """Feed pieces to a new reader."""
    reader = ResponseReader(bounds)
    for piece in pieces:
        reader.feed(piece)
    if eof:
        reader.feed_eof()
    return reader


def feed_again_and_again(reader: ResponseReader, piece: bytes, times: int) -> None:
    """Feed the same piece so many times."""
    for _ in range(times):
        reader.feed(piece)


SOUND: dict[str, tuple[bytes, int, bytes, bool]] = {
    "a length": (OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
    "a length of nothing": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
    "an empty reason": (b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", True),
    "names in any case": (OK + b"cOnTeNt-LeNgTh:2\r\n\r\n{}", 200, b"{}", True),
    "chunks": (CHUNKED + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, b"{}", True),
    "no chunk but the last": (CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "chunk sizes in capitals and zeros": (CHUNKED + b"00A\r\n0123456789\r\n000\r\n\r\n", 200, b"0123456789", True),
    "chunk extensions and trailers": (CHUNKED + b'2;a=b;c="d"\r\n{}\r\n0;e\r\nX: y\r\nZ:\r\n\r\n', 200, b"{}", True),
    "chunked in capitals": (OK + b"Transfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, b"{}", True),
    "a body that looks like a response": (OK + b"Content-Length: 17\r\n\r\n" + OK, 200, OK, True),
    "a chunk that looks like the end": (CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", 200, b"\r\n0\r\n\r\n", True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not modified, with the length it would have": (b"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "interim responses": (
        b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nA: b\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
        204,
        b"",
        True,
    ),
    "any number for a status": (b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", 999, b"", True),
    "chunks of a server that cannot know them": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        200,
        b"{}",
        False,
    ),
    "the server closes": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
    "the server closes, says one of two": (
        OK + b"Connection: x, close\r\nContent-Length: 2\r\n\r\n{}",
        200,
        b"{}",
        False,
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, b"{}", False),
}


@pytest.mark.parametrize(("response", "status", "body", "keep_alive"), SOUND.values(), ids=SOUND.keys())
def test_a_sound_response_is_whole(response: bytes, status: int, body: bytes, keep_alive: bool) -> None:
    """Status, body and whether the connection may serve again, however the bytes are cut in two."""
    for cut in range(len(response)):
        reader = read(*split(response, [cut]))
        assert reader.complete
        assert (reader.status, bytes(reader.body), reader.keep_alive, reader.surplus) == (
            status,
            body,
            keep_alive,
            False,
        )


@pytest.mark.parametrize(("response", "status", "body", "keep_alive"), SOUND.values(), ids=SOUND.keys())
def test_a_response_without_its_last_byte_is_not_whole(
    response: bytes, status: int, body: bytes, keep_alive: bool
) -> None:
    """Whatever it lacks, an end is then too early."""
    reader = read(response[:-1])
    assert not reader.complete
    with pytest.raises(BadResponseError):
        reader.feed_eof()


def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    """Such a connection serves no second time."""
    reader = read(OK + b"\r\n", b"{", b"}")
    assert not reader.complete
    reader.feed_eof()
    assert (reader.complete, bytes(reader.body), reader.keep_alive) == (True, b"{}", False)


@pytest.mark.parametrize("value", [b"a b", b" a b", b"\ta b", b"a b ", b"a b\t ", b" \t a b \t "], ids=repr)
def test_white_space_around_a_value_is_no_part_of_it(value: bytes) -> None:
    """RFC 9110, 5.5; what is inside stays."""
    assert read(OK + b"X:" + value + b"\r\nContent-Length: 0\r\n\r\n").headers[0] == ("X", "a b")


UNSOUND = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "RTSP, version 1.1": b"RTSP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "ICE": b"ICE/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "ICE behind empty lines": b"\r\n\r\nICE/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "RTSP behind an interim response": b"HTTP/1.1 100 C\r\n\r\nRTSP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9": b'{"success": true}',
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": b"\x15\x03\x03\x00\x02\x02\x28",
    "status 099": b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "a NUL in a header": OK + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a space before the colon": OK + b"Content-Length : 2\r\n\r\n{}",
    "a folded header": OK + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "two lengths on one line": OK + b"Content-Length: 2, 3\r\n\r\n{}x",
    "a negative length": OK + b"Content-Length: -2\r\n\r\n{}",
    "an empty length": OK + b"Content-Length:\r\n\r\n{}",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\n{}",
    "a signed length": OK + b"Content-Length: +2\r\n\r\n{}",
    "a length beyond 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a transfer coding not asked for": OK + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "another coding under the chunks": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "another coding over the chunks": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no-break space behind chunked": OK + b"Transfer-Encoding: chunked\xa0\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "almost chunked": OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "an impossible chunk size": CHUNKED + b"zz\r\n{}\r\n",
    "a negative chunk size": CHUNKED + b"-1\r\n{}\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\n{}\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "a chunk size behind a space": CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n",
    "no line end behind a chunk": CHUNKED + b"2\r\n{}0\r\n\r\n",
}


@pytest.mark.parametrize("response", UNSOUND.values(), ids=UNSOUND.keys())
def test_what_is_no_response_is_refused(response: bytes) -> None:
    """However the bytes are cut in two, and at the latest when the connection ends."""
    for cut in range(len(response)):
        with pytest.raises(BadResponseError):
            read(*split(response, [cut]), eof=True)


@pytest.mark.parametrize("name", ["two different lengths", "junk"])
def test_a_refusal_says_why_in_one_printable_line(name: str) -> None:
    """The message can be logged: it is short and has no control character of the response."""
    response = {"two different lengths": UNSOUND["two lengths"], "junk": b"\x1b[31m\r\n\0" * 50}[name]
    with pytest.raises(BadResponseError) as caught:
        read(response)
    assert 0 < len(str(caught.value)) < 120
    assert str(caught.value).isprintable()


# Surplus: a byte that is not of this response must never be taken for the next one.

ENDINGS = {
    "a length": OK + b"Content-Length: 2\r\n\r\n{}",
    "chunks": CHUNKED + b"2\r\n{}\r\n0\r\n\r\n",
    "chunks and trailers": CHUNKED + b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
    "chunks, then close": OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not\r\nContent-Length: 2\r\n\r\n",
}
SURPLUS = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n\r\n\r\n",
    b" ",
    b"\0",
    b"x",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
    b"HTTP/1.1 204 N\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    CHUNKED + b"0\r\n\r\n",
    b"\r\n" + CHUNKED + b"0\r\n\r\n",
    b"\x15\x03\x03",
]


@pytest.mark.parametrize("response", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize("surplus", SURPLUS, ids=repr)
def test_surplus_bytes_are_always_noticed(response: bytes, surplus: bytes) -> None:
    """In the same read or the next, behind any end of a body; the response itself is none the worse."""
    alone = read(response)
    for cut in range(len(response + surplus)):
        reader = read(*split(response + surplus, [cut]))
        assert reader.surplus
        assert reader.complete
        assert (reader.status, reader.body, reader.headers) == (alone.status, alone.body, alone.headers)


# Bounds.


def test_an_endless_series_of_interim_responses_is_cut() -> None:
    """Each is small; together they have the bound of a head, and their number one of its own."""
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    with pytest.raises(BadResponseError, match="4096 bytes of headers"):
        read(*[interim] * (1 + SMALL.head // len(interim)))

    bare = b"HTTP/1.1 102 P\r\n\r\n"
    assert read(bare * SMALL.interim + OK + b"Content-Length: 0\r\n\r\n").complete
    with pytest.raises(BadResponseError, match="100 interim responses"):
        read(bare * (SMALL.interim + 1))


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_an_endless_header_is_cut(size: int) -> None:
    """A header beyond the bound is refused, whatever the size of the pieces it comes in."""
    with pytest.raises(BadResponseError, match="4096 bytes of headers"):
        read(OK + b"X: ", *[b"a" * size] * (1 + SMALL.head // size))


def test_too_many_headers_are_refused() -> None:
    """More than fifty header lines are refused, however few bytes they take."""
    with pytest.raises(BadResponseError, match="50 header lines"):
        read(OK + b"a:\r\n" * 51 + b"\r\n")


def test_headers_within_the_bounds_are_kept_in_order() -> None:
    """Repeated names, and bytes beyond ASCII, as they came."""
    lines = [(f"X-{number % 7}", chr(number + 0xA0)) for number in range(49)]
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    assert read(OK + head.encode("latin-1") + b"Content-Length: 0\r\n\r\n").headers == [*lines, ("Content-Length", "0")]


FLOODS = {
    "a length": (OK + b"Content-Length: 9999999\r\n\r\n", b"a" * 1000),
    "no length": (OK + b"\r\n", b"a" * 1000),
    "large chunks": (CHUNKED, b"3e8\r\n" + b"a" * 1000 + b"\r\n"),
    "chunks of a byte": (CHUNKED, b"1\r\na\r\n" * 200),
    "one endless chunk": (CHUNKED + b"fffffff\r\n", b"a" * 1000),
}


@pytest.mark.parametrize(("head", "piece"), FLOODS.values(), ids=FLOODS.keys())
def test_an_endless_body_is_cut_at_the_bound(head: bytes, piece: bytes) -> None:
    """Exactly the bound is kept, and it is known to be a part."""
    reader = read(head)
    with pytest.raises(BadResponseError, match="16384 bytes of body"):
        feed_again_and_again(reader, piece, 100)
    assert (len(reader.body), reader.too_large, reader.complete) == (SMALL.body, True, False)


def test_a_body_of_just_the_bound_passes() -> None:
    """A body of as many bytes as allowed is read, and one with a byte more is refused."""
    body = b"a" * SMALL.body
    assert read(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body).complete
    with pytest.raises(BadResponseError):
        read(OK + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body + b"a")


FRAMING_FLOODS = {
    "trailers": (b"2\r\n{}\r\n0\r\n", b"x: y\r\n" * 1000),
    "one endless trailer": (b"2\r\n{}\r\n0\r\nx: ", b"y" * 65536),
    "one endless trailer name": (b"2\r\n{}\r\n0\r\n", b"y" * 65536),
    "an endless chunk extension": (b"2;", b"y" * 65536),
    "an endless chunk size": (b"", b"0" * 65536),
}


@pytest.mark.parametrize(("start", "piece"), FRAMING_FLOODS.values(), ids=FRAMING_FLOODS.keys())
def test_framing_without_end_is_cut(start: bytes, piece: bytes) -> None:
    """What is dropped is not read for ever either: it has cost a hundred megabytes and nine seconds."""
    reader = read(CHUNKED + start)
    with pytest.raises(BadResponseError):
        feed_again_and_again(reader, piece, 4 * 2**20 // len(piece))


# Any sound response, any cuts.

TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8).map(lambda text: f"x-{text}".encode())
VALUES = st.binary(max_size=12).map(lambda value: bytes(b for b in value if b > 0x20 and b != 0x7F))
HEADERS = st.lists(st.tuples(TOKENS, VALUES), max_size=5)
BODIES = st.binary(max_size=200)


@st.composite
def chunked_bodies(draw: st.DrawFn, body: bytes) -> bytes:
    """Return a body in chunks, with extensions and trailers."""
    coded = b""
    for chunk in split(body, draw(st.lists(st.integers(0, 200), max_size=5))):
        extension = draw(st.sampled_from([b"", b"", b";a", b";a=b"]))
        coded += draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(chunk) + extension + b"\r\n" + chunk + b"\r\n"
    trailers = b"".join(b"%b: %b\r\n" % trailer for trailer in draw(st.lists(st.tuples(TOKENS, VALUES), max_size=2)))
    return coded + b"0\r\n" + trailers + b"\r\n"


@st.composite
def sound_responses(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Return a sound response, and whether the end of the connection is its end."""
    interim = draw(
        st.lists(st.sampled_from([b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 103 E\r\nA: b\r\n\r\n"]), max_size=2)
    )
    status = draw(st.integers(200, 599))
    head = b"HTTP/1.1 %d%b\r\n" % (status, draw(st.sampled_from([b" OK", b" ", b" Some Reason"])))
    head += b"".join(b"%b: %b\r\n" % header for header in draw(HEADERS))
    if draw(st.booleans()):
        head += b"Connection: close\r\n"
    body = draw(BODIES)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if status in (204, 304):
        return b"".join(interim) + head + b"\r\n", False
    if framing == "length":
        return b"".join(interim) + head + b"Content-Length: %d\r\n\r\n" % len(body) + body, False
    if framing == "chunked":
        return b"".join(interim) + head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunked_bodies(body)), False
    return b"".join(interim) + head + b"\r\n" + body, True


CUTS = st.lists(st.integers(0, 500), max_size=8)


def facts(reader: ResponseReader) -> tuple[object, ...]:
    """Return all that anyone reads from a reader."""
    return (
        reader.status,
        reader.headers,
        reader.body,
        reader.framing,
        reader.complete,
        reader.keep_alive,
        reader.surplus,
    )


@given(sound_responses(), CUTS)
@examples(300)
def test_cuts_change_nothing(sound: tuple[bytes, bool], cuts: list[int]) -> None:
    """A response in pieces is the response in one piece."""
    response, eof = sound
    whole, pieces = read(response, eof=eof), read(*split(response, cuts), eof=eof)
    assert whole.complete
    assert not whole.surplus
    assert facts(pieces) == facts(whole)


def read_by_h11(response: bytes, eof: bool) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
    """Return what h11 makes of it, or ``None`` if it refuses or waits for more."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(response)
    if eof:
        connection.receive_data(b"")
    status, headers, body = 0, [], b""
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status, headers = event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, headers, body


def lowered(reader: ResponseReader) -> list[tuple[bytes, bytes]]:
    """Return the headers as h11 shows them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reader.headers]


@given(sound_responses())
@examples(300)
def test_h11_reads_the_same(sound: tuple[bytes, bool]) -> None:
    """The parser under stock httpx comes to the same status, headers and body."""
    response, eof = sound
    reader = read(response, eof=eof)
    assert read_by_h11(response, eof) == (reader.status, lowered(reader), bytes(reader.body))


# Any bytes at all.

FRAGMENTS = [
    b"HTTP/1.1 ",
    b"HTTP/1.0 200 OK\r\n",
    OK,
    b"200 OK",
    b"204 N\r\n",
    b"100 C\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b":",
    b" ",
    b"0",
    b"2",
    b"ffffffff",
    b"Content-Length: 5\r\n",
    b"Content-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Upgrade: x\r\nConnection: upgrade\r\n",
    b"2\r\n{}\r\n",
    b"0\r\n\r\n",
    b";a=b",
    b"X: y\r\n",
    b"\0",
    b"\xff",
    b"{}",
]
JUNK = st.one_of(
    st.binary(max_size=100),
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map(b"".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)), max_size=12).map(lambda f: OK + b"".join(f)),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a sound response with one stretch replaced."""
    response, _ = draw(sound_responses())
    start, length = draw(st.integers(0, len(response))), draw(st.integers(0, 4))
    return (
        response[:start]
        + draw(st.one_of(st.binary(max_size=3), st.sampled_from(FRAGMENTS)))
        + response[start + length :]
    )


TINY = Bounds(head=256, headers=8, body=64)


def drain(reader: ResponseReader, pieces: list[bytes], eof: bool) -> bool:
    """Feed everything; return whether it was refused."""
    try:
        for piece in pieces:
            reader.feed(piece)
        if eof:
            reader.feed_eof()
    except BadResponseError:
        return True
    return False


@given(st.one_of(JUNK, mutated()), CUTS, st.booleans())
@example(b"\r\n" * 200, [], False)
@examples(500)
def test_any_bytes_are_a_response_or_refused(data: bytes, cuts: list[int], eof: bool) -> None:
    """No other exception, no more than the bounds, and whole only if the framing says so."""
    reader = ResponseReader(TINY)
    refused = drain(reader, split(data, cuts), eof)

    assert len(reader.body) <= TINY.body
    assert len(reader.headers) <= TINY.headers + 1
    assert eof <= (refused or reader.complete)
    if reader.complete:
        assert_the_framing_says_so(reader, data, eof)


def assert_the_framing_says_so(reader: ResponseReader, data: bytes, eof: bool) -> None:
    """Find the reason for the end in the bytes."""
    headers = dict(lowered(reader))
    assert 200 <= reader.status <= 999
    match reader.framing:
        case Framing.NONE:
            assert reader.status in (204, 304)
        case Framing.LENGTH:
            assert len(reader.body) == int(headers[b"content-length"])
            assert b"transfer-encoding" not in headers
        case Framing.CHUNKED:
            assert headers[b"transfer-encoding"].lower() == b"chunked"
            assert b"0\r\n" in data
        case Framing.UNTIL_CLOSE:
            assert eof
            assert not headers.keys() & {b"content-length", b"transfer-encoding"}


@given(st.one_of(JUNK, mutated()), CUTS, st.booleans())
@examples(500)
def test_cuts_change_nothing_about_any_bytes(data: bytes, cuts: list[int], eof: bool) -> None:
    """What is whole, what is surplus and what is refused does not depend on how the network cuts."""
    whole, pieces = ResponseReader(TINY), ResponseReader(TINY)
    refused = drain(whole, [data], eof)
    assert drain(pieces, split(data, cuts), eof) == refused
    assert pieces.complete == whole.complete
    if whole.complete:
        assert facts(pieces) == facts(whole)


@given(mutated(), st.booleans())
@examples(500)
def test_h11_never_reads_another_answer(data: bytes, eof: bool) -> None:
    """What both accept, both read alike."""
    reader = ResponseReader(SMALL)
    drain(reader, [data], eof)
    other = read_by_h11(data, eof)
    if reader.complete and other is not None:
        assert other == (reader.status, lowered(reader), bytes(reader.body))


def test_the_repr_tells_how_far_it_is() -> None:
    """One line for a log or a debugger."""
    reader = ResponseReader(SMALL)
    assert repr(reader) == "<ResponseReader no status, in the head, 0 bytes of body>"
    reader.feed(OK + b"Content-Length: 2\r\n\r\n{")
    assert repr(reader) == "<ResponseReader 200, in the body, 1 bytes of body>"
    reader.feed(b"}")
    assert repr(reader) == "<ResponseReader 200, complete, 2 bytes of body>"

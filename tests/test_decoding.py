"""Undoing a content coding: what came is kept, and no small body becomes a large one."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples

from oneauto_async._classify import Flaw
from oneauto_async._wire.decoding import SLICE, decode

MIB = 1024 * 1024
TEXT = b'{"success": true, "result": {}}' * 20


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-zlib.MAX_WBITS)


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    (" GZip ", gzip.compress),
    ("deflate", zlib.compress),
    ("Deflate", raw_deflate),
]
every_coding = pytest.mark.parametrize(("coding", "compress"), CODINGS)


@every_coding
@pytest.mark.parametrize("body", [b"", TEXT], ids=["empty", "text"])
def test_a_coding_is_undone(coding: str, compress: Callable[[bytes], bytes], body: bytes) -> None:
    """gzip, and deflate with and without its wrapper, in any case (B03)."""
    assert decode(coding, compress(body), MIB) == (body, None)


@pytest.mark.parametrize("window", [9, 12, 15])
def test_deflate_is_undone_whatever_its_window(window: int) -> None:
    """A zlib stream (RFC 1950) names its window in its first byte, which is 0x78 for the largest alone."""
    assert decode("deflate", zlib.compress(TEXT, wbits=window), MIB) == (TEXT, None)


def test_a_gzip_of_several_members_is_undone() -> None:
    """A gzip body is a series of members (RFC 1952, 2.2)."""
    assert decode("gzip", gzip.compress(TEXT) + gzip.compress(TEXT), MIB) == (TEXT + TEXT, None)


@pytest.mark.parametrize("coding", ["identity", "br", "zstd", "gzip, br", "", "nonsense"])
def test_a_coding_that_was_not_asked_for_is_left_on(coding: str) -> None:
    """The bytes are kept for a person; plain JSON under a wrong label still reads (B07)."""
    assert decode(coding, TEXT, MIB) == (TEXT, None)


@pytest.mark.parametrize("coding", ["gzip, identity", "identity, GZIP"])
def test_identity_is_no_coding(coding: str) -> None:
    """It says that nothing was done, whatever else was."""
    assert decode(coding, gzip.compress(TEXT), MIB) == (TEXT, None)


@every_coding
def test_a_body_that_is_not_what_it_says_is_kept_as_it_came(coding: str, compress: Callable[[bytes], bytes]) -> None:
    """Says gzip and is plain: the paid bytes are not lost (B04)."""
    assert decode(coding, TEXT, MIB) == (TEXT, Flaw.UNDECODABLE)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_broken_checksum_is_noticed(coding: str) -> None:
    """A bit that flipped on the way is no answer."""
    body = dict(CODINGS)[coding](TEXT)
    broken = body[:-1] + bytes([body[-1] ^ 1])
    assert decode(coding, broken, MIB) == (broken, Flaw.UNDECODABLE)


@pytest.mark.parametrize("surplus", [b"\x00", b"garbage", TEXT])
def test_surplus_bytes_are_noticed(surplus: bytes) -> None:
    """Something behind the end belongs to no answer."""
    body = gzip.compress(TEXT) + surplus
    assert decode("gzip", body, MIB) == (body, Flaw.UNDECODABLE)


@every_coding
def test_a_truncated_body_gives_what_came(coding: str, compress: Callable[[bytes], bytes]) -> None:
    """Cut anywhere, it is flagged, and never more than the text."""
    body = compress(TEXT)
    for cut in range(1, len(body)):
        decoded, flaw = decode(coding, body[:cut], MIB)
        assert flaw is Flaw.TRUNCATED
        assert TEXT.startswith(decoded)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
def test_no_body_needs_no_decoding(coding: str) -> None:
    """Whether it should have been there tells the framing."""
    assert decode(coding, b"", MIB) == (b"", None)


@every_coding
@pytest.mark.parametrize(
    ("limit", "flaw"),
    [(len(TEXT) + 1, None), (len(TEXT), None), (len(TEXT) - 1, Flaw.TOO_LARGE), (1, Flaw.TOO_LARGE)],
)
def test_the_limit_is_exact(coding: str, compress: Callable[[bytes], bytes], limit: int, flaw: Flaw | None) -> None:
    """A body of just the limit passes; of one byte more, the first part is kept."""
    assert decode(coding, compress(TEXT), limit) == (TEXT[:limit], flaw)


@given(st.sampled_from(CODINGS), st.binary(max_size=64), st.integers(1, 2_000), st.integers(1, 70_000))
@example(("gzip", gzip.compress), b"\x00", 300, 1)
@example(("Deflate", raw_deflate), b"\x90\x00\x90\x90", 34, 5)
@examples(300)
def test_any_body_is_whole_or_too_large(
    coding: tuple[str, Callable[[bytes], bytes]], piece: bytes, times: int, limit: int
) -> None:
    """However well it compresses, the limit alone decides."""
    name, compress = coding
    body = piece * times
    assert decode(name, compress(body), limit) == (body[:limit], Flaw.TOO_LARGE if len(body) > limit else None)


@given(st.sampled_from(["gzip", "x-gzip", "deflate", "br", ""]), st.binary(), st.integers(1, 1_000))
@examples(300)
def test_any_bytes_give_bytes(coding: str, body: bytes, limit: int) -> None:
    """Garbage raises nothing (B34)."""
    decoded, _ = decode(coding, body, limit)
    assert len(decoded) <= max(limit, len(body))


def bomb(size: int) -> bytes:
    """Return a gzip of that many zeros, made from one compressed mebibyte repeated: nothing large is held."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    mebibyte = deflate.compress(bytes(MIB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    header, last_block = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", b"\x03\x00"
    checksum = 0  # of a body that is never read to its end
    return (
        header
        + mebibyte * (size // MIB)
        + last_block
        + checksum.to_bytes(4, "little")
        + (size % 2**32).to_bytes(4, "little")
    )


def test_a_bomb_stops_at_the_limit() -> None:
    """1 GiB in 1 MB on the wire costs the memory of the limit, not of what it holds (B01)."""
    body, limit = bomb(1024 * MIB), 8 * MIB
    assert len(body) < 1.2 * MIB
    tracemalloc.start()
    try:
        decoded, flaw = decode("gzip", body, limit)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(decoded), flaw) == (limit, Flaw.TOO_LARGE)
    assert peak < 4 * limit


def test_a_gzip_of_thousands_of_members_is_refused_at_once() -> None:
    """Each member costs a copy of the rest: without a bound, two megabytes of empty ones take seconds."""
    assert decode("gzip", gzip.compress(b"") * 50_000, MIB)[1] is Flaw.UNDECODABLE


@pytest.mark.parametrize("coding", ["gzip, gzip", "gzip, gzip, gzip", "gzip, deflate"])
def test_a_body_of_several_codings_is_left_as_it_is(coding: str) -> None:
    """Each may take as long as the largest body does, and be made of thirty kilobytes."""
    body = gzip.compress(gzip.compress(gzip.compress(TEXT)))
    assert decode(coding, body, MIB) == (body, None)


@pytest.mark.parametrize("size", [SLICE - 1, SLICE, SLICE + 1, 3 * SLICE])
def test_a_body_is_undone_whatever_its_slices(size: int) -> None:
    """A member may end within a slice or between two, and noise is longer when it is compressed."""
    noise = random.Random(1).randbytes(size)
    body = zlib.compress(noise, 0, wbits=-zlib.MAX_WBITS)
    assert decode("deflate", body, MIB) == (noise, None)
    assert decode("gzip", gzip.compress(noise, 0) + gzip.compress(TEXT), MIB) == (noise + TEXT, None)


def test_a_long_body_that_holds_nothing_is_refused_at_once() -> None:
    """Eight megabytes of empty blocks would hold the event loop for a second (B01)."""
    empty_block = b"\x00\x00\x00\xff\xff"
    body = empty_block * (8 * MIB // 5)
    assert decode("deflate", body + b"\x03\x00", 8 * MIB) == (body + b"\x03\x00", Flaw.UNDECODABLE)
    few = empty_block * 10_000 + b"\x03\x00"
    assert decode("deflate", few, 8 * MIB) == (b"", None)

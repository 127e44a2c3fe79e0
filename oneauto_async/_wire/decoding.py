"""Undoing a content coding within bounds: a small gzip can hold gigabytes."""

from __future__ import annotations

import zlib

from .._classify import Flaw

# zlib's window bits: 16 more for a gzip wrapper; negative for raw deflate, which some servers send as "deflate".
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS

_GZIP_MAGIC = b"\x1f\x8b"

MOST_MEMBERS = 16
"""Members of one gzip that are read; each costs a copy of what follows it, so that thousands would block the loop."""

SLICE = 64 * 1024
"""Bytes that are undone before the look at what came of them."""

MOST_SURPLUS = 256 * 1024
"""Bytes by which a body may be longer than what it holds: to undo eight megabytes of nothing would take a second."""


def decode(coding: str, body: bytes, limit: int) -> tuple[bytes, Flaw | None]:
    """Undo the content coding of a body; return at most ``limit`` bytes, and what is wrong with them if anything.

    One that was not asked for is left on the body, and so are two at once, each of which may take as long as the
    largest body does: it will not read as JSON, and the bytes are kept for a person.
    """
    if not body:
        return body, None  # a 206 without a record may keep the header
    codings = [name for name in map(str.strip, coding.lower().split(",")) if name != "identity"]
    if len(codings) != 1 or codings[0] not in _CODINGS:
        return body, None
    return _inflate(body, _window(codings[0], body), limit)


_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


def _window(coding: str, body: bytes) -> int:
    if coding != "deflate":
        return _GZIP
    return _ZLIB if _has_zlib_header(body) else _RAW


def _has_zlib_header(body: bytes) -> bool:
    """Tell RFC 1950's two bytes: the method deflate, and a check that makes them a multiple of 31."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(body: bytes, window: int, limit: int) -> tuple[bytes, Flaw | None]:
    inflated, done = bytearray(), 0
    for _ in range(MOST_MEMBERS):
        inflater = zlib.decompressobj(window)
        try:
            done = _inflate_member(inflater, body, done, inflated, limit)
        except zlib.error:
            break
        if len(inflated) > limit:
            return bytes(inflated[:limit]), Flaw.TOO_LARGE
        if not inflater.eof:
            return bytes(inflated), Flaw.TRUNCATED
        if done == len(body):
            return bytes(inflated), None
        if window != _GZIP or not body.startswith(_GZIP_MAGIC, done):  # a gzip may have several, RFC 1952, 2.2
            break
    return body, Flaw.UNDECODABLE


def _inflate_member(inflater: zlib._Decompress, body: bytes, done: int, inflated: bytearray, limit: int) -> int:
    """Add what a member holds to ``inflated``, up to one byte more than the limit; return where in the body it ends.

    Raises:
        zlib.error: it is broken, or holds far less than it takes.
    """
    while done < len(body) and len(inflated) <= limit and not inflater.eof:
        piece = body[done : done + SLICE]
        inflated += inflater.decompress(piece, limit + 1 - len(inflated))
        done += len(piece) - len(inflater.unused_data)
        if done - len(inflated) > MOST_SURPLUS:
            raise zlib.error("next to nothing in a long body")
    return done

"""Undoing a content coding within bounds: a small gzip can hold gigabytes."""

from __future__ import annotations

import zlib

from .._classify import Flaw

# zlib's window bits: 16 more for a gzip wrapper; negative for raw deflate, which some servers send as "deflate".
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS

_GZIP_MAGIC = b"\x1f\x8b"

MOST_CODINGS = 2
"""Codings of one body that are undone; each may take as long as the largest body does."""

MOST_MEMBERS = 16
"""Members of one gzip that are read; each costs a copy of what follows it, so that thousands would block the loop."""


def decode(coding: str, body: bytes, limit: int) -> tuple[bytes, Flaw | None]:
    """Undo the content codings of a body; return at most ``limit`` bytes, and what is wrong with them if anything.

    One that was not asked for is left on the body: it will not read as JSON, and the bytes are kept for a person.
    """
    if not body:
        return body, None  # a 206 without a record may keep the header
    codings = [name.strip().lower() for name in coding.split(",")]
    if len(codings) > MOST_CODINGS or not _CODINGS.issuperset(codings):
        return body, None
    decoded, flaw = body, None
    for name in reversed(codings):  # the last one was applied last
        if flaw is None and name != "identity":
            decoded, flaw = _inflate(decoded, _window(name, decoded), limit)
    return decoded, flaw


_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "identity"})


def _window(coding: str, body: bytes) -> int:
    if coding != "deflate":
        return _GZIP
    return _ZLIB if _has_zlib_header(body) else _RAW


def _has_zlib_header(body: bytes) -> bool:
    """Tell RFC 1950's two bytes: the method deflate, and a check that makes them a multiple of 31."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(body: bytes, window: int, limit: int) -> tuple[bytes, Flaw | None]:
    inflated, rest = b"", body
    for _ in range(MOST_MEMBERS):
        inflater = zlib.decompressobj(window)
        try:
            inflated += inflater.decompress(rest, limit + 1 - len(inflated))
        except zlib.error:
            break
        if len(inflated) > limit:
            return inflated[:limit], Flaw.TOO_LARGE
        if not inflater.eof:
            return inflated, Flaw.TRUNCATED
        rest = inflater.unused_data
        if not rest:
            return inflated, None
        if window != _GZIP or not rest.startswith(_GZIP_MAGIC):  # a gzip may have several members, RFC 1952, 2.2
            break
    return body, Flaw.UNDECODABLE

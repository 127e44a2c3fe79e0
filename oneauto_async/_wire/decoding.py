"""Undoing a content coding within bounds: a small gzip can hold gigabytes."""

from __future__ import annotations

import zlib

from .._classify import Flaw

# zlib's window bits: 16 more for a gzip wrapper; negative for raw deflate, which some servers send as "deflate".
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def decode(coding: str, body: bytes, limit: int) -> tuple[bytes, Flaw | None]:
    """Return the body without its content coding, at most ``limit`` bytes of it, and what is wrong with it if anything.

    A coding that was not asked for is left on the body: it will not read as JSON, and the bytes are kept for a person.
    """
    match coding.strip().lower():
        case "gzip" | "x-gzip":
            return _inflate(body, _GZIP, limit)
        case "deflate":
            return _inflate(body, _ZLIB if body[:1] == b"\x78" else _RAW, limit)
        case _:
            return body, None


def _inflate(body: bytes, window: int, limit: int) -> tuple[bytes, Flaw | None]:
    inflater = zlib.decompressobj(window)
    try:
        inflated = inflater.decompress(body, limit)
    except zlib.error:
        return body, Flaw.UNDECODABLE
    if inflater.unconsumed_tail:
        return inflated, Flaw.TOO_LARGE
    if not inflater.eof:
        return inflated, Flaw.TRUNCATED
    return (body, Flaw.UNDECODABLE) if inflater.unused_data else (inflated, None)

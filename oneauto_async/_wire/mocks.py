"""Noticing that httpx is mocked: a mocked test that reached the paid service would cost money.

respx in its default mode and pytest-httpx replace methods of httpx's stock transport or of the pool under it. A
transport of our own is no part of those, so it looks, before each request, whether they are still the originals, and
hands the request to the stock transport when they are not.
"""

from __future__ import annotations

import httpcore
import httpx

_SEND = httpx.AsyncHTTPTransport.handle_async_request
_POOL = httpcore.AsyncConnectionPool.handle_async_request


def stock_transport_is_mocked() -> bool:
    """Tell whether someone has put themselves between httpx and the network."""
    return (
        httpx.AsyncHTTPTransport.handle_async_request is not _SEND
        or httpcore.AsyncConnectionPool.handle_async_request is not _POOL
    )

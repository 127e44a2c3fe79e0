"""Noticing that httpx is mocked: a mocked test that reached the paid service would cost money.

respx in its default mode and pytest-httpx replace methods of httpx's stock transport or of the pool under it. A
transport of our own is no part of those, so it looks, before each request, whether they are still the originals, and
hands the request to the stock transport when they are not.
"""

from __future__ import annotations

import sys

import httpx

_SEND = httpx.AsyncHTTPTransport.handle_async_request
_POOL_MODULE = "httpcore._async.connection_pool"


def stock_transport_is_mocked() -> bool:
    """Tell whether someone has put themselves between httpx and the network."""
    return httpx.AsyncHTTPTransport.handle_async_request is not _SEND or _pool_is_mocked()


def _pool_is_mocked() -> bool:
    """Tell whether the pool's method was written in another file than the pool.

    httpcore is not imported for this: it takes a tenth of this package's import time, and unimported it is not mocked.
    """
    module = sys.modules.get(_POOL_MODULE)
    if module is None:
        return False
    code = getattr(module.AsyncConnectionPool.handle_async_request, "__code__", None)
    return code is None or code.co_filename != module.__file__

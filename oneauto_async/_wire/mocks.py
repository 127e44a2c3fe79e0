"""Noticing that httpx is mocked: a mocked test that reached the paid service would cost money.

respx in its default mode and pytest-httpx replace methods of httpx's stock transport or of the pool under it. A
transport of our own is no part of those, so it looks, before each request, whether they are still httpx's own, and
hands the request to the stock transport when they are not. So it does when a tracer has wrapped them.
"""

from __future__ import annotations

import functools
import sys
from types import FunctionType

import httpx

_POOL_MODULE = "httpcore._async.connection_pool"


@functools.lru_cache(maxsize=64)  # asked before each request, of the same few
def is_own(method: object, owner: type) -> bool:
    """Tell whether a method was written where the rest of its class was.

    A copy taken when this package is loaded would not do: that may happen within a test whose mock is at work already.
    """
    neighbour = owner.__aexit__.__code__  # type: ignore[attr-defined]  # all the classes asked about have one
    return type(method) is FunctionType and method.__code__.co_filename == neighbour.co_filename


def stock_transport_is_mocked() -> bool:
    """Tell whether someone has put themselves between httpx and the network."""
    stock = httpx.AsyncHTTPTransport
    return not is_own(stock.handle_async_request, stock) or _pool_is_mocked()


def _pool_is_mocked() -> bool:
    """Tell the same of the pool under it.

    httpcore is not imported for this: it takes a tenth of this package's import time, and unimported it is not mocked.
    """
    module = sys.modules.get(_POOL_MODULE)
    return module is not None and not is_own(
        module.AsyncConnectionPool.handle_async_request, module.AsyncConnectionPool
    )

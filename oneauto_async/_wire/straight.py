"""Whether a lookup may go straight to our transport, below httpx's requests and responses.

``AsyncClient.send`` with its request and response objects costs more than all else about a lookup, for things our calls
do not use: an auth flow, redirects, cookies, a log line nobody reads. But whoever has come between the client and the
network (hooks, mounts, mocks, logging, a class of their own) must see every call: a mocked test that reached the paid
service would cost money. So the straight way is open only if nobody has, and any doubt closes it.
"""

from __future__ import annotations

import functools
import logging
import operator

import httpx

from .http11 import HTTP11Transport
from .mocks import is_own, stock_transport_is_mocked

_STEPS = ("send", "_send_handling_auth", "_send_handling_redirects", "_send_single_request")
"""The methods of httpx's that recorders and mocks replace."""

_steps_of = operator.attrgetter(*(name for name in _STEPS if hasattr(httpx.AsyncClient, name)))
_HANDLE = HTTP11Transport.handle_async_request
_log = logging.getLogger("httpx")


def straight_way(client: httpx.AsyncClient, url: httpx.URL) -> HTTP11Transport | None:
    """Return our transport if the client would send to this address through it with nobody watching, else ``None``."""
    if not is_plain(client):
        return None
    if any(client.event_hooks.values()) or _log.isEnabledFor(logging.INFO) or client.is_closed:
        return None
    transport = client._transport_for_url(url)  # asked each time: mocks replace it, mounts decide in it
    return transport if type(transport) is HTTP11Transport and _is_itself(transport) else None


def is_plain(client: httpx.AsyncClient) -> bool:
    """Tell whether a client is httpx's own, with each step from its call to its transport as httpx has it."""
    if type(client) is not httpx.AsyncClient or not vars(client).keys().isdisjoint(_STEPS):
        return False
    return _are_own(_steps_of(httpx.AsyncClient))


@functools.lru_cache(maxsize=8)
def _are_own(steps: tuple[object, ...]) -> bool:
    return all(is_own(step, httpx.AsyncClient) for step in steps)


def _is_itself(transport: HTTP11Transport) -> bool:
    patched = HTTP11Transport.handle_async_request is not _HANDLE or "handle_async_request" in vars(transport)
    return not patched and not stock_transport_is_mocked()

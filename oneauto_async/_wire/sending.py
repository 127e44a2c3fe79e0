"""Sending through an `httpx.AsyncClient`, without the work of its that nothing here uses.

``AsyncClient.send`` builds an auth flow, follows redirects, runs hooks, keeps cookies and writes a log line: several
times the cost of everything else. All of it is off for our calls but the hooks and the log line; where those are unused
too, the request goes straight to the transport the client chooses for it, mounts included. In doubt: the full way.
"""

from __future__ import annotations

import logging

import httpx

_SEND = httpx.AsyncClient.send
_log = logging.getLogger("httpx")


async def send(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """Send a request once, with no auth, no redirects and no cookies; the caller closes the response."""
    if _needs_the_full_way(client):
        return await client.send(request, stream=True, auth=None, follow_redirects=False)
    transport = client._transport_for_url(request.url)  # mounts, and mocks that replace it, have their say
    return await transport.handle_async_request(request)


def _needs_the_full_way(client: httpx.AsyncClient) -> bool:
    return (
        type(client) is not httpx.AsyncClient
        or type(client).send is not _SEND  # replaced by a mock
        or "send" in vars(client)
        or client.is_closed
        or any(client.event_hooks.values())
        or _log.isEnabledFor(logging.INFO)
    )

"""Opening one connection within its time: resolving, connecting by happy eyeballs (RFC 8305), TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

import attrs
import httpx

P = TypeVar("P", bound=asyncio.Protocol)

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds one address family is given before the next is tried beside it, as RFC 8305, 5, recommends."""


@attrs.frozen
class Origin:
    """Where connections lead; those to one origin can serve each other's requests."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


async def dial(
    origin: Origin,
    make: Callable[[], P],
    ssl_context: ssl.SSLContext | None,
    seconds: float,
    under_way: set[asyncio.Timeout],
) -> P:
    """Return the protocol of a new connection, ready to be written to.

    While it lasts its time limit is among those ``under_way``, for whoever wants to end it early.

    Raises:
        httpx.ConnectTimeout: it took longer than ``seconds``.
        httpx.ConnectError: refused, not resolved, or TLS failed; the cause tells which.

    Cancellation passes through and leaves no socket behind.
    """
    limit = asyncio.timeout(seconds)
    under_way.add(limit)
    try:
        async with limit:
            return await _connect(origin, make, ssl_context if origin.scheme == "https" else None, seconds)
    except TimeoutError:
        raise httpx.ConnectTimeout(f"no connection to {origin} within {seconds:g} s") from None
    except (OSError, UnicodeError) as error:  # an impossible host name fails in its IDNA encoding
        raise httpx.ConnectError(f"no connection to {origin}: {error}") from error
    finally:
        under_way.discard(limit)


async def _connect(origin: Origin, make: Callable[[], P], tls: ssl.SSLContext | None, seconds: float) -> P:
    loop = asyncio.get_running_loop()
    name = origin.host if tls is not None else None
    if isinstance(loop, asyncio.BaseEventLoop):
        _, protocol = await loop.create_connection(
            make, origin.host, origin.port, ssl=tls, server_hostname=name, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY
        )
        return protocol
    return await _connect_in_turn(loop, origin, make, tls, seconds)


async def _connect_in_turn(
    loop: asyncio.AbstractEventLoop, origin: Origin, make: Callable[[], P], tls: ssl.SSLContext | None, seconds: float
) -> P:
    """Try the addresses one after the other, each with its share of the time, on a loop without happy eyeballs."""
    infos = await loop.getaddrinfo(origin.host, origin.port, type=1)
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    name = origin.host if tls is not None else None
    failure: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            async with asyncio.timeout(seconds / len(addresses)):
                _, protocol = await loop.create_connection(make, address, origin.port, ssl=tls, server_hostname=name)
                return protocol
        except OSError as error:  # TimeoutError is one
            failure = error
    raise failure

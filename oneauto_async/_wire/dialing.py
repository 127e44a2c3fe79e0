"""Opening one connection within its time: resolving, connecting by happy eyeballs (RFC 8305), TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import httpx

from .connection import Connection

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds one address family is given before the next is tried beside it, as RFC 8305, 5, recommends."""


Start: TypeAlias = Callable[[], Coroutine[Any, Any, Connection]]


class Origin(NamedTuple):
    """Where connections lead; those to one origin can serve each other's requests."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


async def dial(
    origin: Origin,
    make: Callable[[], Connection],
    tls: ssl.SSLContext | None,
    seconds: float,
    under_way: set[asyncio.Timeout],
) -> Connection:
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
            return await _connect(origin, make, tls)
    except TimeoutError:
        raise httpx.ConnectTimeout(f"no connection to {origin} within {seconds:g} s") from None
    except (OSError, UnicodeError) as error:  # an impossible host name fails in its IDNA encoding
        raise httpx.ConnectError(f"no connection to {origin}: {error}") from error
    finally:
        under_way.discard(limit)


async def _connect(origin: Origin, make: Callable[[], Connection], tls: ssl.SSLContext | None) -> Connection:
    """Try the addresses of the host, each a little after the one before it, and return the first that answers.

    asyncio has happy eyeballs of its own, but leaves a socket open when it is cancelled in the wrong moment; uvloop has
    none.
    """
    addresses = await _resolve(origin)
    if len(addresses) == 1:
        return await _connect_to(addresses[0], origin, make, tls)
    tries: list[asyncio.Task[Connection]] = []
    try:
        return await _first_to_connect([partial(_connect_to, one, origin, make, tls) for one in addresses], tries)
    finally:
        for loser in tries:
            loser.cancel()
            loser.add_done_callback(_close_what_came)


async def _first_to_connect(starts: list[Start], tries: list[asyncio.Task[Connection]]) -> Connection:
    """Start one try after the other; return the first success, taken out of ``tries``, where only losers are left."""
    failure: BaseException | None = None
    for number, start in enumerate(starts, 1):
        tries.append(asyncio.create_task(start(), name="oneauto connect"))
        patience = HAPPY_EYEBALLS_DELAY if number < len(starts) else None
        while tries:
            done, _ = await asyncio.wait(tries, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                tries.remove(ended)
                failure = ended.exception()
                if failure is None:
                    return ended.result()
            if patience is not None:
                break  # the next one's turn, at once after a failure
    raise failure or OSError("the name has no address")


def _close_what_came(loser: asyncio.Task[Connection]) -> None:
    """Close a connection that was made in the moment it was no longer wanted."""
    if not loser.cancelled() and loser.exception() is None:
        loser.result().close()


async def _resolve(origin: Origin) -> list[tuple[str, int]]:
    infos = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in infos))


async def _connect_to(
    address: tuple[str, int], origin: Origin, make: Callable[[], Connection], tls: ssl.SSLContext | None
) -> Connection:
    loop, name = asyncio.get_running_loop(), origin.host if tls is not None else None
    connection = make()
    try:
        await loop.create_connection(lambda: connection, *address, ssl=tls, server_hostname=name)
    except BaseException:
        connection.close()  # at once: asyncio would wait for the other side's farewell
        raise
    return connection

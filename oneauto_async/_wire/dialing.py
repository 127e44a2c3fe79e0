"""Opening connections within their time: resolving, connecting by happy eyeballs (RFC 8305), TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import attrs
import httpx

from .._waiting import start
from .connection import Connection

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds one address family is given before the next is tried beside it, as RFC 8305, 5, recommends."""


Start: TypeAlias = Callable[[], Coroutine[Any, Any, Connection]]

Address: TypeAlias = tuple[str, int]


class Origin(NamedTuple):
    """Where connections lead; those to one origin can serve each other's requests."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@attrs.define(eq=False)
class _Lookup:
    """A name being looked up, for everyone who dials it."""

    answer: asyncio.Task[list[Address]]
    waiting: int = 0


class Dialer:
    """Opens connections, any number at once.

    Arguments:
        make: the protocol of a new connection.
        tls: the context for https, asked for when it is needed.
    """

    def __init__(self, make: Callable[[], Connection], tls: Callable[[], ssl.SSLContext]) -> None:
        self._make = make
        self._tls = tls
        self._limits: set[asyncio.Timeout] = set()
        self._lookups: dict[Origin, _Lookup] = {}

    async def dial(self, origin: Origin, seconds: float) -> Connection:
        """Return the protocol of a new connection, ready to be written to.

        Raises:
            httpx.ConnectTimeout: it took longer than ``seconds``.
            httpx.ConnectError: refused, not resolved, or TLS failed; the cause tells which.

        Cancellation passes through and leaves no socket behind.
        """
        tls = self._tls() if origin.scheme == "https" else None
        limit = asyncio.timeout(seconds)
        self._limits.add(limit)
        try:
            async with limit:
                return await _connect(await self._resolve(origin), origin, self._make, tls)
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no connection to {origin} within {seconds:g} s") from None
        except (OSError, UnicodeError) as error:  # an impossible host name fails in its IDNA encoding
            raise httpx.ConnectError(f"no connection to {origin}: {error}") from error
        finally:
            self._limits.discard(limit)

    def give_up(self) -> None:
        """Let the time of everyone who dials be over."""
        for limit in self._limits:
            with suppress(RuntimeError):  # it is just running out by itself
                limit.reschedule(0)

    async def _resolve(self, origin: Origin) -> list[Address]:
        """Return the addresses of a host: whoever asks while its name is looked up already waits for that answer."""
        if _is_address(origin.host):
            return [(origin.host, origin.port)]
        lookup = self._lookups.get(origin)
        if lookup is None:
            lookup = self._lookups[origin] = _Lookup(start(_look_up(origin), "oneauto look up"))
        lookup.waiting += 1
        try:
            return await asyncio.shield(lookup.answer)
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                lookup.answer.cancel()
                del self._lookups[origin]


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return True
    return False


async def _look_up(origin: Origin) -> list[Address]:
    infos = await asyncio.get_running_loop().getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in infos))


async def _connect(
    addresses: list[Address], origin: Origin, make: Callable[[], Connection], tls: ssl.SSLContext | None
) -> Connection:
    """Try the addresses of the host, each a little after the one before it, and return the first that answers.

    asyncio has happy eyeballs of its own, but leaves a socket open when it is cancelled in the wrong moment; uvloop has
    none.
    """
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
    for number, connect in enumerate(starts, 1):
        tries.append(asyncio.create_task(connect(), name="oneauto connect"))
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


def _require_http11(transport: asyncio.Transport, origin: Origin) -> None:
    """Raise unless HTTP/1.1 may be spoken: a context that an HTTP/2 client has used offers that to every server."""
    tls = transport.get_extra_info("ssl_object")
    agreed = None if tls is None else tls.selected_alpn_protocol()
    if agreed not in (None, "http/1.1"):
        raise httpx.UnsupportedProtocol(
            f"{origin} was offered {agreed} by the ssl_context, which another client uses too: give each its own"
        )


async def _connect_to(
    address: Address, origin: Origin, make: Callable[[], Connection], tls: ssl.SSLContext | None
) -> Connection:
    loop, name = asyncio.get_running_loop(), origin.host if tls is not None else None
    connection = make()
    try:
        transport, _ = await loop.create_connection(lambda: connection, *address, ssl=tls, server_hostname=name)
        _require_http11(transport, origin)
    except BaseException:
        connection.close()  # at once: asyncio would wait for the other side's farewell
        raise
    return connection

"""The connections of one transport: at most so many, used last-in first-out, waited for first-come first-served."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import httpx

from .connection import Connection
from .dialing import Dialer, Origin
from .reading import Bounds


class Pool:
    """Lends connections. Whoever takes one gives it back, whatever happened to it.

    The connection used last is lent first, so that a busy few stay warm and the rest expire: an idle connection is one
    the other side may be about to close.
    """

    def __init__(self, *, tls: Callable[[], ssl.SSLContext], most: int, expiry: float, bounds: Bounds) -> None:
        """Hold at most ``most`` connections, idle ones for ``expiry`` seconds; those that need ``tls`` ask for it."""
        self._dialer = Dialer(self._make, tls)
        self._most = most
        self._expiry = expiry
        self._bounds = bounds
        self._idle: dict[Origin, list[Connection]] = {}
        self._lent = 0  # connections in use or being opened
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._all: set[Connection] = set()
        self._closed = False

    def __repr__(self) -> str:
        waiting = len(self._waiters)
        return f"<Pool of {self._most}: {self._lent} lent, {self._count_idle()} idle, {waiting} waiting>"

    def take_at_once(self, origin: Origin) -> Connection | None:
        """Lend an idle connection, if there is a usable one and nobody stands in line."""
        connection = self._pop_idle(origin) if self._lent < self._most and not self._waiters else None
        self._lent += connection is not None
        return connection

    async def take(self, origin: Origin, *, wait: float | None, connect: float | None, until: float) -> Connection:
        """Lend a usable connection: an idle one, or a new one.

        Arguments:
            origin: where it leads.
            wait: seconds to stand in line when all are lent; ``None`` for as long as it takes.
            connect: seconds to open a new one, likewise.
            until: the moment on the loop's clock by which all of it must be done.

        Raises:
            httpx.PoolTimeout: none became free in time.
            httpx.ConnectError: no connection could be opened in time; `httpx.ConnectTimeout` likewise.

        Cancelling gives the place back.
        """
        await self._take_place(_shorter(wait, until))
        connection = self._pop_idle(origin)
        if connection is not None:
            return connection
        try:
            self._make_room()
            return await self._open(origin, _shorter(connect, until))
        except BaseException:
            self._free_place()
            raise

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Take a connection back; it is kept if it can serve again."""
        self._free_place()
        if self._closed or not connection.is_idle:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeper is None:
            self._sweep_later(self._expiry)

    def close(self) -> None:
        """Close every connection, lent ones included."""
        self._closed = True
        self._dialer.give_up()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in tuple(self._all):
            connection.close()
        self._idle.clear()

    # Places: one for each connection that is lent or being opened.

    async def _take_place(self, wait: float) -> None:
        if self._lent < self._most and not self._waiters:
            self._lent += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            async with asyncio.timeout(wait):
                await turn
        except BaseException as end:
            self._leave_line(turn)
            if isinstance(end, TimeoutError):
                raise httpx.PoolTimeout(f"all {self._most} connections were in use for {wait:g} s") from None
            raise

    def _leave_line(self, turn: asyncio.Future[None]) -> None:
        """Give up a place in the line, or the place itself if it came in the same moment."""
        if turn.done() and not turn.cancelled():
            self._free_place()
        with suppress(ValueError):
            self._waiters.remove(turn)

    def _free_place(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)  # the place goes from hand to hand
                return
        self._lent -= 1

    # Idle connections.

    def _pop_idle(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        oldest = asyncio.get_running_loop().time() - self._expiry
        while idle:
            connection = idle.pop()
            if connection.idle_since > oldest and connection.is_usable:
                return connection
            connection.close()
        return None

    def _make_room(self) -> None:
        """Close the idle connection unused the longest, to another origin it may be, if all places are taken up."""
        if self._lent + self._count_idle() > self._most:
            oldest = min((idle for idle in self._idle.values() if idle), key=lambda idle: idle[0].idle_since)
            oldest[0].close()

    def _count_idle(self) -> int:
        return sum(map(len, self._idle.values()))

    def _sweep_later(self, seconds: float) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(seconds, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle too long, and come back while there is anything left."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for idle in tuple(self._idle.values()):
            for connection in tuple(idle):
                if now - connection.idle_since >= self._expiry:
                    connection.close()
        if self._count_idle():
            self._sweep_later(self._expiry / 2)

    # Opening and ending.

    async def _open(self, origin: Origin, connect: float) -> Connection:
        self._require_open()
        connection = await self._dialer.dial(origin, connect)
        self._all.add(connection)
        try:
            self._require_open()
            # TLS sends tickets by itself; bytes on a plain connection were meant as an answer, to whomever.
            if not (connection.is_usable if origin.scheme == "http" else connection.is_idle):
                raise httpx.ConnectError(f"{origin} spoke before it was asked, or hung up at once")
        except httpx.ConnectError:
            connection.close()
            raise
        return connection

    def _require_open(self) -> None:
        if self._closed:
            raise httpx.ConnectError("the transport is closed")

    def _make(self) -> Connection:
        return Connection(self._bounds, self._forget)

    def _forget(self, connection: Connection) -> None:
        """Drop a connection the moment it ends, not when someone would next use it."""
        self._all.discard(connection)
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)


def _shorter(limit: float | None, until: float) -> float:
    """Return the seconds a step may take; a millisecond at least, so that what needs no time is still done.

    Nothing is sent in that millisecond: the connection sees to it.
    """
    left = until - asyncio.get_running_loop().time()
    return max(0.001, left if limit is None else min(limit, left))

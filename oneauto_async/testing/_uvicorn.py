"""The adapter to uvicorn: a server that says when it listens, and ends at once when told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from concurrent.futures import Future

    from ._asgi import ASGIApp, Message, Receive, Send

__all__ = ["run_server"]

_KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than clients keep theirs, so that no call meets a closing one."""

_SETTLING = 0.01
"""Seconds in which connections that were just accepted become known to the server."""

_PATIENCE = 1.0
"""Seconds that calls which were cut off are given to end."""


def run_server(app: ASGIApp, listener: socket.socket, ready: Future[Callable[[], None]]) -> None:
    """Serve an app on a listening socket until it is stopped; ``ready`` gets the function that stops it."""
    try:
        # A selector loop everywhere: it is the one that can stop accepting without closing the listener.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(_Server(app, listener, ready).serve(sockets=[listener]))
    finally:
        if not ready.done():
            ready.set_exception(RuntimeError("the server ended before it could listen"))


class _Server(uvicorn.Server):
    def __init__(self, app: ASGIApp, listener: socket.socket, ready: Future[Callable[[], None]]) -> None:
        config = uvicorn.Config(
            _ended_quietly(app),
            loop="asyncio",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,  # the simulator dates its answers itself, in virtual time too
            timeout_keep_alive=_KEEP_ALIVE,
        )
        super().__init__(config)
        self._listener = listener
        self._ready = ready

    async def main_loop(self) -> None:
        """Wait to be stopped, instead of looking ten times a second whether to stop."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def stop() -> None:
            loop.call_soon_threadsafe(stopped.set)

        self._ready.set_result(stop)
        await stopped.wait()
        await self._cut()

    async def _cut(self) -> None:
        """Close every connection under its call: a test that is over does not wait for a slow answer."""
        asyncio.get_running_loop().remove_reader(self._listener)
        # asyncio trips over a connection that it has accepted and not yet announced when its server closes.
        await asyncio.sleep(_SETTLING)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the connections learn of it first, and so report no fault when their calls end
        for task in list(self.server_state.tasks):
            task.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and wait for the calls that were cut off: uvicorn's own looks for them ten times a second."""
        for server in self.servers:
            server.close()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_PATIENCE)


def _ended_quietly(app: ASGIApp) -> ASGIApp:
    """Keep the cancelling of calls under way from uvicorn, which would log each as a fault of the app."""

    async def wrapped(scope: Message, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return wrapped

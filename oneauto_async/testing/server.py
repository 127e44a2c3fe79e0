"""An ASGI app on a real socket, in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from ._asgi import ASGIApp
    from .simulator import Simulator

__all__ = ["SimulatorServer", "serve"]

_BACKLOG = 2048


@attrs.frozen(kw_only=True, eq=False)
class SimulatorServer:
    """A simulator that listens on a real socket.

    Attributes:
        base_url: its address, such as ``http://127.0.0.1:54321``.
        simulator: the simulator itself.
    """

    base_url: str
    simulator: Simulator

    @property
    def api_key(self) -> str:
        """A key that it accepts."""
        return self.simulator.api_key

    @property
    def requests(self) -> Counter[str]:
        """Calls that came, per id."""
        return self.simulator.requests

    @property
    def bills(self) -> Counter[str]:
        """Calls that were billed, per id."""
        return self.simulator.bills


@contextlib.contextmanager
def serve(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve an ASGI app over HTTP from a thread with its own event loop, and give its base URL.

    The server listens when the block is entered. When it is left, open connections are cut, calls under way are ended,
    and the thread is gone. It can be entered from a test that is async or not.

    Arguments:
        app: the app. It gets no lifespan events.
        host: the address to listen on.
        port: the port to listen on; 0 for any free one.

    Raises:
        RuntimeError: uvicorn is not installed.
        OSError: the address cannot be listened on.
    """
    run_server = _import_runner()
    with _listening(host, port) as listener:
        netloc = f"[{host}]" if ":" in host else host
        base_url = f"http://{netloc}:{listener.getsockname()[1]}"
        with _quiet_logs(), _thread(lambda ready: run_server(app, listener, ready)):
            yield base_url


def _import_runner() -> Callable[[ASGIApp, socket.socket, Future[Callable[[], None]]], None]:
    try:
        from ._uvicorn import run_server
    except ImportError as error:
        raise RuntimeError('serving needs uvicorn: pip install "oneauto-async[cli]"') from error
    return run_server


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol must be named: asyncio sets TCP_NODELAY only then, and without it every answer takes 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        yield listener


@contextlib.contextmanager
def _thread(run: Callable[[Future[Callable[[], None]]], None]) -> Iterator[None]:
    """Run a server in a thread, from when it listens to when it has ended."""
    ready: Future[Callable[[], None]] = Future()
    thread = threading.Thread(target=run, args=(ready,), name="oneauto-simulator", daemon=True)
    thread.start()
    stop = ready.result()
    try:
        yield
    finally:
        stop()
        thread.join()


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Leave out what uvicorn says about starting and stopping; its errors still come."""
    logger = logging.getLogger("uvicorn.error")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)

"""Sockets that misbehave, and waiting for what the other side of a socket does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def black_hole() -> Iterator[tuple[str, int]]:
    """Listen and accept nothing, with the queue of the kernel full: who connects waits."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(hole.getsockname())
        try:
            yield hole.getsockname()
        finally:
            for filler in fillers:
                filler.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that comes true soon."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the other side of a socket sets no event here
            await asyncio.sleep(0.002)

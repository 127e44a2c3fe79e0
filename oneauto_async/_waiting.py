"""Tasks that begin later, and waiting that a cancellation does not cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def start(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a task that begins in a later step of the event loop, whatever the loop's task factory does.

    An eager factory would run it before its caller knows it.
    """
    return asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)


async def see_through(future: asyncio.Future[T], *, hurry: Callable[[], None] | None = None) -> T:
    """Wait for the end, come what may, and return its result; a cancellation goes on only afterwards.

    Arguments:
        future: what is waited for.
        hurry: called at each cancellation, to make the end come sooner.
    """
    interruption: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            interruption = error
            if hurry is not None:
                hurry()
    if interruption is not None:
        if not future.cancelled():
            future.exception()  # heard of, though nobody is told
        raise interruption
    return future.result()


def put_off_cancelling() -> None:
    """Let a cancellation of this task that has come take place at its next wait instead."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        task.uncancel()
        task.cancel()

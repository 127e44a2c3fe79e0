"""Waiting that a cancellation does not cut short."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def see_through(future: asyncio.Future[T]) -> T:
    """Wait for the end, come what may, and return its result; a cancellation goes on only afterwards."""
    interruption: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        if not future.cancelled():
            future.exception()  # heard of, though nobody is told
        raise interruption
    return future.result()

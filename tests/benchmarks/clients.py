"""The clients that are compared: each makes the same lookups and ends in checked attrs objects."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
import attrs
import cattrs
import httpx

from oneauto_async import VAN_BIDIRECTIONAL_CHARGING, BidirectionalCharging, Found, OneAutoClient, SupportStatus
from oneauto_async.transport import HTTP11Transport

KEY = "benchmark-key-0123456789abcdef-for-no-service"
HEADERS = {"x-api-key": KEY}
PATH, PARAMETER = VAN_BIDIRECTIONAL_CHARGING.path, VAN_BIDIRECTIONAL_CHARGING.parameter
PATIENCE = 300.0
"""Seconds: stock httpx's own five for a place in its pool would end most lookups at 500 at once."""


@attrs.frozen
class Task:
    """What a client is asked to do.

    Attributes:
        url: the server.
        ssl_context: trusts it.
        concurrency: lookups under way at once.
    """

    url: str
    ssl_context: ssl.SSLContext
    concurrency: int


LookUp: TypeAlias = Callable[[Sequence[int]], Awaitable[list[BidirectionalCharging]]]
Client: TypeAlias = Callable[[Task], AbstractAsyncContextManager[LookUp]]


@asynccontextmanager
async def naive_httpx(task: Task) -> AsyncIterator[LookUp]:
    """What is written first: a task for each lookup, and a semaphore."""
    slots = asyncio.Semaphore(task.concurrency)
    async with httpx.AsyncClient(verify=task.ssl_context, timeout=PATIENCE) as client:
        look_up = _with_httpx(client, task)

        async def bounded(vehicle_id: int) -> BidirectionalCharging:
            async with slots:
                return await look_up(vehicle_id)

        yield lambda ids: asyncio.gather(*map(bounded, ids))


@asynccontextmanager
async def tuned_httpx(task: Task) -> AsyncIterator[LookUp]:
    """httpx with as many connections as lookups, all kept, and a worker for each."""
    limits = httpx.Limits(max_connections=task.concurrency, max_keepalive_connections=task.concurrency)
    async with httpx.AsyncClient(verify=task.ssl_context, timeout=PATIENCE, limits=limits) as client:
        yield _with_workers(_with_httpx(client, task), task.concurrency)


@asynccontextmanager
async def transport_in_httpx(task: Task) -> AsyncIterator[LookUp]:
    """The same over this library's transport."""
    transport = HTTP11Transport(task.ssl_context, max_connections=task.concurrency)
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as client:
        yield _with_workers(_with_httpx(client, task), task.concurrency)


@asynccontextmanager
async def bare_aiohttp(task: Task) -> AsyncIterator[LookUp]:
    """aiohttp at its best: a session, a connection for each worker."""
    connector = aiohttp.TCPConnector(limit=task.concurrency, ssl=task.ssl_context)
    async with aiohttp.ClientSession(task.url, connector=connector, headers=HEADERS) as session:
        record = structuring()

        async def look_up(vehicle_id: int) -> BidirectionalCharging:
            async with session.get(PATH, params={PARAMETER: vehicle_id}) as response:
                response.raise_for_status()
                return record(json.loads(await response.read()))

        yield _with_workers(look_up, task.concurrency)


@asynccontextmanager
async def client_batch(task: Task) -> AsyncIterator[LookUp]:
    """This library: the governor, retry armed, receipts."""
    client = OneAutoClient(KEY, base_url=task.url, ssl_context=task.ssl_context, max_concurrency=task.concurrency)
    async with client:

        async def look_up(ids: Sequence[int]) -> list[BidirectionalCharging]:
            async with client.batch(ids, concurrency=task.concurrency) as batch:
                return [outcome.value async for outcome in batch if isinstance(outcome, Found)]

        yield look_up


CLIENTS: dict[str, Client] = {
    "naive httpx": naive_httpx,
    "tuned httpx": tuned_httpx,
    "aiohttp": bare_aiohttp,
    "transport in httpx": transport_in_httpx,
    "client.batch": client_batch,
}


def structuring() -> Callable[[Any], BidirectionalCharging]:
    """Return what a user of cattrs would write: its own converter, told of the open set of texts."""
    converter = cattrs.Converter()
    known = {str(status): status for status in SupportStatus}
    converter.register_structure_hook(
        SupportStatus | str | None, lambda value, _: None if value is None else known.get(value, str(value))
    )

    def record(answer: Any) -> BidirectionalCharging:
        if answer["success"] is not True:
            raise ValueError("the service says that it failed")
        return converter.structure(answer["result"], BidirectionalCharging)

    return record


def _with_httpx(client: httpx.AsyncClient, task: Task) -> Callable[[int], Awaitable[BidirectionalCharging]]:
    client.base_url = httpx.URL(task.url)
    client.headers.update(HEADERS)
    record = structuring()

    async def look_up(vehicle_id: int) -> BidirectionalCharging:
        response = await client.get(PATH, params={PARAMETER: vehicle_id})
        response.raise_for_status()
        return record(response.json())

    return look_up


def _with_workers(look_up: Callable[[int], Awaitable[BidirectionalCharging]], concurrency: int) -> LookUp:
    """Return the leanest way to do many at once: workers that take ids from one iterator."""

    async def work(ids: Iterator[int]) -> list[BidirectionalCharging]:
        return [await look_up(vehicle_id) for vehicle_id in ids]

    async def look_all_up(ids: Iterable[int]) -> list[BidirectionalCharging]:
        shared = iter(ids)
        parts = await asyncio.gather(*(work(shared) for _ in range(concurrency)))
        return [record for part in parts for record in part]

    return look_all_up

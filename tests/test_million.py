"""A million ids from a generator: minutes of work, so asked for with ``-m slow``."""

from __future__ import annotations

import gc
from pathlib import Path

import httpx
import pytest
from support.raw import ANSWER, CANARY_KEY

from oneauto_async import OneAutoClient

IDS = 1_000_000


def resident() -> int:
    """Return this process's resident memory in bytes."""
    gc.collect()
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux's /proc")
async def test_a_million_ids_stream_in_little_memory() -> None:
    """With ``deduplicate=False`` memory grows by less than 16 MiB, ids and outcomes included."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=ANSWER))
    async with OneAutoClient(CANARY_KEY, transport=transport) as client:
        await client.lookup_many(range(1000), deduplicate=False)
        before = peak = resident()
        async with client.batch(iter(range(IDS)), deduplicate=False) as batch:
            async for _ in batch:
                if batch.summary.total % 100_000 == 0:
                    peak = max(peak, resident())

    assert batch.summary.found == IDS
    assert peak - before < 16 * 2**20

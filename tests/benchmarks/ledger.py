"""What a ledger costs: ``python -m benchmarks.ledger [FOLDER]``.

In each round, one after the other: a batch without a ledger; the same with one in a file; the same with the barest
that there can be (`barest`); and the disk's own ceiling, which is the same rows written by a bare loop over sqlite3, in
groups as large as the batch has lookups under way: each group one transaction before sending and one after. Read the
ratios: the rest is this machine's and this moment's.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from statistics import median

import attrs

from oneauto_async import OneAutoClient, RateLimit
from oneauto_async.ledger import Ledger, SqliteLedger
from oneauto_async.ledger._sqlite.connecting import connect

from .barest import BarestLedger, add, end
from .report import markdown
from .servers import sample_body, serve

ROUNDS = 5
SECONDS = 2.0
"""About how long each measurement takes."""

UNLIMITED = RateLimit(rate=1e6, burst=1_000_000)
CELLS = list(product((50, 100), (0.0, 0.02, 0.05, 0.1, 0.165)))
"""So many at once, and the seconds a server takes: what the service takes is not published."""


@attrs.frozen
class Rates:
    """Lookups per second, in one round."""

    without: float
    ledger: float
    barest: float
    ceiling: float

    @property
    def of_the_lower(self) -> float:
        """What the ledger reaches of the run without, or of the disk's ceiling if that is lower."""
        return self.ledger / min(self.without, self.ceiling)

    @property
    def barest_of_the_lower(self) -> float:
        """What the barest ledger reaches of the same."""
        return self.barest / min(self.without, self.ceiling)


async def batch_rate(url: str, concurrency: int, ledger: Ledger | None) -> float:
    """Return how many lookups a batch makes in a second, after some to warm up."""
    async with OneAutoClient("k" * 20, base_url=url, ledger=ledger, rate_limit=UNLIMITED) as client:
        count, first = concurrency * 4, 0
        while True:
            began = time.perf_counter()
            async with client.batch(range(first, first + count), concurrency=concurrency) as batch:
                async for _ in batch:
                    pass
            took = time.perf_counter() - began
            assert batch.summary.found == count
            if took > SECONDS / 2:
                return count / took
            first, count = first + count, max(count + 1, int(count * SECONDS / took))


def ceiling(path: Path, size: int) -> float:
    """Return how many lookups a second the disk allows in groups of this size."""
    asyncio.run(_make(path))
    with closing(connect(path)) as connection:
        began, written = time.perf_counter(), 0
        while (took := time.perf_counter() - began) < SECONDS:
            _write_group(connection, 10_000_000 + written, size)
            written += size
    return written / took


async def _make(path: Path) -> None:
    async with SqliteLedger(path):
        pass


def _write_group(connection: sqlite3.Connection, first: int, size: int) -> None:
    ids, raw = range(first, first + size), sample_body()
    connection.execute("BEGIN IMMEDIATE")
    add(connection, first, [str(id_) for id_ in ids])
    connection.execute("COMMIT")
    connection.execute("BEGIN IMMEDIATE")
    end(connection, [(id_, raw) for id_ in ids])
    connection.execute("COMMIT")


def measure(folder: Path, url: str, concurrency: int) -> Iterator[Rates]:
    """Yield the rates of each round."""
    for number in range(ROUNDS):
        path = folder / f"{concurrency}-{number}"
        yield Rates(
            asyncio.run(batch_rate(url, concurrency, None)),
            asyncio.run(batch_rate(url, concurrency, SqliteLedger(path.with_suffix(".ledger")))),
            asyncio.run(batch_rate(url, concurrency, BarestLedger(path.with_suffix(".barest")))),
            ceiling(path.with_suffix(".ceiling"), concurrency),
        )


def main(where: str | None = None) -> None:
    """Measure, and print Markdown."""
    rows = []
    for concurrency, latency in CELLS:
        with (
            tempfile.TemporaryDirectory(dir=where) as name,
            serve(Path(name), authority=None, latency=latency) as server,
        ):
            rates = list(measure(Path(name), server.url, concurrency))
        figures = [median(getattr(one, name) for one in rates) for name in ("without", "ledger", "barest", "ceiling")]
        ratios = [median(getattr(one, name) for one in rates) for name in ("of_the_lower", "barest_of_the_lower")]
        shown = [
            *(f"{concurrency}", f"{latency * 1000:g} ms"),
            *(f"{figure:,.0f}" for figure in figures),
            *(f"{ratio:.2f}" for ratio in ratios),
        ]
        rows.append(shown)
        sys.stderr.write(" ".join(shown) + "\n")
    heading = (
        *("at once", "server waits", "without", "with a ledger", "with the barest", "the disk's ceiling"),
        *("of the lower", "the barest of it"),
    )
    sys.stdout.write(markdown(heading, rows, left=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The cells of the table, measured in interleaved rounds: whatever else the machine does, all clients feel it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from statistics import median

import attrs

from .clients import CLIENTS
from .servers import Authority, Server, serve
from .worker import CONVERTER, Cost, Order

SCHEMES, CONCURRENCIES, LATENCIES, LOOPS = ("http", "tls"), (10, 50, 500), (0.0, 0.05), ("asyncio", "uvloop")
STOCK = ("naive httpx", "tuned httpx")
SECONDS, SECONDS_FOR_STOCK = 3.0, 1.0
"""How long the timed part of one run may take."""

SLOW = 8.0
"""A client that takes so many seconds for one whole run is measured in the first round only."""

LIMIT = 120.0
"""Seconds after which a run is given up."""


@attrs.frozen
class Cell:
    """One combination of circumstances."""

    scheme: str
    concurrency: int
    latency: float
    loop: str

    def __str__(self) -> str:
        return f"{self.scheme}-{self.concurrency}-{self.latency * 1000:g}ms-{self.loop}"


FULL = [Cell(*values) for values in product(SCHEMES, CONCURRENCIES, LATENCIES, LOOPS)]
ALSO = [Cell("tls", 100, 0.05, "asyncio")]
"""For a goal of its own."""

QUICK = [Cell("tls", 50, 0.0, "asyncio"), Cell("tls", 50, 0.05, "asyncio")]


@attrs.frozen(kw_only=True)
class Run:
    """What one run of one client gave.

    Attributes:
        cpu: microseconds of the client process for each lookup.
        rate: lookups per second.
        connections: opened in all.
        made: lookups in all, the warm-up included.
    """

    cpu: float
    rate: float
    connections: int
    made: int

    @classmethod
    def of(cls, cost: Cost, connections: int) -> Run:
        """Put what the worker measured beside what the server counted."""
        return cls(
            cpu=cost.cpu / cost.lookups * 1e6,
            rate=cost.lookups / cost.wall,
            connections=connections,
            made=cost.lookups + cost.warm_up,
        )


@attrs.define
class Figures:
    """All runs of a cell: for each client, one for each round, or ``None`` where it was not run or given up."""

    server: str
    runs: dict[str, list[Run | None]] = attrs.field(factory=lambda: defaultdict(list))

    def median(self, client: str, value: Callable[[Run], float]) -> float | None:
        """Return the median over the rounds."""
        values = [value(run) for run in self.runs.get(client, ()) if run is not None]
        return median(values) if values else None

    def ratio(self, client: str, other: str) -> float | None:
        """Return the median of the ratios of CPU, each of two runs in the same round."""
        pairs = zip(self.runs.get(client, ()), self.runs.get(other, ()), strict=False)
        ratios = [one.cpu / two.cpu for one, two in pairs if one is not None and two is not None]
        return median(ratios) if ratios else None


def measure(cells: Collection[Cell], rounds: int, folder: Path, tell: Callable[[str], None]) -> Mapping[Cell, Figures]:
    """Run every client in every cell, once in each round.

    Arguments:
        cells: the circumstances.
        rounds: how many.
        folder: for the servers' files.
        tell: called with a line for each run.
    """
    authority = Authority.into(folder)
    with _servers(cells, folder, authority) as servers:
        table = {cell: Figures(servers[cell].name) for cell in cells}
        slow: set[tuple[Cell, str]] = set()
        for number, (cell, figures), client in product(range(rounds), table.items(), CLIENTS):
            began = time.monotonic()
            run = None if (cell, client) in slow else _run(cell, client, servers[cell], authority)
            figures.runs[client].append(run)
            if time.monotonic() - began > SLOW:
                slow.add((cell, client))
            tell(f"round {number + 1}: {cell} {client}: {'none' if run is None else f'{run.cpu:.0f} us'}")
    return table


@contextmanager
def _servers(cells: Collection[Cell], folder: Path, authority: Authority) -> Iterator[Mapping[Cell, Server]]:
    """Run the servers the cells need; those that nobody asks at the moment cost nothing."""
    servers: dict[tuple[str, float], Server] = {}
    with ExitStack() as stack:
        for scheme, latency in {(cell.scheme, cell.latency) for cell in cells}:
            trusted = authority if scheme == "tls" else None
            servers[scheme, latency] = stack.enter_context(serve(folder, authority=trusted, latency=latency))
        yield {cell: servers[cell.scheme, cell.latency] for cell in cells}


def _run(cell: Cell, client: str, server: Server, authority: Authority) -> Run | None:
    order = Order(
        client=client,
        loop=cell.loop,
        url=server.url,
        trusted=str(authority.trusted),
        concurrency=cell.concurrency,
        seconds=SECONDS_FOR_STOCK if client in STOCK else SECONDS,
    )
    before = server.connections()
    command = [sys.executable, "-m", f"{__package__}.worker", CONVERTER.dumps(order)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", timeout=LIMIT, check=True)
    except subprocess.TimeoutExpired:
        return None
    return Run.of(CONVERTER.loads(done.stdout, Cost), server.connections() - before)

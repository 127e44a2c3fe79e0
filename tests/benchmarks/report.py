"""The figures as Markdown: the machine, the table, and the goals."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import attrs

from .clients import CLIENTS
from .measure import Cell, Figures, Run
from .overheads import ImportCost, RetryCost

PACKAGES = ("httpx", "httpcore", "h11", "httptools", "aiohttp", "uvloop", "cattrs", "tenacity")
CIRCUMSTANCES = ("over", "at once", "server waits", "loop", "client")
VALUES = ("CPU us", "x aiohttp", "x naive httpx", "lookups/s", "of the ideal", "more connections per lookup")

GOAL_CELL = Cell("tls", 50, 0.0, "asyncio")
OURS, IN_HTTPX, AIOHTTP, NAIVE = "client.batch", "transport in httpx", "aiohttp", "naive httpx"


def machine(servers: Iterable[str]) -> str:
    """Return what the figures depend on, without names of people or places."""
    versions = (f"{name} {_version(name)}" for name in PACKAGES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    served = " and ".join(sorted(set(servers)))
    return f"{python} on {platform.system()}, {os.cpu_count()} cores; {', '.join(versions)}; servers: {served}."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """Return a table; the first ``left`` columns hold words, the others figures."""
    rule = ["---" if column < left else "---:" for column in range(len(heading))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, rule, *rows))


def figures_table(table: Mapping[Cell, Figures]) -> str:
    """Return a row for each client in each cell."""
    rows = [_row(cell, figures, client) for cell, figures in table.items() for client in CLIENTS]
    return markdown(CIRCUMSTANCES + VALUES, rows, left=len(CIRCUMSTANCES))


def _row(cell: Cell, figures: Figures, client: str) -> list[str]:
    rate = figures.median(client, _rate)
    ideal = cell.concurrency / cell.latency if cell.latency else None
    return [
        cell.scheme.upper(),
        str(cell.concurrency),
        f"{cell.latency * 1000:g} ms",
        cell.loop,
        client,
        _shown(figures.median(client, _cpu), ",.0f"),
        _shown(figures.ratio(client, AIOHTTP), ".2f"),
        _shown(figures.ratio(client, NAIVE), ".3f"),
        _shown(rate, ",.0f"),
        _shown(rate / ideal if rate is not None and ideal is not None else None, ".2f"),
        _shown(figures.median(client, lambda run: (run.connections - cell.concurrency) / run.made), ".3f"),
    ]


def _cpu(run: Run) -> float:
    return run.cpu


def _rate(run: Run) -> float:
    return run.rate


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


@attrs.frozen
class Goal:
    """A figure that was wanted and the one that was reached; ``at_least`` or else at most."""

    text: str
    wanted: float
    reached: float
    at_least: bool = False

    def row(self) -> list[str]:
        """Return the goal as cells."""
        met = self.reached >= self.wanted if self.at_least else self.reached <= self.wanted
        sign = "at least" if self.at_least else "at most"
        return [self.text, f"{sign} {self.wanted:.3g}", f"{self.reached:.3g}", "yes" if met else "**no**"]


def goals_table(table: Mapping[Cell, Figures], retry: RetryCost, imports: ImportCost) -> str:
    """Return a row for each goal whose figures are there."""
    goals = [*_goals_of_cpu(table), *_goals_of_rate(table), *_goals_of_connections(table)]
    goals.append(Goal("retry machinery when nothing fails, of `tenacity.retry`", 0.05, retry.ours / retry.tenacity))
    goals.append(Goal("`import oneauto_async`, of `import httpx`", 1.8, imports.ours / imports.httpx))
    return markdown(("goal", "wanted", "reached", "met"), [goal.row() for goal in goals], left=1)


def _goals_of_cpu(table: Mapping[Cell, Figures]) -> Iterator[Goal]:
    if GOAL_CELL in table:
        figures = table[GOAL_CELL]
        for text, wanted, client, other in (
            ("CPU of `client.batch`, of bare aiohttp", 0.7, OURS, AIOHTTP),
            ("CPU of `client.batch`, of naive httpx", 1 / 20, OURS, NAIVE),
            ("CPU of `httpx.AsyncClient.get` over this transport, of stock", 1 / 8, IN_HTTPX, NAIVE),
        ):
            reached = figures.ratio(client, other)
            if reached is not None:
                yield Goal(text, wanted, reached)
    few, many = (table.get(attrs.evolve(GOAL_CELL, concurrency=concurrency)) for concurrency in (10, 500))
    if few is not None and many is not None:
        pairs = few.median(OURS, _cpu), many.median(OURS, _cpu)
        if pairs[0] and pairs[1]:
            yield Goal("CPU of `client.batch` at 500 at once, of that at 10", 1.1, pairs[1] / pairs[0])


def _goals_of_rate(table: Mapping[Cell, Figures]) -> Iterator[Goal]:
    for concurrency, wanted in ((50, 0.94), (100, 0.94), (500, 0.80)):
        cell = Cell("tls", concurrency, 0.05, "asyncio")
        rate = table[cell].median(OURS, _rate) if cell in table else None
        if rate is not None:
            text = f"rate of `client.batch` at {concurrency} at once and 50 ms, of the ideal"
            yield Goal(text, wanted, rate * cell.latency / concurrency, at_least=True)


def _goals_of_connections(table: Mapping[Cell, Figures]) -> Iterator[Goal]:
    opened = [
        run.connections / cell.concurrency
        for cell, figures in table.items()
        for run in figures.runs[OURS]
        if run is not None
    ]
    yield Goal("connections `client.batch` opens, of those used at once (the worst run)", 1.0, max(opened))

"""Measure, and print Markdown: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from .measure import ALSO, FULL, QUICK, Cell, measure
from .overheads import import_cost, retry_cost
from .report import figures_table, goals_table, machine


def main() -> None:
    """Read the options, measure and print."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the servers are stopped too
    cells = _cells(options.quick, options.only)
    if not cells:
        sys.exit(f"no cell is called {options.only}; there are: {', '.join(map(str, FULL + ALSO))}")
    rounds = options.rounds or (2 if options.quick else 5)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        table = measure(cells, rounds, Path(folder), tell=_progress())
    sys.stdout.write(f"{time.strftime('%Y-%m-%d')}, medians of {rounds} interleaved rounds. ")
    sys.stdout.write(machine(figures.server for figures in table.values()) + "\n\n")
    sys.stdout.write(figures_table(table) + "\n\n")
    retry, imports = retry_cost(2 * rounds + 1), import_cost(2 * rounds + 1)
    sys.stdout.write(goals_table(table, retry, imports) + "\n\n")
    sys.stdout.write(f"Retry machinery: {retry.ours:.2f} us; tenacity.retry: {retry.tenacity:.1f} us. ")
    sys.stdout.write(f"Import: {imports.ours:.0f} ms of CPU; httpx: {imports.httpx:.0f} ms.\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Lookups beside httpx and aiohttp.")
    parser.add_argument("--quick", action="store_true", help="two cells, two rounds: less than a minute")
    parser.add_argument("--rounds", type=int, help="how often everything is run; default 5")
    parser.add_argument("--only", metavar="CELL", help="one cell, as tls-50-0ms-asyncio, or a pattern, as 'tls-50-*'")
    return parser


def _cells(quick: bool, pattern: str | None) -> list[Cell]:
    if pattern is not None:
        return [cell for cell in FULL + ALSO if fnmatch(str(cell), pattern)]
    return QUICK if quick else FULL + ALSO


def _progress() -> Callable[[str], None]:
    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")

    return tell


if __name__ == "__main__":
    main()

"""Run scenarios and print a Markdown table: ``python -m scenarios --help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from functools import partial
from itertools import product

from .grid import drawn
from .named import NAMED
from .scenario import Scenario
from .table import Row, header, measure
from .variations import variations


def main() -> None:
    """Read the options, run, print; the exit status tells whether every goal was reached."""
    options = _parser().parse_args()
    scenarios = [drawn(number) for number in options.grid] if options.grid else _chosen(options.only, options.varied)
    modes = [given for given in (True, False) if not (options.learnt and given) and not (options.given and not given)]
    began = time.monotonic()
    sys.stdout.write(header())
    good, total, calls = 0, 0, 0
    for row in _rows(product(scenarios, modes), range(options.seeds), options.jobs):
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        good, total, calls = good + row.is_good, total + 1, calls + row.calls
    seconds = time.monotonic() - began
    sys.stdout.write(f"\n{good} of {total} reach their goal.\n")
    sys.stderr.write(f"{calls} calls in {seconds:.0f} s, {calls / seconds:.0f} a second\n")
    sys.exit(0 if good == total else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scenarios", description="How well a key's limit is used.")
    parser.add_argument("--seeds", type=int, default=10, help="how often each is run; default 10")
    parser.add_argument("--only", metavar="NAME", default="*", help="a name, or a pattern such as '5 s*'")
    parser.add_argument("--grid", type=_numbers, metavar="N", help="drawn scenarios 0 to N-1, or one by its number: =7")
    parser.add_argument("--varied", action="store_true", help="with another rate, burst or way, and not as they are")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each in a process; default 1")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--given", action="store_true", help="only with the limit told to the client")
    mode.add_argument("--learnt", action="store_true", help="only without")
    return parser


def _numbers(text: str) -> range:
    first = int(text.removeprefix("=")) if text.startswith("=") else 0
    return range(first, first + 1) if text.startswith("=") else range(int(text))


def _chosen(pattern: str, varied: bool) -> list[Scenario]:
    known = list(variations()) if varied else NAMED
    chosen = [scenario for scenario in known if fnmatch(scenario.name, pattern)]
    if not chosen:
        sys.exit(f"no scenario is called {pattern}; there are: {'; '.join(map(str, known))}")
    return chosen


def _rows(asked: Iterable[tuple[Scenario, bool]], seeds: range, jobs: int) -> Iterator[Row]:
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(partial(_row, seeds), asked)


def _row(seeds: range, asked: tuple[Scenario, bool]) -> Row:
    scenario, given = asked
    return measure(scenario, seeds, given=given)


if __name__ == "__main__":
    main()

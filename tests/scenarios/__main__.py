"""Run scenarios and print a Markdown table: ``python -m scenarios --help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterator
from fnmatch import fnmatch

from .named import NAMED
from .scenario import Scenario
from .table import Row, header, measure


def main() -> None:
    """Read the options, run, print; the exit status tells whether every goal was reached."""
    options = _parser().parse_args()
    scenarios = _chosen(options.only)
    modes = [given for given in (True, False) if not (options.learnt and given) and not (options.given and not given)]
    began = time.monotonic()
    sys.stdout.write(header())
    rows = list(_rows(scenarios, options.seeds, modes))
    calls, seconds = sum(row.calls for row in rows), time.monotonic() - began
    sys.stdout.write(f"\n{calls} calls in {seconds:.0f} s, {calls / seconds:.0f} a second.\n")
    sys.exit(0 if all(row.is_good for row in rows) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scenarios", description="How well a key's limit is used.")
    parser.add_argument("--seeds", type=int, default=10, help="how often each is run; default 10")
    parser.add_argument("--only", metavar="NAME", default="*", help="a name, or a pattern such as '5 s*'")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--given", action="store_true", help="only with the limit told to the client")
    mode.add_argument("--learnt", action="store_true", help="only without")
    return parser


def _chosen(pattern: str) -> list[Scenario]:
    chosen = [scenario for scenario in NAMED if fnmatch(scenario.name, pattern)]
    if not chosen:
        sys.exit(f"no scenario is called {pattern}; there are: {'; '.join(map(str, NAMED))}")
    return chosen


def _rows(scenarios: Collection[Scenario], seeds: int, modes: Collection[bool]) -> Iterator[Row]:
    for scenario in scenarios:
        for given in modes:
            row = measure(scenario, range(seeds), given=given)
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
            yield row


if __name__ == "__main__":
    main()

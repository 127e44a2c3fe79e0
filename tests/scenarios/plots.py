"""Make the pictures and tables of ``docs/explanation/rate.md`` anew: ``python -m scenarios.plots`` or ``nox -s plots``.

The first needs the libraries of `peers` to be there. It takes ten minutes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import peers
from .gateway import ACCEPTED, UNREACHABLE, Event
from .named import NAMED
from .scenario import Result, Scenario, run
from .svg import Curve, Panel, picture
from .table import Row, line, measure

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "rate.md"
PICTURES = PAGE.parent / "rate"

BINS = 80
"""Points of a line: fewer hide what happens, more show noise."""

SENT, TAKEN, TURNED_AWAY, BOUND = "#3d85c6", "#2fa37c", "#e0533d", "#b08a2e"


def main() -> None:
    """Write every picture, then the tables."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.plots", description="The pictures and tables of a page.")
    parser.add_argument("--seeds", type=int, default=10, help="runs behind each figure of ours; default 10")
    parser.add_argument("--pictures", action="store_true", help="leave the tables as they are")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    for scenario in NAMED:
        path = PICTURES / f"{slug(scenario)}.svg"
        path.write_text(drawn(scenario), encoding="utf-8")
        sys.stderr.write(f"{path}\n")
    if not options.pictures:
        page = PAGE.read_text(encoding="utf-8")
        page = replaced(page, "goals", _goals(range(options.seeds)))
        page = replaced(page, "side by side", _side_by_side(range(3)))
        PAGE.write_text(page, encoding="utf-8")


def slug(scenario: Scenario) -> str:
    """Return a scenario's name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", scenario.name.lower()).strip("-")


# Pictures.


def drawn(scenario: Scenario) -> str:
    """Return a scenario as a picture: this library, which learns the limit, above retrying alone."""
    ours, naive = run(scenario, given=False), peers.run_peer("tenacity", scenario)
    seconds = min(max(ours.took, naive.took), 1.3 * max(ours.took, scenario.ideal))
    titles = (
        f"this library, the limit learnt: {_summary(ours)}",
        f"{scenario.slots} workers that retry with tenacity: {_summary(naive)}",
    )
    panels = [
        Panel(title, list(_curves(scenario, result, seconds)))
        for title, result in zip(titles, (ours, naive), strict=True)
    ]
    highest = 2.5 * scenario.world.highest.rate
    return picture(panels, seconds=seconds, highest=highest, label="calls per second")


def _summary(result: Result) -> str:
    lost = result.expected - result.answered
    parts = [f"{result.ratio:.2f} of the ideal time", f"{result.wasted:.1%} wasted"]
    return ", ".join([*parts, *([f"{lost} ids lost"] if lost else [])])


def _curves(scenario: Scenario, result: Result, seconds: float) -> Iterator[Curve]:
    events = [event for event in result.books.events if event.fate != UNREACHABLE]
    end = min(seconds, max(event.arrived for event in events))
    width = seconds / BINS

    def per_second(moments: Iterable[float]) -> list[tuple[float, float]]:
        counts = Counter(int(moment / width) for moment in moments)
        return [((index + 0.5) * width, counts[index] / width) for index in range(int(end / width) + 1)]

    def arrivals(wanted: Callable[[Event], bool]) -> list[tuple[float, float]]:
        return per_second(event.arrived for event in events if wanted(event))

    yield Curve("accepted", TAKEN, arrivals(lambda event: event.fate == ACCEPTED), filled=True)
    yield Curve("sent", SENT, per_second(event.left for event in events))
    yield Curve("turned away", TURNED_AWAY, arrivals(lambda event: event.fate != ACCEPTED))
    yield Curve("the limit", BOUND, list(_limit(scenario, seconds)), dashed=True)


def _limit(scenario: Scenario, seconds: float) -> Iterator[tuple[float, float]]:
    rate = scenario.world.limit.rate
    yield 0.0, rate
    for change in scenario.world.changes:
        yield change.at, rate
        rate = change.limit.rate
        yield change.at, rate
    yield seconds, rate


# Tables.


def _goals(seeds: range) -> Iterator[str]:
    titles = ("scenario", "given: goal", "reached", "learnt: goal", "reached")
    yield line(titles)
    yield line(["---"] * len(titles))
    for scenario in NAMED:
        rows = [measure(scenario, seeds, given=given) for given in (True, False)]
        yield line([scenario.name, *(cell for row in rows for cell in (_goal(row), _reached(row)))])
        sys.stderr.write(f"{scenario}\n")
    yield ""
    yield f"The worst of {len(seeds)} runs with different draws."


def _goal(row: Row) -> str:
    ratio, waste = row.goal.ratio, row.goal.waste
    return "stops" if ratio is None or waste is None else f"{ratio:.2f} / {waste:.1%}"


def _reached(row: Row) -> str:
    ratio, wasted = (max(result.ratio for result in row.results), max(result.wasted for result in row.results))
    return f"{ratio:.3f} / {wasted:.2%}" + ("" if row.is_good else " **no**")


def _side_by_side(seeds: range) -> Iterator[str]:
    yield from peers.table(NAMED, seeds)
    yield ""
    yield peers.provenance(seeds)


def replaced(page: str, name: str, lines: Iterable[str]) -> str:
    """Return a page with new lines between the comments that begin and end a part of it."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{PAGE} has no part {name!r}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


if __name__ == "__main__":
    main()

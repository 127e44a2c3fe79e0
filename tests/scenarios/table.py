"""A scenario over several seeds, as one row of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

import attrs

from .scenario import Goal, Result, Scenario, run

TITLES = ("scenario", "limit", "ratio", "worst", "wasted", "worst", "goal", "ok?")


@attrs.frozen
class Row:
    """The runs of one scenario."""

    scenario: Scenario
    given: bool
    results: list[Result]

    @property
    def goal(self) -> Goal:
        """What is to be reached."""
        return self.scenario.goal(given=self.given)

    @property
    def faults(self) -> list[str]:
        """What is not as it should be, with the seed."""
        return [
            f"{fault} (seed {seed})" for seed, result in enumerate(self.results) for fault in result.faults(self.goal)
        ]

    @property
    def is_good(self) -> bool:
        """Whether every run reached the goal."""
        return not self.faults

    @property
    def calls(self) -> int:
        """Calls in all runs."""
        return sum(result.books.fates.total() for result in self.results)

    def __str__(self) -> str:
        cells = (
            self.scenario.name,
            "given" if self.given else "learnt",
            *self._figures(lambda result: result.ratio, "{:.3f}"),
            *self._figures(lambda result: result.wasted, "{:.2%}"),
            str(self.goal),
            "yes" if self.is_good else self._shown_faults(),
        )
        return line(cells)

    def _shown_faults(self) -> str:
        missed = sum(bool(result.faults(self.goal)) for result in self.results)
        return f"**no**, {missed} of {len(self.results)}: {', '.join(self.faults[:3])}"

    def _figures(self, value: Callable[[Result], float], form: str) -> list[str]:
        values = [value(result) for result in self.results]
        return [form.format(median(values)), form.format(max(values))]


def measure(scenario: Scenario, seeds: Iterable[int], *, given: bool) -> Row:
    """Run a scenario once for each seed."""
    return Row(scenario, given, [run(scenario, seed, given=given) for seed in seeds])


def header() -> str:
    """Return the head of the table."""
    return f"{line(TITLES)}\n{line(['---'] * len(TITLES))}\n"


def line(cells: Iterable[str]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"

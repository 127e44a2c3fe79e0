"""Everything that is drawn with rich: the progress bar and the table. Imported only when one of them is wanted."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.box import ASCII, SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from .progress import printable
from .records import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .progress import Progress, Standing
    from .records import Record

__all__ = ["bar", "print_table"]

UPRIGHT_MOST = 2
"""So many records are shown in full, a column each; more of them as one line each."""

SHOWN_RAW = 2000
"""Characters shown of an answer that could not be used; JSON Lines and CSV hold all of it."""

WIDE = 100_000
"""Columns in which any table fits that can be made to."""

SPEED_OVER = 10.0
"""Seconds over which the speed is measured: a pause is forgotten soon, and the figure does not flicker."""

_CAPABILITIES = {
    "to load": "vehicle_to_load",
    "to home AC": "vehicle_to_home_ac",
    "to home DC": "vehicle_to_home_dc",
    "to grid AC": "vehicle_to_grid_ac",
    "to grid DC": "vehicle_to_grid_dc",
}

_UPRIGHT_MEMBERS = tuple(name for name in COLUMNS if name not in {"evdb_vehicle_id", "error", "message", "raw"})
_BILLED = {"billed": "yes", "not billed": "no", "unknown": "unknown"}


class _Deaf:
    """A terminal that may be closed meanwhile: that is no reason to lose what was paid for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if anybody is there."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if anybody is there."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Bar:
    """A bar with the figures of a job beside it."""

    def __init__(self, drawn: RichProgress, total: int) -> None:
        self._drawn = drawn
        self._task = drawn.add_task("", total=total, figures="")

    def show(self, standing: Standing) -> None:
        """Move the bar."""
        speed = self._drawn.tasks[0].speed
        self._drawn.update(
            self._task,
            completed=standing.done,
            figures=standing.figures(speed),
        )


@contextlib.contextmanager
def bar(total: int, *, transient: bool) -> Iterator[Progress]:
    """Draw a bar on standard error for as long as the block lasts."""
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    console = Console(file=cast("TextIO", _Deaf(sys.stderr)))
    with RichProgress(
        *columns, console=console, transient=transient, redirect_stdout=False, speed_estimate_period=SPEED_OVER
    ) as drawn:
        yield _Bar(drawn, total)


def print_table(records: Sequence[Record]) -> None:
    """Print the records on standard output: a few of them in full, many of them as one line each."""
    console = _console(sys.stdout)
    if records:
        table = _upright(records) if len(records) <= UPRIGHT_MOST else _flat(records)
        _fit(table, console)
        console.print(table)
    for record in records:
        for remark in _remarks(record):
            console.print(Text(printable(remark)), soft_wrap=True)


def _fit(table: Table, console: Console) -> None:
    """Give each column the width of its longest word at least, and of its longest line at most.

    A terminal that is too narrow for the words wraps the lines; rich would cut them off, and a figure that is cut off
    is another figure.
    """
    wide = console.options.update_width(WIDE)
    sizes = [
        [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)] for column in table.columns
    ]
    for column, cells in zip(table.columns, sizes, strict=True):
        column.width = max(cell.minimum for cell in cells)
    narrowest = console.measure(table, options=wide).maximum
    console.width = max(console.width, narrowest)
    spare = console.width - narrowest
    for column, cells in zip(table.columns, sizes, strict=True):
        least = column.width or 0
        column.width = min(least + spare, max(cell.maximum for cell in cells))
        spare -= column.width - least


class _Console(Console):
    """A console whose reader may leave: that is told like any other trouble, where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Raise the error that rich has just caught."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _console(stream: TextIO) -> Console:
    """Return a console that shows a character its encoding lacks as an escape instead of failing on it."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
    return _Console(file=stream, highlight=False, emoji=False)


def _table(console_encoding: str | None) -> Table:
    unicode = (console_encoding or "").lower().replace("-", "").startswith("utf")
    return Table(box=SIMPLE_HEAD if unicode else ASCII, pad_edge=False, padding=0)


def _upright(records: Sequence[Record]) -> Table:
    """Build a table with a line per member and a column per record."""
    table = _table(sys.stdout.encoding)
    table.add_column("evdb_vehicle_id")
    for record in records:
        table.add_column(_cell(record["evdb_vehicle_id"]))
    for name in _UPRIGHT_MEMBERS:
        if any(record[name] is not None for record in records):
            table.add_row(name, *(_cell(record[name]) for record in records))
    return table


def _flat(records: Sequence[Record]) -> Table:
    """Build a table with a line per record, each capability in one cell."""
    table = _table(sys.stdout.encoding)
    for heading in ("id", "outcome", *_CAPABILITIES, "billed"):
        table.add_column(heading)
    for record in records:
        capabilities = (_cell(_capability(record, prefix)) for prefix in _CAPABILITIES.values())
        table.add_row(
            _cell(record["evdb_vehicle_id"]), _cell(record["outcome"]), *capabilities, _cell(_BILLED[record["billing"]])
        )
    return table


def _capability(record: Record, prefix: str) -> str:
    status, power = record[f"{prefix}_support_status"], record[f"{prefix}_power_output_kw"]
    return "\n".join([*([] if status is None else [status]), *([] if power is None else [f"{power:g} kW"])])


def _cell(value: object) -> Text:
    """Return a cell that shows the value as it is: no markup, no control characters."""
    shown = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return Text("\n".join(printable(line) for line in shown.split("\n")))


def _remarks(record: Record) -> Iterator[str]:
    """Yield the lines below the table: what the service said beside a record, or why there is none."""
    said = (record["evdb_vehicle_id"], record["error"], record["message"])
    if said[1:] != (None, None):
        yield ": ".join(part for part in said if part is not None)
    if record["raw"]:
        yield f"  what came: {record['raw'][:SHOWN_RAW]}"

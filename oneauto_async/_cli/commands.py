"""What ``lookup`` and ``bulk`` do: check everything that can be checked, then run the job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from .book import Book
from .exits import RefusedError
from .inputs import checked_arguments, read_ids
from .job import Job
from .outputs import checked_target, file_sink, rest_path, stdout_sink
from .running import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .exits import Exit
    from .reaching import Settings

__all__ = ["bulk", "lookup"]


def lookup(ids: Iterable[str], *, form: str | None, settings: Settings) -> Exit:
    """Look up the ids of a command line."""
    rows = checked_arguments(ids)
    sink = stdout_sink(form, held=True)
    return _done(Job(settings=settings, book=Book(rows, sink), sink=sink, brief=True))


def bulk(
    source: str,
    output: Path | None,
    *,
    form: str | None,
    column: str | None,
    input_form: str | None,
    settings: Settings,
) -> Exit:
    """Look up the ids of a file."""
    if output is not None:
        checked_target(output)
        _spare_the_input(source, output)
    ids = read_ids(source, column=column, form=input_form)
    sink = file_sink(output, form, len(ids.rows)) if output is not None else stdout_sink(form, held=False)
    origin = f"{'standard input' if source == '-' else source} ({ids.origin})"
    return _done(Job(settings=settings, book=Book(ids.rows, sink), sink=sink, output=output, source=origin))


def _done(job: Job) -> Exit:
    try:
        return run(job)
    except ConfigurationError as error:
        raise RefusedError(str(error)) from None


def _spare_the_input(source: str, output: Path) -> None:
    """Refuse to write over what a person would not want to lose: the input, or the answers that the rest belongs to."""
    path = Path(source)
    if source == "-" or not path.exists():
        return
    if output.exists() and path.samefile(output):
        raise RefusedError(f"{output} is the input: choose another name for -o")
    if path.resolve() == rest_path(output).resolve():
        raise RefusedError(f"{output} holds the answers that {source} is the rest of: choose another name for -o")

"""What ``lookup`` and ``bulk`` do: check everything that can be checked, then run the job."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .book import Book
from .estimating import estimate, require_means
from .exits import Exit, RefusedError
from .inputs import checked_arguments, read_ids
from .interrupts import postponed
from .job import Job
from .outputs import checked_target, file_sink, is_stream, resolved
from .rest import rest_paths
from .running import run
from .stdout import print_lines, stdout_sink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .outputs import Sink
    from .reaching import Settings

__all__ = ["bulk", "lookup"]


def lookup(ids: Iterable[str], *, form: str | None, settings: Settings) -> Exit:
    """Look up the ids of a command line."""
    rows = checked_arguments(ids)
    _spare_the_data([], settings.purse.ledger)
    sink = stdout_sink(form, held=True)
    return run(Job(settings=settings, book=Book(rows, sink), sink=sink, brief=True))


def bulk(
    source: str,
    output: Path | None,
    *,
    form: str | None,
    column: str | None,
    input_form: str | None,
    settings: Settings,
    dry_run: bool = False,
) -> Exit:
    """Look up the ids of a file, or with ``dry_run`` only tell what that would buy."""
    if not dry_run:
        require_means(settings)
    if output is not None:
        checked_target(output)
        _spare_the_input(source, output)
        _spare_the_key(output, settings.key_file)
    outputs = [] if output is None else [output, *rest_paths(output)]
    _spare_the_data([*([] if source == "-" else [Path(source)]), *outputs], settings.purse.ledger)
    ids = read_ids(source, column=column, form=input_form)
    origin = f"{'standard input' if source == '-' else source} ({ids.origin})"
    with _sink(output, form, len(ids.rows), settings) as sink:
        job = Job(
            settings=settings,
            book=Book(ids.rows, sink),
            sink=sink,
            output=output,
            form=form,
            source=origin,
            may_ask=source != "-" and _somebody_is_there(),
        )
        return _told(job) if dry_run else run(job)


@contextlib.contextmanager
def _sink(output: Path | None, form: str | None, rows: int, settings: Settings) -> Iterator[Sink]:
    """Open the place of so many records; whatever happens in the block, no half-made file is left behind."""
    with contextlib.ExitStack() as stack:
        with postponed():
            sink = file_sink(output, form, rows) if output is not None else _stdout_sink(form, settings)
            stack.callback(sink.discard)
        yield sink


def _stdout_sink(form: str | None, settings: Settings) -> Sink:
    """Return standard output; a table, which comes at the end, is not what holds alone what was paid for, unasked."""
    if form is None and settings.purse.declines_ledger:
        form = "jsonl"
    return stdout_sink(form, held=False)


def _somebody_is_there() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _told(job: Job) -> Exit:
    """Print what the run would buy, and leave everything as it is."""
    job.sink.discard()
    print_lines(estimate(job))
    return Exit.OK


def _spare_the_data(taken: Iterable[Path], ledger: Path | None) -> None:
    """Refuse a ledger in a place that is taken."""
    if ledger is None:
        return
    if is_stream(ledger, sys.stdout):
        raise RefusedError(f"{ledger} is standard output: choose another name for --ledger")
    if resolved(ledger) in map(resolved, taken):
        raise RefusedError(
            f"{ledger} is the input or the output, or where the ids that are left of it would stand: "
            "choose another name for --ledger"
        )


def _spare_the_key(output: Path, key_file: Path | None) -> None:
    """Refuse to write over the file that the key is read from."""
    named = [key_file, os.environ.get("ONEAUTO_API_KEY_FILE")]
    if resolved(output) in [resolved(Path(path)) for path in named if path]:
        raise RefusedError(f"{output} is the file of the key: choose another name for -o")


def _spare_the_input(source: str, output: Path) -> None:
    """Refuse to write over what a person would not want to lose: the input, or the answers that the rest belongs to."""
    path = Path(source)
    if source == "-" and is_stream(output, sys.stdin):
        raise RefusedError(f"{output} is standard input: choose another name for -o")
    if source == "-" or not path.exists():
        return
    if output.exists() and path.samefile(output):
        raise RefusedError(f"{output} is the input: choose another name for -o")
    if resolved(path) in map(resolved, rest_paths(output)):
        raise RefusedError(f"{output} holds the answers that {source} is the rest of: choose another name for -o")

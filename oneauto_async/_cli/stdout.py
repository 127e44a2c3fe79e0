"""Standard output: records as they come, or a table at the end, and lines of text; its reader may leave at any time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO

from .exits import Exit, RefusedError
from .progress import silence
from .records import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .outputs import Sink
    from .records import Format, Record


def stdout_sink(form: str | None, *, held: bool) -> Sink:
    """Return standard output as a sink: a table on a terminal and JSON Lines elsewhere, unless a format is given.

    Arguments:
        form: ``table`` or one of `FORMATS`.
        held: show everything at the end in input order, rather than each record as it comes. A table always is.

    Raises:
        RefusedError: standard output is closed.
    """
    if sys.stdout is None:
        raise RefusedError("standard output is closed: leave it open, or let bulk write a file with -o")
    form = form or ("table" if sys.stdout.isatty() else "jsonl")
    if form == "table":
        return HeldSink(_print_table)
    stream = StreamSink(sys.stdout.buffer, FORMATS[form])
    return HeldSink(stream.write_all) if held else stream


def _print_table(records: list[Record]) -> None:
    from .terminal import print_table

    print_table(records)


class StreamSink:
    """Writes each record as soon as it is there, in the order the lookups finish.

    Attributes:
        is_writing: a record is being handed over, for as long as the reader takes.
    """

    def __init__(self, stream: BinaryIO, form: Format) -> None:
        """Write to a stream that stays open afterwards."""
        self._stream = stream
        self._form = form
        self._started = False
        self.is_writing = False

    def write(self, row: int, record: Record) -> None:
        """Write the record and hand it on at once, so that a reader on the other end of a pipe sees it."""
        heading = b"" if self._started else self._form.heading
        self._started = self.is_writing = True
        try:
            self._stream.write(heading + self._form.line(record))
            self._stream.flush()
        finally:
            self.is_writing = False

    def write_all(self, records: list[Record]) -> None:
        """Write several records."""
        for row, record in enumerate(records):
            self.write(row, record)

    def commit(self) -> None:
        """Do nothing: every record is already with the reader."""

    def discard(self) -> None:
        """Do nothing: what was written cannot be taken back."""


class HeldSink:
    """Keeps the records and shows them all at the end, in input order: for a table, and for a handful of lookups."""

    def __init__(self, show: Callable[[list[Record]], None]) -> None:
        """Show the records with the given function."""
        self._show = show
        self._records: dict[int, Record] = {}

    def write(self, row: int, record: Record) -> None:
        """Keep the record."""
        self._records[row] = record

    @property
    def held(self) -> list[Record]:
        """The records so far, in input order."""
        return [self._records[row] for row in sorted(self._records)]

    def commit(self) -> None:
        """Show the records."""
        self._show(self.held)

    def discard(self) -> None:
        """Forget the records."""
        self._records.clear()


def print_lines(lines: Iterable[str]) -> None:
    """Print lines on standard output, in its encoding as far as that goes; a reader that went away is no drama.

    Raises:
        RefusedError: standard output is closed or full.
    """
    require_stdout()
    text = "".join(f"{line}\n" for line in lines)
    try:
        write_stdout(text.encode(sys.stdout.encoding, errors="backslashreplace"))
    except BrokenPipeError:
        silence_stdout()


def require_stdout() -> None:
    """See that there is a standard output.

    Raises:
        RefusedError: it is closed.
    """
    if sys.stdout is None:
        raise RefusedError("standard output is closed")


def write_stdout(data: bytes) -> None:
    """Write data to standard output, past its encoding and its buffer.

    Raises:
        RefusedError: it takes no more.
        BrokenPipeError: its reader has left.
    """
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise RefusedError(f"standard output: {error.strerror}", Exit.FAILED) from None


def silence_stdout() -> None:
    """Let a broken standard output be."""
    silence(sys.stdout)

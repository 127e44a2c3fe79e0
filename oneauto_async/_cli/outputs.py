"""Files of records, which appear whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import secrets
import sys
from array import array
from typing import TYPE_CHECKING, Protocol, TextIO

from .exits import Exit, RefusedError
from .records import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .records import Format, Record

__all__ = [
    "FileSink",
    "Sink",
    "checked_target",
    "file_sink",
    "hidden",
    "is_database",
    "is_stream",
    "resolved",
    "unused",
]

_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}

SQLITE_HEADER = b"SQLite format 3\0"
"""What every file of SQLite begins with, by https://www.sqlite.org/fileformat.html."""


class Sink(Protocol):
    """Takes the records of a run, in the order they finish."""

    def write(self, row: int, record: Record) -> None:
        """Take the record of one input row."""
        ...

    def commit(self) -> None:
        """Make what was written so far the result."""
        ...

    def discard(self) -> None:
        """Leave everything as it was before the run, as far as possible; harmless after `commit`."""
        ...


def file_sink(output: Path, form: str | None, rows: int) -> FileSink:
    """Open a file for so many records, so that whatever is wrong with it shows before a call is paid.

    Raises:
        RefusedError: the file cannot be written, or no format is known for it.
    """
    target = checked_target(output)
    if form == "table":
        raise RefusedError(f"{output}: a table is for a terminal: leave --format out, or give csv or jsonl")
    form = form or _SUFFIXES.get(output.suffix.lower())
    if form not in FORMATS:
        raise RefusedError(
            f"{output}: a file is written as CSV or JSON Lines: call it .csv or .jsonl, or give --format"
        )
    return FileSink(target, FORMATS[form], rows)


class FileSink:
    """Writes a file that takes its name only at the end, in input order.

    Records are appended to a hidden file in the same folder as they finish, so that a machine that dies half way leaves
    the paid answers there; `commit` sorts them if need be and renames.

    Attributes:
        is_sorted: whether the records stand in input order; after `commit`, not if there was no room to sort them.
        left_behind: the hidden files of other runs of the same target, which were killed or are still going on.
        is_homeless: the folder is gone or was renamed, and no known name leads to the file; `contents` is all of it.
    """

    def __init__(self, target: Path, form: Format, rows: int) -> None:
        """Make the hidden file for so many records.

        Raises:
            RefusedError: the folder takes no new file, or there is no room for its heading.
        """
        self._target = target
        self._form = form
        self._starts = array("q", [-1]) * rows
        self._sizes = array("q", [0]) * rows
        self._last_row = -1
        self.is_sorted = True
        self._is_stranded = self.is_homeless = False
        self.left_behind = _parts_of(target)
        self._part = _Part(self._target)
        self._begin()

    def _begin(self) -> None:
        """Write the heading: a disk that has no room even for that is told before a call is paid."""
        try:
            self._part.append(self._form.heading)
        except OSError as error:
            self._part.remove()
            raise _unwritable(self._target, error) from None

    def write(self, row: int, record: Record) -> None:
        """Append the record; an `OSError` means that nothing of it was written."""
        start = self._part.size
        self._part.append(self._form.line(record))
        self._starts[row], self._sizes[row] = start, self._part.size - start
        self.is_sorted = self.is_sorted and row > self._last_row
        self._last_row = row

    def commit(self) -> None:
        """Sort the records into input order and give the file its name."""
        self._take_name(lambda: self._target)

    def commit_beside(self) -> Path:
        """Sort the records and give the file a free name beside its own, whose bearer stays as it was."""
        return self._take_name(lambda: _reserved(self._target.with_name(f"{self._target.name}.partial")))

    def discard(self) -> None:
        """Remove the hidden file, unless it could not take its name; the one that bears the name stays as it was."""
        if not self._is_stranded:
            self._part.remove()

    def contents(self) -> bytes:
        """Return all that was written, and let go of the file."""
        contents = self._part.read(0, self._part.size)
        self._part.remove()
        return contents

    def _take_name(self, choose: Callable[[], Path]) -> Path:
        if not self.is_sorted:
            self._sort()
        if self._part.has_vanished:
            self._is_stranded = self.is_homeless = True
            raise RefusedError(f"{self._target} cannot be written: its folder is gone, or was renamed", Exit.FAILED)
        try:
            return self._part.rename(choose())
        except OSError as error:
            self._is_stranded = True
            kept = f"what was answered is in {self._part.path}"
            raise RefusedError(f"{self._target} cannot be written: {error.strerror}; {kept}", Exit.FAILED) from None

    def _sort(self) -> None:
        """Replace the hidden file by a sorted copy; without room for one, the order they finished in has to do."""
        with contextlib.suppress(OSError, RefusedError), contextlib.ExitStack() as undo:
            copy = _Part(self._target)
            undo.callback(copy.remove)
            for piece in self._sorted_pieces():
                copy.append(piece)
            undo.pop_all()
            self._part.remove()
            self._part, self.is_sorted = copy, True

    def _sorted_pieces(self) -> Iterator[bytes]:
        yield self._form.heading
        for start, size in zip(self._starts, self._sizes, strict=True):
            if start >= 0:
                yield self._part.read(start, size)


class _Part:
    """A hidden file beside its target, with the modes a new file gets, written past every buffer.

    Attributes:
        path: where it is.
        size: the bytes in it.
    """

    def __init__(self, target: Path) -> None:
        self.path = hidden(target)
        self.size = 0
        try:
            self._file = self.path.open("x+b", buffering=0)
        except OSError as error:
            raise _unwritable(target, error) from None

    def append(self, data: bytes) -> None:
        """Write all of the data or, with an `OSError`, none of it."""
        try:
            self._write_all(data)
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self.size)
                self._file.seek(self.size)
            raise
        self.size += len(data)

    def read(self, start: int, size: int) -> bytes:
        """Read a piece back; nothing is appended after that."""
        self._file.seek(start)
        return self._file.read(size)

    @property
    def has_vanished(self) -> bool:
        """Whether its name leads to it no more: its folder, or the file itself, was removed or renamed."""
        try:
            self.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a folder that may not be looked into just now
            return False
        return False  # nothing else is given that name

    def rename(self, target: Path) -> Path:
        """Put the file on the disk for good, under its name."""
        os.fsync(self._file.fileno())
        self._file.close()
        return self.path.replace(target)

    def remove(self) -> None:
        """Drop the file; harmless after `rename`."""
        if self._file.closed:
            return
        is_elsewhere = self.has_vanished
        self._file.close()
        if not is_elsewhere:
            self.path.unlink(missing_ok=True)

    def _write_all(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]


def hidden(target: Path) -> Path:
    """Return a name beside a file that nothing else has, for what is to become that file."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")


def _parts_of(target: Path) -> list[Path]:
    try:
        return sorted(target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}.part"))
    except OSError:  # a folder that may be written and not read
        return []


def checked_target(path: Path) -> Path:
    """Return the file a path stands for, links followed, if it can be replaced."""
    target = resolved(path)
    try:
        if target.is_dir():
            raise RefusedError(f"{path} is a directory: give the name of a file in it")
        if target.exists() and (not target.is_file() or is_stream(target, sys.stdout)):
            raise RefusedError(f"{path} is not an ordinary file: leave -o out to write to standard output")
        if not target.parent.is_dir():
            raise RefusedError(f"{path}: there is no folder {str(path.parent)!r}: make it first")
    except OSError as error:
        raise _unwritable(path, error) from None
    if target.exists() and not os.access(target, os.W_OK):
        raise RefusedError(f"{path} is write-protected: choose another name")
    if is_database(target):
        raise RefusedError(f"{path} is a ledger, or another SQLite database: choose another name for -o")
    return target


def is_stream(target: Path, stream: TextIO | None) -> bool:
    """Tell whether it is standard input or output by another name.

    If that was replaced, what a shell has there would be lost, or what it writes there next.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return stream is not None and os.path.samestat(target.stat(), os.fstat(stream.fileno()))
    return False


def resolved(path: Path) -> Path:
    """Return where a path leads, links followed.

    Raises:
        RefusedError: links lead round in a circle, or it begins in a folder that is gone.
    """
    try:
        found = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RefusedError(f"{path} leads nowhere: {reason}") from None
    if os.path.islink(found):  # noqa: PTH114  # from 3.13 on a circle is no error; `Path`'s fails on a name too long
        raise RefusedError(f"{path} leads nowhere: links lead round in a circle")
    return found


def is_database(target: Path) -> bool:
    """Tell whether a file that is there begins as every SQLite database does."""
    with contextlib.suppress(OSError), target.open("rb") as file:
        return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
    return False


def _unwritable(path: Path, error: Exception) -> RefusedError:
    reason = error.strerror if isinstance(error, OSError) else error
    return RefusedError(f"{path} cannot be written: {reason}; choose another name for -o")


def unused(path: Path) -> Path:
    """Return the path, or the first one with a number behind its stem that nothing has yet."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([path], numbered) if not os.path.lexists(candidate))


def _reserved(path: Path) -> Path:
    """Make an empty file under an unused name, which no other process can then take."""
    while True:
        with contextlib.suppress(FileExistsError):
            (free := unused(path)).touch(exist_ok=False)
            return free

"""The lines of a file or of standard input, as text with their numbers; what is no text is refused."""

from __future__ import annotations

import codecs
import contextlib
import errno
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from .exits import RefusedError
from .progress import say

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_LINE", "Line", "numbered_lines"]

MAX_LINE = 1 << 20
"""Bytes in one line. A longer one is no list of ids, and reading it whole could fill the memory."""

Line: TypeAlias = tuple[int, str]


@contextlib.contextmanager
def numbered_lines(source: str, name: str) -> Iterator[Iterator[Line]]:
    """Open a source and give its decoded lines with their numbers, line ends included.

    Arguments:
        source: a path, or ``-`` for standard input.
        name: what to call it in messages.

    Raises:
        RefusedError: it cannot be opened or read, or is no UTF-8 text; also from inside the block.
    """
    try:
        with _opened(source) as stream:
            yield _text_lines(stream, name)
    except OSError as error:
        raise RefusedError(f"{name}: {_trouble(error)}") from None


@contextlib.contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    """Open the source for reading; standard input stays open afterwards, as it is not ours."""
    if source != "-":
        with _open_file(source) as stream:
            yield stream
    elif sys.stdin is None:
        raise RefusedError("standard input is closed: give a file")
    else:
        if sys.stdin.isatty():
            say("reading ids from the terminal, one per line; Ctrl-D ends")
        yield sys.stdin.buffer


def _open_file(source: str) -> BinaryIO:
    try:
        return Path(source).open("rb")
    except (OSError, ValueError) as error:
        raise RefusedError(f"{source}: {_trouble(error)}") from None


def _trouble(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EISDIR:
        return "is a directory: give a file of ids"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"


def _text_lines(stream: BinaryIO, name: str) -> Iterator[Line]:
    """Yield the decoded lines with their numbers; refuse what is no UTF-8 text."""
    for number in itertools.count(1):
        raw = stream.readline(MAX_LINE + 1)
        if not raw:
            return
        yield number, _decoded(raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw, f"{name}: line {number}")


def _decoded(raw: bytes, place: str) -> str:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise RefusedError(f"{place} is UTF-16: save the file as UTF-8")
    if b"\0" in raw:
        raise RefusedError(f"{place} holds a NUL byte: this is no text file")
    if len(raw) > MAX_LINE:
        raise RefusedError(f"{place} is longer than {MAX_LINE} bytes: this is no list of ids")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RefusedError(f"{place} is not UTF-8 text: save the file as UTF-8") from None

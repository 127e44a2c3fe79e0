"""Where records go that have lost their file: to whatever place still takes them, which is then named."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from .exits import RefusedError
from .progress import say
from .stdout import silence_stdout, write_stdout

__all__ = ["hand_over"]


def hand_over(data: bytes, *, suffix: str) -> str:
    """Write data to the first place that takes all of it, and return where that is, as in ``on standard output``.

    Arguments:
        data: whole lines of UTF-8.
        suffix: of the file that is made if standard output takes nothing, or would only throw it away.
    """
    if _is_on_stdout(data):
        return "on standard output"
    try:
        return f"in {_filed(data, suffix)}"
    except OSError:
        say(data.decode().removesuffix("\n"))
        return "on standard error"


def _is_on_stdout(data: bytes) -> bool:
    if sys.stdout is None or _is_thrown_away():
        return False
    try:
        write_stdout(data)
    except (OSError, RefusedError):
        silence_stdout()
        return False
    return True


def _is_thrown_away() -> bool:
    """Tell whether standard output is the null device."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        there, nothing = os.fstat(sys.stdout.fileno()), Path(os.devnull).stat()
        return stat.S_ISCHR(there.st_mode) and there.st_rdev == nothing.st_rdev
    return False


def _filed(data: bytes, suffix: str) -> Path:
    """Write a new file that its owner alone can read, all of it or none."""
    number, name = tempfile.mkstemp(prefix="oneauto-", suffix=suffix, dir=tempfile.gettempdir())
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path

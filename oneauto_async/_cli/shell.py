"""What passes between a shell and this program: arguments as they were typed, and commands to copy."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

__all__ = ["as_argument", "as_typed", "command", "quoted"]

PROGRAM = "oneauto-async"


def as_typed(text: str) -> str:
    """Undo what an ASCII locale does to letters it lacks: Python hands their bytes over as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _of_utf8(text)
    return text


def _of_utf8(text: str) -> str:
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        return text


def as_argument(path: Path) -> str:
    """Return a path as it stands in a command, where one with a dash in front would be an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def command(*arguments: str) -> str | None:
    """Return a command of this program as one copies it from standard error, or ``None`` as `quoted` does."""
    return quoted(_program(), *arguments)


def quoted(*words: str) -> str | None:
    """Return words as a shell reads them, or ``None`` if standard error would not show one of them as it is.

    An escape is other characters to a shell: whoever copied it would ask for another id, or name another file.
    """
    line = shlex.join(words)
    return line if line.isprintable() and _is_encodable(line) else None


def _is_encodable(text: str) -> bool:
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _program() -> str:
    """Return what starts this program: the path that was typed, if the bare name would find nothing or another one."""
    typed, path = sys.argv[0], Path(sys.argv[0])
    if path.name != PROGRAM or typed == PROGRAM or not os.access(path, os.X_OK):
        return PROGRAM
    found = shutil.which(PROGRAM)
    return PROGRAM if found is not None and path.samefile(found) else typed

"""Opening a ledger only to look into it: nothing is written, neither to the file nor beside it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

from ...errors import LedgerError
from .connecting import require_current, settings_for_reading
from .file import companions, require_plain

TRIES = 5
"""Copies made of a file that changes meanwhile, before giving up."""


def open_to_look(path: Path, until: ExitStack) -> sqlite3.Connection:
    """Open a ledger as it stands, with what other processes are writing to it; errors are SQLite's own.

    Arguments:
        path: the file, absolute.
        until: closes it.

    Raises:
        LedgerError: it is none, not a plain file, or not of the newest version.
    """
    require_plain(path)
    connection = _looking(path, until)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _looking(path: Path, until: ExitStack) -> sqlite3.Connection:
    log, index = (Path(f"{path}{ending}") for ending in ("-wal", "-shm"))
    if log.exists() and not index.exists():  # copied without it; SQLite would make one
        return _opened_copy(path, until)
    connection = _opened(f"{path.as_uri()}?{_mode(path)}", until)
    try:
        require_current(connection)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise
        # A program died half-way through a write. Undoing that would change the file.
        return _opened_copy(path, until)
    return connection


def _opened_copy(path: Path, until: ExitStack) -> sqlite3.Connection:
    """Open a copy instead, in which SQLite may mend what it finds."""
    connection = _opened(f"{_copied(path, until).as_uri()}?mode=rw", until)
    require_current(connection)
    return connection


def _opened(uri: str, until: ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=0.0, isolation_level=None)
    until.callback(connection.close)
    settings_for_reading(connection)
    return connection


def _mode(path: Path) -> str:
    """Return how to open it: with a write-ahead header and no log beside it, SQLite would make a log.

    Then nobody has it open, or there would be a log, and it will not change.
    """
    has_companion = any(companion.exists() for companion in companions(path))
    return "immutable=1" if not has_companion and _is_write_ahead(path) else "mode=ro"


def _is_write_ahead(path: Path) -> bool:
    """Tell it by what SQLite says: without locks, it cannot open such a file, and makes no log.

    The file is not opened past SQLite: closing it would drop the locks that others of this process have on it.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&nolock=1", uri=True)) as connection:
        try:
            connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:  # anything else will be said again, and better, when it is opened
            return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN
    return False


def _copied(path: Path, until: ExitStack) -> Path:
    """Copy the file with its journal or log to where nobody else can read or write them."""
    folder = Path(until.enter_context(tempfile.TemporaryDirectory(prefix="oneauto-ledger-")))
    names = [name.name for name in (path, *companions(path)) if name.exists() and not name.name.endswith("-shm")]
    for _ in range(TRIES):
        before = _state(path, names)
        for name in names:
            shutil.copyfile(path.with_name(name), folder / name)
        if _state(path, names) == before:
            return folder / path.name
    raise LedgerError("it is being written to without pause")


def _state(path: Path, names: list[str]) -> list[tuple[int, int]]:
    found = [path.with_name(name).stat() for name in names]
    return [(file.st_size, file.st_mtime_ns) for file in found]

"""Connections to the file: their settings, patience with whoever holds a lock, and SQLite's errors in our words."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ...errors import LedgerError
from .schema import APPLICATION_ID, MIGRATIONS

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds to wait for a lock that another program holds."""

SHORTEST_WAIT, LONGEST_WAIT = 0.001, 0.01
"""Seconds between two tries to take the lock. SQLite's own waits grow to a tenth of a second, and a process that writes
without pause would hardly ever be met between two of its transactions."""

OLDEST = (3, 24, 0)
"""The first SQLite that knows all we ask of it."""


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """Tell whether this SQLite can lose a commit in write-ahead mode when two connections meet at a checkpoint."""
    return (3, 7, 0) <= version <= (3, 51, 2) and version not in {(3, 44, 6), (3, 50, 7)}


def connect(path: Path) -> sqlite3.Connection:
    """Open the file; errors are SQLite's own."""
    connection = sqlite3.connect(path, timeout=0.0, isolation_level=None, cached_statements=256)
    settings_for_reading(connection)
    try:
        # FULL: a commit returns when the disk has it. PERSIST keeps the journal and syncs its end mark as well, which
        # with DELETE could still be lost to a power cut.
        patiently(lambda: connection.execute("PRAGMA synchronous = FULL"))
        patiently(lambda: connection.execute(f"PRAGMA journal_mode = {journal_mode()}").fetchone())
        connection.execute("PRAGMA foreign_keys = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def settings_for_reading(connection: sqlite3.Connection) -> None:
    """Set what matters to whoever reads."""
    connection.text_factory = _decoded


def _decoded(text: bytes) -> str:
    """Read damaged text as well: the checksum finds it, and the other entries are not held up."""
    return text.decode("utf-8", "replace")


def journal_mode() -> str:
    """Return the way of writing that is safe with the SQLite at hand."""
    return "PERSIST" if has_wal_reset_bug(sqlite3.sqlite_version_info) else "WAL"


def patiently(action: Callable[[], T], patience: float | None = None) -> T:
    """Do something that may meet another program's lock; try again for a while."""
    deadline = time.monotonic() + (PATIENCE if patience is None else patience)
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
        time.sleep(random.uniform(SHORTEST_WAIT, LONGEST_WAIT))


def _is_locked(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


@contextmanager
def transaction(connection: sqlite3.Connection, patience: float | None = None) -> Iterator[None]:
    """Write: take the lock first, so that nothing read here is out of date; commit at the end, undo on any error."""
    patiently(lambda: connection.execute("BEGIN IMMEDIATE"), patience)
    try:
        yield
        patiently(lambda: connection.execute("COMMIT"), patience)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to the newest version, all steps in one transaction.

    Raises:
        LedgerError: the file is another program's, or of a newer version; nothing was changed.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise LedgerError(f"a ledger needs SQLite {'.'.join(map(str, OLDEST))} or newer, not {sqlite3.sqlite_version}")
    if _checked_version(connection) == len(MIGRATIONS):
        return
    with transaction(connection):
        for version in range(_checked_version(connection), len(MIGRATIONS)):  # another process may have been faster
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def require_ours(connection: sqlite3.Connection) -> None:
    """Raise `LedgerError` unless it is a ledger of a version that is known, or empty."""
    _checked_version(connection)


def require_current(connection: sqlite3.Connection) -> None:
    """Raise `LedgerError` unless it is a ledger of the newest version."""
    version = _checked_version(connection)
    if version == 0:
        raise LedgerError("it is empty: there is no ledger in it yet")
    if version < len(MIGRATIONS):
        raise LedgerError(
            f"it has version {version}, and the newest is {len(MIGRATIONS)}: the next run will bring it up"
        )


def _checked_version(connection: sqlite3.Connection) -> int:
    version, application, tables = patiently(lambda: _look(connection))
    if application != APPLICATION_ID and (version or application or tables):
        raise LedgerError("it is a database of another program")
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"it has version {version}, and this package knows up to {len(MIGRATIONS)}: update oneauto-async"
        )
    return version


def _look(connection: sqlite3.Connection) -> tuple[int, int, int]:
    questions = ("PRAGMA user_version", "PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
    version, application, tables = (int(connection.execute(question).fetchone()[0]) for question in questions)
    return version, application, tables


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system raise into `LedgerError`, with the cause kept."""
    try:
        yield
    except LedgerError as error:
        if str(path) in str(error):
            raise
        raise LedgerError(f"the ledger {path}: {error}") from error
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # SQLite may quote what is damaged
        raise LedgerError(f"the ledger {path} {_explained(error)}") from error


def _explained(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    said = f"({error})"
    return f"{_EXPLANATIONS.get(code, 'cannot be read or written')} {said}"


_EXPLANATIONS = {
    sqlite3.SQLITE_BUSY: f"was locked by another program for more than {PATIENCE:g} s",
    sqlite3.SQLITE_LOCKED: f"was locked by another program for more than {PATIENCE:g} s",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full",
    sqlite3.SQLITE_READONLY: "cannot be written: it is read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore a backup, or start a new one, which buys again what this holds",
    sqlite3.SQLITE_NOTADB: "is not a ledger: the file is no database",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk failed or is full",
    sqlite3.SQLITE_CONSTRAINT: "does not hold together: an entry contradicts its rules",
}

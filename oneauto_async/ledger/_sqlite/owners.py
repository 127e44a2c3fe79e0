"""The processes that use one file: a lease for each, and who is still there."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from functools import cache
from pathlib import Path

LEASE = 30.0
"""Seconds after its last sign of life that a process is taken for gone. On this machine its pid tells at once."""

HEARTBEAT = LEASE / 4


@cache
def this_machine() -> str:
    """Name the place in which a pid means one process: this machine since it started, and within it this container."""
    parts = [socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _linked("/proc/self/ns/pid")]
    return " ".join(part for part in parts if part)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _linked(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Tell whether this machine has the process; without a sure way to know, yes."""
    if os.name != "posix":  # there, asking with os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def register(connection: sqlite3.Connection) -> int:
    """Add this process; return its number."""
    now = time.time()
    cursor = connection.execute(
        "INSERT INTO owners (machine, pid, began_at, alive_until) VALUES (?, ?, ?, ?)",
        (this_machine(), os.getpid(), now, now + LEASE),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def renew(connection: sqlite3.Connection, owner: int) -> None:
    """Give a sign of life."""
    connection.execute("UPDATE owners SET alive_until = ? WHERE owner = ?", (time.time() + LEASE, owner))


def bury(connection: sqlite3.Connection, owner: int) -> None:
    """Note that a process has ended."""
    connection.execute("UPDATE owners SET ended_at = ? WHERE owner = ? AND ended_at IS NULL", (time.time(), owner))


def lease_of(connection: sqlite3.Connection, owner: int) -> float | None:
    """Return until when a process is taken to live, or ``None`` if it was found gone."""
    row = connection.execute("SELECT alive_until FROM owners WHERE owner = ? AND ended_at IS NULL", (owner,)).fetchone()
    return None if row is None else row[0]


def lives(connection: sqlite3.Connection, owner: int) -> bool:
    """Tell whether a process is still there."""
    row = connection.execute(
        "SELECT machine, pid, alive_until, ended_at FROM owners WHERE owner = ?", (owner,)
    ).fetchone()
    if row is None:
        return False
    machine, pid, alive_until, ended_at = row
    if ended_at is not None or alive_until < time.time():
        return False
    return machine != this_machine() or is_running(pid)

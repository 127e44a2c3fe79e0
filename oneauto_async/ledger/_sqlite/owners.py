"""The processes that use one file: a lease for each, and who is still there."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import time
from functools import cache
from pathlib import Path

import attrs

from .rows import is_moment

LEASE = 30.0
"""Seconds after its last sign of life that a process is taken for gone. On this machine its pid tells at once."""

HEARTBEAT = LEASE / 4

THREADS = 16
"""Where the number of threads stands among the numbers of ``/proc/<pid>/stat``."""


@attrs.frozen
class Place:
    """Where a pid means one process.

    Attributes:
        machine: the name of the machine.
        boot: its start, by an id that each has; empty where there is none.
        pid_space: the container within it, if it has its own pids.
    """

    machine: str
    boot: str
    pid_space: str


@cache
def here() -> Place:
    """Return where this process runs."""
    return Place(socket.gethostname(), _read("/proc/sys/kernel/random/boot_id"), _linked("/proc/self/ns/pid"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
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
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and nobody has asked how, as in a container without an init.

    Only Linux tells (proc_pid_stat(5)), and only where ``/proc`` shows the pids that we see. The first thread may have
    ended alone: then the process lives on in the others.
    """
    if _linked("/proc/self") != str(os.getpid()):
        return False
    state, *numbers = _read(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["?"]
    return state in {"Z", "X"} and int(numbers[THREADS]) <= 1


def register(connection: sqlite3.Connection) -> int:
    """Add this process; return its number."""
    now = time.time()
    cursor = connection.execute(
        "INSERT INTO owners (machine, boot, pid_space, pid, began_at, alive_until) VALUES (?, ?, ?, ?, ?, ?)",
        (*attrs.astuple(here()), os.getpid(), now, now + LEASE),
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
    """Return until when a process is taken to live, or ``None`` if it was found gone. A damaged lease has run out."""
    row = connection.execute("SELECT alive_until FROM owners WHERE owner = ? AND ended_at IS NULL", (owner,)).fetchone()
    if row is None:
        return None
    return row[0] if is_moment(row[0]) else -math.inf


def lives(connection: sqlite3.Connection, owner: int) -> bool:
    """Tell whether a process is still there. One with a damaged row is not: should it be, it finds its claims lost."""
    question = "SELECT machine, boot, pid_space, pid, alive_until, ended_at FROM owners WHERE owner = ?"
    row = connection.execute(question, (owner,)).fetchone()
    if row is None:
        return False
    machine, boot, pid_space, pid, alive_until, ended_at = row
    if ended_at is not None or not (is_moment(alive_until) and isinstance(pid, int)) or alive_until < time.time():
        return False
    return _may_run(Place(machine, boot, pid_space), pid)


def _may_run(place: Place, pid: int) -> bool:
    """Tell what can be told without its lease: nothing survives a restart of its machine."""
    if place.machine != here().machine:
        return True
    if place.boot != here().boot:
        return False
    return place.pid_space != here().pid_space or is_running(pid)

"""Many rows in one statement.

While the database works on a statement another thread runs, and has to be waited for afterwards. With a busy event loop
beside it, waiting once for each row would take longer than the rows do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

LARGEST = 64
"""Rows in a statement, at most: with 15 values each there is room for that in every SQLite, which takes 999."""


def portions(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut rows into portions of 64, 32, … 1: so few sizes that each statement is made ready once and kept."""
    begin, size = 0, LARGEST
    while begin < len(rows):
        while size > len(rows) - begin:
            size //= 2
        yield rows[begin : begin + size]
        begin += size


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Sequence[Any]]) -> None:
    """Add rows, all with as many values as the first: ``into`` is the statement up to its ``VALUES``."""
    for portion in portions(rows):
        row = f"({', '.join('?' * len(portion[0]))})"
        values = [value for one in portion for value in one]
        connection.execute(f"{into} VALUES {', '.join([row] * len(portion))}", values)


def among(
    connection: sqlite3.Connection, question: str, given: Sequence[Any], values: Iterable[Any]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a question whose ``{}`` stands for the places of many values, after those ``given``."""
    for portion in portions(list(values)):
        yield from connection.execute(question.format(", ".join("?" * len(portion))), (*given, *portion)).fetchall()

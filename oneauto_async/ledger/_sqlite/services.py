"""The services that were ever asked, by their numbers."""

from __future__ import annotations

import sqlite3

import attrs

from ...errors import LedgerError
from ..records import Service

_SERVICES = "SELECT service, account, host, endpoint FROM services"
_IN_TABLE, _IN_INDEX = f"{_SERVICES} NOT INDEXED", f"{_SERVICES} INDEXED BY sqlite_autoindex_services_1"
_DISAGREEING_SERVICES = f"""
    SELECT * FROM ({_IN_TABLE} EXCEPT {_IN_INDEX}) UNION ALL SELECT * FROM ({_IN_INDEX} EXCEPT {_IN_TABLE})
"""


def require_sound_services(connection: sqlite3.Connection) -> None:
    """Raise `LedgerError` if the list of services is damaged.

    A service that is not found would make every answer look new, and the account as if it had spent nothing. SQLite
    keeps the list twice, in a table and in its index: they must agree.
    """
    if connection.execute(_DISAGREEING_SERVICES).fetchone() is not None:
        raise LedgerError("it is damaged where it lists the services it was asked for: restore a backup")


def number_of(connection: sqlite3.Connection, service: Service) -> int | None:
    """Return the number a service has in the tables, or ``None`` if nothing was ever asked of it."""
    question = "SELECT service FROM services WHERE account = ? AND host = ? AND endpoint = ?"
    row = connection.execute(question, attrs.astuple(service)).fetchone()
    return None if row is None else row[0]

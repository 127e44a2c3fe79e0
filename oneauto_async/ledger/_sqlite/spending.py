"""What entries add up to: whole days from sums that are kept, and the part of a day from the entries themselves."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from datetime import UTC, datetime
from functools import lru_cache

import attrs

from ..records import Spending
from ..rules import DAY, plus, times
from .rows import share_of

_ADD_SPENDING = """
    INSERT INTO spending (service, day, billed, in_doubt, under_way) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (service, day) DO UPDATE SET
        billed = billed + excluded.billed,
        in_doubt = in_doubt + excluded.in_doubt,
        under_way = under_way + excluded.under_way
"""

_SPENT = """
    SELECT total(billed), total(in_doubt), total(under_way) FROM spending JOIN services USING (service)
    WHERE account = ? AND host = ?
"""

_SPENT_WITHIN = """
    SELECT state, billing, count(*) FROM lookups JOIN services USING (service)
    WHERE account = ? AND host = ? AND claimed_at >= ? AND claimed_at < ? GROUP BY state, billing
"""

MOST_PARTS = 16
"""Parts of days that are remembered: one for each budget that begins within a day."""


@attrs.define
class _Part:
    """What the entries of a part of a day add up to. Counting them takes long, and is done for each claim.

    Attributes:
        services: those whose entries count, by their numbers.
        since, until: the moments from which on, and before which, they were claimed.
        version: of the file as other connections have left it: when it is another, this is to be counted anew.
        spending: the sum, which follows what this connection changes.
    """

    services: frozenset[int]
    since: float
    until: float
    version: int
    spending: Spending

    def count(self, service: int, moment: float, change: Spending) -> None:
        """Follow a change."""
        if service in self.services and self.since <= moment < self.until:
            self.spending = plus(self.spending, change)


class Sums:
    """The sums of one connection, which follow what it changes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._uncounted: defaultdict[tuple[int, str], Spending] = defaultdict(Spending)
        self._parts: dict[tuple[str, str, float], _Part] = {}

    def count(self, service: int, moment: float, change: Spending) -> None:
        """Follow a change to an entry that was claimed at a moment."""
        place = (service, day_of(moment))
        self._uncounted[place] = plus(self._uncounted[place], change)
        for part in self._parts.values():
            part.count(service, moment, change)

    def write(self) -> None:
        """Write the changes that were counted since the last time: a row or two for a whole group of orders."""
        for (service, day), change in self._uncounted.items():
            self._connection.execute(
                _ADD_SPENDING,
                (service, day, change.billed, change.in_doubt, change.under_way),
            )
        self._uncounted.clear()

    def forget(self) -> None:
        """Drop what was known of a transaction that was undone."""
        self._uncounted.clear()
        self._parts.clear()

    def service_added(self) -> None:
        """Learn that there may be one more service whose entries count."""
        self._parts.clear()

    def of(self, account: str, host: str, since: float | None) -> Spending:
        """Return what an account has spent at a host."""
        self.write()
        if since is None:
            return spending_of(self._connection, account, host, None)
        return plus(_of_whole_days(self._connection, account, host, since), self._part_of(account, host, since))

    def _part_of(self, account: str, host: str, since: float) -> Spending:
        """Return what a part of a day adds up to; it is counted anew only if others have changed the file meanwhile."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        part = self._parts.get((account, host, since))
        if part is None or part.version != version:
            part = self._counted(account, host, since, version)
        return part.spending

    def _counted(self, account: str, host: str, since: float, version: int) -> _Part:
        if len(self._parts) >= MOST_PARTS:
            self._parts.clear()
        rows = self._connection.execute(
            "SELECT service FROM services WHERE account = ? AND host = ?", (account, host)
        ).fetchall()
        services = frozenset(service for (service,) in rows)
        spending = count_part(self._connection, account, host, since)
        part = _Part(services, since, _midnight_after(since), version, spending)
        self._parts[account, host, since] = part
        return part


def spending_of(connection: sqlite3.Connection, account: str, host: str, since: float | None) -> Spending:
    """Add up whole days from their sums, and the part of a day that ``since`` begins in from its entries."""
    if since is None:
        return _spending(connection.execute(_SPENT, (account, host)).fetchone())
    return plus(_of_whole_days(connection, account, host, since), count_part(connection, account, host, since))


def _of_whole_days(connection: sqlite3.Connection, account: str, host: str, since: float) -> Spending:
    first = day_of(_midnight_after(since))
    return _spending(connection.execute(f"{_SPENT} AND day >= ?", (account, host, first)).fetchone())


def count_part(connection: sqlite3.Connection, account: str, host: str, since: float) -> Spending:
    """Add up the entries between a moment and the midnight after it."""
    total = Spending()
    rows = connection.execute(_SPENT_WITHIN, (account, host, since, _midnight_after(since))).fetchall()
    for state, billing, count in rows:
        total = plus(total, times(count, share_of(state, billing)))
    return total


def _midnight_after(moment: float) -> float:
    """Return the midnight that ends the day of a moment, or the moment itself if it is one."""
    return -(-moment // DAY) * DAY


def _spending(row: tuple[float, float, float]) -> Spending:
    billed, in_doubt, under_way = map(int, row)
    return Spending(billed=billed, in_doubt=in_doubt, under_way=under_way)


def day_of(moment: float) -> str:
    """Name the day (UTC) of a moment, so that the names sort; a damaged one is before all days.

    There it changes the sum of all days, and of no budget that begins on one.
    """
    try:
        return _name_of_day(moment // DAY)
    except (TypeError, ValueError, OverflowError, OSError):
        return ""


@lru_cache
def _name_of_day(number: float) -> str:
    return datetime.fromtimestamp(number * DAY, UTC).date().isoformat()

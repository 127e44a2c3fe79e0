"""Entries in tables: each method a statement or two, all within the transaction that is open."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import attrs

from ...errors import Billing, LedgerError
from .._books import Answer, Owned
from ..records import Claim, Entry, Headers, LedgerKey, Service, Settlement, Spending, State
from ..rules import DAY, minus, plus, share, times
from . import owners

_PAST = "SELECT seq, state, billing, settled_at, owner FROM lookups"

ENTRY = """
    SELECT seq, account, host, endpoint, vehicle_id, state, billing, claimed_at, sent_at, settled_at, attempts, status,
           request_id, note, headers, raw, flaw, checksum
    FROM lookups JOIN services USING (service) LEFT JOIN answers USING (seq)
"""

_ADD = """
    INSERT INTO lookups (service, vehicle_id, state, billing, owner, claimed_at)
    VALUES (?, ?, 'claimed', 'not billed', ?, ?)
"""

_ADD_SENT = """
    INSERT INTO lookups (service, vehicle_id, state, billing, owner, claimed_at, sent_at, attempts)
    VALUES (?, ?, 'sent', 'unknown', ?, ?, ?, 1)
"""

_SETTLE = """
    UPDATE lookups SET state = ?, billing = ?, settled_at = ?, attempts = max(attempts, ?), status = ?, request_id = ?,
        note = ? WHERE seq = ?
"""

_SETTLE_UNDER_WAY = f"{_SETTLE} AND state IN ('claimed', 'sent')"

_KEEP = "INSERT OR REPLACE INTO answers (seq, checksum, flaw, headers, raw) VALUES (?, ?, ?, ?, ?)"

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


_UNDER_WAY = Spending(under_way=1)


class SqliteStore:
    """The tables of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._services: dict[Service, int] = {}
        self._unwritten: defaultdict[tuple[int, str], Spending] = defaultdict(Spending)

    def forget(self) -> None:
        """Drop what was known of a transaction that was undone."""
        self._services.clear()
        self._unwritten.clear()

    # Reading.

    def history(self, key: LedgerKey) -> list[Owned]:
        rows = self._execute(
            f"{_PAST} WHERE service = ? AND vehicle_id = ? AND state <> 'failed'",
            (self._service(key.service), key.vehicle_id),
        )
        return [_owned(row) for row in rows.fetchall()]

    def past(self, seq: int) -> Owned | None:
        row = self._execute(f"{_PAST} WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else _owned(row)

    def load(self, seq: int) -> Entry:
        return entry_from(self._execute(f"{ENTRY} WHERE seq = ?", (seq,)).fetchone())

    def under_way(self) -> list[Owned]:
        rows = self._execute(f"{_PAST} WHERE state IN ('claimed', 'sent') ORDER BY seq")
        return [_owned(row) for row in rows.fetchall()]

    # Writing.

    def add(self, key: LedgerKey, owner: int, now: float, *, sending: bool) -> int:
        service = self._service(key.service)
        values = (service, key.vehicle_id, owner, now)
        cursor = self._execute(_ADD_SENT, (*values, now)) if sending else self._execute(_ADD, values)
        self._count(service, now, _UNDER_WAY)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def mark_sent(self, seq: int, now: float) -> None:
        self._execute(
            "UPDATE lookups SET state = 'sent', billing = 'unknown', sent_at = ?, attempts = attempts + 1 "
            "WHERE seq = ?",
            (now, seq),
        )

    def retract(self, seq: int, last: Settlement) -> None:
        self._execute(
            "UPDATE lookups SET state = 'claimed', billing = 'not billed', status = ?, request_id = ?, note = ? "
            "WHERE seq = ?",
            (last.status, last.request_id, last.note, seq),
        )

    def settle(self, seq: int, settlement: Settlement, answer: Answer | None, now: float) -> None:
        service, claimed_at, state, billing = self._before(seq)
        self._execute(_SETTLE, (*_end(settlement, now), seq))
        self._keep(seq, answer)
        before, after = share(State(state), Billing(billing)), share(settlement.state, settlement.billing)
        self._count(service, claimed_at, minus(after, before))

    def settle_claim(self, claim: Claim, settlement: Settlement, answer: Answer | None, now: float) -> None:
        cursor = self._execute(_SETTLE_UNDER_WAY, (*_end(settlement, now), claim.seq))
        if cursor.rowcount != 1:  # this process was taken for gone, and another has settled it
            self.settle(claim.seq, settlement, answer, now)
            return
        self._keep(claim.seq, answer)
        after = share(settlement.state, settlement.billing)
        self._count(self._service(claim.key.service), claim.claimed_at, minus(after, _UNDER_WAY))

    def _keep(self, seq: int, answer: Answer | None) -> None:
        if answer is not None:
            self._execute(_KEEP, (seq, answer.checksum, answer.flaw, answer.headers, answer.raw))

    def _before(self, seq: int) -> tuple[int, float, str, str]:
        row = self._execute("SELECT service, claimed_at, state, billing FROM lookups WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise LedgerError(f"entry {seq} has vanished")
        service, claimed_at, state, billing = row
        return service, claimed_at, state, billing

    # Spending.

    def _count(self, service: int, moment: float, change: Spending) -> None:
        place = (service, day_of(moment))
        self._unwritten[place] = plus(self._unwritten[place], change)

    def write_spending(self) -> None:
        """Write the changes that were counted since the last time: a row or two for a whole group of orders."""
        for (service, day), change in self._unwritten.items():
            self._execute(
                _ADD_SPENDING,
                (service, day, change.billed, change.in_doubt, change.under_way),
            )
        self._unwritten.clear()

    def spending(self, account: str, host: str, since: float | None) -> Spending:
        self.write_spending()
        return spending_of(self._connection, account, host, since)

    # Owners.

    def lives(self, owner: int) -> bool:
        return owners.lives(self._connection, owner)

    def bury(self, owner: int) -> None:
        owners.bury(self._connection, owner)

    def _service(self, service: Service) -> int:
        number = self._services.get(service)
        if number is None:
            names = attrs.astuple(service)
            self._execute("INSERT OR IGNORE INTO services (account, host, endpoint) VALUES (?, ?, ?)", names)
            number = self._services[service] = number_of(self._connection, service) or 0
        return number


def number_of(connection: sqlite3.Connection, service: Service) -> int | None:
    """Return the number a service has in the tables, or ``None`` if nothing was ever asked of it."""
    question = "SELECT service FROM services WHERE account = ? AND host = ? AND endpoint = ?"
    row = connection.execute(question, attrs.astuple(service)).fetchone()
    return None if row is None else row[0]


def spending_of(connection: sqlite3.Connection, account: str, host: str, since: float | None) -> Spending:
    """Add up whole days from their sums, and the part of a day that ``since`` begins in from its entries."""
    if since is None:
        return _spending(connection.execute(_SPENT, (account, host)).fetchone())
    midnight = -(-since // DAY) * DAY
    whole = connection.execute(f"{_SPENT} AND day >= ?", (account, host, day_of(midnight))).fetchone()
    total = _spending(whole)
    for state, billing, count in connection.execute(_SPENT_WITHIN, (account, host, since, midnight)).fetchall():
        total = plus(total, times(count, share(State(state), Billing(billing))))
    return total


def _spending(row: tuple[float, float, float]) -> Spending:
    billed, in_doubt, under_way = map(int, row)
    return Spending(billed=billed, in_doubt=in_doubt, under_way=under_way)


def day_of(moment: float) -> str:
    """Name the day (UTC) of a moment, so that the names sort."""
    return _name_of_day(moment // DAY)


@lru_cache
def _name_of_day(number: float) -> str:
    return datetime.fromtimestamp(number * DAY, UTC).date().isoformat()


def _end(settlement: Settlement, now: float) -> tuple[Any, ...]:
    return (
        settlement.state.value,
        settlement.billing.value,
        now,
        settlement.attempts,
        settlement.status,
        settlement.request_id,
        settlement.note,
    )


def entry_from(row: Sequence[Any]) -> Entry:
    """Read one row of the entries' question.

    Raises:
        LedgerError: the row cannot be what was written.
    """
    try:
        return _entry(*row)
    except (ValueError, TypeError) as error:
        raise LedgerError(f"entry {row[0]} is damaged: {error}") from error


def _entry(
    seq: int,
    account: str,
    host: str,
    endpoint: str,
    vehicle_id: str,
    state: str,
    billing: str,
    claimed_at: float,
    sent_at: float | None,
    settled_at: float | None,
    attempts: int,
    status: int | None,
    request_id: str | None,
    note: str | None,
    headers: str | None,
    raw: bytes | str | None,
    flaw: str | None,
    checksum: str | None,
) -> Entry:
    return Entry(
        seq=seq,
        key=LedgerKey(Service(account, host, endpoint), vehicle_id),
        state=State(state),
        billing=Billing(billing),
        claimed_at=float(claimed_at),
        sent_at=None if sent_at is None else float(sent_at),
        settled_at=None if settled_at is None else float(settled_at),
        attempts=attempts,
        status=status,
        request_id=request_id,
        note=note,
        headers=_headers(headers),
        raw=raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw,  # one bit makes a text of bytes
        flaw=flaw,
        checksum=checksum,
    )


def _headers(text: str | None) -> Headers:
    """Read the headers; damaged ones come out as none, and then the checksum does not agree."""
    try:
        return () if text is None else tuple((name, value) for name, value in json.loads(text))
    except (ValueError, TypeError):
        return ()


def _owned(row: tuple[int, str, str, float | None, int]) -> Owned:
    seq, state, billing, settled_at, owner = row
    try:
        settled_at = None if settled_at is None else float(settled_at)
        return Owned(seq, State(state), Billing(billing), settled_at, owner)
    except (ValueError, TypeError) as error:
        raise LedgerError(f"entry {seq} is damaged: {error}") from error

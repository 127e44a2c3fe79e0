"""Entries in tables, all within the transaction that is open.

What a group of orders will ask for is read at once beforehand, and what most of them write, new entries and the ends of
claims, is written at once afterwards. Whoever asks for something else sees all that was written before: it is written
down first. What was read beforehand is forgotten as soon as it may have changed; that this process has sent, or not
sent, what it has claimed makes no difference to anyone who asks.
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import attrs

from ...errors import Billing, LedgerError
from .._books import Answer, Owned
from ..records import Claim, Entry, LedgerKey, Service, Settlement, Spending, State
from ..rules import minus, share
from . import owners
from .portions import among, insert
from .rows import ENTRY, PAST, entry_from, is_moment, owned_from, share_of
from .services import number_of
from .spending import Sums

_HISTORIES = """
    SELECT vehicle_id, seq, state, billing, settled_at, owner FROM lookups
    WHERE service = ? AND vehicle_id IN ({}) AND state <> 'failed'
"""

_STANDING = "SELECT seq FROM lookups WHERE seq IN ({}) AND state IN ('claimed', 'sent')"

_ADD = """
    INSERT INTO lookups (seq, service, vehicle_id, state, billing, owner, attempts, claimed_at, sent_at)
"""

_SETTLE = """
    UPDATE lookups SET state = ?, billing = ?, settled_at = ?, attempts = max(attempts, ?), status = ?, request_id = ?,
        note = ? WHERE seq = ?
"""

_KEEP = "INSERT OR REPLACE INTO answers (seq, checksum, flaw, headers, raw)"

_UNDER_WAY = Spending(under_way=1)

LAST_SEQ = 2**63 - 1
"""The last entry that SQLite has a number for."""


class SqliteStore:
    """The tables of one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._services: dict[Service, int] = {}
        self._sums = Sums(connection)
        self._added: list[tuple[Any, ...]] = []
        self._settled: list[tuple[Any, ...]] = []
        self._kept: list[tuple[Any, ...]] = []
        self._next_seq: int | None = None
        self._foreseen: dict[tuple[int, str], list[Any]] = {}
        self._standing: set[int] = set()

    # A transaction begins and ends.

    def foresee(self, keys: Iterable[LedgerKey], claims: Iterable[Claim]) -> None:
        """Read the histories of keys that will be asked for, and which of the claims still stand."""
        ids: defaultdict[int, set[str]] = defaultdict(set)
        for key in keys:
            ids[self._service(key.service)].add(key.vehicle_id)
        for service, asked in ids.items():
            self._foreseen.update(((service, vehicle_id), []) for vehicle_id in asked)
            for vehicle_id, *row in among(self._connection, _HISTORIES, (service,), asked):
                self._foreseen.setdefault((service, vehicle_id), []).append(row)
        self._standing = {seq for (seq,) in among(self._connection, _STANDING, (), (claim.seq for claim in claims))}

    def write(self) -> None:
        """Write what is left to write; the transaction may end."""
        self._write_entries()
        self._sums.write()
        self._forget_foreseen()
        self._next_seq = None  # other processes add entries as well

    def forget(self) -> None:
        """Drop what was known of a transaction that was undone."""
        for left in (self._services, self._added, self._settled, self._kept):
            left.clear()
        self._sums.forget()
        self._forget_foreseen()
        self._next_seq = None

    def _forget_foreseen(self) -> None:
        self._foreseen.clear()
        self._standing.clear()

    def _write_entries(self) -> None:
        """Write the ends before the new entries: of an id, one alone may be under way."""
        if self._settled:
            self._connection.executemany(_SETTLE, self._settled)
        insert(self._connection, _KEEP, self._kept)
        insert(self._connection, _ADD, self._added)
        self._settled, self._kept, self._added = [], [], []

    # Reading.

    def history(self, key: LedgerKey) -> list[Owned]:
        service = self._service(key.service)
        rows = self._foreseen.pop((service, key.vehicle_id), None)  # once: the answer may be that it is added
        if rows is None:
            self._write_entries()
            question = f"{PAST} WHERE service = ? AND vehicle_id = ? AND state <> 'failed'"
            rows = self._execute(question, (service, key.vehicle_id)).fetchall()
        return [owned_from(row) for row in rows]

    def past(self, seq: int) -> Owned | None:
        self._write_entries()
        row = self._execute(f"{PAST} WHERE seq = ?", (seq,)).fetchone() if 0 < seq <= LAST_SEQ else None
        return None if row is None else owned_from(row)

    def load(self, seq: int) -> Entry:
        self._write_entries()
        row = self._execute(f"{ENTRY} WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise LedgerError(f"entry {seq} cannot be read: the file is damaged")
        return entry_from(row)

    def under_way(self) -> list[Owned]:
        self._write_entries()
        rows = self._execute(f"{PAST} WHERE state IN ('claimed', 'sent') ORDER BY seq")
        return [owned_from(row) for row in rows.fetchall()]

    # Writing.

    def add(self, key: LedgerKey, owner: int, claimed_at: float, sent_at: float | None) -> int:
        service, seq, sending = self._service(key.service), self._new_seq(), sent_at is not None
        state, billing = (State.SENT, Billing.UNKNOWN) if sending else (State.CLAIMED, Billing.NOT_BILLED)
        self._added.append(
            (seq, service, key.vehicle_id, state.value, billing.value, owner, int(sending), claimed_at, sent_at)
        )
        self._sums.count(service, claimed_at, _UNDER_WAY)
        return seq

    def _new_seq(self) -> int:
        if self._next_seq is None:
            (last,) = self._execute("SELECT max(seq) FROM lookups").fetchone()
            self._next_seq = (last or 0) + 1
        self._next_seq += 1
        return self._next_seq - 1

    def mark_sent(self, seq: int, now: float) -> None:
        self._write_entries()
        self._execute(
            "UPDATE lookups SET state = 'sent', billing = 'unknown', sent_at = ?, attempts = attempts + 1, "
            "status = NULL, request_id = NULL, note = NULL WHERE seq = ?",
            (now, seq),
        )

    def retract(self, seq: int, last: Settlement) -> None:
        self._write_entries()
        self._execute(
            "UPDATE lookups SET state = 'claimed', billing = 'not billed', attempts = ?, status = ?, request_id = ?, "
            "note = ? WHERE seq = ?",
            (last.attempts, last.status, last.request_id, last.note, seq),
        )

    def settle(self, seq: int, settlement: Settlement, answer: Answer | None, now: float) -> None:
        self._write_entries()
        self._forget_foreseen()  # it may be an entry of any id
        service, claimed_at, before = self._before(seq)
        self._end(seq, settlement, answer, now)
        self._sums.count(service, claimed_at, minus(share(settlement.state, settlement.billing), before))

    def settle_claim(self, claim: Claim, settlement: Settlement, answer: Answer | None, now: float) -> None:
        if claim.seq not in self._standing:  # this process may have been taken for gone, and another has settled it
            self.settle(claim.seq, settlement, answer, now)
            return
        service = self._service(claim.key.service)
        self._standing.discard(claim.seq)
        self._foreseen.pop((service, claim.key.vehicle_id), None)
        self._end(claim.seq, settlement, answer, now)
        after = share(settlement.state, settlement.billing)
        self._sums.count(service, claim.claimed_at, minus(after, _UNDER_WAY))

    def _end(self, seq: int, settlement: Settlement, answer: Answer | None, now: float) -> None:
        self._settled.append(
            (
                settlement.state.value,
                settlement.billing.value,
                now,
                settlement.attempts,
                settlement.status,
                settlement.request_id,
                settlement.note,
                seq,
            )
        )
        if answer is not None:
            self._kept.append((seq, answer.checksum, answer.flaw, answer.headers, answer.raw))

    def _before(self, seq: int) -> tuple[int, float, Spending]:
        row = self._execute("SELECT service, claimed_at, state, billing FROM lookups WHERE seq = ?", (seq,)).fetchone()
        if row is None:
            raise LedgerError(f"entry {seq} has vanished")
        service, claimed_at, state, billing = row
        return service, claimed_at if is_moment(claimed_at) else -math.inf, share_of(state, billing)

    # Spending.

    def spending(self, account: str, host: str, since: float | None) -> Spending:
        self._write_entries()
        return self._sums.of(account, host, since)

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
            self._sums.service_added()
            number = self._services[service] = number_of(self._connection, service) or 0
        return number

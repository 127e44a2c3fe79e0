"""The reading side of one file, as one thread sees it: short questions, so that no writer waits for long."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

from ...errors import LedgerError
from ..records import Entry, LedgerKey, Service, Spending, Standing, State, Verification
from ..rules import Freshness, Past, judge, plus, times
from .connecting import connect, patiently, translated
from .departed import NOBODY, Departed
from .looking import open_to_look
from .rows import ENTRY, entry_from, past_from, share_of
from .services import number_of, require_sound_services
from .spending import spending_of
from .sweeping import sweep

ROWS = 500
"""Rows or ids to a question: a few milliseconds in which a commit may have to wait."""

_FIND = f"""{ENTRY}
    WHERE account = ? AND host = ? AND endpoint = ? AND vehicle_id = ? AND state <> 'failed'
"""

WORTH_A_SWEEP = 8
"""Finding one id takes as long as reading so many rows in order."""

_PASTS = """
    SELECT vehicle_id, seq, state, billing, settled_at FROM lookups
    WHERE service = ? AND state <> 'failed' AND vehicle_id IN
"""

_SUMS_OF_ENTRIES = """
    SELECT service, date(claimed_at, 'unixepoch') AS day, state, billing, count(*)
    FROM lookups GROUP BY service, day, state, billing
"""

_SUMS = "SELECT service, day, billed, in_doubt, under_way FROM spending"


class Reader:
    """One reading connection. All calls come from one thread."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, which is a ledger already.

        Arguments:
            path: the file.
            read_only: nobody else of this process writes to it: what the dead left behind still stands as they left it.
        """
        self._path = path
        self._read_only = read_only
        with translated(path), ExitStack() as until:
            if read_only:
                self._connection = open_to_look(path, until)
            else:
                self._connection = connect(path)
                until.callback(self._connection.close)
                self._connection.execute("PRAGMA query_only = ON")
            self._until = until.pop_all()

    def close(self) -> None:
        """Close the connection."""
        self._until.close()

    def find(self, key: LedgerKey) -> Entry | None:
        """Return the newest entry of a key that did not fail."""
        departed = self._departed()
        question = f"{_FIND} AND {departed.state} <> 'failed' ORDER BY seq DESC LIMIT 1"
        rows = self._ask(question, (*attrs.astuple(key.service), key.vehicle_id))
        return departed.entry(entry_from(rows[0])) if rows else None

    def standings(self, service: Service, vehicle_ids: Sequence[str], freshness: Freshness) -> dict[str, Standing]:
        """Return where each id stands; the new ones are left out."""
        with translated(self._path):
            patiently(lambda: require_sound_services(self._connection))
            number = patiently(lambda: number_of(self._connection, service))
        if number is None:
            return {}
        ((last,),) = self._ask("SELECT coalesce(max(seq), 0) FROM lookups")
        if len(vehicle_ids) * WORTH_A_SWEEP < last or freshness.terms.accept_from is not None:
            return self._judged(number, vehicle_ids, freshness)
        standings, intricate = sweep(self._ask, number, last, vehicle_ids, freshness)
        standings.update(self._judged(number, intricate, freshness))  # a copy of a million would hold up the loop
        return standings

    def _judged(self, service: int, vehicle_ids: Sequence[str], freshness: Freshness) -> dict[str, Standing]:
        """Judge id by id."""
        departed = self._departed()
        pasts: defaultdict[str, list[Past]] = defaultdict(list)
        for start in range(0, len(vehicle_ids), ROWS):
            chunk = vehicle_ids[start : start + ROWS]
            for vehicle_id, *brief in self._ask(f"{_PASTS} ({','.join('?' * len(chunk))})", (service, *chunk)):
                pasts[vehicle_id].append(departed.past(past_from(brief)))
        judged = {vehicle_id: judge(history, freshness)[0] for vehicle_id, history in pasts.items()}
        return {vehicle_id: standing for vehicle_id, standing in judged.items() if standing is not Standing.NEW}

    def entries(self, state: State | None, after: int) -> list[Entry]:
        """Return the next entries after one, oldest first; an empty list at the end."""
        departed = self._departed()
        return [departed.entry(entry_from(row)) for row in self._rows(state, after, departed)]

    def spending(self, account: str, host: str, since: float | None) -> Spending:
        """Return what an account has spent at a host."""
        with translated(self._path):
            return patiently(lambda: self._spending(account, host, since))

    def _spending(self, account: str, host: str, since: float | None) -> Spending:
        require_sound_services(self._connection)
        whole = spending_of(self._connection, account, host, since)
        return plus(whole, self._departed().spending(self._connection, account, host, since))

    def verify(self) -> Verification:
        """Read everything: SQLite's own check, each answer's checksum, and the sums against the entries."""
        problems = [f"SQLite: {line}" for (line,) in self._ask("PRAGMA integrity_check") if line != "ok"]
        damaged: dict[int, str] = {}
        entries = 0
        with _noting(problems):
            for rows in self._all_rows():
                entries += len(rows)
                unsound = [entry for entry in map(entry_from, rows) if not entry.is_intact]
                damaged.update((one.seq, one.damage or "the answer is not what its checksum says") for one in unsound)
        problems += [f"entry {seq}: damaged, {what}" for seq, what in damaged.items()]
        with _noting(problems):
            problems += self._wrong_sums()
        return Verification(entries=entries, damaged=tuple(damaged), problems=tuple(problems))

    def _all_rows(self) -> Iterator[list[Any]]:
        after = 0
        while rows := self._rows(None, after):
            yield rows
            after = rows[-1][0]

    def _departed(self) -> Departed:
        """Return what the dead left behind. Who opens the file to write has laid it to rest already."""
        if not self._read_only:
            return NOBODY
        with translated(self._path):
            return patiently(lambda: Departed.found(self._connection))

    def _rows(self, state: State | None, after: int, departed: Departed = NOBODY) -> list[Any]:
        """Return the next rows after one; if they are not in order, whoever goes on from the last would never end."""
        condition, values = ("", ()) if state is None else (f"AND {departed.state} = ?", (state.value,))
        rows = self._ask(f"{ENTRY} WHERE seq > ? {condition} ORDER BY seq LIMIT {ROWS}", (after, *values))
        if all(earlier < later for earlier, later in pairwise([after, *(row[0] for row in rows)])):
            return rows
        raise LedgerError(f"the ledger {self._path} is damaged: its entries after {after} are not in order")

    def _wrong_sums(self) -> Iterator[str]:
        with translated(self._path):
            entries, sums = patiently(self._both_sums)
        counted: dict[tuple[int, str | None], Spending] = {}
        for service, day, state, billing, count in entries:
            part = times(count, share_of(state, billing))
            counted[service, day] = plus(counted.get((service, day), Spending()), part)
        told = {
            (service, day): Spending(billed=billed, in_doubt=in_doubt, under_way=under_way)
            for service, day, billed, in_doubt, under_way in sums
        }
        for place in sorted(counted.keys() | told.keys(), key=str):
            if counted.get(place, Spending()) != told.get(place, Spending()):
                day = place[1] or "no day that there is"
                yield f"spending of service {place[0]} on {day}: the sum is not that of the entries"

    def _both_sums(self) -> tuple[list[Any], list[Any]]:
        """Read them as of one moment."""
        self._connection.execute("BEGIN")
        try:
            return self._connection.execute(_SUMS_OF_ENTRIES).fetchall(), self._connection.execute(_SUMS).fetchall()
        finally:
            self._connection.execute("COMMIT")

    def _ask(self, question: str, values: Sequence[Any] = ()) -> list[Any]:
        with translated(self._path):
            return patiently(lambda: self._connection.execute(question, values).fetchall())


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    """Note what keeps the file from being read on."""
    try:
        yield
    except LedgerError as error:
        problems.append(str(error))

"""A ledger that lives as long as the process: for tests, and for services that only want answers shared."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

import attrs

from .._checks import require_seconds
from ..clock import Clock
from ..errors import Billing, LedgerError
from ._books import Answer, Books, Owned
from .records import (
    Claim,
    Decision,
    Entry,
    LedgerKey,
    Limit,
    Service,
    Settlement,
    Spending,
    Standing,
    State,
    Terms,
    Verification,
    without_secrets,
)
from .rules import DAY, Freshness, judge, minus, plus, share


class MemoryLedger:
    """A ledger without a file. What it holds outlives the client, but not the process.

    It is always open. Several clients may share it, also those of other event loops and threads: what they order is
    done one at a time. No method gives way to the event loop, so cancelling finds it done or not begun.

    Arguments:
        free_max_age: seconds that an answer which was not charged (204, 206) is kept.
        clock: the time of day, for tests.

    Raises:
        ConfigurationError: ``free_max_age`` is not a number of seconds above 0, up to 1,000,000,000.
    """

    def __init__(self, *, free_max_age: float = DAY, clock: Clock | None = None) -> None:
        require_seconds("free_max_age", free_max_age)
        self._free_max_age = free_max_age
        self._wall = time.time if clock is None else clock.wall
        self._store = _MemoryStore()
        self._books = Books(self._store, free_max_age)
        self._lock = threading.RLock()  # a lookup that is left to the garbage collector gives its claim back anywhere

    def __repr__(self) -> str:
        return f"<MemoryLedger: {len(self._store.rows)} entries>"

    @property
    def is_open(self) -> bool:
        """Always true."""
        return True

    async def open(self) -> None:
        """Do nothing: it is open."""

    async def aclose(self) -> None:
        """Do nothing: it keeps what it has."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def flush(self) -> None:
        """Do nothing: whatever is ordered is done at once."""

    async def claim(
        self, key: LedgerKey, terms: Terms, limit: Limit | None = None, *, sending: bool = False
    ) -> Decision:
        """Return what is kept for a key, or leave to buy it."""
        with self._lock:
            decision = self._books.claim(key, terms, limit, self._wall(), sending=sending)
            self._books.committed()
        return decision

    async def mark_sent(self, claim: Claim) -> bool:
        """Note that the request is about to leave."""
        with self._lock:
            return self._books.mark_sent(claim, self._wall())

    def retract(self, claim: Claim, last: Settlement) -> None:
        """Take back that it was sent."""
        with self._lock:
            self._books.retract(claim, last, self._wall())

    def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
        """Note how a claim ended."""
        with self._lock:
            self._books.settle(claim, settlement, self._wall())
            self._books.committed()
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def find(self, key: LedgerKey) -> Entry | None:
        """Return the newest entry of a key that did not fail, or ``None``."""
        with self._lock:
            history = self._store.history(key)
            return self._store.load(max(past.seq for past in history)) if history else None

    async def standings(self, service: Service, vehicle_ids: Iterable[str], terms: Terms) -> dict[str, Standing]:
        """Return where each id stands; the new ones are left out."""
        ids = list(vehicle_ids)
        freshness = Freshness(terms=terms, free_max_age=self._free_max_age, now=self._wall())
        with self._lock:
            judged = {
                vehicle_id: judge(self._store.history(LedgerKey(service, vehicle_id)), freshness)[0]
                for vehicle_id in ids
            }
        return {vehicle_id: standing for vehicle_id, standing in judged.items() if standing is not Standing.NEW}

    async def entries(self, state: State | None = None) -> AsyncIterator[Entry]:
        """Yield all entries, or those in one state, oldest first."""
        with self._lock:
            found = [row.entry for row in self._store.rows]
        for entry in found:
            if state in (None, entry.state):
                yield entry

    async def spending(self, account: str, host: str, since: float | None = None) -> Spending:
        """Return what an account has spent at a host."""
        with self._lock:
            return self._store.spending(account, host, since)

    async def resolve(self, seq: int, *, billed: bool) -> Entry:
        """Settle a doubt by what the vendor's log says.

        Raises:
            LedgerError: there is no such entry, or it is not in doubt.
        """
        with self._lock:
            return self._books.resolve(seq, billed, self._wall())

    async def verify(self) -> Verification:
        """Compare every answer with its checksum."""
        entries = [entry async for entry in self.entries()]
        damaged = tuple(entry.seq for entry in entries if not entry.is_intact)
        problems = tuple(f"entry {seq}: the answer is not what its checksum says" for seq in damaged)
        return Verification(entries=len(entries), damaged=damaged, problems=problems)


@attrs.define
class _Row:
    entry: Entry
    owner: int


class _MemoryStore:
    """Entries in a list, found by key."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self._by_key: defaultdict[LedgerKey, list[_Row]] = defaultdict(list)
        self._under_way: dict[int, _Row] = {}
        self._totals: defaultdict[tuple[str, str], Spending] = defaultdict(Spending)

    def history(self, key: LedgerKey) -> list[Owned]:
        rows = self._by_key.get(key, ())
        return [_brief(row) for row in rows if row.entry.state is not State.FAILED]

    def past(self, seq: int) -> Owned | None:
        return _brief(self.rows[seq - 1]) if 1 <= seq <= len(self.rows) else None

    def load(self, seq: int) -> Entry:
        return self.rows[seq - 1].entry

    def under_way(self) -> list[Owned]:
        return [_brief(row) for row in self._under_way.values()]

    def add(self, key: LedgerKey, owner: int, claimed_at: float, sent_at: float | None) -> int:
        seq = len(self.rows) + 1
        entry = Entry(seq=seq, key=key, state=State.CLAIMED, billing=Billing.NOT_BILLED, claimed_at=claimed_at)
        self.rows.append(row := _Row(entry, owner))
        self._by_key[key].append(row)
        self._count(row, plus)
        if sent_at is not None:
            self.mark_sent(seq, sent_at)
        return seq

    def mark_sent(self, seq: int, now: float) -> None:
        attempts = self.load(seq).attempts + 1
        facts = {"status": None, "request_id": None, "note": None}  # they were those of the attempt before
        self._change(seq, state=State.SENT, billing=Billing.UNKNOWN, sent_at=now, attempts=attempts, **facts)

    def retract(self, seq: int, last: Settlement) -> None:
        facts = {"attempts": last.attempts, "status": last.status, "request_id": last.request_id, "note": last.note}
        self._change(seq, state=State.CLAIMED, billing=Billing.NOT_BILLED, **facts)

    def settle(self, seq: int, settlement: Settlement, answer: Answer | None, now: float) -> None:
        came = {} if answer is None else attrs.asdict(answer) | {"headers": without_secrets(settlement.headers)}
        self._change(
            seq,
            state=settlement.state,
            billing=settlement.billing,
            attempts=max(settlement.attempts, self.load(seq).attempts),
            settled_at=now,
            status=settlement.status,
            request_id=settlement.request_id,
            note=settlement.note,
            **came,
        )

    def settle_claim(self, claim: Claim, settlement: Settlement, answer: Answer | None, now: float) -> None:
        self.settle(claim.seq, settlement, answer, now)

    def _change(self, seq: int, **changes: Any) -> None:
        row = self.rows[seq - 1]
        self._count(row, minus)
        row.entry = attrs.evolve(row.entry, **changes)
        self._count(row, plus)

    def _count(self, row: _Row, how: Callable[[Spending, Spending], Spending]) -> None:
        """Keep the total and the list of what is under way in step with one row."""
        account = (row.entry.key.service.account, row.entry.key.service.host)
        part = share(row.entry.state, row.entry.billing)
        self._totals[account] = how(self._totals[account], part)
        self._under_way.pop(row.entry.seq, None)
        if part.under_way:
            self._under_way[row.entry.seq] = row

    def spending(self, account: str, host: str, since: float | None) -> Spending:
        if since is None:
            return self._totals[account, host]
        counted = [
            share(row.entry.state, row.entry.billing)
            for row in self.rows
            if (row.entry.key.service.account, row.entry.key.service.host) == (account, host)
            if row.entry.claimed_at >= since
        ]
        return functools.reduce(plus, counted, Spending())

    def lives(self, owner: int) -> bool:
        raise LedgerError(f"a ledger in memory has one owner, not {owner}")

    def bury(self, owner: int) -> None:
        raise LedgerError(f"a ledger in memory has one owner, not {owner}")


def _brief(row: _Row) -> Owned:
    entry = row.entry
    return Owned(entry.seq, entry.state, entry.billing, entry.settled_at, row.owner)

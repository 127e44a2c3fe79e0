"""The least that a ledger in a file can do: what no way of keeping it can be faster than, on the machine at hand.

A row before each request and its end after each answer, on one thread, in groups as large as the ledger's: each group
one transaction. It looks at nothing that is there, keeps no sums, headers or checksum, renews no lease, and knows no
errors.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oneauto_async.ledger import MemoryLedger, SqliteLedger
from oneauto_async.ledger._pace import Pace, Timing
from oneauto_async.ledger._sqlite.connecting import connect
from oneauto_async.ledger.records import Claim, LedgerKey, Limit, Settlement, Terms

TURNS = 3
"""Turns of the event loop that a group waits for more, as the ledger's do."""

_ADD = """
    INSERT INTO lookups (seq, service, vehicle_id, state, billing, owner, attempts, claimed_at, sent_at)
    VALUES (?, 1, ?, 'sent', 'unknown', 1, 1, ?, ?)
"""
_END = "UPDATE lookups SET state = 'answered', billing = 'billed', settled_at = ?, status = 200 WHERE seq = ?"
_KEEP = "INSERT INTO answers VALUES (?, 'checksum', NULL, '[]', ?)"


def add(connection: sqlite3.Connection, first: int, vehicle_ids: Sequence[str]) -> None:
    """Add a row for each id, counted from the first."""
    now = time.time()
    connection.executemany(_ADD, [(seq, id_, now, now) for seq, id_ in enumerate(vehicle_ids, first)])


def end(connection: sqlite3.Connection, answers: Sequence[tuple[int, bytes]]) -> None:
    """End rows with what came."""
    now = time.time()
    connection.executemany(_END, [(now, seq) for seq, _ in answers])
    connection.executemany(_KEEP, answers)


class BarestLedger(MemoryLedger):
    """As much of a ledger as a batch needs that finds nothing, and meets no fault."""

    def __init__(self, path: Path) -> None:
        """Name the file, which is made when it is opened."""
        super().__init__()
        self._path = path
        self._writing = ThreadPoolExecutor(1)
        self._claims: list[tuple[LedgerKey, asyncio.Future[Claim]]] = []
        self._ends: list[tuple[int, bytes, asyncio.Future[None]]] = []
        self._next = 1
        self._pace = Pace()
        self._is_at_work = self._is_open = False

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._is_open

    async def open(self) -> None:
        """Make the file, with the tables of a ledger."""
        async with SqliteLedger(self._path):
            pass
        self._connection = await asyncio.get_running_loop().run_in_executor(self._writing, connect, self._path)
        self._is_open = True

    async def aclose(self) -> None:
        """Close the file; all has ended."""
        self._is_open = False
        await asyncio.get_running_loop().run_in_executor(self._writing, self._connection.close)
        self._writing.shutdown()

    async def claim(self, key: LedgerKey, terms: Terms, limit: Limit | None = None, *, sending: bool = False) -> Claim:
        """Return when the row is durable."""
        claimed: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        self._claims.append((key, claimed))
        self._begin_soon()
        return await claimed

    def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
        """Return what is done when the end is durable."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends.append((claim.seq, settlement.raw or b"", settled))
        self._begin_soon()
        return settled

    def _begin_soon(self) -> None:
        if not self._is_at_work:
            self._is_at_work = True
            self._approach(TURNS)

    def _approach(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._approach, turns - 1)
        else:
            self._begin()

    def _begin(self) -> None:
        together = self._pace.together(len(self._claims))
        claims, self._claims = self._claims[:together], self._claims[together:]
        ends, self._ends = self._ends, []
        first, self._next = self._next, self._next + len(claims)

        def written(group: asyncio.Future[Timing]) -> None:
            self._pace.learn(group.result(), len(claims))
            for seq, (key, claimed) in enumerate(claims, first):
                claimed.set_result(Claim(seq=seq, key=key, claimed_at=0.0, is_sent=True))
            for _, _, settled in ends:
                settled.set_result(None)
            self._is_at_work = False
            if self._claims or self._ends:
                self._begin_soon()

        ids, answers = [key.vehicle_id for key, _ in claims], [(seq, raw) for seq, raw, _ in ends]
        group = asyncio.get_running_loop().run_in_executor(self._writing, self._write, first, ids, answers)
        group.add_done_callback(written)

    def _write(self, first: int, vehicle_ids: list[str], answers: list[tuple[int, bytes]]) -> Timing:
        began = time.perf_counter()
        self._connection.execute("BEGIN IMMEDIATE")
        ours = time.perf_counter()
        end(self._connection, answers)
        add(self._connection, first, vehicle_ids)
        took = time.perf_counter() - ours
        self._connection.execute("COMMIT")
        return Timing(fixed=time.perf_counter() - began - took, orders=took)

"""A ledger in an SQLite file: what the event loop sees of it.

Orders are gathered while the disk is at work, and go to it together: one transaction, one sync, and one call back to
the event loop for all of them. One thread writes and one reads, so the loop never waits.
"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .._checks import require_seconds
from .._waiting import see_through, start
from ..clock import Clock
from ..errors import Billing, ConfigurationError, LedgerError
from ._groups import Groups, require_own_loop
from ._orders import Claiming, Settling
from ._threads import Threads
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
)
from .rules import DAY, Freshness

if TYPE_CHECKING:  # sqlite3 is loaded when a file is opened
    from ._books import Books
    from ._sqlite.reader import Reader

T = TypeVar("T")

GIVEN_BACK = Settlement(state=State.FAILED, billing=Billing.NOT_BILLED, note="given back: nothing was sent")


def _require_file(path: str | os.PathLike[str]) -> None:
    """Refuse the names by which SQLite knows databases that are no files, or that are given as addresses."""
    name: object = os.fspath(path)  # or bytes, whatever the type says
    if not isinstance(name, str) or "\0" in name:
        raise ConfigurationError(f"SqliteLedger takes the path of a file as text, got {name!r}")
    if name in {"", ":memory:"} or name.startswith("file:"):
        raise ConfigurationError(
            f"SqliteLedger takes the path of a file, got {name!r}; MemoryLedger() keeps a ledger in memory alone"
        )


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError as error:
        raise ConfigurationError(f"{path} leads nowhere: the folder that this process is in is gone") from error


class SqliteLedger:
    """A ledger in one file, which any number of processes on this machine may use at once.

    Use it as ``async with SqliteLedger("answers.ledger") as ledger``, or give it to a client, which opens it if it is
    not open yet, and then closes it as well. It belongs to the event loop it is opened on. After closing it may be
    opened again.

    The file is made readable by its owner alone. It must be on a local disk: locks over a network are not reliable.

    Arguments:
        path: the file itself, and no link to it; made if it is not there, in a folder that is. A ledger
            without one is `MemoryLedger`.
        free_max_age: seconds that an answer which was not charged (204, 206) is kept; what was paid for has no such
            bound.
        read_only: only look: the file, which must be there, is not changed, nothing is put beside it, and it may be
            one that can only be read. Whatever would write raises `LedgerError`. What a process that is gone had sent
            is shown in doubt, as it will be for the next who writes.
        clock: the time of day, for tests.

    Raises:
        ConfigurationError: ``path`` is no text, is empty, holds a NUL, or is one by which SQLite knows no plain file
            (``:memory:``, ``file:…``), or begins in a folder that is gone; or ``free_max_age`` is not a number of
            seconds above 0, up to 1,000,000,000.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        free_max_age: float = DAY,
        read_only: bool = False,
        clock: Clock | None = None,
    ) -> None:
        _require_file(path)
        require_seconds("free_max_age", free_max_age)
        self.path = _absolute(Path(path))
        self._free_max_age = free_max_age
        self._read_only = read_only
        self._wall = time.time if clock is None else clock.wall
        self._threads: Threads | None = None
        self._groups: Groups | None = None
        self._opening: asyncio.Task[None] | None = None
        self._openers = 0
        self._is_taken = False
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<SqliteLedger {str(self.path)!r} {'open' if self.is_open else 'closed'}>"

    def __del__(self) -> None:
        threads = getattr(self, "_threads", None)
        if threads is not None:
            try:
                warnings.warn(f"unclosed {self!r}: await aclose()", ResourceWarning, stacklevel=2, source=self)
            finally:  # a warning may have been made an error
                threads.abandon()

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._groups is not None

    # Opening and closing.

    async def open(self) -> None:
        """Open the file, or make it. What processes that are gone had sent is in doubt from now on.

        Opening an open one does nothing. Several may open it at the same time, and cancelling one of them is nothing to
        the others; cancelling them all waits for the end, and leaves it closed.

        Raises:
            LedgerError: there can be no file, or it is no ledger, or one of a newer version. It is untouched.
        """
        self._openers += 1
        try:
            await self._opened_once()
            self._is_taken = True
        finally:
            self._openers -= 1
            if not self._is_taken and not self._openers:
                await see_through(start(self._close_untaken(), "oneauto ledger close"))

    async def _opened_once(self) -> None:
        if self.is_open:
            self._opened()
            return
        if not self._is_opening:
            self._opening, self._is_taken = start(self._open(), "oneauto ledger open"), False
        assert self._opening is not None
        (opening,), _ = await asyncio.wait([self._opening])
        opening.result()

    @property
    def _is_opening(self) -> bool:
        """Whether it is being opened; in another event loop than this one, `LedgerError` is raised."""
        if self._opening is None or self._opening.done():
            return False
        require_own_loop(self._opening.get_loop())
        return True

    async def _open(self) -> None:
        self._threads = threads = Threads(self.path, self._free_max_age, read_only=self._read_only)
        try:
            await see_through(threads.opened())
        except BaseException:
            self._threads = None
            await see_through(asyncio.ensure_future(threads.closed()))
            raise
        self._groups = Groups(threads, on_untaken=self._give_back)

    async def _close_untaken(self) -> None:
        """Close what is opened for those who were cancelled, unless somebody else has come for it."""
        await self._opening_ended()
        if self.is_open and not self._is_taken and not self._openers:
            await self.aclose()

    async def _opening_ended(self) -> None:
        if self._opening is not None:
            await asyncio.wait([self._opening])
            if not self._opening.cancelled():
                self._opening.exception()  # heard of, though those who would be told may be gone

    async def aclose(self) -> None:
        """Write what was ordered, give back what is still claimed, and close, after an opening that is under way.

        Closing again does nothing. Cancelling waits for the end all the same.

        Raises:
            LedgerError: the last of it could not be written; what was sent is then in doubt for the next to open
                it, but not before this process has ended or half a minute has passed.
        """
        if self._closing is None and (self._is_opening or self._threads is not None):
            if not self._is_opening:
                self._opened()
            self._closing = start(self._close(), "oneauto ledger close")
        if self._closing is not None:
            await see_through(self._closing)

    async def _close(self) -> None:
        try:
            await self._opening_ended()
            while self.is_open and (self._opened().busy or self._opened().owes):
                await self.flush()  # a claim that nobody took is given back when it comes
        finally:
            groups, threads = self._groups, self._threads
            self._threads = self._groups = self._closing = None
            if groups is not None:
                groups.close()
            if threads is not None:
                await threads.closed()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _opened(self) -> Groups:
        if self._groups is None:
            raise LedgerError(f"the ledger {self.path} is not open: use it inside `async with`, or await open()")
        self._groups.require_own_place()
        return self._groups

    # Writing.

    async def flush(self) -> None:
        """Wait until all that was ordered is durable. With ``read_only`` there is nothing to wait for.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: it is not open, or what was ordered could not be written.
        """
        if not self._read_only:
            await self._order(lambda books: None)

    async def claim(
        self, key: LedgerKey, terms: Terms, limit: Limit | None = None, *, sending: bool = False
    ) -> Decision:
        """Return what is kept for a key, or leave to buy it. Cancelling gives back a claim that comes too late.

        Raises:
            LedgerError: it is not open, may only be read, or cannot be read or written. Nothing is claimed.
        """
        now = self._wall()
        claimed = self._order(Claiming(key, terms, limit, now, sending))
        try:
            decision: Decision = await claimed
        except asyncio.CancelledError:
            if not claimed.cancelled() and claimed.exception() is None:  # cancelled in the moment it came
                self._give_back(claimed.result())
            raise
        return decision

    def _give_back(self, untaken: object) -> None:
        if isinstance(untaken, Claim) and self.is_open:  # else closing it gives it back
            self.settle(untaken, GIVEN_BACK)

    async def mark_sent(self, claim: Claim) -> bool:
        """Note, durably, that the request is about to leave; ``False`` if the claim was lost.

        Cancelling ends the wait. The mark may have been written or not: `retract` it.

        Raises:
            LedgerError: it is not open, may only be read, or could not be written. Nothing may be sent.
        """
        now = self._wall()
        marked: bool = await self._order(lambda books: books.mark_sent(claim, now))
        return marked

    def retract(self, claim: Claim, last: Settlement) -> None:
        """Order: what was marked as sent was surely not charged.

        Raises:
            LedgerError: it is not open, or may only be read.
        """
        now = self._wall()
        self._order(lambda books: books.retract(claim, last, now), must=True)

    def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
        """Order the end of a claim; awaiting it returns when it is durable.

        One that could not be written is tried again with whatever is written next, and when the ledger is closed.
        Cancelling the wait changes nothing.

        Raises:
            LedgerError: at once, it is not open, or may only be read; when awaited, it could not be written.
        """
        return self._order(Settling(claim, settlement, self._wall()), must=True)

    async def resolve(self, seq: int, *, billed: bool) -> Entry:
        """Settle a doubt by what the vendor's log says; the id may be asked for again, if this was its only one.

        Cancelling ends the wait. What has gone to the disk by then takes place all the same.

        Raises:
            LedgerError: there is no such entry, or it is not in doubt; or the ledger is not open, may only be read, or
                could not be written.
        """
        now = self._wall()
        resolved: Entry = await self._order(lambda books: books.resolve(seq, billed, now))
        return resolved

    def _order(self, work: Callable[[Books], Any], *, must: bool = False) -> asyncio.Future[Any]:
        groups = self._opened()
        if self._read_only:
            raise LedgerError(f"the ledger {self.path} was opened only to be read")
        return groups.order(work, must=must)

    # Reading: it sees all that was ordered before, but for an end that could not be written yet.

    async def find(self, key: LedgerKey) -> Entry | None:
        """Return the newest entry of a key that did not fail, or ``None``.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: it is not open, or cannot be read, or what was ordered before could not be written.
        """
        return await self._read(lambda reader: reader.find(key))

    async def standings(self, service: Service, vehicle_ids: Iterable[str], terms: Terms) -> dict[str, Standing]:
        """Return where each id stands; the new ones are left out.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: as for `find`.
        """
        ids = list(vehicle_ids)
        freshness = Freshness(terms=terms, free_max_age=self._free_max_age, now=self._wall())
        return await self._read(lambda reader: reader.standings(service, ids, freshness))

    async def entries(self, state: State | None = None) -> AsyncIterator[Entry]:
        """Yield all entries, or those in one state, oldest first; the file is not held in between.

        Leaving it early, or cancelling, changes nothing.

        Raises:
            LedgerError: as for `find`.
        """
        after = 0
        while chunk := await self._read_entries(state, after):
            for entry in chunk:
                yield entry
            after = chunk[-1].seq

    async def _read_entries(self, state: State | None, after: int) -> list[Entry]:
        return await self._read(lambda reader: reader.entries(state, after))

    async def spending(self, account: str, host: str, since: float | None = None) -> Spending:
        """Return what an account has spent at a host, from a moment on (seconds since the epoch) or in all.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: as for `find`.
        """
        return await self._read(lambda reader: reader.spending(account, host, since))

    async def verify(self) -> Verification:
        """Read everything and report what is damaged; nothing is changed. Writers may have to wait meanwhile.

        Cancelling ends the wait, though the reading goes on to its end.

        Raises:
            LedgerError: it is not open, or cannot be read at all, or what was ordered before could not be written.
        """
        return await self._read(lambda reader: reader.verify())

    async def _read(self, question: Callable[[Reader], T]) -> T:
        if self._opened().busy:
            await self.flush()
        assert self._threads is not None
        return await self._threads.ask(question)

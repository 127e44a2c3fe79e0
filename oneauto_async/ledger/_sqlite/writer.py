"""The writing side of one file, as one thread sees it: groups of orders, each group one transaction."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from ...errors import LedgerError
from .._books import Books
from .._groups import Done, Refused
from .._orders import Claiming, Settling
from .._pace import Timing
from . import owners
from .connecting import connect, migrate, patiently, require_ours, transaction, translated
from .file import Identity, close_to_others, companions, prepare
from .services import require_sound_services
from .store import SqliteStore

Order: TypeAlias = Callable[[Books], Any]

SHORT_PATIENCE = 1.0
"""Seconds that a sign of life waits for a lock: others have to wait for it meanwhile, and it comes again. Without any
it would hardly ever meet a process that writes without pause between two of its transactions."""


class Writer:
    """One writing connection. All calls come from one thread."""

    def __init__(self, path: Path, free_max_age: float) -> None:
        """Open the file, make or migrate the tables, sign in, and lay to rest what the dead left behind.

        Raises:
            LedgerError: the file cannot be used. A file that is no ledger, or a newer one, is untouched.
        """
        self._path = path
        self._identity = prepare(path)
        with translated(path):
            self._connection = connect_checked(path)
            try:
                patiently(lambda: require_sound_services(self._connection))
            except BaseException:
                self._connection.close()
                raise
        self._store = SqliteStore(self._connection)
        self._books = Books(self._store, free_max_age)
        try:
            self.run([lambda books: books.lay_to_rest(time.time())])
        except BaseException:
            self._connection.close()
            raise

    def run(self, orders: Sequence[Order], patience: float | None = None) -> Done:
        """Carry out a group of orders in one transaction, and return what each brought once all are durable.

        Arguments:
            orders: what is to be done.
            patience: seconds to wait for a lock, unless as long as usual.

        Raises:
            LedgerError: none of them was carried out.
        """
        owner, began = self._books.owner, time.perf_counter()
        try:
            with translated(self._path):
                self._require_same_file()
                with transaction(self._connection, patience):
                    ours = time.perf_counter()
                    self._stay_signed_in()
                    self._foresee(orders)
                    results = [self._carried_out(order) for order in orders]
                    self._store.write()
                    took = time.perf_counter() - ours
                self._require_same_file()
        except BaseException:
            self._books.rolled_back()
            self._books.owner = owner
            self._store.forget()
            raise
        self._books.committed()
        return Done(results, Timing(fixed=time.perf_counter() - began - took, orders=took))

    def _foresee(self, orders: Sequence[Order]) -> None:
        keys = (order.key for order in orders if isinstance(order, Claiming))
        self._store.foresee(keys, (order.claim for order in orders if isinstance(order, Settling)))

    def _carried_out(self, order: Order) -> Any:
        try:
            return order(self._books)
        except LedgerError as error:
            return Refused(error)

    def _stay_signed_in(self) -> None:
        """Renew the lease; if this process was taken for gone meanwhile, begin again under a new number."""
        owner = self._books.owner
        lease = owners.lease_of(self._connection, owner)
        if lease is None:
            self._books.owner = owners.register(self._connection)
        elif lease < time.time() + owners.LEASE - owners.HEARTBEAT:
            owners.renew(self._connection, owner)

    def _require_same_file(self) -> None:
        """Notice a file that was deleted or replaced: SQLite would go on writing into nothing."""
        if Identity.of(self._path) != self._identity:
            raise LedgerError("the file was deleted or replaced while it was open")

    def show_life(self) -> None:
        """Renew the lease, or try again at the next beat. What goes wrong shows when something is to be written."""
        with suppress(LedgerError):
            self.run([], SHORT_PATIENCE)

    def close(self) -> None:
        """Sign out, give back what is still claimed, and take the journal away if nobody else needs it.

        Raises:
            LedgerError: that could not be written; the file is closed, and the next one to open it will do it.
        """
        try:
            with translated(self._path):
                self._sign_out()
        finally:
            self._connection.close()

    def _sign_out(self) -> None:
        self._require_same_file()
        books, now = self._books, time.time()
        with transaction(self._connection):
            books.held.clear()
            books.lay_to_rest(now)
            self._store.write()
            owners.bury(self._connection, books.owner)
        if any(path.exists() for path in companions(self._path)):
            _tidy(self._connection)


def connect_checked(path: Path) -> sqlite3.Connection:
    """Open the file as a ledger of the newest version, which nobody else can read."""
    looking = sqlite3.connect(path, timeout=0.0, isolation_level=None)  # changes nothing, unlike a journal mode
    try:
        require_ours(looking)
        close_to_others(path)
        migrate(looking)
    finally:
        looking.close()
    return connect(path)


def _tidy(connection: sqlite3.Connection) -> None:
    """Remove an empty journal; someone else may be using it."""
    try:
        patiently(lambda: connection.execute("PRAGMA journal_mode = DELETE").fetchone(), 0.0)
    except sqlite3.OperationalError:
        return

"""Group commit: orders that come while the disk is at work wait for each other and share the next transaction."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from ..errors import LedgerError
from ._pace import Pace, Timing

if TYPE_CHECKING:
    from ._books import Books

    Work = Callable[[Books], Any]


@attrs.frozen
class Refused:
    """What became of an order that could not be carried out, when the rest of its group could."""

    error: LedgerError


TURNS = 3
"""Turns of the event loop that a group waits for more orders: an answer frees a slot, the batch wakes and starts the
next lookup, and that orders its claim. So an answer and the claim that follows it share a sync of the disk."""


@attrs.frozen
class Done:
    """What each order of a group gave, and how long the group took."""

    results: list[Any]
    timing: Timing


class Worker(Protocol):
    """Carries out groups, one at a time."""

    def run(self, works: Sequence[Work]) -> asyncio.Future[Done]:
        """Begin one transaction; the future brings what each order gave, or the error for which none took place."""
        ...


@attrs.frozen(eq=False)
class _Order:
    work: Work
    done: asyncio.Future[Any]
    must: bool


class Groups:
    """The orders of one event loop, on their way to the disk."""

    def __init__(self, worker: Worker, *, on_untaken: Callable[[Any], object]) -> None:
        self._worker = worker
        self._on_untaken = on_untaken
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._waiting: list[_Order] = []
        self._owed: list[_Order] = []
        self._is_scheduled = False
        self._is_at_work = False
        self._pace = Pace()
        self._has_failed = False
        self._is_closed = False

    def require_own_place(self) -> None:
        """Raise `LedgerError` in another process or event loop than the one this was made in."""
        if os.getpid() != self._pid:
            raise LedgerError(
                "this ledger belongs to the process before the fork: "
                "start processes by spawn, or fork before a ledger is opened"
            )
        require_own_loop(self._loop)

    @property
    def busy(self) -> bool:
        """Whether orders are waiting or being carried out."""
        return self._is_at_work or bool(self._waiting)

    @property
    def owes(self) -> bool:
        """Whether something could not be written yet."""
        return bool(self._owed)

    def order(self, work: Work, *, must: bool = False) -> asyncio.Future[Any]:
        """Queue an order; the future is done when it is durable.

        Arguments:
            work: does it, within the transaction.
            must: if its group fails, it is tried again with the next.
        """
        order = _Order(work, self._loop.create_future(), must)
        self._waiting.append(order)
        self._schedule()
        return order.done

    def close(self) -> None:
        """Refuse whoever is still in line, and whoever is at work should it come to nothing: the file is closed."""
        self._is_closed = True
        orders, self._waiting, self._owed = [*self._owed, *self._waiting], [], []
        for order in orders:
            if not order.done.done():
                self._refuse(order, _closed())

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_at_work:
            self._is_scheduled = True
            self._loop.call_soon(self._approach, TURNS)

    def _approach(self, turns: int) -> None:
        """Let a few turns of the loop pass: who was woken by the last group may have an order for this one."""
        if turns and not self._loop.is_closed():
            self._loop.call_soon(self._approach, turns - 1)
        else:
            self._begin()

    def _begin(self) -> None:
        self._is_scheduled = False
        orders = [*self._owed, *self._next()]
        self._owed = []
        if not orders:
            return
        self._is_at_work = True
        group = self._worker.run([order.work for order in orders])
        group.add_done_callback(lambda done: self._end(orders, done))

    def _next(self) -> list[_Order]:
        """Take the orders for the next group, in their turn: some claims, and the ends of claims that stand among them.

        A claim never goes ahead of an end that was ordered before it, whose place it has taken.
        """
        wanted = [order for order in self._waiting if order.must or not order.done.cancelled()]
        waiters = [place for place, order in enumerate(wanted) if not order.must]
        # Whatever has failed a group, such as a lock, would hold up each part of the line as long again.
        going = len(waiters) if self._has_failed else self._pace.together(len(waiters))
        end = waiters[going] if going < len(waiters) else len(wanted)
        self._waiting = wanted[end:]
        return wanted[:end]

    def _end(self, orders: list[_Order], group: asyncio.Future[Done]) -> None:
        self._is_at_work = False
        error = _error_of(group)
        self._has_failed = error is not None
        line, self._waiting = self._waiting, []
        if error is None:
            done = group.result()
            self._pace.learn(done.timing, sum(not order.must for order in orders))
            for order, result in zip(orders, done.results, strict=True):
                self._deliver(order, result)
        else:
            self._fail(orders, error)
        self._waiting += line  # behind what was given back just now: its place is taken by somebody in line
        if self._is_closed:
            self.close()
        elif self._waiting:
            self._schedule()

    def _deliver(self, order: _Order, result: Any) -> None:
        if order.done.done():  # cancelled, or told of an earlier failure
            self._on_untaken(result)
        elif isinstance(result, Refused):
            self._refuse(order, result.error)
        else:
            order.done.set_result(result)

    def _fail(self, orders: list[_Order], error: BaseException) -> None:
        self._owed = [order for order in orders if order.must]
        for order in orders:
            if not order.done.done():
                self._refuse(order, error)

    def _refuse(self, order: _Order, error: BaseException) -> None:
        order.done.set_exception(error)
        if order.must:
            order.done.exception()  # heard of here: nobody needs to wait for it


def require_own_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise `LedgerError` unless this is the event loop that is running."""
    if asyncio.get_running_loop() is not loop:
        raise LedgerError("this ledger belongs to another event loop or thread: open one for each")


def _error_of(group: asyncio.Future[Done]) -> BaseException | None:
    if group.cancelled():
        return _closed()
    return group.exception()


def _closed() -> LedgerError:
    return LedgerError("the ledger was closed before this was written")

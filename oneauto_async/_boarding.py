"""How a lookup comes by its outcome: from what landed and nobody took, in a flight under way, or in one of its own.

A flight of its own needs one of the client's slots. Of all who come with one id while it has none yet, the first waits
for the slot, and the others for the first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from typing import Any

import attrs

from ._flow.budget import Meter
from ._flow.flights import Flight, Flights, Pursuit, Seat
from .clock import Clock
from .outcomes import Outcome

UNCLAIMED_PER_SLOT = 100
"""Unclaimed outcomes held per slot: room for many batches left at once, and an end to what a service that never asks
again can pile up."""

_log = logging.getLogger("oneauto_async")


def _any_age(age: float) -> bool:
    return True


@attrs.define(eq=False)
class Wanted:
    """What one waiter wants.

    Attributes:
        held_by: what is asked for, on whatever terms: by it is held what nobody took.
        key: the same, and on what terms; lookups with an equal key share a flight.
        seat: where it waits.
        pursue: returns the work of a flight of its own.
        payer: the budget it counts against, beyond the client's own.
        takes: tells whether an answer of that age, in seconds, will do.
    """

    held_by: Hashable
    key: Hashable
    seat: Seat
    pursue: Callable[[], Pursuit]
    payer: Meter | None = None
    takes: Callable[[float], bool] = _any_age


class Boarding:
    """The slots and flights of one client, and who waits for them."""

    def __init__(self, slots: int, clock: Clock, *, keeps_answers: bool, require_open: Callable[[], object]) -> None:
        """Start with every slot free.

        Arguments:
            slots: lookups under way at once.
            clock: the client's.
            keeps_answers: a ledger serves what landed; only what it failed to keep is taken from here.
            require_open: raises once nothing may start any more.
        """
        self._slots = asyncio.Semaphore(slots)
        self._clock = clock
        self._keeps_answers = keeps_answers
        self._require_open = require_open
        self._first: dict[Hashable, list[asyncio.Future[None]]] = {}  # waits for a slot; the list is who waits for it
        self._unwritten: dict[Hashable, float] = {}  # when what is unclaimed came, which the ledger failed to keep
        self.flights = Flights(
            keep=UNCLAIMED_PER_SLOT * slots, on_slot_free=self._slots.release, on_dropped=self._dropped
        )

    async def board(self, wanted: Wanted) -> Flight | Outcome[Any]:
        """Take the seat in the flight of this id, under way or new; or return an outcome that landed unclaimed.

        Raises:
            ClientClosedError: the client has closed meanwhile; nothing was started.

        Cancelling leaves the line, for whoever comes next.
        """
        while (booked := self._board_existing(wanted)) is None and wanted.key in self._first:
            await self._see_who_is_first(wanted.key)
            self._require_open()
        if booked is not None:
            return booked
        await self._take_slot(wanted.key)
        try:  # meanwhile the client may have closed, and another may have taken off with the id
            self._require_open()
            booked = self._board_existing(wanted)
            pursuit = None if booked is not None else wanted.pursue()
        except BaseException:
            self._slots.release()
            raise
        if pursuit is not None:
            return self.flights.launch(wanted.key, wanted.held_by, pursuit, wanted.seat, wanted.payer)
        self._slots.release()
        assert booked is not None
        return booked

    def learn_of_closing(self) -> None:
        """Wake one lookup that waits for a slot; finding the client closed, it wakes the next."""
        self._slots.release()

    async def _take_slot(self, key: Hashable) -> None:
        """Wait for a slot, for all who come with the same id meanwhile."""
        self._first[key] = []
        try:
            await self._slots.acquire()
        finally:
            for other in self._first.pop(key):
                if not other.done():
                    other.set_result(None)

    async def _see_who_is_first(self, key: Hashable) -> None:
        """Wait until whoever waits for a slot with the same id has it, or leaves.

        This wakes before a flight that takes off then makes its first step, and may land in the same.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first[key].append(turn)
        await turn

    def _board_existing(self, wanted: Wanted) -> Flight | Outcome[Any] | None:
        outcome = self._take_unwritten(wanted) if self._keeps_answers else self._take_unclaimed(wanted)
        if outcome is not None:
            return outcome
        flight = self.flights.get(wanted.key)
        if flight is not None:
            flight.board(wanted.seat, wanted.payer, wanted.pursue)
        return flight

    # What nobody took.

    def keep_unwritten(self, key: Hashable, outcome: Outcome[Any]) -> None:
        """Hold what the ledger failed to keep."""
        self._unwritten[key] = self._clock.monotonic()
        self.flights.keep_unclaimed(key, outcome)

    def _take_unclaimed(self, wanted: Wanted) -> Outcome[Any] | None:
        outcome = self.flights.claim(wanted.held_by)
        return None if outcome is None else self.flights.on_account(wanted.payer, wanted.held_by, outcome)

    def _take_unwritten(self, wanted: Wanted) -> Outcome[Any] | None:
        """Take what the ledger failed to keep, if it will do; all else the ledger has, and knows whether it will."""
        came = self._unwritten.get(wanted.held_by)
        if came is None or not wanted.takes(self._clock.monotonic() - came):
            return None
        outcome = self._take_unclaimed(wanted)
        if not self.flights.holds(wanted.held_by):  # else it was not on this account, and stays
            del self._unwritten[wanted.held_by]
        return outcome

    def _dropped(self, key: Hashable, outcome: Outcome[Any]) -> None:
        """Say that an answer which nobody took is gone, unless the ledger has it."""
        if not self._keeps_answers or key in self._unwritten:
            _log.error("dropped an answer that may have been paid for and that nobody took: %r", outcome)
        if not self.flights.holds(key):
            self._unwritten.pop(key, None)

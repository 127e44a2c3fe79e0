"""Single flight: all attempts of one id are one task, owned by the client and shared by everyone who waits for it.

Whoever stops waiting leaves; the flight does not notice while others wait. When the last one has left, a flight ends at
once of which nothing has left, and one whose request may be paid for already sees it through: what it brings goes to
``unclaimed``.

A flight lands, and its outcome reaches every seat, in the very step in which its last attempt ends: there is no moment
in which a paid answer is neither under way nor delivered.

What a flight buys is reserved in the budget of those it took off for. Whoever joins it with another budget flies as a
guest: should its payers leave, or their budget be spent, it begins anew on the account of the first guest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

import attrs

from .._waiting import start
from ..errors import Billing, BudgetExceededError, ConfigurationError, LedgerError, OneAutoError
from ..outcomes import Failed, Found, InDoubt, NotSent, NotSentReason, Outcome, Receipt, Source
from .budget import Meter

AnyOutcome: TypeAlias = Outcome[Any]

_log = logging.getLogger("oneauto_async")


class Seat(Protocol):
    """One waiter's place in a flight."""

    @property
    def gone(self) -> bool:
        """Whether its waiter has given up, though it may not have left yet."""
        ...

    @property
    def is_content(self) -> bool:
        """Whether its waiter takes what the request under way brings, and wants no further one."""
        ...

    def make_way(self) -> None:
        """Learn that no further request is made: the next lookup may begin, though the outcome is still to come."""
        ...

    def deliver(self, outcome: AnyOutcome) -> None:
        """Take the outcome, at once and without raising."""
        ...

    def fail(self, fault: BaseException) -> None:
        """Take a fault of ours instead."""
        ...


class FutureSeat:
    """The seat of someone who awaits the outcome."""

    def __init__(self) -> None:
        self.future: asyncio.Future[AnyOutcome] = asyncio.get_running_loop().create_future()

    is_content = False

    @property
    def gone(self) -> bool:
        """Cancelling a task cancels at once what it awaits."""
        return self.future.cancelled()

    def make_way(self) -> None:
        """Go on waiting."""

    def deliver(self, outcome: AnyOutcome) -> None:
        """Wake the waiter."""
        self.future.set_result(outcome)

    def fail(self, fault: BaseException) -> None:
        """Raise in the waiter."""
        self.future.set_exception(fault)

    def untaken(self) -> AnyOutcome | None:
        """Return the outcome of a waiter that was cancelled in the moment it arrived."""
        arrived = self.future.done() and not self.future.cancelled() and self.future.exception() is None
        return self.future.result() if arrived else None


class Pursuit(Protocol):
    """The work of one flight."""

    async def run(self, flight: Flight) -> AnyOutcome:
        """Look the id up; heed ``flight.abandoned``."""
        ...

    @property
    def is_sent(self) -> bool:
        """Whether a request is under way of which it is not sure that nothing has left."""
        ...

    def interrupted(self, *, is_closing: bool) -> AnyOutcome:
        """Return the outcome after ``run`` was cancelled, wherever it was: by the client that closes, or otherwise."""
        ...

    def called_off(self, reason: NotSentReason, error: type[OneAutoError], text: str) -> AnyOutcome:
        """Return the outcome for a waiter that leaves now for this reason."""
        ...


@attrs.frozen(eq=False)
class Ticket:
    """On whose account a lookup flies.

    Attributes:
        payer: the budget beyond the client's own that it counts against; ``None`` for none.
        pursue: returns the work of a flight on that account.
    """

    payer: Meter | None
    pursue: Callable[[], Pursuit]


_WITHIN: ContextVar[Flight | None] = ContextVar("oneauto_flight", default=None)
"""The flight that is flown here; the tasks it starts inherit it."""

_LEFT = Meter(0)
"""The payer of a flight that ends: whoever joins it now is a guest."""


def _nobody() -> None:
    """Stand in for someone to tell."""


@attrs.define(eq=False)
class Flight:
    """One id on its way.

    Attributes:
        key: what it asks for, and on what terms; lookups with an equal key share it.
        held_by: what it asks for, on whatever terms: by it is held what nobody took.
        pursuit: its work.
        seats: everyone who waits for it, in the order they came.
        payer: the budget its purchase counts against, beyond the client's own.
        guests: the seats that count against another, and how it goes on for them.
        on_making_way: called once, when it needs its slot no more.
        grounded: the client closes; no further attempt may start.
        made_way: no further request is made; its slot is free already.
        landed: its outcome was delivered.
        is_told: what it has cost so far was told to the payer who left last.
    """

    key: Hashable
    held_by: Hashable
    pursuit: Pursuit
    seats: list[Seat] = attrs.field(factory=list)
    on_making_way: Callable[[], None] = attrs.field(default=_nobody, repr=False)
    payer: Meter | None = None
    guests: dict[Seat, Ticket] = attrs.field(factory=dict)
    grounded: bool = False
    made_way: bool = False
    landed: bool = False
    is_told: bool = False
    task: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    @property
    def abandoned(self) -> bool:
        """No further attempt may start on the account of those it flies for."""
        return self.grounded or all(seat.gone or seat.is_content or seat in self.guests for seat in self.seats)

    @property
    def is_sent(self) -> bool:
        """A request is under way that may be paid for already; it is not interrupted for lack of waiters."""
        return not self.landed and self.pursuit.is_sent

    def board(self, seat: Seat, payer: Meter | None, pursue: Callable[[], Pursuit]) -> None:
        """Take one more on board: as a guest, if another budget pays for it."""
        self.seats.append(seat)
        if payer is not self.payer:
            self.guests[seat] = Ticket(payer, pursue)

    def change_payer(self) -> bool:
        """Go on for the first guest and those who share its budget, if there is one and it may."""
        guests = [seat for seat in self.seats if seat in self.guests and not (seat.gone or seat.is_content)]
        if not guests or self.grounded or self.made_way:
            return False
        ticket = self.guests[guests[0]]
        self.seats = guests
        self.guests = {seat: self.guests[seat] for seat in guests if self.guests[seat].payer is not ticket.payer}
        self.payer, self.pursuit, self.is_told = ticket.payer, ticket.pursue(), False
        return True

    def is_paid_beside(self, seat: Seat) -> bool:
        """Tell whether what this flight has bought so far is on the account of somebody else who waits for it."""
        if seat in self.guests:
            return True
        return any(other is not seat and not other.gone and other not in self.guests for other in self.seats)

    def make_way(self) -> None:
        """Free the slot: no further request is made, and what is left, such as writing the answer down, needs none."""
        if not self.made_way:
            self.made_way = True
            self.on_making_way()
            for seat in self.seats:
                seat.make_way()


class Flights:
    """All flights of one client, and the paid answers nobody took."""

    def __init__(
        self, *, keep: int, on_slot_free: Callable[[], None], on_dropped: Callable[[Hashable, AnyOutcome], None]
    ) -> None:
        """Make an empty sky.

        Arguments:
            keep: the most unclaimed outcomes that are held.
            on_slot_free: called once for each flight.
            on_dropped: called with each unclaimed outcome that is held no longer, though nobody took it.
        """
        self._keep = keep
        self._on_slot_free = on_slot_free
        self._on_dropped = on_dropped
        self._flying: dict[Hashable, Flight] = {}
        self._leaving: set[Flight] = set()  # left by everyone and ending: still in the air, but not to be joined
        self._unclaimed: dict[Hashable, AnyOutcome] = {}

    def __repr__(self) -> str:
        return f"<Flights: {len(self._all())} flying, {len(self._unclaimed)} unclaimed>"

    @property
    def unclaimed(self) -> tuple[AnyOutcome, ...]:
        """Paid answers nobody took, oldest first."""
        return tuple(self._unclaimed.values())

    def holds(self, key: Hashable) -> bool:
        """Tell whether there is an unclaimed outcome."""
        return key in self._unclaimed

    def claim(self, key: Hashable) -> AnyOutcome | None:
        """Take an unclaimed outcome away."""
        return self._unclaimed.pop(key, None)

    def keep_unclaimed(self, key: Hashable, outcome: AnyOutcome) -> None:
        """Hold an outcome that cost money for a later lookup, unless a better one of the same id is held already."""
        if outcome.receipt.billing is Billing.NOT_BILLED or outcome.receipt.source is Source.LEDGER:
            return
        held = self._unclaimed.get(key)
        if held is not None:
            held, outcome = sorted((held, outcome), key=_worth)  # of the same worth, the newer one is kept
            self._unclaimed[key] = outcome
            self._on_dropped(key, held)
        self._unclaimed[key] = outcome
        if len(self._unclaimed) > self._keep:
            oldest = next(iter(self._unclaimed))
            self._on_dropped(oldest, self._unclaimed.pop(oldest))

    def on_account(self, meter: Meter | None, key: Hashable, outcome: AnyOutcome) -> AnyOutcome:
        """Return what another's lookup brought, as someone with this budget takes it over.

        If it has room for all that was, or may have been, charged, it is theirs, with the receipt. Else they get the
        answer as one that cost them nothing, and the receipt stays here.
        """
        if meter is None or meter.spend(outcome.receipt.charges):
            return outcome
        self.keep_unclaimed(key, outcome)
        return joined(outcome)

    def get(self, key: Hashable) -> Flight | None:
        """Return the flight of this key that may be joined, if there is one."""
        return self._flying.get(key)

    def launch(
        self, key: Hashable, held_by: Hashable, pursuit: Pursuit, seat: Seat, payer: Meter | None = None
    ) -> Flight:
        """Start a flight; nothing of it runs before control goes back to the event loop."""
        flight = self._flying[key] = Flight(key, held_by, pursuit, [seat], self._on_slot_free, payer)
        self._take_off(flight)
        return flight

    def _take_off(self, flight: Flight) -> None:
        flight.task = start(self._fly(flight), "oneauto flight")

    def leave(self, flight: Flight, seat: Seat, *, is_told: bool = False) -> None:
        """Stop waiting. Nothing that others wait for is disturbed, and a request under way is seen through.

        With ``is_told`` the waiter has the receipt already of what the flight has cost so far.
        """
        if seat not in flight.seats:
            return
        flight.seats.remove(seat)
        flight.guests.pop(seat, None)
        if not flight.abandoned or flight.is_sent or flight.landed:
            return  # a request under way may be joined again; else its answer goes to unclaimed
        if not flight.seats:  # else it may go on for its guests
            self._leaving.add(self._flying.pop(flight.key))
        flight.payer, flight.is_told = _LEFT, flight.is_told or is_told
        self._end(flight)

    async def _fly(self, flight: Flight) -> None:
        _WITHIN.set(flight)
        try:
            outcome = await flight.pursuit.run(flight)
        except asyncio.CancelledError:
            self._break_off(flight)
            raise
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise  # the program ends, or its event loop is gone, and everyone who waits with it
        except BaseException as fault:  # noqa: BLE001  # whoever waits must hear of it, and the flight must land
            self._crash(flight, fault)
        else:
            self._arrive(flight, outcome)

    def _break_off(self, flight: Flight) -> None:
        """End what was cancelled, or begin it anew for guests whose payers have left."""
        self._arrive(flight, flight.pursuit.interrupted(is_closing=flight.grounded))

    def _arrive(self, flight: Flight, outcome: AnyOutcome) -> None:
        """Land; but where only the payers' budget or their leaving ended it, go on for the guests."""
        payers = [seat for seat in flight.seats if seat not in flight.guests or seat.is_content]
        if flight.guests and _is_of_payers(flight, outcome) and flight.change_payer():
            self._take_off(flight)
            _deliver([seat for seat in payers if not seat.gone], outcome)
        else:
            self._land(flight, outcome)

    def _land(self, flight: Flight, outcome: AnyOutcome) -> None:
        seats = self._clear(flight)
        if not seats:
            if not flight.is_told:
                self.keep_unclaimed(flight.held_by, outcome)
            return
        if outcome.receipt.source is Source.LEDGER:
            self.claim(flight.held_by)  # the books have what was left here, or what is newer
        if flight.is_told:
            outcome = joined(outcome)
        elif seats[0] in flight.guests:
            outcome = self.on_account(flight.guests[seats[0]].payer, flight.held_by, outcome)
        _deliver(seats, outcome)

    def _crash(self, flight: Flight, fault: BaseException) -> None:
        is_free = isinstance(fault, LedgerError | ConfigurationError) and fault.billing is Billing.NOT_BILLED
        cost = "which cost nothing" if is_free else "which may have been charged"
        shown = repr(fault) if isinstance(fault, OneAutoError) else type(fault).__name__  # its text may quote the key
        _log.error("a fault ended the lookup of %s, %s: %s", flight.pursuit, cost, shown)
        for seat in self._clear(flight):
            seat.fail(fault)

    def _clear(self, flight: Flight) -> list[Seat]:
        """Take a flight out of the sky and return who still waits for it."""
        if self._flying.get(flight.key) is flight:
            del self._flying[flight.key]
        self._leaving.discard(flight)
        flight.landed, flight.task = True, None
        seats, flight.seats = [seat for seat in flight.seats if not seat.gone], []
        if flight.guests:
            seats.sort(key=lambda seat: seat in flight.guests)  # who pays has the receipt
        flight.make_way()
        return seats

    def are_around(self) -> bool:
        """Tell whether this is called from within a flight, or from a task that one has started."""
        flight = _WITHIN.get()
        return flight is not None and not flight.landed and flight in self._all()

    def _all(self) -> list[Flight]:
        return [*self._flying.values(), *self._leaving]

    def _end(self, flight: Flight) -> None:
        """Cancel the task of a flight; one that has not begun to run lands here, because it never will."""
        task = flight.task
        if task is not None:
            task.cancel()
            task.add_done_callback(
                lambda _: None if flight.landed or flight.task is not task else self._break_off(flight)
            )

    async def ground(self, seconds: float) -> None:
        """Let no further attempt start, wait at most ``seconds`` for those under way, then cut them short."""
        for flight in self._all():
            flight.grounded = True
            if not flight.is_sent:
                self._end(flight)
        await self._landed(seconds)
        self.cut_short()
        await self._landed(None)

    def cut_short(self) -> None:
        """Cancel everything; requests under way are then in doubt."""
        for flight in self._all():
            self._end(flight)

    async def _landed(self, seconds: float | None) -> None:
        tasks = [flight.task for flight in self._all() if flight.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


def _is_of_payers(flight: Flight, outcome: AnyOutcome) -> bool:
    """Tell whether an outcome concerns those a flight was paid by alone: nothing was charged, and guests may go on."""
    if isinstance(outcome, InDoubt) and not outcome.receipt.attempts:  # of before, and nothing was sent in its place
        return flight.abandoned or isinstance(outcome.error, BudgetExceededError)
    if outcome.receipt.billing is not Billing.NOT_BILLED or not isinstance(outcome, NotSent | Failed):
        return False
    return flight.abandoned or (isinstance(outcome, NotSent) and outcome.reason is NotSentReason.BUDGET)


def _deliver(seats: list[Seat], outcome: AnyOutcome) -> None:
    """Give the outcome to the first, and to the others as it cost them nothing; the first may change it."""
    copies = [joined(outcome) for _ in seats[1:]]
    for seat, one in zip(seats, [outcome, *copies], strict=False):
        seat.deliver(one)


def joined(outcome: AnyOutcome) -> AnyOutcome:
    """Return the outcome as one more lookup sees it that shared the flight: it cost nothing more."""
    receipt = Receipt(
        status=outcome.receipt.status,
        request_id=outcome.receipt.request_id,
        elapsed=outcome.receipt.elapsed,
        source=Source.JOINED,
    )
    return attrs.evolve(outcome, receipt=receipt)


def _worth(outcome: AnyOutcome) -> int:
    """Rank what is kept: a record before a billed failure before a doubt."""
    return 2 if isinstance(outcome, Found) else int(outcome.receipt.billing is Billing.BILLED)

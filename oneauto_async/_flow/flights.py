"""Single flight: all attempts of one id are one task, owned by the client and shared by everyone who waits for it.

Whoever stops waiting leaves; the flight does not notice while others wait. When the last one has left, a flight between
two attempts ends at once, and one with a request under way sees that request through, because it may already be paid
for: what it brings goes to ``unclaimed``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

import attrs

from ..errors import Billing
from ..outcomes import Outcome, Receipt, Source

AnyOutcome: TypeAlias = Outcome[Any]
Seat: TypeAlias = asyncio.Future[AnyOutcome]
"""One waiter's place in a flight; the outcome, or a fault of ours, arrives in it."""


class Pursuit(Protocol):
    """The work of one flight."""

    async def run(self, flight: Flight) -> AnyOutcome:
        """Look the id up; heed ``flight.abandoned``, and keep ``flight.in_attempt`` true to the facts."""
        ...

    def interrupted(self) -> AnyOutcome:
        """Return the outcome after ``run`` was cancelled, wherever it was."""
        ...

    @property
    def attempts(self) -> int:
        """Requests made so far."""
        ...


@attrs.define(eq=False)
class Flight:
    """One id on its way.

    Attributes:
        key: what it asks for; lookups with an equal key share it.
        pursuit: its work; ``None`` when its outcome was there before anyone asked.
        seats: everyone who waits for it, in the order they came.
        in_attempt: a request is under way; it is not interrupted for lack of waiters.
        grounded: the client closes; no further attempt may start.
    """

    key: Hashable
    pursuit: Pursuit | None = None
    seats: list[Seat] = attrs.field(factory=list)
    in_attempt: bool = False
    grounded: bool = False
    task: asyncio.Task[AnyOutcome] | None = attrs.field(default=None, init=False)

    @property
    def abandoned(self) -> bool:
        """No further attempt may start."""
        return self.grounded or not self.seats

    @property
    def attempts(self) -> int:
        """Requests made so far."""
        return 0 if self.pursuit is None else self.pursuit.attempts

    def board(self) -> Seat:
        """Take a seat."""
        seat: Seat = asyncio.get_running_loop().create_future()
        self.seats.append(seat)
        return seat

    def end_unless_in_attempt(self) -> None:
        """Cancel the task while it only waits; a request under way may already be paid for."""
        if not self.in_attempt and self.task is not None:
            self.task.cancel()


class Flights:
    """All flights of one client, and the paid answers nobody took."""

    def __init__(self, *, keep: int, on_landing: Callable[[], None]) -> None:
        """Make an empty sky: hold at most ``keep`` unclaimed outcomes, call ``on_landing`` as each flight ends."""
        self._keep = keep
        self._on_landing = on_landing
        self._flying: dict[Hashable, Flight] = {}
        self._landing: set[Flight] = set()  # left by everyone: still in the air, but not to be joined
        self._unclaimed: dict[Hashable, AnyOutcome] = {}

    def __repr__(self) -> str:
        return f"<Flights: {len(self._all())} flying, {len(self._unclaimed)} unclaimed>"

    @property
    def unclaimed(self) -> tuple[AnyOutcome, ...]:
        """Paid answers nobody took, oldest first."""
        return tuple(self._unclaimed.values())

    def claim(self, key: Hashable) -> AnyOutcome | None:
        """Take an unclaimed outcome away."""
        return self._unclaimed.pop(key, None)

    def keep_unclaimed(self, key: Hashable, outcome: AnyOutcome) -> None:
        """Hold an outcome that cost money for a later lookup; beyond ``keep`` the oldest is dropped."""
        if outcome.receipt.billing is Billing.NOT_BILLED:
            return
        self._unclaimed[key] = outcome
        if len(self._unclaimed) > self._keep:
            del self._unclaimed[next(iter(self._unclaimed))]

    def get(self, key: Hashable) -> Flight | None:
        """Return the flight of this key that may be joined, if there is one."""
        return self._flying.get(key)

    def launch(self, key: Hashable, pursuit: Pursuit) -> Flight:
        """Start a flight; board it before control goes back to the event loop."""
        flight = self._flying[key] = Flight(key, pursuit)
        flight.task = asyncio.get_running_loop().create_task(pursuit.run(flight), name="oneauto flight")
        flight.task.add_done_callback(lambda task: self._land(flight, pursuit, task))
        return flight

    def leave(self, flight: Flight, seat: Seat) -> None:
        """Stop waiting. Nothing that others wait for is disturbed, and nothing paid is lost."""
        if seat in flight.seats:
            flight.seats.remove(seat)
            if not flight.seats:
                self._abandon(flight)
        elif seat.done() and not seat.cancelled() and seat.exception() is None:
            self.keep_unclaimed(flight.key, seat.result())  # it landed in the moment of leaving

    def _abandon(self, flight: Flight) -> None:
        if flight.in_attempt:
            return  # may be joined again; else its answer goes to unclaimed
        if self._flying.get(flight.key) is flight:
            del self._flying[flight.key]
            self._landing.add(flight)
        flight.end_unless_in_attempt()

    def _land(self, flight: Flight, pursuit: Pursuit, task: asyncio.Task[AnyOutcome]) -> None:
        if self._flying.get(flight.key) is flight:
            del self._flying[flight.key]
        self._landing.discard(flight)
        self._on_landing()
        seats = [seat for seat in flight.seats if not seat.done()]
        flight.seats.clear()
        flight.pursuit = flight.task = None  # they refer back to it: without this, each lookup waits for the collector
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            _raise_in(seats, fault)
        else:
            self._deliver(flight.key, pursuit.interrupted() if task.cancelled() else task.result(), seats)

    def _deliver(self, key: Hashable, outcome: AnyOutcome, seats: list[Seat]) -> None:
        if not seats:
            self.keep_unclaimed(key, outcome)
            return
        seats[0].set_result(outcome)
        for seat in seats[1:]:
            seat.set_result(joined(outcome))

    def _all(self) -> list[Flight]:
        return [*self._flying.values(), *self._landing]

    async def ground(self, seconds: float) -> None:
        """Let no further attempt start, wait at most ``seconds`` for those under way, then cut them short."""
        for flight in self._all():
            flight.grounded = True
            flight.end_unless_in_attempt()
        await self._landed(seconds)
        self.cut_short()
        await self._landed(None)

    def cut_short(self) -> None:
        """Cancel everything; requests under way are then in doubt."""
        for flight in self._all():
            if flight.task is not None:
                flight.task.cancel()

    async def _landed(self, seconds: float | None) -> None:
        tasks = [flight.task for flight in self._all() if flight.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)


def joined(outcome: AnyOutcome) -> AnyOutcome:
    """Return the outcome as one more lookup sees it that shared the flight: it cost nothing more."""
    receipt = Receipt(
        status=outcome.receipt.status,
        request_id=outcome.receipt.request_id,
        elapsed=outcome.receipt.elapsed,
        source=Source.JOINED,
    )
    return attrs.evolve(outcome, receipt=receipt)


def _raise_in(seats: list[Seat], fault: BaseException) -> None:
    for seat in seats:
        seat.set_exception(fault)

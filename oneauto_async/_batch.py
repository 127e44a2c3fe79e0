"""Many lookups at once: a semaphore-bounded fetcher over any iterable of ids, given a way to start one lookup.

One feeder task reads the ids lazily. It takes room (so that outcomes nobody has taken yet stay few) and a slot (so that
lookups under way stay few) before it starts a lookup; outcomes come back through callbacks, so a lookup costs no task
beyond its flight.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

import attrs

from ._flow.flights import Flight, Seat, joined
from ._ids import canonical_id, shown_id
from ._report import stop_reason
from ._waiting import start
from .clock import Clock
from .errors import (
    AccessDeniedError,
    Billing,
    BudgetExceededError,
    ClientClosedError,
    DeadlineExceededError,
    InvalidVehicleIdError,
    OneAutoError,
    QuotaExceededError,
    RateLimitedError,
    ServiceUnavailableError,
    UnexpectedStatusError,
)
from .outcomes import BatchSummary, Failed, Found, InDoubt, NoData, NotSent, NotSentReason, Outcome, Source

T = TypeVar("T")

Ids: TypeAlias = Iterable[str | int] | AsyncIterable[str | int]

BUFFER_FACTOR = 2
"""Lookups under way and outcomes waiting for the consumer or for their turn: together at most this many per slot."""


class Desk(Protocol):
    """Where a batch gets its lookups: the client."""

    def enlist(self, batch: Batch[Any]) -> None:
        """Tell the batch, from now on, when nothing can be looked up any more; raise `ClientClosedError` if so now."""
        ...

    def book(self, vehicle_id: str, seat: Seat) -> Awaitable[Flight | Outcome[Any]]:
        """Start or join the lookup of a canonical id once the client has a free slot, or return its known outcome.

        No request leaves before control goes back to the event loop.
        """
        ...

    def leave(self, flight: Flight, seat: Seat, *, is_told: bool = False) -> None:
        """Stop waiting for a lookup; a request under way is seen through, its answer kept unclaimed.

        With ``is_told`` the batch has told already what the lookup has cost so far.
        """
        ...

    def keep_untaken(self, outcomes: Iterable[Outcome[Any]]) -> None:
        """Take back outcomes that nobody took."""
        ...


@attrs.define(eq=False)
class _Underway:
    """A lookup under way, the places in the input that wait for it, and its seat in the flight."""

    batch: Batch[Any]
    vehicle_id: str
    indexes: list[int]
    flight: Flight | None = None
    gone: bool = False
    is_content: bool = False
    has_slot: bool = True

    def make_way(self) -> None:
        """Give the slot back: the batch may begin the next lookup."""
        if self.has_slot:
            self.has_slot = False
            self.batch._slots.release()

    def deliver(self, outcome: Outcome[Any]) -> None:
        """Take the outcome, in the step in which the flight lands."""
        self.batch._end(self, outcome)

    def fail(self, fault: BaseException) -> None:
        """End the batch: a fault of ours is no outcome."""
        self.batch._fail(fault)


class Batch(Generic[T]):
    """The outcomes of many lookups, as they finish or in input order.

    Use it as ``async with client.batch(ids) as batch: async for outcome in batch: …``. Leaving the block early, by
    ``break``, an exception or cancellation, returns at once and starts nothing more; requests under way are seen
    through by the client, their answers kept in ``client.unclaimed``.

    Raises:
        ClientClosedError: on entering, the client is not open; nothing was read or sent.
        RuntimeError: it is entered twice, or iterated before it is entered. From ``async for``: the iterable of ids
            raised `asyncio.CancelledError` by itself.
        LedgerError: from ``async for``, the ledger failed. An answer that could not be written down is in
            ``client.unclaimed``.
        ConfigurationError: from ``async for``, the governor that was given is in use on another event loop.
        Exception: from ``async for``, whatever the iterable of ids raises, or a transport that was given.
    """

    def __init__(
        self,
        ids: Ids,
        desk: Desk,
        *,
        concurrency: int,
        ordered: bool,
        deduplicate: bool,
        deadline: float | None,
        clock: Clock,
    ) -> None:
        """Prepare; nothing is read or sent before ``async with``."""
        self._ids = ids
        self._desk = desk
        self._deduplicate = deduplicate
        self._deadline = deadline
        self._clock = clock
        self._slots = asyncio.Semaphore(concurrency)
        self._room = asyncio.Semaphore(BUFFER_FACTOR * concurrency)
        self._outbox: _InOrder | _AsFinished = _InOrder() if ordered else _AsFinished()
        self._tally = _Tally()
        self._underway: dict[_Underway, None] = {}
        self._stand_ins: set[int] = set()  # places whose outcome says only that the true one is still to come
        self._is_reading = self._is_booking = self._is_late = False
        self._known: dict[str, _Underway | Outcome[Any]] = {}
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._began: float | None = None
        self._ended: float | None = None
        self._input_ended = False
        self._stopped: NotSentReason | None = None
        self._fault: BaseException | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._tasks else "not begun"
        return f"<Batch {state}: {len(self._underway)} under way, {self._tally.total} outcomes>"

    @property
    def summary(self) -> BatchSummary:
        """The counts so far; readable at any moment, and after the end."""
        now = self._clock.monotonic() if self._began is not None and self._ended is None else self._ended or 0.0
        return self._tally.summary(elapsed=now - (self._began or 0.0), stopped=self._stopped)

    async def __aenter__(self) -> Self:
        if self._tasks:
            raise RuntimeError("a batch is entered once; call client.batch(...) again for another run")
        self._desk.enlist(self)
        self._began = self._clock.monotonic()
        self._feeder = self._start(self._feed())
        if self._deadline is not None:
            self._start(self._watch_deadline(self._deadline))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for underway in tuple(self._underway):
            self._leave(underway)
        self._underway.clear()
        self._give_back(self._outbox.take_all())
        self._news.set()  # whoever still waits for an outcome, in another task, is told that there will be none
        for task in self._tasks:
            task.cancel()
        self._finish()
        # One feeder that reads the user's own iterator, which may need a moment to clean up.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __aiter__(self) -> AsyncIterator[Outcome[T]]:
        return self

    async def __anext__(self) -> Outcome[T]:
        if not self._tasks:
            raise RuntimeError("use it as: async with client.batch(ids) as batch: async for outcome in batch: ...")
        while True:
            if self._fault is not None:
                raise self._fault
            outcome = self._outbox.take()
            if outcome is not None:
                self._room.release()
                return outcome
            if self._closed or (self._input_ended and not self._underway):
                self._finish()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    # Reading the input and starting lookups.

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start(work, "oneauto batch")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """A fault of ours, or of the iterable that was given, must be heard."""
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self._fail(fault)

    async def _feed(self) -> None:
        ids = read(self._ids)
        try:
            index = 0
            self._is_reading = True
            async for value in ids:
                self._is_reading = False
                if self._closed or self._fault is not None:  # an iterable that swallowed the cancellation
                    break
                await self._room.acquire()
                await self._admit(index, value)
                index += 1
                self._is_reading = True
                if self._is_late and isinstance(self._ids, AsyncIterable):
                    asyncio.get_running_loop().call_soon(self._stop_waiting_for_input)
        except asyncio.CancelledError as fault:
            if self._feeder.cancelling():
                raise
            text = "the iterable of ids raised CancelledError, and was not cancelled by the batch: some may be missing"
            confusion = RuntimeError(text)
            confusion.__cause__ = fault
            self._fail(confusion)
        except Exception as fault:  # noqa: BLE001  # of the iterable that was given; the consumer must hear of it
            self._fail(fault)
        finally:
            self._is_reading = False
            self._input_ended = True
            self._news.set()
            await ids.aclose()

    async def _admit(self, index: int, value: str | int) -> None:
        try:
            vehicle_id = canonical_id(value)
        except InvalidVehicleIdError as error:
            self._emit(index, _not_sent(shown_id(value), NotSentReason.INVALID_ID, error))
            return
        if not self._answer_duplicate(index, vehicle_id):
            await self._look_up(index, vehicle_id)

    def _answer_duplicate(self, index: int, vehicle_id: str) -> bool:
        known = self._known.get(vehicle_id)
        if known is None:
            return False
        if isinstance(known, _Underway):
            known.indexes.append(index)
        else:
            self._emit(index, joined(known))
        return True

    async def _look_up(self, index: int, vehicle_id: str) -> None:
        await self._slots.acquire()
        underway = _Underway(self, vehicle_id, [index])
        booked = await self._book(underway)
        if isinstance(booked, Flight):
            underway.flight = booked
            self._underway[underway] = None
            if self._deduplicate:
                self._known[vehicle_id] = underway
        else:
            self._slots.release()
            self._conclude(vehicle_id, [index], attrs.evolve(booked))  # unclaimed until now, it may have been seen

    async def _book(self, underway: _Underway) -> Flight | Outcome[Any]:
        """Start one lookup, unless the batch has stopped, also while it waited for the client's slot."""
        if self._has_stopped():
            return self._unsent(underway.vehicle_id)
        self._is_booking = True
        try:
            booked = await self._desk.book(underway.vehicle_id, underway)
        except ClientClosedError:
            self._stop(NotSentReason.CLOSED)
            return self._unsent(underway.vehicle_id)
        except asyncio.CancelledError:
            if self._closed or self._fault is not None or not self._has_stopped():
                raise
            self._feeder.uncancel()  # the deadline came while it waited for a slot; the rest of the ids is still read
            return self._unsent(underway.vehicle_id)
        finally:
            self._is_booking = False
        if isinstance(booked, Flight) and self._has_stopped():
            self._desk.leave(booked, underway)
            return self._unsent(underway.vehicle_id)
        return booked

    def _has_stopped(self) -> bool:
        return self._stopped is not None

    # Outcomes coming in.

    def _end(self, underway: _Underway, outcome: Outcome[Any]) -> None:
        if underway not in self._underway:
            return
        del self._underway[underway]
        underway.make_way()
        self._conclude(underway.vehicle_id, underway.indexes, outcome)
        reason = stop_reason(outcome)
        if reason is not None and not self._has_stopped():
            self._stop(reason)

    def _conclude(self, vehicle_id: str, indexes: list[int], outcome: Outcome[Any]) -> None:
        """Hand the outcome to every place in the input that asked for this id; all but the first cost nothing."""
        if self._deduplicate:
            self._known[vehicle_id] = outcome
        for place, index in enumerate(indexes):
            self._emit(index, joined(outcome) if place else outcome)

    def _emit(self, index: int, outcome: Outcome[Any]) -> None:
        # A fresh outcome, seen by nobody yet, gets its place; ``attrs.evolve`` would cost more than all else here.
        object.__setattr__(outcome, "index", index)
        self._tally.count(outcome)
        self._outbox.put(index, outcome)
        self._news.set()

    # Ending early.

    def _stop(self, reason: NotSentReason) -> None:
        """Start nothing more; what only waits ends now, a request under way is let finish (but for a deadline)."""
        self._stopped = self._stopped or reason
        for underway in tuple(self._underway):
            assert underway.flight is not None
            if underway.flight.landed:
                continue  # what stops the batch is its outcome, which reaches one seat after the other
            if not underway.flight.is_sent:
                self._call_off(underway, underway.flight, reason, f"given up: the batch stopped, {reason}")
            elif reason is NotSentReason.DEADLINE:
                self._stand_ins.update(underway.indexes)
                text = "the batch's deadline came before the answer; if it still comes, it is in client.unclaimed"
                self._call_off(underway, underway.flight, reason, text)
            else:
                underway.is_content = True

    def _call_off(self, underway: _Underway, flight: Flight, reason: NotSentReason, text: str) -> None:
        outcome = flight.pursuit.called_off(reason, _STOP_ERRORS[reason], text)
        is_told = not flight.is_paid_beside(underway)
        self._leave(underway, is_told=is_told)
        outcome = outcome if is_told else joined(outcome)
        self._end(underway, outcome)

    def _leave(self, underway: _Underway, *, is_told: bool = False) -> None:
        if underway.flight is not None and not underway.gone:
            underway.gone = True
            self._desk.leave(underway.flight, underway, is_told=is_told)

    def _unsent(self, vehicle_id: str) -> NotSent:
        reason = self._stopped
        assert reason is not None
        return _not_sent(vehicle_id, reason, _STOP_ERRORS[reason](f"not sent: the batch stopped, {reason}"))

    async def _watch_deadline(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if self._input_ended and not self._underway:
            return  # all is done, and only has to be taken
        self._is_late = True
        self._stop(NotSentReason.DEADLINE)
        if self._is_booking:
            self._feeder.cancel()  # what holds the slots may never end
        self._stop_waiting_for_input()

    def learn_of_closing(self) -> None:
        """Learn that the client closes: nothing more is sent, and an input that gives no id is not waited for."""
        if self._closed or self._input_ended:
            return
        self._stopped = self._stopped or NotSentReason.CLOSED
        self._is_late = True
        self._stop_waiting_for_input()

    def _stop_waiting_for_input(self) -> None:
        """Read no further: an input that is waited for after the end may never end itself."""
        if self._is_reading:
            self._feeder.cancel()

    def _fail(self, fault: BaseException) -> None:
        """Start nothing more, and let the consumer hear of it; a request under way is seen through."""
        if self._fault is None:
            self._fault = fault
            for underway in tuple(self._underway):
                if underway.flight is not None and not underway.flight.is_sent:
                    self._leave(underway)
            if asyncio.current_task() is not self._feeder:
                self._feeder.cancel()
        self._news.set()

    def _give_back(self, outcomes: Iterable[Outcome[Any]]) -> None:
        """Hand back what nobody took, but for what says only that the true outcome is still to come."""
        self._desk.keep_untaken(outcome for outcome in outcomes if outcome.index not in self._stand_ins)

    def _finish(self) -> None:
        self._ended = self._clock.monotonic() if self._ended is None else self._ended


_STOP_ERRORS: dict[NotSentReason, type[OneAutoError]] = {
    NotSentReason.QUOTA: QuotaExceededError,
    NotSentReason.ACCESS_DENIED: AccessDeniedError,
    NotSentReason.WRONG_ROUTE: UnexpectedStatusError,
    NotSentReason.RATE_LIMITED: RateLimitedError,
    NotSentReason.SERVICE_UNAVAILABLE: ServiceUnavailableError,
    NotSentReason.DEADLINE: DeadlineExceededError,
    NotSentReason.CLOSED: ClientClosedError,
    NotSentReason.BUDGET: BudgetExceededError,
}


def _not_sent(vehicle_id: str, reason: NotSentReason, error: OneAutoError) -> NotSent:
    return NotSent(evdb_vehicle_id=vehicle_id, reason=reason, error=error)


async def read(ids: Ids) -> AsyncGenerator[str | int, None]:
    """Read either kind of iterable lazily, and close an asynchronous one that is left early."""
    if not isinstance(ids, AsyncIterable):
        for value in ids:
            yield value
        return
    iterator = aiter(ids)
    try:
        async for value in iterator:
            yield value
    finally:
        if isinstance(iterator, AsyncGenerator):
            await iterator.aclose()


class _AsFinished:
    """Outcomes in the order they came."""

    def __init__(self) -> None:
        self._outcomes: deque[Outcome[Any]] = deque()

    def put(self, index: int, outcome: Outcome[Any]) -> None:
        self._outcomes.append(outcome)

    def take(self) -> Outcome[Any] | None:
        return self._outcomes.popleft() if self._outcomes else None

    def take_all(self) -> list[Outcome[Any]]:
        taken, self._outcomes = list(self._outcomes), deque()
        return taken


class _InOrder:
    """Outcomes in the order of the input: each waits for those before it."""

    def __init__(self) -> None:
        self._outcomes: dict[int, Outcome[Any]] = {}
        self._next = 0

    def put(self, index: int, outcome: Outcome[Any]) -> None:
        self._outcomes[index] = outcome

    def take(self) -> Outcome[Any] | None:
        outcome = self._outcomes.pop(self._next, None)
        self._next += outcome is not None
        return outcome

    def take_all(self) -> list[Outcome[Any]]:
        taken, self._outcomes = list(self._outcomes.values()), {}
        return taken


class _Tally:
    """The running counts behind a summary."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        self._billed = self._unknown = self._duplicates = self._attempts = self._wasted = 0
        self._from_ledger = self._doubts = 0
        self.total = 0

    def count(self, outcome: Outcome[Any]) -> None:
        receipt = outcome.receipt
        self.total += 1
        self._kinds[_kind(outcome)] += 1
        self._billed += receipt.billing is Billing.BILLED
        self._unknown += receipt.billing is Billing.UNKNOWN
        self._doubts += receipt.doubts
        if receipt.source is not Source.NETWORK:
            self._duplicates += receipt.source is Source.JOINED
            self._from_ledger += receipt.source is Source.LEDGER
        self._attempts += receipt.attempts
        self._wasted += receipt.wasted

    def summary(self, *, elapsed: float, stopped: NotSentReason | None) -> BatchSummary:
        return BatchSummary(
            **self._kinds,
            total=self.total,
            duplicates=self._duplicates,
            from_ledger=self._from_ledger,
            billed=self._billed,
            not_billed=self.total - self._billed - self._unknown,
            unknown=self._unknown,
            spent=self._billed + self._doubts,
            attempts=self._attempts,
            wasted=self._wasted,
            elapsed=elapsed,
            stopped=stopped,
        )


_KINDS = {NoData: "no_data", Failed: "failed", InDoubt: "in_doubt", NotSent: "not_sent"}


def _kind(outcome: Outcome[Any]) -> str:
    if isinstance(outcome, Found):
        return "partial" if outcome.partial else "found"
    return _KINDS[type(outcome)]

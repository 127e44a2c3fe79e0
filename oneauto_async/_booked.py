"""The way of one lookup under a ledger, a budget, or both.

It is the way of any lookup with three steps more: before its first request a claim, which may bring an answer that is
kept; before each request the mark that it is sent; after each reply its bytes, before anyone looks at them. Each is
durable before the next step is taken. One claim is at most one charge: a request that follows a doubt has its own.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import attrs

from ._bookkeeping import NO_WISHES, Accounts, Full, Purchase, Wishes
from ._classify import Flaw, charge_of, classify, request_id
from ._flow.flights import Flight
from ._flow.retry import Ended
from ._lookup import Lookup, Route, Tools
from ._report import called_off, failed, turned_away
from ._waiting import see_through
from ._wire.exchange import Attempted, Lost, Reply, Unsent
from ._wire.record import FlightRecord, HeldBack
from .clock import Clock
from .errors import (
    Billing,
    BudgetExceededError,
    DeadlineExceededError,
    InDoubtError,
    LedgerError,
    OneAutoError,
    RateLimitedError,
    ServiceUnavailableError,
)
from .ledger.records import Busy, Entry, HeldInDoubt, Kept, LedgerKey, Settlement, State, Terms, moment_text
from .outcomes import Failed, Found, NoData, NotSent, NotSentReason, Outcome, Receipt, Source

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between two looks at a ledger in which someone else buys the answer, or has reserved the last of a budget."""

FREE_ANSWERS = (204, 206)
"""Statuses that cost nothing and are worth keeping for a while."""


class _Settled(Exception):  # noqa: N818  # a way out of the retries, not a fault
    """No request is needed any more, or none can be made: here is how the lookup ended."""

    def __init__(self, outcome: Outcome[Any]) -> None:
        super().__init__()
        self.outcome = outcome


@attrs.define(eq=False)
class BookedLookup(Lookup[T]):
    """One id being looked up, and written down."""

    books: Accounts = attrs.field(kw_only=True)
    wishes: Wishes = attrs.field(kw_only=True, default=NO_WISHES)
    purchase: Purchase | None = attrs.field(init=False, default=None)
    kept: Entry | None = attrs.field(init=False, default=None)
    doubted: Entry | None = attrs.field(init=False, default=None)
    came: Attempted | None = attrs.field(init=False, default=None)

    async def _pursued(self, flight: Flight) -> Outcome[T]:
        """Serve what is kept, or buy it; a ledger that fails is raised."""
        try:
            known = await self._claim()
            return self._with_doubt(await super()._pursued(flight) if known is None else known)
        except _Settled as settled:
            return self._with_doubt(settled.outcome)
        except LedgerError as error:
            if not self.doubts or error.billing is not Billing.NOT_BILLED:
                raise
            raise self._left_in_doubt(error) from error
        finally:
            self._give_back()

    def _left_in_doubt(self, error: LedgerError) -> LedgerError:
        """Say that the ledger failed before a doubt could be sent again: it is one all the same."""
        facts = self._facts(Billing.UNKNOWN)
        text = f"{error}; an earlier request is in doubt"
        self.books.keep((self.route.endpoint, self.vehicle_id), failed(facts.error(InDoubtError, text), facts))
        return LedgerError(text, billing=Billing.UNKNOWN, status=facts.receipt.status, attempts=self.attempts)

    def _interrupted(self, is_closing: bool) -> Outcome[T]:
        """What came is no doubt, though it came in the moment of the cancellation."""
        if self.came is not None:
            return self._outcome(self._judge(self.came))
        return self._with_doubt(super()._interrupted(is_closing))

    def called_off(self, reason: NotSentReason, error: type[OneAutoError], text: str) -> Outcome[T]:
        """Return the outcome for a waiter that leaves now: in doubt if a request is under way, or was before."""
        return self._with_doubt(super().called_off(reason, error, text))

    def _with_doubt(self, outcome: Outcome[T]) -> Outcome[T]:
        """Tell an earlier doubt as one if nothing was sent in its place; the lookup itself may go on for others."""
        if self.doubted is None or not isinstance(outcome, NotSent):
            return outcome
        before = self.kept, self.reply
        try:
            return self._held(self.doubted, f": {outcome.reason}", outcome.error)
        finally:
            self.kept, self.reply = before

    # Before the first request.

    async def _claim(self) -> Outcome[T] | None:
        """Return how the lookup ends without a request, or make the purchase and return ``None``."""
        if self.books.ledger is not None:  # one step less for the disk, if it may be sent at once
            self.early = self.tools.governor.acquire_at_once()
        try:
            outcome = await self._buy(resend=False)
        except BaseException:
            self._return_grant()
            raise
        if self.kept is None or self.kept.state is not State.IN_DOUBT or not self.tools.policy.resend_in_doubt:
            return outcome
        self.doubted = self.kept
        self._forget_kept()
        self._use_up_one_resend()
        return await self._buy(resend=True)

    def _return_grant(self) -> None:
        """Let the next in line send: this lookup has nothing to send at once after all."""
        if self.early is not None:
            self.tools.governor.give_back(self.early)
            self.early = None

    def _use_up_one_resend(self) -> None:
        policy = self.tools.policy
        self.tools = self.tools._replace(policy=attrs.evolve(policy, resend_in_doubt=policy.resend_in_doubt - 1))

    async def _buy(self, *, resend: bool) -> Outcome[T] | None:
        key = LedgerKey(self.books.service(self.route), self.vehicle_id)
        terms = Terms(max_age=self.wishes.max_age, refresh=self.wishes.refresh, resend=resend)
        meters = self.books.meters(self.wishes)
        refusal = None if self.early is not None else self.tools.governor.refusal(self._patience())
        if self.books.ledger is not None and refusal is not None:  # a claim would leave an entry for nothing
            return await self._known_at_least(key, terms, refusal)
        pauses = _Pauses(self.tools.clock)
        while True:
            decision = await self.books.decide(key, terms, meters, sending=self.early is not None)
            if isinstance(decision, Purchase):
                self.purchase = decision
                return None
            self._return_grant()
            match decision:
                case Kept(entry=entry):
                    outcome = self._served(entry)
                    if outcome is not None:
                        return outcome
                    # It was free, and is of no use: it is asked for again, also if it came of a purchase waited for.
                    terms = attrs.evolve(terms, refresh=True, accept_from=None)
                case HeldInDoubt(entry=entry):
                    return self._held(entry)
                case Full(text=text, is_final=True):
                    again = " again" if self.attempts else ""
                    return self._unsent(NotSentReason.BUDGET, BudgetExceededError, f"not sent{again}: {text}")
                case Full():
                    await pauses.next()  # what others have reserved may turn out to cost nothing
                case Busy(seq=seq):
                    if pauses.waited > self.tools.policy.total:
                        text = f"not sent: somebody else has been buying it for {pauses.waited:.3g} s"
                        return self._unsent(NotSentReason.BUSY, DeadlineExceededError, text)
                    if terms.accept_from is None:
                        terms = attrs.evolve(terms, accept_from=seq)  # what comes of it is fresh
                    await pauses.next()

    async def _known_at_least(self, key: LedgerKey, terms: Terms, refusal: OneAutoError) -> Outcome[T]:
        """Serve what is kept while nothing can be bought, or say why nothing can."""
        match await self.books.kept(key, terms):
            case Kept(entry=entry):
                outcome = self._served(entry)
            case HeldInDoubt(entry=entry):
                outcome = self._held(entry)
            case _:
                outcome = None
        return turned_away(refusal, self._facts(Billing.NOT_BILLED)) if outcome is None else outcome

    def _unsent(self, reason: NotSentReason, error: type[Any], text: str) -> Outcome[T]:
        return called_off(reason, error, text, self._facts(Billing.NOT_BILLED))

    # What is kept.

    def _served(self, entry: Entry) -> Outcome[T] | None:
        """Structure a kept answer as if it came now; ``None`` if it is of no use and cost nothing."""
        self._keep(entry)
        if not entry.is_intact or entry.status is None or _is_unheard_of(entry.flaw):
            return self._damaged(entry)
        verdict = classify(entry.status, entry.headers, entry.raw or b"", _flaw(entry))
        outcome = self._outcome(verdict)
        if isinstance(outcome, Found | NoData) or entry.billing is not Billing.NOT_BILLED:
            return outcome
        self._forget_kept()
        return None

    def _keep(self, entry: Entry) -> None:
        self.kept = entry
        if entry.raw is not None and entry.status is not None:
            self.reply = Reply(status=entry.status, headers=entry.headers, body=entry.raw, flaw=_flaw(entry))

    def _forget_kept(self) -> None:
        self.kept = self.reply = None

    def _held(self, entry: Entry, why: str = " by itself", cause: OneAutoError | None = None) -> Outcome[T]:
        self._keep(entry)
        facts = self._facts(Billing.UNKNOWN)
        moment = moment_text(entry.sent_at or entry.claimed_at, sep=" ", timespec="seconds")
        text = f"sent at {moment} and in doubt: {entry.note or 'no answer came'}; not sent again{why}"
        kind = InDoubtError if cause is None else type(cause)
        more: dict[str, Any] = {}
        if isinstance(cause, RateLimitedError | ServiceUnavailableError):
            more = {"retry_after": cause.retry_after}
        return failed(facts.error(kind, text, **more), facts)

    def _damaged(self, entry: Entry) -> Outcome[T]:
        facts = self._facts(Billing.NOT_BILLED)
        text = f"the answer kept as entry {entry.seq} is damaged and not served; refresh=True buys it again"
        error = facts.error(LedgerError, text)
        return Failed(evdb_vehicle_id=self.vehicle_id, raw=facts.raw, receipt=facts.receipt, error=error)

    def _receipt(self, billing: Billing) -> Receipt:
        if self.kept is None:
            # The doubt of before stays one, whatever becomes of the request that was sent in its place.
            stays_doubtful = self.doubted is not None and billing is Billing.NOT_BILLED
            return super()._receipt(Billing.UNKNOWN if stays_doubtful else billing)
        is_doubtful = self.kept.state is State.IN_DOUBT or self.doubts
        return Receipt(
            billing=Billing.UNKNOWN if is_doubtful else Billing.NOT_BILLED,
            doubts=self.doubts,
            status=self.kept.status,
            request_id=self.kept.request_id,
            attempts=self.attempts,
            wasted=self.wasted,
            elapsed=self.tools.clock.monotonic() - self.started,
            source=Source.LEDGER,
        )

    # Around each request.

    async def _attempt(self) -> Ended:
        await self._make_ready()
        return await super()._attempt()

    async def _make_ready(self) -> None:
        """Buy anew after a doubt, or if the claim was lost, before others must wait for it.

        Whoever holds a grant may be the one whom all wait for, and must not wait for what they have reserved.
        """
        if self.purchase is None:
            known = await self._buy(resend=self.doubts > 0)
            if known is not None:
                raise _Settled(known)

    async def _asked(self, record: FlightRecord) -> Attempted:
        purchase = await self._about_to_send(record)
        try:
            if not self._may_leave():
                raise HeldBack
            came = await super()._asked(record)
        except HeldBack:
            self._hold_back(purchase)
            raise
        except BaseException:
            self._cut_short(purchase)
            raise
        await self._record(purchase, came)
        return came

    async def _about_to_send(self, record: FlightRecord) -> Purchase:
        """Have it written down that the request is sent; until then none is under way, and it may be called off."""
        self.record = None
        self.attempts -= 1
        purchase = await self._marked_as_sent()
        self.attempts += 1
        self.record = record
        return purchase

    def _hold_back(self, purchase: Purchase) -> None:
        """While it was written down that the request is sent, or connected, it has turned out that none may be."""
        self._take_back()
        purchase.hold_back(self._end(State.CLAIMED, Billing.NOT_BILLED, "held back before it was sent"))

    async def _marked_as_sent(self) -> Purchase:
        purchase = self.purchase
        assert purchase is not None
        if (purchase.is_sent and not self.attempts) or await self._mark_sent(purchase):
            return purchase
        purchase.drop()
        self.purchase = None
        raise HeldBack

    async def _mark_sent(self, purchase: Purchase) -> bool:
        try:
            return await purchase.mark_sent()
        except asyncio.CancelledError:
            with suppress(LedgerError):  # the ledger has closed, and has given it back by itself
                purchase.retract(self._end(State.CLAIMED, Billing.NOT_BILLED, "cancelled before it was sent"))
            raise

    async def _record(self, purchase: Purchase, came: Attempted) -> None:
        """Write down what came, before it is looked at; what was surely not charged may be followed by another try."""
        if isinstance(came, Unsent):
            purchase.retract(self._end(State.CLAIMED, Billing.NOT_BILLED, came.text))
        elif isinstance(came, Lost):
            await self._settle(purchase, came, self._end(State.IN_DOUBT, Billing.UNKNOWN, came.text))
        else:
            await self._record_reply(purchase, came)

    async def _record_reply(self, purchase: Purchase, reply: Reply) -> None:
        billing = charge_of(reply.status)
        if billing is Billing.UNKNOWN:
            note = f"HTTP {reply.status} does not tell whether it was charged"
            await self._settle(purchase, reply, self._whole(reply, State.IN_DOUBT, billing, note))
        elif billing is Billing.BILLED or (reply.status in FREE_ANSWERS and reply.flaw is None):
            await self._settle(purchase, reply, self._whole(reply, State.ANSWERED, billing, None))
        else:
            purchase.retract(self._end(State.CLAIMED, billing, None, reply))

    async def _settle(self, purchase: Purchase, came: Attempted, settlement: Settlement) -> None:
        self.purchase = None
        try:
            recorded = purchase.settle(settlement)
            if recorded is not None:
                if settlement.state is State.ANSWERED:  # the next one's claim goes to the disk with this answer
                    self.flight.make_way()
                await recorded
        except asyncio.CancelledError:
            self.came = came
            await self._see_it_written()
            raise
        except Exception as error:  # whatever a ledger raises, the answer is paid for
            raise self._unwritten(came, error) from error

    async def _see_it_written(self) -> None:
        assert self.books.ledger is not None
        with suppress(LedgerError):  # closing the ledger tries once more, and says so
            await see_through(asyncio.ensure_future(self.books.ledger.flush()))

    def _unwritten(self, came: Attempted, error: Exception) -> LedgerError:
        """Hand what came to the client, so that it is not lost, and say what it cost."""
        outcome = self._outcome(self._judge(came))
        receipt = outcome.receipt
        is_free = receipt.billing is Billing.NOT_BILLED
        if not is_free:
            self.books.keep((self.route.endpoint, self.vehicle_id), outcome)
        place = "was free, and is on this error" if is_free else "is in client.unclaimed"
        return LedgerError(
            f"{error}; what came for evdb_vehicle_id {self.vehicle_id} {place}",
            billing=receipt.billing,
            status=receipt.status,
            request_id=receipt.request_id,
            attempts=receipt.attempts,
            raw=outcome.raw,
        )

    def _cut_short(self, purchase: Purchase) -> None:
        """A request was broken off from this side."""
        with suppress(LedgerError):  # the ledger has closed, and has noted that it is in doubt
            if self.is_sent:
                self.purchase = None
                purchase.settle(self._end(State.IN_DOUBT, Billing.UNKNOWN, "broken off before an answer came"))
            else:
                purchase.retract(self._end(State.CLAIMED, Billing.NOT_BILLED, "broken off before it was sent"))

    def _give_back(self) -> None:
        """End a purchase that came to nothing."""
        purchase, self.purchase = self.purchase, None
        if purchase is None:
            return
        with suppress(LedgerError):  # the ledger has closed, and has given it back by itself
            purchase.settle(self._end(State.FAILED, Billing.NOT_BILLED, "ended without a charge", self.reply))

    def _end(self, state: State, billing: Billing, note: str | None, reply: Reply | None = None) -> Settlement:
        return Settlement(
            state=state,
            billing=billing,
            attempts=self.attempts,
            status=None if reply is None else reply.status,
            request_id=None if reply is None else _request_id(reply),
            note=note,
        )

    def _whole(self, reply: Reply, state: State, billing: Billing, note: str | None) -> Settlement:
        return Settlement(
            state=state,
            billing=billing,
            attempts=self.attempts,
            status=reply.status,
            request_id=_request_id(reply),
            headers=tuple(reply.headers),
            raw=reply.body,
            flaw=None if reply.flaw is None else reply.flaw.name,
            note=note,
        )


class ClientBooks(Accounts):
    """The accounts of one client, and the lookups that keep them."""

    def lookup(
        self, route: Route[T], vehicle_id: str, tools: Tools, started: float, wishes: Wishes | None
    ) -> BookedLookup[T]:
        """Return the work of one flight."""
        return BookedLookup(route, vehicle_id, tools, started, books=self, wishes=wishes or NO_WISHES)


class _Pauses:
    """Waits that grow while someone else has what is needed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._length = FIRST_PAUSE

    @property
    def waited(self) -> float:
        """Seconds since it was first looked."""
        return self._clock.monotonic() - self._began

    async def next(self) -> None:
        await self._clock.sleep(self._length * (0.5 + self._clock.random()))
        self._length = min(2 * self._length, LONGEST_PAUSE)


def _request_id(reply: Reply) -> str | None:
    return request_id({name.lower(): value for name, value in reply.headers})


def _flaw(entry: Entry) -> Flaw | None:
    return None if entry.flaw is None else Flaw.__members__.get(entry.flaw)


def _is_unheard_of(flaw: str | None) -> bool:
    return flaw is not None and flaw not in Flaw.__members__

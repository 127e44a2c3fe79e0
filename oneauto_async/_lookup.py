"""The way of one lookup: a grant, a request, a verdict; again if worth it; then the record and its receipt."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar, assert_never

import attrs

from ._classify import (
    Answer,
    Denied,
    Doubtful,
    NoContent,
    Pending,
    QuotaUsedUp,
    Rejected,
    Throttled,
    Unavailable,
    classify,
    request_id,
)
from ._flow.calls import Grant
from ._flow.flights import Flight
from ._flow.governor import Governor
from ._flow.patience import Patience
from ._flow.retry import RETRIABLE, Ended, pursue
from ._ids import is_of_another
from ._report import Facts, called_off, interrupted, mismatched, turned_away, unsuccessful
from ._structure import SchemaMismatch, structure_function
from ._wire.exchange import Attempted, Exchange, Lost, Reply, Unsent
from ._wire.record import FlightRecord, HeldBack
from .clock import Clock
from .endpoints import Endpoint
from .errors import Billing, ConfigurationError, InDoubtError, LedgerError, OneAutoError
from .events import AttemptEnded, LookupEnded, Observer, Waited, tell
from .outcomes import Found, NotSentReason, Outcome, Receipt, Source
from .settings import RetryPolicy

T = TypeVar("T")

_OF_NOBODY_ELSE = (NotSentReason.DEADLINE, NotSentReason.CLOSED)
"""Reasons to give a lookup up that are not another lookup's failure, which would hide its own."""

_FAULTS = (LedgerError, ConfigurationError)
"""What ends a batch loudly: the books that fail, and a governor that is in use elsewhere."""

LEAST_WAIT = 0.001
"""Seconds between a request's asking for its turn and having it that are told as a wait: each look at a real clock is a
little later than the one before."""

_OUT_OF_RETRIES = "not tried again, since the retries that all lookups share are used up"

SIMULATED_HEADER = "x-oneauto-simulated"
"""The simulator's mark on everything it answers."""


class Route(Generic[T]):
    """An endpoint made ready: the hook that structures its answers is looked up once."""

    def __init__(self, endpoint: Endpoint[T]) -> None:
        self.endpoint = endpoint
        self.structure = structure_function(endpoint)

    def __repr__(self) -> str:
        return f"<Route {self.endpoint.path}>"


class Tools(NamedTuple):
    """What every lookup of a client works with."""

    exchange: Exchange
    governor: Governor
    policy: RetryPolicy
    clock: Clock
    observers: tuple[Observer, ...] = ()


@attrs.define(eq=False)
class Lookup(Generic[T]):
    """One id being looked up: the steps, and what is known so far."""

    route: Route[T]
    vehicle_id: str
    tools: Tools
    started: float
    flight: Flight = attrs.field(init=False)
    began: float = attrs.field(init=False)
    grant: Grant = attrs.field(init=False)
    early: Grant | None = None
    attempts: int = 0
    was_canary: bool = False
    wasted: int = 0
    doubts: int = 0
    is_out_of_retries: bool = False
    is_judged: bool = False
    reply: Reply | None = None
    record: FlightRecord | None = None
    last: Ended | None = None

    def run(self, flight: Flight) -> Coroutine[Any, Any, Outcome[T]]:
        """Pursue the id to an outcome; every failure of the service or the way to it is a value."""
        return self._observed(flight) if self.tools.observers else self._pursued(flight)

    async def _observed(self, flight: Flight) -> Outcome[T]:
        try:
            outcome = await self._pursued(flight)
        except Exception as error:
            self._tell_of_end(type(error).__name__, error.billing if isinstance(error, _FAULTS) else Billing.UNKNOWN)
            raise
        self._tell_of_end(type(outcome).__name__, outcome.receipt.billing)
        return outcome

    async def _pursued(self, flight: Flight) -> Outcome[T]:
        self.flight, self.began = flight, self.started
        try:
            progress = self.progress
            ended = await self._attempt()
            if isinstance(ended, RETRIABLE):
                with self.tools.governor.retrying():
                    ended = await pursue(self._attempt, ended, self.tools.policy, self.tools.clock, self, progress)
        except _FAULTS:
            raise  # not this id's failure: whoever waits for anything must hear of it
        except OneAutoError as refusal:
            if self.is_sent:
                raise  # of a transport that was given: it is no refusal, and says nothing of what was charged
            return turned_away(refusal, self._facts(Billing.NOT_BILLED))
        finally:
            del self.flight  # each refers to the other: left so, every lookup would wait for the garbage collector
        return self._outcome(ended)

    def interrupted(self, *, is_closing: bool) -> Outcome[T]:
        """Return the outcome after the task was cancelled: in doubt if a request was under way."""
        outcome = self._interrupted(is_closing)
        if self.tools.observers:
            self._tell_of_end(type(outcome).__name__, outcome.receipt.billing)
        return outcome

    def _interrupted(self, is_closing: bool) -> Outcome[T]:
        sent = self._forget_reply_if_sent()
        facts = self._facts(Billing.UNKNOWN if sent else Billing.NOT_BILLED)
        return interrupted(facts, sent=sent, is_closing=is_closing)

    def called_off(self, reason: NotSentReason, error: type[OneAutoError], text: str) -> Outcome[T]:
        """Return the outcome for a waiter that leaves now: in doubt if a request is under way."""
        sent = self._forget_reply_if_sent()
        if self.last is not None and not sent and reason not in _OF_NOBODY_ELSE:
            return unsuccessful(self.last, self._facts(self.last.billing))
        facts = self._facts(Billing.UNKNOWN if sent else Billing.NOT_BILLED)
        return called_off(reason, InDoubtError if sent else error, text, facts)

    def _forget_reply_if_sent(self) -> bool:
        """Tell whether a request is under way; the status and the id of the one before it say nothing of it."""
        if self.is_sent:
            self.reply = None
        return self.is_sent

    @property
    def is_sent(self) -> bool:
        """Whether a request is under way of which it is not sure that nothing has left."""
        record = self.record
        return record is not None and (record.was_sent or record.sent_at is not None or not record.is_kept)

    def __str__(self) -> str:
        return f"evdb_vehicle_id {self.vehicle_id}"

    @property
    def abandoned(self) -> bool:
        """Whether no further attempt may start."""
        return self.flight.abandoned

    @property
    def waits_alone(self) -> bool:
        """Whether a 429's ``Retry-After`` holds this lookup alone."""
        return self.tools.governor.spares_others

    def may_retry(self) -> bool:
        """Take one of the retries that all lookups have together; say whether there was one."""
        self.is_out_of_retries = not self.tools.governor.may_retry()
        return not self.is_out_of_retries

    @property
    def progress(self) -> int:
        """How many calls the key has accepted, of all lookups that share the governor."""
        return self.tools.governor.accepted

    @property
    def is_one_of_several(self) -> bool:
        """Whether others wait for their turn, or try again."""
        return self.tools.governor.serves_several

    @property
    def key_works(self) -> bool:
        """Whether the key has accepted a call a moment ago, of whichever lookup."""
        return self.tools.governor.key_works

    async def _attempt(self) -> Ended:
        """Make one request and say how it ended; what is held back before it leaves is begun anew."""
        asked = self.tools.clock.monotonic() if self.tools.observers else 0.0
        while True:
            record = self._begin(await self._granted())
            try:
                attempted = await self._asked(record)
            except HeldBack:
                self._take_back()
                self.tools.governor.give_back(self.grant)
                await self._make_ready()
            except BaseException:  # cancelled: the answer, if there is one, will not be heard
                self._cut_off(asked)
                raise
            else:
                return self._ended(attempted, asked)

    async def _granted(self) -> Grant:
        """Take the grant that is there already, or wait for one: a retry always asks, since it may be too late."""
        governor, early, self.early = self.tools.governor, self.early, None
        grant = early or (None if self.attempts else governor.acquire_at_once())
        return grant or await governor.acquire(self._patience(), retrying=self.attempts > 0)

    def _ended(self, attempted: Attempted, asked: float) -> Ended:
        """Judge what came, and tell the governor and whoever watches."""
        if isinstance(attempted, Reply) and self.record is not None:
            self.doubts += self.record.was_sent  # by a transport that sent it again; this is the answer to one of two
        self.record = None
        self.last = ended = self._judge(attempted)
        self._tell_governor(self.grant, ended)
        if self.tools.observers:
            status = None if self.reply is None else self.reply.status
            self._tell_of_attempt(asked, self.grant, status, type(ended).__name__, ended.billing)
        return ended

    def _cut_off(self, asked: float) -> None:
        """End a request of which no answer will be heard."""
        governor = self.tools.governor
        (governor.forget if self.is_sent else governor.give_back)(self.grant)
        if self.tools.observers and self.record is not None:
            self._tell_of_cut(asked, self.grant)

    async def _make_ready(self) -> None:
        """Do again what a request needs before it may ask for a grant: nothing."""

    def _asked(self, record: FlightRecord) -> Awaitable[Attempted]:
        return self.tools.exchange.ask(self.route.endpoint, self.vehicle_id, record)

    def _begin(self, grant: Grant) -> FlightRecord:
        self.grant = grant
        self.began = self.began if self.attempts else grant.at
        self.attempts += 1
        self.is_judged = False
        self.was_canary = grant.is_canary
        self.record = FlightRecord(on_sent=self._left, may_leave=self._may_leave)
        return self.record

    def _take_back(self) -> None:
        """Learn, maybe once more, that the request which is being made will not be sent."""
        if self.record is not None:
            self.record, self.attempts = None, self.attempts - 1

    def _may_leave(self) -> bool:
        return self.tools.governor.lets_leave()

    def _left(self, _moment: float) -> None:
        """Tell the governor by its own clock: that of the transport may count from somewhere else."""
        self.tools.governor.sent(self.grant, self.tools.clock.monotonic())

    def _patience(self) -> Patience:
        policy = self.tools.policy
        if not self.attempts:  # waiting for one's turn costs no patience, only a shut gate does
            return Patience(longest_closing=policy.max_retry_after, longest_wait=policy.total)
        return Patience(longest_closing=policy.max_retry_after, until=self.began + policy.total)

    def _judge(self, attempted: Attempted) -> Ended:
        self.is_judged = True
        if not isinstance(attempted, Reply):
            self.reply = None
            ended: Ended = attempted
        else:
            self.reply = attempted
            ended = classify(attempted.status, attempted.headers, attempted.body, attempted.flaw)
        self.doubts += ended.billing is Billing.UNKNOWN
        return ended

    def _tell_governor(self, grant: Grant, ended: Ended) -> None:
        governor = self.tools.governor
        match ended:
            case Answer() | NoContent() | Pending() | Denied() | Rejected():
                governor.accept(grant)
            case Throttled(retry_after=wait):
                self.wasted += 1
                governor.throttle(grant, None if wait is None else wait.wait(self.tools.clock.wall()))
            case Unavailable(retry_after=wait):
                self.wasted += self.reply is not None and self.reply.status == 503
                governor.unavailable(grant, None if wait is None else wait.wait(self.tools.clock.wall()))
            case QuotaUsedUp():
                self.wasted += 1
                governor.quota_used_up(grant)
            case Unsent() | Lost() | Doubtful():
                governor.fail(grant, was_sent=not isinstance(ended, Unsent))
            case _:
                assert_never(ended)

    def _tell_of_cut(self, asked: float, grant: Grant) -> None:
        billing = Billing.UNKNOWN if self.is_sent else Billing.NOT_BILLED
        self._tell_of_attempt(asked, grant, None, "CutShort", billing)

    def _tell_of_attempt(self, asked: float, grant: Grant, status: int | None, verdict: str, billing: Billing) -> None:
        if grant.at > asked + LEAST_WAIT:
            tell(self.tools.observers, Waited(evdb_vehicle_id=self.vehicle_id, seconds=grant.at - asked))
        event = AttemptEnded(
            evdb_vehicle_id=self.vehicle_id,
            attempt=self.attempts,
            status=status,
            verdict=verdict,
            billing=billing,
            elapsed=self.tools.clock.monotonic() - grant.at,
        )
        tell(self.tools.observers, event)

    def _tell_of_end(self, outcome: str, billing: Billing) -> None:
        event = LookupEnded(
            evdb_vehicle_id=self.vehicle_id,
            outcome=outcome,
            billing=billing,
            attempts=self.attempts,
            elapsed=self.tools.clock.monotonic() - self.started,
        )
        tell(self.tools.observers, event)

    def _outcome(self, ended: Ended) -> Outcome[T]:
        if not isinstance(ended, Answer):
            return unsuccessful(ended, self._facts(ended.billing))
        endpoint = self.route.endpoint
        try:
            if is_of_another(ended.result.get(endpoint.parameter), self.vehicle_id):
                raise SchemaMismatch((f"$.result.{endpoint.parameter}: expected {self.vehicle_id}, got another",))
            value = self.route.structure(ended.result)
        except SchemaMismatch as mismatch:
            return mismatched(mismatch.problems, self._facts(ended.billing))
        return Found(
            evdb_vehicle_id=self.vehicle_id,
            raw=self._raw(),
            receipt=self._receipt(ended.billing),
            value=value,
            partial=ended.partial,
            message=ended.message,
        )

    def _facts(self, billing: Billing) -> Facts:
        receipt, wall = self._receipt(billing), self.tools.clock.wall()
        note = _OUT_OF_RETRIES if self.is_out_of_retries else ""
        return Facts(vehicle_id=self.vehicle_id, receipt=receipt, raw=self._raw(), wall=wall, note=note)

    def _raw(self) -> bytes | None:
        return None if self.reply is None else self.reply.body

    def _receipt(self, billing: Billing) -> Receipt:
        """Sum up; an earlier attempt left in doubt stays in doubt unless a later one was billed."""
        if self.doubts and billing is Billing.NOT_BILLED:
            billing = Billing.UNKNOWN
        reply = self.reply
        headers = {} if reply is None else {name.lower(): value for name, value in reply.headers}
        return Receipt(
            billing=billing,
            doubts=self.doubts + (self.is_sent and not self.is_judged),
            status=None if reply is None else reply.status,
            request_id=request_id(headers),
            attempts=self.attempts,
            wasted=self.wasted,
            elapsed=self.tools.clock.monotonic() - self.started,
            source=Source.SIMULATOR if SIMULATED_HEADER in headers else Source.NETWORK,
        )

"""The gateway, exactly, in virtual time, as an httpx transport.

A call is three moments: it leaves, it arrives (here it is accepted or refused, and billed), its answer is back. Each is
worked out when the one before it happens and kept as a number, so that a client whose event loop stalls changes nothing
about what the gateway did meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from functools import cache
from typing import Any, NamedTuple

import attrs
import httpx

from oneauto_async.testing._gateway import SimulatedAnswer, envelope, gateway_answer, quota_exceeded
from oneauto_async.testing._vans import van
from oneauto_async.transport import FlightRecord, HTTP11Transport, Stage

from .world import Bucket, World

RECORD = "oneauto_async.flight"
PARAMETER = b"evdb_vehicle_id="

KEEP_ALIVE = 2.0
"""Seconds an idle connection is kept, as by the library's own transport."""

ACCEPTED, REFUSED, QUOTA, UNAVAILABLE, UNREACHABLE = "accepted", "refused", "quota", "unavailable", "unreachable"


class Event(NamedTuple):
    """One call: when it left, when it arrived, whose it was, and what became of it."""

    left: float
    arrived: float
    process: int
    vehicle_id: str
    fate: str


@attrs.define
class Books:
    """What the gateway has seen.

    Attributes:
        fates: calls, by what became of them.
        bills: of each id.
        events: every call in the order of arrival, if they are kept.
    """

    fates: Counter[str] = attrs.field(factory=Counter)
    bills: Counter[str] = attrs.field(factory=Counter)
    events: list[Event] = attrs.field(factory=list)

    @property
    def wasted(self) -> int:
        """Calls that were turned away: 429 of either kind, 500 and 503."""
        return self.fates[REFUSED] + self.fates[QUOTA] + self.fates[UNAVAILABLE]

    @property
    def billed_again(self) -> int:
        """Bills beyond the first of each id."""
        return self.bills.total() - len(self.bills)

    def of(self, vehicle_id: str) -> Counter[str]:
        """Return the fates of one id's calls."""
        return Counter(event.fate for event in self.events if event.vehicle_id == vehicle_id)


@attrs.define(eq=False)
class _Call:
    """A call under way."""

    vehicle_id: str
    process: int
    left: float
    latency: float
    answered: asyncio.Future[SimulatedAnswer]


class Gateway:
    """One key at the gateway. Each process that uses the key has a `transport` of its own."""

    def __init__(self, world: World, *, seed: int = 0, keep_events: bool = True) -> None:
        """Start with a full bucket and empty books."""
        self.world = world
        self.books = Books()
        self._bucket = Bucket(world.limit, world.changes)
        self._random = random.Random(seed)
        self._keep_events = keep_events
        self._counted = [(-1, 0)] * len(world.quotas)  # for each quota the period that is counted, and its calls
        self._transports: list[VirtualTransport] = []

    @property
    def after_quota(self) -> int:
        """Calls that a process began although it knew already that the quota is used up."""
        return sum(transport.after_quota for transport in self._transports)

    def transport(self) -> VirtualTransport:
        """Return the way to the gateway for one more process."""
        transport = VirtualTransport(self, len(self._transports))
        self._transports.append(transport)
        return transport

    def is_reachable(self, now: float) -> bool:
        """Tell whether a connection can be opened."""
        outage = self.world.outage(now)
        return outage is None or outage.status is not None

    def take(self, vehicle_id: str, process: int) -> asyncio.Future[SimulatedAnswer]:
        """Take a call that leaves now; the future ends when its answer is back. Nothing calls it back."""
        loop = asyncio.get_running_loop()
        latency = self._random.uniform(self.world.latency.low, self.world.latency.high)
        call = _Call(vehicle_id, process, loop.time(), latency, loop.create_future())
        arrival = call.left + latency * self.world.latency.outward
        loop.call_at(arrival, self._arrive, call, arrival)
        return call.answered

    def _arrive(self, call: _Call, moment: float) -> None:
        fate, answer = self._decide(moment)
        self.note(Event(call.left, moment, call.process, call.vehicle_id, fate))
        share = self.world.latency.refused if fate in {REFUSED, QUOTA} else 1.0
        asyncio.get_running_loop().call_at(call.left + call.latency * share, _deliver, call.answered, answer)

    def note(self, event: Event) -> None:
        """Enter a call into the books."""
        self.books.fates[event.fate] += 1
        if event.fate is ACCEPTED:
            self.books.bills[event.vehicle_id] += 1
        if self._keep_events:
            self.books.events.append(event)

    def _decide(self, now: float) -> tuple[str, SimulatedAnswer]:
        """Judge a call that arrives: the quotas first, then the bucket, then whether the backend is there.

        A 429 takes nothing; a call that finds the backend away has passed the bucket and used a token.
        """
        if self._quota_is_used_up(now):
            return QUOTA, _quota_refusal()
        if not self._bucket.take(now):
            return REFUSED, _refusal(429, None if self.world.retry_after is None else f"{self.world.retry_after:g}")
        outage = self.world.outage(now)
        if outage is not None and outage.status is not None:
            return UNAVAILABLE, _refusal(outage.status, outage.advice(now))
        self._count_against_quotas(now)
        return ACCEPTED, _record()

    def _quota_is_used_up(self, now: float) -> bool:
        for index, quota in enumerate(self.world.quotas):
            period = int(now // quota.period)
            if self._counted[index][0] != period:
                self._counted[index] = (period, 0)
            if self._counted[index][1] >= quota.calls:
                return True
        return False

    def _count_against_quotas(self, now: float) -> None:
        self._counted = [(period, calls + 1) for period, calls in self._counted]


def _deliver(answered: asyncio.Future[SimulatedAnswer], answer: SimulatedAnswer) -> None:
    if not answered.done():  # its client may have given up
        answered.set_result(answer)


@cache
def _record() -> SimulatedAnswer:
    """One record for every id: what is in it does not matter here, and making it costs more than all else."""
    return envelope(200, success=True, result=van("12345"))


@cache
def _refusal(status: int, retry_after: str | None) -> SimulatedAnswer:
    return gateway_answer(status).with_retry_after(retry_after)


@cache
def _quota_refusal() -> SimulatedAnswer:
    return quota_exceeded()


class VirtualTransport(HTTP11Transport):
    """The way of one process to the gateway.

    It is of the kind of the library's own transport because that one tells the exact moment at which a request's bytes
    leave, which is what the governor goes by; none of its connections is used.
    """

    def __init__(self, gateway: Gateway, process: int) -> None:
        super().__init__()
        self._gateway = gateway
        self._process = process
        self._idle: deque[float] = deque()  # the moments at which connections were given back
        self._quota_known_since = float("inf")
        self.after_quota = 0

    def __repr__(self) -> str:
        """Name the process."""
        return f"<VirtualTransport of process {self._process}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send any client's request to the gateway; the record of one of ours learns of each step."""
        record = request.extensions.get(RECORD) or FlightRecord()
        await self.exchange(request, record)
        return httpx.Response(record.status or 0, headers=list(record.headers), content=record.body)

    async def exchange(self, request: httpx.Request, record: FlightRecord) -> None:
        """Do the same without an httpx response: what came stands in the record."""
        record.is_kept = True
        answer = await self.ask(request.url.query.partition(PARAMETER)[2].decode(), record)
        record.headers = [("content-type", "application/json"), *answer.headers]
        record.status, record.body, record.stage = answer.status, answer.body, Stage.COMPLETE

    async def ask(self, vehicle_id: str, record: FlightRecord) -> SimulatedAnswer:
        """Open a connection if none is idle, send, and wait for the answer.

        Raises:
            httpx.ConnectError: no connection can be opened.
        """
        loop = asyncio.get_running_loop()
        self.after_quota += loop.time() > self._quota_known_since
        await self._connect(vehicle_id)
        record.sent(loop.time())
        answer = await self._gateway.take(vehicle_id, self._process)
        self._idle.append(loop.time())
        if answer is _quota_refusal():
            self._quota_known_since = min(self._quota_known_since, loop.time())
        return answer

    async def _connect(self, vehicle_id: str) -> None:
        """Take an idle connection or open one; in an outage without a server those that are idle are dead too."""
        now, world = asyncio.get_running_loop().time(), self._gateway.world
        if not self._gateway.is_reachable(now):
            self._idle.clear()
            await asyncio.sleep(world.latency.mean)
            self._gateway.note(Event(now, now, self._process, vehicle_id, UNREACHABLE))
            raise httpx.ConnectError("connection refused")
        while self._idle:
            if now - self._idle.pop() <= KEEP_ALIVE:
                return
        if world.connecting:
            await asyncio.sleep(world.connecting)


class VirtualHttpClient(httpx.AsyncClient):
    """A client for ``OneAutoClient(http_client=…)`` that hands requests to a `VirtualTransport` and does nothing else.

    What httpx does around a transport (auth, redirects, cookies, responses) is not used by lookups, takes no virtual
    time, and half of the real time of a run.
    """

    def __init__(self, transport: VirtualTransport) -> None:
        super().__init__(transport=transport, trust_env=False)
        self._to_gateway = transport

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send; the request's record has the answer, so the response is an empty one that belongs to it."""
        record = request.extensions[RECORD]
        await self._to_gateway.exchange(request, record)
        _EMPTY.extensions[RECORD] = record  # it is looked at in the same step, before any other comes
        return _EMPTY


_EMPTY = httpx.Response(200)

"""The service, simulated: an ASGI app that answers, throttles and bills as docs/explanation/the-service.md describes.

A call passes four stages, and the first that has something to say answers it: the route, the key, the key's limits,
the backend. Each decides without waiting; the shell around them, `Simulator.__call__`, waits, sends and keeps the
books.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from contextlib import contextmanager
from email.utils import formatdate
from itertools import repeat
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import attrs

from .._checks import require_whole
from ..endpoints import CAR_BIDIRECTIONAL_CHARGING, VAN_BIDIRECTIONAL_CHARGING
from ..settings import RateLimit
from ._asgi import Message, Receive, Send, hung_up_within, send_response
from ._gateway import SimulatedAnswer, envelope, gateway_answer, support_headers
from ._limits import KeyLimits
from ._options import LimitChange, Outage, checked_changes, checked_keys, checked_quota, checked_range, failure
from ._special import SPECIAL_IDS, special_answer
from ._vans import van
from .clock import VirtualEventLoop

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

__all__ = ["BOOKS_PATH", "SIMULATOR_KEY", "SPECIAL_IDS", "Outage", "SimulatedAnswer", "Simulator"]

SIMULATOR_KEY = "simulator-key-that-opens-nothing"
"""The key a simulator accepts unless told otherwise. No real service knows it."""

BOOKS_PATH = "/_simulator/books"
"""Where a simulator shows its books as JSON, without a key."""

_ROUTES = frozenset({VAN_BIDIRECTIONAL_CHARGING.path, CAR_BIDIRECTIONAL_CHARGING.path})
_PARAMETER = VAN_BIDIRECTIONAL_CHARGING.parameter


@attrs.frozen(kw_only=True)
class _Call:
    """What the simulator looks at in a request."""

    method: str
    path: str
    api_key: str
    ids: tuple[str, ...]

    @classmethod
    def from_scope(cls, scope: Message) -> _Call:
        """Read it from an ASGI scope."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        keys = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-api-key"]
        return cls(
            method=scope["method"],
            path=scope["path"],
            api_key=", ".join(keys),
            ids=tuple(query.get(_PARAMETER, ())),
        )

    @property
    def evdb_vehicle_id(self) -> str:
        """The id asked for; empty if there is not exactly one."""
        return self.ids[0] if len(self.ids) == 1 else ""


def _refuse_route(call: _Call) -> SimulatedAnswer | None:
    if call.method == "GET" and call.path in _ROUTES:
        return None
    return gateway_answer(403, error_type="MissingAuthenticationTokenException", message="Missing Authentication Token")


def _refuse_id(call: _Call) -> SimulatedAnswer | None:
    if call.evdb_vehicle_id.strip():
        return None
    return envelope(400, success=False, error=f"{_PARAMETER} is mandatory, once and not empty")


def _record(evdb_vehicle_id: str) -> SimulatedAnswer:
    return envelope(200, success=True, result=van(evdb_vehicle_id))


class Simulator:
    """A pure ASGI 3 app that behaves as the service does, for tests and trials. Nothing it says is real data.

    Serve it with `serve`, or hand it to ``httpx.ASGITransport``. Besides the made-up records it knows the ids of
    `SPECIAL_IDS`. It keeps time by the running event loop, so that it works in virtual time as well.

    A bill is written when the backend takes the call, as a real one would be: a client that hangs up while it waits is
    billed all the same.

    Attributes:
        keys: the API keys it accepts.
        requests: calls that came, per id; those without exactly one id are counted under the empty text.
        bills: calls that were billed, per id.
        statuses: answers that were sent, per HTTP status.
        in_flight: calls that wait for their answer now.
        max_in_flight: the most that ever waited at once.
    """

    def __init__(
        self,
        *,
        keys: Collection[str] = (SIMULATOR_KEY,),
        rate: float | None = None,
        burst: int = 1,
        retry_after: str | None = None,
        quota: int | None = None,
        latency: float | tuple[float, float] = 0.0,
        outage: Outage | None = None,
        limit_changes: Iterable[LimitChange] = (),
        seed: int = 0,
    ) -> None:
        """Make a simulator with empty books.

        Arguments:
            keys: the API keys to accept.
            rate: calls per second that each key is allowed; ``None`` for no limit.
            burst: calls that each key may make at once after a rest.
            retry_after: sent as ``Retry-After`` with the 429s of a key that is too fast; the real ones have none.
            quota: calls each key may make in all; ``None`` for no limit.
            latency: seconds the backend takes, or the range they are drawn from.
            outage: a time in which the backend fails.
            limit_changes: moments from which the keys have another rate and burst.
            seed: for the latencies and the request ids.

        Raises:
            ConfigurationError: an argument out of its range.
        """
        self.keys = checked_keys(keys)
        self._limit = RateLimit(rate, burst)
        self._retry_after = retry_after
        self._quota = checked_quota(quota)
        self._latency = checked_range("Simulator latency", latency)
        self._outage = outage
        self._limit_changes = checked_changes(limit_changes)
        self._seed = seed
        self.requests: Counter[str] = Counter()
        self.bills: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Start afresh: empty books, full buckets and quotas, no scripted failures, and the outage lies ahead again."""
        for counter in (self.requests, self.bills, self.statuses):
            counter.clear()
        self.max_in_flight = self.in_flight
        self._limits = {key: self._new_limits() for key in self.keys}
        self._failures: deque[SimulatedAnswer] = deque()
        self._special_calls: Counter[str] = Counter()
        self._began_at: float | None = None
        self._serial = 0
        self._random = random.Random(self._seed)

    def _new_limits(self) -> KeyLimits:
        return KeyLimits(self._limit, self._limit_changes, quota=self._quota, retry_after=self._retry_after)

    @property
    def api_key(self) -> str:
        """A key that it accepts."""
        return self.keys[0]

    @property
    def total_billed(self) -> int:
        """How many calls were billed in all."""
        return self.bills.total()

    def books(self) -> dict[str, Any]:
        """Return the books as plain JSON values, as ``GET /_simulator/books`` shows them."""
        return {
            "requests": dict(self.requests),
            "bills": dict(self.bills),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "total_billed": self.total_billed,
        }

    def fail_next(self, count: int, status: int = 503, retry_after: str | None = None) -> None:
        """Let the backend fail the next calls that reach it, after those already scripted.

        Arguments:
            count: how many calls.
            status: the HTTP status they get, 300 to 599.
            retry_after: the ``Retry-After`` they get, as it is sent; ``None`` for none.

        Raises:
            ConfigurationError: an argument out of its range.
        """
        require_whole("fail_next count", count, 0)
        self._failures.extend(repeat(failure("fail_next status", status, retry_after), count))

    def __repr__(self) -> str:
        """Show the totals of the books; keys are left out."""
        total = self.requests.total()
        return f"<Simulator requests={total} billed={self.total_billed} in_flight={self.in_flight}>"

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI 3 wants it. Cancelling it gives no answer; what was billed stays billed."""
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP only, not {scope['type']}")
        call = _Call.from_scope(scope)
        if (call.method, call.path) == ("GET", BOOKS_PATH):
            await self._send(send, SimulatedAnswer(status=200, body=json.dumps(self.books()).encode()))
            return
        with self._arrival(call):
            answer = self._decide(call, self._now())
            self.bills.update([call.evdb_vehicle_id] if answer.billed else [])
            await self._answer(answer, receive, send)

    @contextmanager
    def _arrival(self, call: _Call) -> Iterator[None]:
        self.requests[call.evdb_vehicle_id] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def _now(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._began_at is None:
            self._began_at = now
        return now - self._began_at

    def _decide(self, call: _Call, now: float) -> SimulatedAnswer:
        """Choose the answer to a call that comes so many seconds after the first one."""
        return (
            _refuse_route(call)
            or self._refuse_key(call)
            or self._limits[call.api_key].refuse(now)
            or self._ask(call, now)
        )

    def _refuse_key(self, call: _Call) -> SimulatedAnswer | None:
        return None if call.api_key in self._limits else gateway_answer(403)

    def _ask(self, call: _Call, now: float) -> SimulatedAnswer:
        """Ask the backend, which takes its time over every call."""
        answer = self._failure(now) or _refuse_id(call) or self._special(call) or _record(call.evdb_vehicle_id)
        return attrs.evolve(answer, delay=answer.delay + self._random.uniform(*self._latency))

    def _failure(self, now: float) -> SimulatedAnswer | None:
        if self._outage is not None and (answer := self._outage.answer(now)):
            return answer
        return self._failures.popleft() if self._failures else None

    def _special(self, call: _Call) -> SimulatedAnswer | None:
        answer = special_answer(call.evdb_vehicle_id, self._special_calls[call.evdb_vehicle_id])
        if answer is not None:
            self._special_calls[call.evdb_vehicle_id] += 1
        return answer

    async def _answer(self, answer: SimulatedAnswer, receive: Receive, send: Send) -> None:
        if answer.silent and await hung_up_within(receive, answer.delay):
            return
        if answer.delay and not answer.silent:
            await asyncio.sleep(answer.delay)
        self.statuses[answer.status] += 1
        await self._send(send, answer)

    async def _send(self, send: Send, answer: SimulatedAnswer) -> None:
        self._serial += 1
        headers = [*_standing_headers(answer), *support_headers(self._seed, self._serial), *answer.headers]
        await send_response(send, answer.status, headers, answer.body)


def _standing_headers(answer: SimulatedAnswer) -> Iterator[tuple[str, str]]:
    """Yield the headers that every answer has."""
    yield "content-type", "application/json"
    yield "date", formatdate(_wall(), usegmt=True)
    yield "x-oneauto-simulated", "true"
    if answer.status not in {204, 304}:
        yield "content-length", str(len(answer.body))


def _wall() -> float:
    loop = asyncio.get_running_loop()
    return loop.wall() if isinstance(loop, VirtualEventLoop) else time.time()

"""`OneAutoClient`: owns what lives as long as the client does, and starts lookups."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import warnings
import weakref
from collections.abc import Awaitable, Hashable, Iterable
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

import attrs
import httpx

from ._address import SIMULATED_URL, find_base_url
from ._arguments import callables, require_countable, require_ledger, require_many
from ._batch import Batch, Ids
from ._boarding import Boarding, Wanted
from ._checks import require_clock, require_kind, require_label, require_seconds, require_whole
from ._flow.flights import Flight, FutureSeat, Seat
from ._flow.governor import Governor
from ._ids import canonical_id
from ._key import GivenKey, find_api_key
from ._lookup import Lookup, Route, Tools
from ._plan import plan
from ._recent import Recent
from ._waiting import see_through
from ._wire.exchange import Exchange
from ._wire.http11 import HTTP11Transport
from ._wire.requests import httpx_url
from .clock import Clock, SystemClock
from .endpoints import VAN_BIDIRECTIONAL_CHARGING, Endpoint
from .errors import ClientClosedError, ConfigurationError
from .events import Observer
from .models import BidirectionalCharging
from .outcomes import Outcome, Plan
from .settings import Budget, RateLimit, RetryPolicy, Timeouts

if TYPE_CHECKING:  # loaded only by a client that has a ledger or a budget
    from ._booked import ClientBooks
    from ._bookkeeping import Wishes
    from .ledger.protocol import Ledger

T = TypeVar("T")

_log = logging.getLogger("oneauto_async")


class OneAutoClient:
    """Looks up bi-directional charging capabilities, one at a time or many at once.

    Use it as ``async with OneAutoClient() as client``. It belongs to the event loop it is entered on. No request is
    made before a lookup is.

    Arguments:
        api_key: the key; else from ``ONEAUTO_API_KEY``, ``ONE_AUTO_API_KEY`` or the file named by
            ``ONEAUTO_API_KEY_FILE``. It is shown nowhere.
        sandbox: ask the vendor's sandbox host; else from ``ONEAUTO_SANDBOX``. Not together with ``base_url``.
        base_url: another address; else from ``ONEAUTO_BASE_URL``. Plain http is refused except on this machine.
        account: your own label of the account that pays; a ledger keeps the books of each apart. A new key for the same
            account buys nothing twice, as long as the label stays.
        max_concurrency: lookups under way at once, over all batches and single calls of this client.
        retry: how patiently one lookup is pursued.
        rate_limit: the key's limit if you know it, ``RateLimit.adaptive()``, or a `Governor` several clients share.
        timeouts: seconds for one attempt and for closing.
        budget: the most that may be spent: with a ledger, by everyone who uses it for this account and host; without
            one, by this client.
        ledger: where everything bought is written down, and served from the next time. One that is not open is opened
            and closed with the client; one that is open stays open.
        ssl_context: for connections this client opens itself.
        transport: an httpx transport to use instead of this client's own: a proxy, HTTP/2, a mock. It is closed with
            the client. What it retries by itself is beyond this library.
        http_client: an `httpx.AsyncClient` to send through; it stays yours to close. Its redirects, auth and cookies
            are not used.
        observers: callables told of all that happens, from attempts to outages; see `oneauto_async.events`.
        clock: time, sleep and randomness, for tests.

    Raises:
        ConfigurationError: no key, a wrong address, or options that exclude each other. Nothing was sent.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        sandbox: bool | None = None,
        base_url: str | None = None,
        account: str = "default",
        max_concurrency: int = 100,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen, like every default below
        rate_limit: RateLimit | Governor = RateLimit.adaptive(),  # noqa: B008  # frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008  # frozen
        budget: Budget | None = None,
        ledger: Ledger | None = None,
        ssl_context: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        http_client: httpx.AsyncClient | None = None,
        observers: Iterable[Observer] = (),
        clock: Clock | None = None,
    ) -> None:
        given_key = GivenKey(api_key)
        del api_key  # a refusal's traceback may show this function's locals
        require_whole("max_concurrency", max_concurrency, 1)
        require_label("account", account)
        require_kind("retry", retry, RetryPolicy)
        require_kind("rate_limit", rate_limit, RateLimit, Governor)
        require_kind("timeouts", timeouts, Timeouts)
        require_ledger(ledger)
        _require_compatible(ssl_context, transport, http_client)
        require_countable(budget, ledger)
        self._key = find_api_key(given_key)
        self._base_url = find_base_url(base_url, sandbox)
        httpx_url(self._base_url)  # refuses what would else be refused in the midst of a lookup
        self._max_concurrency = max_concurrency
        self._policy = retry
        self._timeouts = timeouts
        self._account = account
        self._budget = budget
        self._ledger = ledger
        self._ssl_context = ssl_context
        self._transport = transport
        self._given_http_client = http_client
        self._observers = callables(observers)
        self._clock = _clock_for(clock, rate_limit)
        self._governor = rate_limit if isinstance(rate_limit, Governor) else Governor(rate_limit, clock=self._clock)
        self._boarding = Boarding(
            max_concurrency, self._clock, keeps_answers=ledger is not None, require_open=self._require_open
        )
        self._flights = self._boarding.flights
        self._batches: weakref.WeakSet[Batch[Any]] = weakref.WeakSet()
        self._routes: Recent[Endpoint[Any], Route[Any]] = Recent()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http_client: httpx.AsyncClient | None = None
        self._tools: Tools | None = None
        self._keeps_books = budget is not None or ledger is not None
        self._books: ClientBooks | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def simulated(cls, simulator: Any = None, **options: Any) -> OneAutoClient:
        """Return a client of a simulated service in this process: no key, no network, no cost.

        Arguments:
            simulator: an `oneauto_async.testing.Simulator` whose books you want to read, or ``None`` for a new one.
            options: any other argument of the class but ``api_key``, ``base_url``, ``sandbox``, ``transport`` and
                ``http_client``.

        Raises:
            ConfigurationError: an option is wrong, or is ``sandbox`` or ``http_client``.
            TypeError: an option is none of the class, or is ``api_key``, ``base_url`` or ``transport``.
        """
        from .testing import Simulator

        simulator = Simulator() if simulator is None else simulator
        return cls(simulator.api_key, base_url=SIMULATED_URL, transport=httpx.ASGITransport(app=simulator), **options)

    def __repr__(self) -> str:
        if not hasattr(self, "_closing"):  # a traceback that shows locals asks before it is made, too
            return "<OneAutoClient not made>"
        return f"<OneAutoClient {self._base_url} {self._state()}, {self._flights}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a OneAutoClient is not pickled or copied; make a new one where you need it")

    def __del__(self) -> None:
        if getattr(self, "_loop", None) is not None and self._closing is None:
            warnings.warn(
                f"unclosed {self!r}: use it with `async with`, or await aclose()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def _state(self) -> str:
        if self._closing is not None:
            return "closed"
        return "not opened" if self._loop is None else "open"

    # Opening and closing.

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise ClientClosedError("a OneAutoClient is opened once; make a new one for another `async with`")
        http_client = self._given_http_client or self._own_http_client()
        self._loop = asyncio.get_running_loop()
        self._http_client = http_client
        if self._keeps_books:
            await self._open_books()
        if self._closing is not None:
            await self._shut()  # what has opened since
            raise ClientClosedError("the client was closed while it was being opened")
        exchange = Exchange(
            http_client, base_url=self._base_url, key=self._key, timeouts=self._timeouts, clock=self._clock
        )
        self._tools = Tools(exchange, self._governor, self._policy, self._clock, self._observers)
        self._governor.observe(self._observers)
        return self

    async def _open_books(self) -> None:
        try:
            await self._opened_books().open()
        except BaseException:
            self._loop = self._http_client = None  # as if it had never been entered
            raise

    def _opened_books(self) -> ClientBooks:
        """Return the books; a client without a ledger or a budget has some only for a batch's budget."""
        if self._books is None:
            from ._booked import ClientBooks

            self._books = ClientBooks(
                self._ledger,
                self._budget,
                account=self._account,
                base_url=self._base_url,
                keep=self._boarding.keep_unwritten,
            )
        return self._books

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Start nothing more, wait at most ``timeouts.drain`` seconds for what is under way, then close everything.

        Lookups that only wait for their turn end as not sent; one that waits for a slot raises `ClientClosedError`.
        Calling it again waits for the same end. Cancelling it ends the wait: requests still under way are reported in
        doubt, connections are closed all the same, and then `asyncio.CancelledError` goes on.

        Raises:
            ClientClosedError: the client belongs to another event loop, or this is called from within one of its own
                lookups, by a hook or a transport, say, or a task that one of them has started, whose end it would
                wait for. It stays open.
            LedgerError: the last of it could not be written to the ledger. The connections are closed.
        """
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._require_own_loop()
        if self._flights.are_around():
            raise ClientClosedError("a lookup cannot wait for its own end: close the client from elsewhere")
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="oneauto close")
        await see_through(self._closing, hurry=self._flights.cut_short)

    async def _close(self) -> None:
        self._boarding.learn_of_closing()
        for batch in tuple(self._batches):
            batch.learn_of_closing()
        try:
            await self._flights.ground(self._timeouts.drain)
        finally:
            if self._tools is not None:
                self._governor.disregard(self._observers)
            await self._shut()
        if self._flights.unclaimed and self._ledger is None:
            count = len(self._flights.unclaimed)
            _log.warning("closed with %d answers that nobody took and that were, or may have been, paid for", count)

    async def _shut(self) -> None:
        """Close what was opened here."""
        try:
            if self._http_client is not None and self._given_http_client is None:
                await self._http_client.aclose()
        finally:
            if self._books is not None:
                await self._books.aclose()

    def _own_http_client(self) -> httpx.AsyncClient:
        transport = self._transport or HTTP11Transport(self._ssl_context, max_connections=self._max_concurrency)
        if isinstance(transport, HTTP11Transport) and self._base_url.startswith("https:"):
            _prepare_tls(transport)  # else the first lookup, which has a grant by then, would hold up those behind it
        return httpx.AsyncClient(transport=transport, trust_env=False)

    # Looking up.

    async def bidirectional_charging(
        self, evdb_vehicle_id: str | int, *, max_age: float | None = None, refresh: bool = False
    ) -> BidirectionalCharging:
        """Return the bi-directional charging capabilities of one electric van.

        Arguments:
            evdb_vehicle_id: which.
            max_age: with a ledger, seconds; an older answer is bought again. ``None`` for any age.
            refresh: with a ledger, buy again what it holds.

        Raises:
            OneAutoError: whatever went wrong, with what it cost in ``.billing``. 204 raises `NoDataError`, 206
                `PartialDataError` with the record in ``.value``, a budget that is spent `BudgetExceededError`.

        Cancelling returns at once and starts no further attempt; a request under way is seen through, and its answer
        kept in ``unclaimed`` for the next lookup of the id.
        """
        outcome = await self.lookup(evdb_vehicle_id, max_age=max_age, refresh=refresh)
        return outcome.unwrap()

    @overload
    async def lookup(
        self, evdb_vehicle_id: str | int, *, max_age: float | None = None, refresh: bool = False
    ) -> Outcome[BidirectionalCharging]: ...

    @overload
    async def lookup(
        self, evdb_vehicle_id: str | int, *, endpoint: Endpoint[T], max_age: float | None = None, refresh: bool = False
    ) -> Outcome[T]: ...

    async def lookup(
        self,
        evdb_vehicle_id: str | int,
        *,
        endpoint: Endpoint[Any] = VAN_BIDIRECTIONAL_CHARGING,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Outcome[Any]:
        """Look one id up and return how it ended; nothing the service says or fails to say is raised.

        A lookup of an id that is already on its way joins it and costs nothing more.

        Arguments:
            evdb_vehicle_id: which.
            endpoint: what to ask.
            max_age: with a ledger, seconds; an older answer is bought again. ``None`` for any age. What cost nothing
                is served for the time that is set on the ledger, at most.
            refresh: with a ledger, buy again what it holds. What is in doubt stays held.

        Raises:
            LedgerError: the ledger failed. If an answer had come that was, or may have been, charged, it is in
                ``unclaimed``.
            InvalidVehicleIdError: the id cannot be one; nothing was sent.
            ClientClosedError: the client is not open; nothing was sent.
            ConfigurationError: the endpoint's class cannot be made from an answer; nothing was sent.

        Cancelling: as for `bidirectional_charging`.
        """
        vehicle_id, route = canonical_id(evdb_vehicle_id), self._route(endpoint)
        wishes = None if max_age is None and not refresh else self._wishes(max_age, refresh)
        seat = FutureSeat()
        booked = await self._book(vehicle_id, route, seat, wishes)
        if not isinstance(booked, Flight):
            return booked
        try:
            return await seat.future
        except asyncio.CancelledError:
            self._flights.leave(booked, seat)
            if (untaken := seat.untaken()) is not None:
                self._flights.keep_unclaimed(booked.held_by, untaken)
            raise

    @overload
    def batch(
        self,
        ids: Ids,
        *,
        concurrency: int | None = None,
        ordered: bool = False,
        deduplicate: bool = True,
        deadline: float | None = None,
        budget: Budget | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Batch[BidirectionalCharging]: ...

    @overload
    def batch(
        self,
        ids: Ids,
        *,
        endpoint: Endpoint[T],
        concurrency: int | None = None,
        ordered: bool = False,
        deduplicate: bool = True,
        deadline: float | None = None,
        budget: Budget | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Batch[T]: ...

    def batch(
        self,
        ids: Ids,
        *,
        endpoint: Endpoint[Any] = VAN_BIDIRECTIONAL_CHARGING,
        concurrency: int | None = None,
        ordered: bool = False,
        deduplicate: bool = True,
        deadline: float | None = None,
        budget: Budget | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Batch[Any]:
        """Prepare the lookup of many ids: ``async with client.batch(ids) as batch: async for outcome in batch: …``.

        Arguments:
            ids: any iterable or async iterable, read lazily. A synchronous one that blocks, blocks the event loop.
            endpoint: what to ask.
            concurrency: lookups under way at once; ``None`` for all the client allows.
            ordered: outcomes in input order instead of as they finish.
            deduplicate: ask each distinct id once and answer each place in the input; memory then grows by the distinct
                ids and their outcomes. Without it memory does not grow with the input, and an id that comes again after
                its answer is paid for again.
            deadline: seconds for the whole batch. What was not sent by then is reported so; a request under way is
                reported in doubt, and its answer kept in ``unclaimed``.
            budget: the most that this batch may spend, within what the client's allows.
            max_age, refresh: as for `lookup`, for every id.

        A quota that is used up, a refused key (401, 403), a wrong route (404), a ``Retry-After`` beyond
        ``max_retry_after``, an outage or a key that refuses every call for as long as `RetryPolicy.total`, and a spent
        budget end the batch: requests under way are let finish, the rest comes back `NotSent` with the reason. One
        failed id never loses the others. A ledger that fails ends it as well: `LedgerError` is raised from ``async
        for``.

        Raises:
            ConfigurationError: before anything is sent.
        """
        require_many(ids)
        require_whole("concurrency", self._max_concurrency if concurrency is None else concurrency, 1)
        require_seconds("deadline", deadline)
        return Batch(
            ids,
            _Desk(self, self._route(endpoint), self._wishes(max_age, refresh, budget)),
            concurrency=min(concurrency or self._max_concurrency, self._max_concurrency),
            ordered=ordered,
            deduplicate=deduplicate,
            deadline=deadline,
            clock=self._clock,
        )

    @overload
    async def lookup_many(
        self,
        ids: Ids,
        *,
        concurrency: int | None = None,
        deduplicate: bool = True,
        deadline: float | None = None,
        budget: Budget | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> list[Outcome[BidirectionalCharging]]: ...

    @overload
    async def lookup_many(
        self,
        ids: Ids,
        *,
        endpoint: Endpoint[T],
        concurrency: int | None = None,
        deduplicate: bool = True,
        deadline: float | None = None,
        budget: Budget | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> list[Outcome[T]]: ...

    async def lookup_many(
        self, ids: Ids, *, endpoint: Endpoint[Any] = VAN_BIDIRECTIONAL_CHARGING, **options: Any
    ) -> list[Outcome[Any]]:
        """Look many ids up and return their outcomes in input order.

        The arguments are those of `batch`, but for ``ordered``.

        Raises:
            ConfigurationError: ``ids`` is one id, or an option is wrong; nothing was sent.
            ClientClosedError: the client is not open; nothing was sent.
            LedgerError: the ledger failed. What had been collected, and was or may have been charged by this call, is
                in ``unclaimed``.
            Exception: whatever the iterable of ids raises, or a transport that was given. What had been collected is
                in ``unclaimed`` as well.

        Cancelling: as for leaving a batch early; paid answers are in ``unclaimed``.
        """
        outcomes: list[Outcome[Any]] = []
        batch = self.batch(ids, endpoint=endpoint, ordered=True, **options)
        try:
            async with batch:
                async for outcome in batch:
                    outcomes.append(outcome)  # noqa: PERF401  # a comprehension would lose them to an exception
        except BaseException:
            batch._give_back(outcomes)
            raise
        return outcomes

    async def plan(
        self,
        ids: Ids,
        *,
        endpoint: Endpoint[Any] = VAN_BIDIRECTIONAL_CHARGING,
        budget: Budget | None = None,
        max_age: float | None = None,
        refresh: bool = False,
    ) -> Plan:
        """Return what a batch of these ids would buy, and the most it could cost. Nothing is sent or reserved.

        All ids are read. The arguments mean what they mean for `batch`; the cost in money needs a budget with a price,
        here or on the client.

        Raises:
            ClientClosedError: the client is not open.
            ConfigurationError: as for `batch`.
            LedgerError: the ledger cannot be read.
            Exception: whatever the iterable of ids raises.

        Cancelling ends the wait at once; nothing was sent or reserved.
        """
        self._require_open()
        require_many(ids)
        wishes = self._wishes(max_age, refresh, budget)
        prices = [Decimal(given.price) for given in (budget, self._budget) if given is not None and given.price]
        return await plan(ids, self._books, self._route(endpoint), wishes, self._policy.resend_in_doubt, *prices[:1])

    @property
    def unclaimed(self) -> tuple[Outcome[Any], ...]:
        """Answers that were paid for, or may have been, and that nobody took.

        A later lookup of the id takes its own from here, or, with a ledger, from the ledger.

        Bounded by a hundred per ``max_concurrency``; beyond that the oldest is dropped, and without a ledger the log
        says so.
        """
        return self._flights.unclaimed

    @property
    def governor(self) -> Governor:
        """The governor of this client; give it to another as ``rate_limit`` to share one key's limit."""
        return self._governor

    # Starting one lookup.

    def _route(self, endpoint: Endpoint[T]) -> Route[T]:
        require_kind("endpoint", endpoint, Endpoint)
        route = self._routes.get(endpoint)
        if route is None:
            route = self._routes[endpoint] = Route(endpoint)
        return route

    def _book(
        self, vehicle_id: str, route: Route[Any], seat: Seat, wishes: Wishes | None
    ) -> Awaitable[Flight | Outcome[Any]]:
        """Take the seat in the flight of this id, under way or new; or return an outcome that landed unclaimed."""
        tools = self._require_open()
        held_by: Hashable = (route.endpoint, vehicle_id)
        pursue = partial(self._pursuit, route, vehicle_id, tools, wishes)
        if wishes is None:
            return self._boarding.board(Wanted(held_by, held_by, seat, pursue))
        key = wishes.key(route, vehicle_id)
        return self._boarding.board(Wanted(held_by, key, seat, pursue, wishes.meter, wishes.take))

    def _pursuit(self, route: Route[Any], vehicle_id: str, tools: Tools, wishes: Wishes | None) -> Lookup[Any]:
        started = self._clock.monotonic()
        if wishes is None and not self._keeps_books:
            return Lookup(route, vehicle_id, tools, started)
        return self._opened_books().lookup(route, vehicle_id, tools, started, wishes)

    def _wishes(self, max_age: float | None, refresh: bool, budget: Budget | None = None) -> Wishes | None:
        """Return what a caller says about money, checked; ``None`` if it changes nothing."""
        require_seconds("max_age", max_age)
        if not isinstance(refresh, bool):
            raise ConfigurationError(f"refresh must be True or False, got {refresh!r}")
        require_countable(budget, self._ledger, of_batch=True)
        if self._ledger is None:
            max_age, refresh = None, False  # there is nothing that they could be about
        if budget is None and max_age is None and not refresh:
            return None
        return self._opened_books().wishes(max_age, refresh, budget)

    def _keep_untaken(self, outcomes: Iterable[Outcome[Any]], route: Route[Any]) -> None:
        for outcome in outcomes:
            key = (route.endpoint, outcome.evdb_vehicle_id)
            self._flights.keep_unclaimed(key, attrs.evolve(outcome, index=None))

    def _require_open(self) -> Tools:
        if self._tools is None:
            raise ClientClosedError("the client is not open: use it inside `async with OneAutoClient() as client:`")
        if self._closing is not None:
            raise ClientClosedError("the client is closed: make a new OneAutoClient")
        self._require_own_loop()
        return self._tools

    def _require_own_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise ClientClosedError("this client belongs to another event loop or thread: make one client per loop")


@attrs.frozen(eq=False)
class _Desk:
    """Where a batch gets its lookups, all of one endpoint."""

    client: OneAutoClient
    route: Route[Any]
    wishes: Wishes | None

    def enlist(self, batch: Batch[Any]) -> None:
        self.client._require_open()
        self.client._batches.add(batch)

    def book(self, vehicle_id: str, seat: Seat) -> Awaitable[Flight | Outcome[Any]]:
        return self.client._book(vehicle_id, self.route, seat, self.wishes)

    def leave(self, flight: Flight, seat: Seat, *, is_told: bool = False) -> None:
        self.client._flights.leave(flight, seat, is_told=is_told)

    def keep_untaken(self, outcomes: Iterable[Outcome[Any]]) -> None:
        self.client._keep_untaken(outcomes, self.route)


def _clock_for(clock: Clock | None, rate_limit: RateLimit | Governor) -> Clock:
    """Return the client's clock: that of a governor which is given, since each counts the other's moments."""
    if clock is not None:
        require_clock(clock)
    if not isinstance(rate_limit, Governor):
        return SystemClock() if clock is None else clock
    theirs = rate_limit.clock
    are_both_real = isinstance(clock, SystemClock) and isinstance(theirs, SystemClock)
    if clock is not None and clock is not theirs and not are_both_real:
        raise ConfigurationError("the governor that was given has another clock: give both the same")
    return theirs


def _prepare_tls(transport: HTTP11Transport) -> None:
    try:
        transport.prepare_tls()
    except OSError as error:  # a TLS error is one as well
        log = os.environ.get("SSLKEYLOGFILE")
        if log and error.filename == log:
            raise ConfigurationError(
                f"SSLKEYLOGFILE names {log!r}, which cannot be written: {error.strerror}"
            ) from error
        raise ConfigurationError(
            f"the certificate authorities cannot be read ({error}): install certifi anew, or give an ssl_context"
        ) from error


def _require_compatible(
    ssl_context: ssl.SSLContext | None,
    transport: httpx.AsyncBaseTransport | None,
    http_client: httpx.AsyncClient | None,
) -> None:
    if transport is not None and http_client is not None:
        raise ConfigurationError("give transport or http_client, not both: each brings the connections")
    if ssl_context is not None and (transport is not None or http_client is not None):
        raise ConfigurationError("ssl_context is for the client's own connections; set it on the transport you give")
    if not isinstance(ssl_context, ssl.SSLContext | None):
        raise ConfigurationError(f"ssl_context must be an ssl.SSLContext, got {type(ssl_context).__name__}")
    if transport is not None and not isinstance(transport, httpx.AsyncBaseTransport):
        raise ConfigurationError(f"transport must be an httpx.AsyncBaseTransport, got {type(transport).__name__}")
    if http_client is not None and not isinstance(http_client, httpx.AsyncClient):
        raise ConfigurationError(f"http_client must be an httpx.AsyncClient, got {type(http_client).__name__}")
    if http_client is not None and http_client.is_closed:
        raise ConfigurationError("http_client is closed already: give one that is open for as long as this client")

"""The ledger and the budgets of a client: what a lookup may buy, and where it writes down what it bought."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import attrs

from ._flow.budget import Meter, reserve_all
from ._lookup import Route
from ._recent import Recent
from .errors import Billing
from .ledger.protocol import Ledger
from .ledger.records import (
    Busy,
    Claim,
    Decision,
    HeldInDoubt,
    Kept,
    LedgerKey,
    Limit,
    OverBudget,
    Service,
    Settlement,
    Spending,
    Standing,
    Terms,
)
from .outcomes import Outcome
from .settings import Budget


@attrs.frozen(kw_only=True)
class Wishes:
    """What the caller of a lookup said about money.

    Attributes:
        max_age: seconds; an older answer is not served. ``None`` for any age.
        refresh: buy again what is kept.
        meter: the budget of the batch it belongs to.
    """

    max_age: float | None = None
    refresh: bool = False
    meter: Meter | None = attrs.field(default=None, eq=False)

    def key(self, route: Route[Any], vehicle_id: str) -> Hashable:
        """Return what lookups must have in common to share a flight."""
        if self.max_age is None and not self.refresh:
            return (route.endpoint, vehicle_id)
        return (route.endpoint, vehicle_id, self)

    def take(self, age: float) -> bool:
        """Tell whether an answer of so many seconds will do."""
        return not self.refresh and (self.max_age is None or age <= self.max_age)


NO_WISHES = Wishes()


@attrs.frozen
class Full:
    """There is no room in a budget: for now, or for good."""

    text: str
    is_final: bool


class Accounts:
    """The ledger and the budget of one client."""

    def __init__(
        self,
        ledger: Ledger | None,
        budget: Budget | None,
        *,
        account: str,
        base_url: str,
        keep: Callable[[Hashable, Outcome[Any]], None],
    ) -> None:
        """Make the books.

        Arguments:
            ledger: where everything is written down, if there is one.
            budget: of the client.
            account: the label of the account that pays.
            base_url: where it is asked.
            keep: takes an answer that could not be written down.
        """
        self.ledger = ledger
        self.keep = keep
        self._account = account
        self._host = host_of(base_url)
        self._limit: Limit | None = None
        self._meters: tuple[Meter, ...] = ()
        self._closes_ledger = False
        self._services: Recent[Route[Any], Service] = Recent()
        if budget is not None and ledger is not None:
            self._limit = Limit(most=budget.most, since=_begun(budget.since_seconds))
        elif budget is not None:
            self._meters = (Meter(budget.most),)

    async def open(self) -> None:
        """Open the ledger, unless it is open."""
        if self.ledger is not None and not self.ledger.is_open:
            await self.ledger.open()
            self._closes_ledger = True

    async def aclose(self) -> None:
        """Write what was ordered; close the ledger if it was opened here."""
        if self.ledger is None or not self.ledger.is_open:
            return
        await (self.ledger.aclose() if self._closes_ledger else self.ledger.flush())

    def service(self, route: Route[Any]) -> Service:
        """Return what the ledger calls an endpoint of this client."""
        found = self._services.get(route)
        if found is None:
            asked = f"{route.endpoint.path}?{route.endpoint.parameter}"
            found = self._services[route] = Service(self._account, self._host, asked)
        return found

    def wishes(self, max_age: float | None, refresh: bool, budget: Budget | None) -> Wishes:
        """Return what a caller said, with a meter for the budget of a batch."""
        meter = None if budget is None else Meter(budget.most)
        return Wishes(max_age=max_age, refresh=refresh, meter=meter)

    def meters(self, wishes: Wishes) -> tuple[Meter, ...]:
        """Return the budgets that are counted in memory."""
        return self._meters if wishes.meter is None else (*self._meters, wishes.meter)

    async def decide(
        self, key: LedgerKey, terms: Terms, meters: tuple[Meter, ...], *, sending: bool = False
    ) -> Decided:
        """Return what is kept, or leave to buy with a place in every budget, or why not.

        Arguments:
            key: what is asked for.
            terms: what will do.
            meters: the budgets that are counted in memory.
            sending: the request leaves as soon as this returns, and is marked as sent.
        """
        reserved = reserve_all(meters)
        try:
            decision = await self._claim(
                key, terms if reserved else attrs.evolve(terms, may_buy=False), sending=sending
            )
        except BaseException:
            _settle(meters if reserved else (), spent=False)
            raise
        if isinstance(decision, Claim):
            return Purchase(self.ledger, decision, meters)
        _settle(meters if reserved else (), spent=False)
        if isinstance(decision, OverBudget):
            return self._full(decision.spending) if reserved else _full(meters)
        return decision

    async def kept(self, key: LedgerKey, terms: Terms) -> Kept | HeldInDoubt | None:
        """Return what the ledger has for a key, without leave to buy it."""
        decision = await self._claim(key, attrs.evolve(terms, may_buy=False), sending=False)
        return decision if isinstance(decision, Kept | HeldInDoubt) else None

    async def _claim(self, key: LedgerKey, terms: Terms, *, sending: bool) -> Decision:
        if self.ledger is not None:
            return await self.ledger.claim(key, terms, self._limit, sending=sending)
        return Claim(seq=0, key=key, claimed_at=0.0) if terms.may_buy else OverBudget(Spending())

    def _full(self, spending: Spending) -> Full:
        assert self._limit is not None
        text = (
            f"the budget allows {_charges(self._limit.most)}: "
            f"{spending.billed} are billed, {spending.in_doubt} in doubt"
        )
        return Full(text, is_final=spending.spent >= self._limit.most)

    async def standings(self, route: Route[Any], ids: Iterable[str], wishes: Wishes | None) -> dict[str, Standing]:
        """Return where ids stand in the ledger; the new ones are left out."""
        if self.ledger is None:
            return {}
        wishes = wishes or NO_WISHES
        terms = Terms(max_age=wishes.max_age, refresh=wishes.refresh)
        return await self.ledger.standings(self.service(route), ids, terms)

    async def room(self, wishes: Wishes | None) -> int | None:
        """Return how many charges the budgets still allow, or ``None`` for any number.

        What others have reserved counts as allowed: it may turn out to cost nothing.
        """
        rooms = [meter.most - meter.spent for meter in self.meters(wishes or NO_WISHES)]
        if self._limit is not None:
            rooms.append(max(0, self._limit.most - await self.spent()))
        return min(rooms, default=None)

    async def spent(self) -> int:
        """Return the charges, doubts included, that a ledger holds and the client's budget counts."""
        if self.ledger is None:
            return 0
        since = None if self._limit is None else self._limit.since
        return (await self.ledger.spending(self._account, self._host, since)).spent


def _charges(most: int) -> str:
    return f"{most} charge{'' if most == 1 else 's'}"


def _begun(since: float | None) -> float | None:
    """Return the moment from which charges count, now if it is still to come: until then no cap would hold."""
    return None if since is None else min(since, time.time())


def host_of(base_url: str) -> str:
    """Name a service by host, port and path: what is asked of the sandbox, say, is never taken for the live one's."""
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port
    shown = f"[{host}]" if ":" in host else host
    standard = port is None or (parts.scheme, port) == ("https", 443)
    return f"{shown}{'' if standard else f':{port}'}{parts.path}"


def _full(meters: tuple[Meter, ...]) -> Full:
    """Say which budget had no room; by now it may have some again, and then it is not the end."""
    tightest = min(meters, key=lambda meter: meter.most - meter.spent)
    text = f"the budget allows {_charges(tightest.most)}: {tightest.spent} are billed or in doubt"
    return Full(text, is_final=tightest.is_spent)


def _settle(meters: Iterable[Meter], *, spent: bool) -> None:
    for meter in meters:
        meter.settle(spent=spent)


@attrs.define(eq=False)
class Purchase:
    """Leave to buy one answer: a claim in the ledger, and a place in each budget. At most one charge."""

    ledger: Ledger | None
    claim: Claim
    meters: tuple[Meter, ...]

    @property
    def is_sent(self) -> bool:
        """Whether the claim came marked as sent."""
        return self.claim.is_sent

    async def mark_sent(self) -> bool:
        """Note that the request is about to leave; ``False`` if the claim was lost."""
        return self.ledger is None or await self.ledger.mark_sent(self.claim)

    def retract(self, last: Settlement) -> None:
        """Note that the attempt was surely not charged."""
        if self.ledger is not None:
            self.ledger.retract(self.claim, last)

    def hold_back(self, last: Settlement) -> None:
        """Note that nothing was sent after all, and that it has to be marked again before it is."""
        self.retract(last)
        self.claim = attrs.evolve(self.claim, is_sent=False)

    def settle(self, settlement: Settlement) -> Awaitable[None] | None:
        """Order the end of it; awaiting what this returns, if anything, takes until it is durable."""
        _settle(self.meters, spent=settlement.billing is not Billing.NOT_BILLED)
        return None if self.ledger is None else self.ledger.settle(self.claim, settlement)

    def drop(self) -> None:
        """Give the places in the budgets back, the claim being lost."""
        _settle(self.meters, spent=False)


Decided: TypeAlias = Purchase | Kept | HeldInDoubt | Busy | Full

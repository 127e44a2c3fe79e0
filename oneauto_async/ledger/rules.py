"""What the ledger's entries mean for the next lookup of an id. Pure: no storage, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable

import attrs

from ..errors import Billing
from .records import UNDER_WAY, Spending, Standing, State, Terms

DAY = 86_400.0


@attrs.frozen
class Past:
    """What the rules need to know of an earlier entry of the same id."""

    seq: int
    state: State
    billing: Billing
    settled_at: float | None


@attrs.frozen(kw_only=True)
class Freshness:
    """How old an answer may be: what a lookup asks for, and the age of its own for what cost nothing.

    Attributes:
        terms: what the lookup asks for.
        free_max_age: seconds that an answer which was not charged (204, 206) is kept.
        now: seconds since the epoch.
    """

    terms: Terms
    free_max_age: float
    now: float

    def accepts(self, past: Past) -> bool:
        """Tell whether a kept answer will do."""
        if self.terms.accept_from is not None and past.seq >= self.terms.accept_from:
            return True
        return past.settled_at is not None and past.settled_at >= self.oldest(past.billing)

    def oldest(self, billing: Billing) -> float:
        """Return the moment from which on a kept answer will do. One from the future is fresh: a clock was set back."""
        if self.terms.refresh:
            return math.inf
        ages = [self.terms.max_age, self.free_max_age if billing is Billing.NOT_BILLED else None]
        return self.now - min((age for age in ages if age is not None), default=math.inf)


def judge(history: Iterable[Past], freshness: Freshness) -> tuple[Standing, Past | None]:
    """Say where an id stands, and by which of its entries; failed ones do not matter.

    The newest answer is served if it will do; else whoever buys it now is waited for; else a doubt that is newer than
    every answer is held, unless the terms say to send it again; else the id is as good as new.
    """
    answered = in_doubt = under_way = None
    for past in sorted(history, key=lambda past: past.seq):
        if past.state is State.ANSWERED:
            answered, in_doubt = past, None
        elif past.state is State.IN_DOUBT:
            in_doubt = past
        elif past.state in UNDER_WAY:
            under_way = past
    if answered is not None and freshness.accepts(answered):
        return Standing.ANSWERED, answered
    if under_way is not None:
        return Standing.UNDER_WAY, under_way
    if in_doubt is not None and not freshness.terms.resend:
        return Standing.IN_DOUBT, in_doubt
    return Standing.NEW, None


def share(state: State, billing: Billing) -> Spending:
    """Return what one entry adds to the spending."""
    if state in UNDER_WAY:
        return Spending(under_way=1)
    return Spending(billed=int(billing is Billing.BILLED), in_doubt=int(billing is Billing.UNKNOWN))


def plus(one: Spending, other: Spending) -> Spending:
    """Add two spendings."""
    return Spending(
        billed=one.billed + other.billed,
        in_doubt=one.in_doubt + other.in_doubt,
        under_way=one.under_way + other.under_way,
    )


def minus(one: Spending, other: Spending) -> Spending:
    """Take one spending from another."""
    return Spending(
        billed=one.billed - other.billed,
        in_doubt=one.in_doubt - other.in_doubt,
        under_way=one.under_way - other.under_way,
    )


def times(count: int, one: Spending) -> Spending:
    """Return what several equal entries add up to."""
    return Spending(billed=count * one.billed, in_doubt=count * one.in_doubt, under_way=count * one.under_way)

"""What a person sets: limits, patience and budgets. Wrong values are refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any, Literal

import attrs

from ._checks import number, require_whole, shown, whole
from .errors import ConfigurationError

__all__ = ["Budget", "RateLimit", "RetryPolicy", "Timeouts"]

LOWEST_RATE = 1e-6
"""Calls per second: one in eleven days."""

CLOCK_DIFFERENCE = timedelta(days=1)
"""By this much the date may be ahead of UTC somewhere, and clocks may differ."""

SMALLEST_PRICE, LARGEST_AMOUNT = Decimal("0.000001"), 10**12
"""Bounds of money, in any currency: what is beyond them is a mistake."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds allowed, for one attempt and for closing.

    Attributes:
        connect: to open a connection, TLS included.
        read: between two pieces of the answer. The gateway gives up after 29 s, so a value below 30 makes the client
            itself the source of calls whose billing is unknown.
        attempt: for one whole attempt, however slowly the answer drips.
        drain: how long `OneAutoClient.aclose` waits for answers that are already on their way.

    Raises:
        ConfigurationError: a value is not a number above 0 (``drain``: of at least 0), up to 1,000,000,000.
    """

    connect: float = attrs.field(default=5.0, validator=number(0))
    read: float = attrs.field(default=35.0, validator=number(0))
    attempt: float = attrs.field(default=45.0, validator=number(0))
    drain: float = attrs.field(default=35.0, validator=number(0, inclusive=True))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How patiently one lookup is pursued. Nothing that may have been charged is sent again by default.

    Attributes:
        attempts: most requests for one lookup, over 429, 500, 503 and connections that failed before sending. A 429 is
            counted only if the key has accepted no call, of whichever lookup, since this lookup's previous try and
            within the last three seconds (of a slow key within the time of twenty calls, at most 20 s): a queue that
            moves is no failure. A call that asked for all lookups whether an outage is over is not counted either.
        total: seconds from the first request to the last, waits included; also the longest a lookup waits before its
            first request for a shut gate, for the end of an outage, and for somebody else on the same ledger who buys
            the same id.
        max_retry_after: the longest ``Retry-After`` that is waited out, in seconds. A longer one fails the lookup at
            once, and is never shortened.
        poll_interval: seconds between two polls of an answer that is not ready (202).
        poll_total: seconds of polling before `PendingError`.
        resend_in_doubt: how often a lookup whose request may already have been charged is sent again. Each resend can
            cost the price of another answer.

    Raises:
        ConfigurationError: ``attempts`` is not a whole number of at least 1, or ``resend_in_doubt`` of at least 0;
            ``max_retry_after`` or ``poll_total`` is not a number of at least 0, or another value one above 0; or any is
            above 1,000,000,000.
    """

    attempts: int = attrs.field(default=6, validator=whole(1))
    total: float = attrs.field(default=300.0, validator=number(0))
    max_retry_after: float = attrs.field(default=120.0, validator=number(0, inclusive=True))
    poll_interval: float = attrs.field(default=2.0, validator=number(0))
    poll_total: float = attrs.field(default=30.0, validator=number(0, inclusive=True))
    resend_in_doubt: int = attrs.field(default=0, validator=whole(0))


def _scope(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or value not in {"key", "call"}:
        raise ConfigurationError(f"RateLimit.retry_after_scope must be 'key' or 'call', got {shown(value)}")


def _initial(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, RateLimit) and value.rate is not None):
        raise ConfigurationError(
            "RateLimit.adaptive(initial=…) takes a RateLimit(rate, burst), such as governor.statistics().learnt, "
            f"got {shown(value)}"
        )


@attrs.frozen
class RateLimit:
    """The key's limit, as a token bucket: ``burst`` calls at once, then ``rate`` per second.

    ``RateLimit(rate=50, burst=10)`` paces all calls to it, and below it if the key turns out to allow less.
    ``RateLimit.adaptive()`` learns the limit from the refusals: calls start slowly, double until the first 429, and
    then keep a little above what the key was measured to allow.

    Attributes:
        rate: calls per second, from 0.000001, or ``None`` when the limit is not known.
        burst: calls the key allows at once after a rest.
        retry_after_scope: whom a ``Retry-After`` on a 429 holds: every call of the ``"key"``, or that ``"call"`` alone.
            One on a 500 or 503 always holds all.
        initial: with an adaptive limit, what an earlier run has learnt.

    Raises:
        ConfigurationError: ``rate`` is not a number from 0.000001 to 1,000,000,000, or ``burst`` not a whole number
            from 1 to that; ``burst`` is given without a rate; ``retry_after_scope`` is another; ``initial`` is no limit
            with a rate, or is given beside a rate.
    """

    rate: float | None = attrs.field(validator=attrs.validators.optional(number(LOWEST_RATE, inclusive=True)))
    burst: int = attrs.field(default=1, validator=whole(1))
    retry_after_scope: Literal["key", "call"] = attrs.field(default="key", kw_only=True, validator=_scope)
    initial: RateLimit | None = attrs.field(default=None, kw_only=True, validator=_initial)

    def __attrs_post_init__(self) -> None:
        if self.rate is None and self.burst != 1:
            raise ConfigurationError("RateLimit(burst=…) needs the rate: RateLimit(rate=50, burst=10)")
        if self.rate is not None and self.initial is not None:
            raise ConfigurationError("give RateLimit(rate, burst), or RateLimit.adaptive(initial=…), and not both")

    @classmethod
    def adaptive(
        cls, initial: RateLimit | None = None, *, retry_after_scope: Literal["key", "call"] = "key"
    ) -> RateLimit:
        """Return a limit for a key whose limit is not known.

        Arguments:
            initial: what an earlier run has learnt, as ``governor.statistics().learnt``: a first guess.
            retry_after_scope: as above.

        Raises:
            ConfigurationError: ``initial`` is no limit with a rate, or ``retry_after_scope`` is another.
        """
        return cls(rate=None, initial=initial, retry_after_scope=retry_after_scope)


def _most(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        require_whole(f"Budget.{attribute.name}", value, 0)


def _money(low: Decimal) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validate an exact amount, or none."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None:
            return
        exact = isinstance(value, Decimal | int) and not isinstance(value, bool) and Decimal(value).is_finite()
        if not exact or not low <= Decimal(str(value)) <= LARGEST_AMOUNT:
            raise ConfigurationError(
                f"Budget.{attribute.name} must be a Decimal (or a whole number) from {low} to {LARGEST_AMOUNT:,}, such "
                f"as Decimal('0.50'), got {shown(value)}"
            )

    return check


def _moment(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ConfigurationError(f"Budget.since must say its time zone: datetime(..., tzinfo=UTC), got {value!r}")
    if not isinstance(value, date | None):
        raise ConfigurationError(
            f"Budget.since must be a date, which begins at midnight UTC, or a datetime with a time zone, got {value!r}"
        )
    if value is not None and _beginning(value) > datetime.now(UTC) + CLOCK_DIFFERENCE:
        raise ConfigurationError(f"Budget.since is in the future, and until then no cap would hold: {value}")


def _beginning(since: date) -> datetime:
    return since if isinstance(since, datetime) else datetime.combine(since, time.min, UTC)


@attrs.frozen(kw_only=True)
class Budget:
    """The most that may be spent. Give ``max_billed``, or ``max_cost`` with the ``price`` of one answer.

    A charge is reserved before its request leaves, and given back only if it surely was not charged; what is in doubt
    counts as spent. So no concurrency exceeds it.

    ``OneAutoClient(budget=…)`` counts, with a ledger, all that it holds for the account and host, whichever process
    bought it; without one, what this client buys. ``batch(budget=…)`` counts what that batch buys.

    Attributes:
        max_billed: most charges.
        max_cost: most money, in the currency of ``price``; whatever was bought before is valued at ``price`` too.
        price: what one answer costs.
        since: only what was bought from then on counts: a date, from midnight UTC, or a datetime with a time zone. A
            moment of the next day counts from when the client is made, and a later one is refused: until then no cap
            would hold. It needs a ledger.

    Raises:
        ConfigurationError: both or none of ``max_billed`` and ``max_cost`` are given, or ``max_cost`` without
            ``price``; ``max_billed`` is not a whole number of at least 0; an amount is a float or out of bounds (at
            most 1,000,000,000,000, a price at least 0.000001); or ``since`` is no date, has a time without a zone, or
            is more than a day in the future.
    """

    max_billed: int | None = attrs.field(default=None, validator=_most)
    max_cost: Decimal | int | None = attrs.field(default=None, validator=_money(Decimal(0)))
    price: Decimal | int | None = attrs.field(default=None, validator=_money(SMALLEST_PRICE))
    since: date | None = attrs.field(default=None, validator=_moment)

    def __attrs_post_init__(self) -> None:
        if (self.max_billed is None) == (self.max_cost is None):
            raise ConfigurationError("give Budget(max_billed=…), or Budget(max_cost=…, price=…), and not both")
        if self.max_cost is not None and self.price is None:
            raise ConfigurationError("Budget(max_cost=…) needs the price of one answer: price=Decimal('0.50')")

    @property
    def most(self) -> int:
        """The most charges it allows."""
        if self.max_billed is not None:
            return self.max_billed
        assert self.max_cost is not None
        assert self.price is not None
        with localcontext(prec=50):  # whatever the program around us has set
            return int(Decimal(self.max_cost) // Decimal(self.price))

    @property
    def since_seconds(self) -> float | None:
        """The moment it begins, in seconds since the epoch."""
        return None if self.since is None else _beginning(self.since).timestamp()

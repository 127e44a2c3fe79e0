"""How a lookup ended, as a value: match on it, or ``unwrap()`` it.

Found      the record (``partial`` when the service said so)
NoData     the service has nothing for this id
Failed     an error, and what it cost is known (but for statuses the vendor does not list)
InDoubt    sent, and no trustworthy answer: it may have been charged
NotSent    nothing left for this id
"""

from __future__ import annotations

import copy
from decimal import Decimal
from enum import StrEnum
from typing import Generic, NoReturn, TypeAlias, TypeVar

import attrs

from .errors import Billing, NoDataError, OneAutoError, PartialDataError

__all__ = [
    "BatchSummary",
    "Failed",
    "Found",
    "InDoubt",
    "NoData",
    "NotSent",
    "NotSentReason",
    "Outcome",
    "Plan",
    "Receipt",
    "Source",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Source(StrEnum):
    """Where an outcome came from."""

    NETWORK = "network"
    JOINED = "joined flight"
    """Another lookup of the same id was already on its way; this one cost nothing more."""
    SIMULATOR = "simulator"
    LEDGER = "ledger"
    """It was paid for before, found free, or is held in doubt."""


class NotSentReason(StrEnum):
    """Why nothing was sent for an id."""

    INVALID_ID = "invalid id"
    QUOTA = "quota used up"
    ACCESS_DENIED = "access denied"
    WRONG_ROUTE = "wrong route"
    RATE_LIMITED = "rate limited"
    SERVICE_UNAVAILABLE = "service unavailable"
    DEADLINE = "deadline"
    CLOSED = "client closed"
    BUDGET = "budget spent"
    BUSY = "already being bought"
    """By another process or client on the same ledger, and it did not end in the time allowed."""


@attrs.frozen(kw_only=True)
class Receipt:
    """What a lookup cost in money, calls and time.

    Attributes:
        billing: whether *this* lookup was charged; an answer shared with another lookup is not charged again.
        doubts: requests of this lookup that may have been charged, each, and of which nothing proves it. There may be
            some though ``billing`` is ``BILLED``: a doubt that was sent again by ``RetryPolicy(resend_in_doubt=…)``.
        status: the HTTP status of the last request, or ``None`` if none came.
        request_id: the gateway's id of the last request, to quote to the vendor.
        attempts: HTTP requests made for this lookup.
        wasted: how many of them the service turned away with 429 or 503.
        elapsed: seconds from the start of the lookup to its end, waits included.
        source: where the outcome came from.
    """

    billing: Billing = Billing.NOT_BILLED
    doubts: int = 0
    status: int | None = None
    request_id: str | None = None
    attempts: int = 0
    wasted: int = 0
    elapsed: float = 0.0
    source: Source = Source.NETWORK

    @property
    def charges(self) -> int:
        """How many charges it tells of, the one that is sure and each that may have been made."""
        return (self.billing is Billing.BILLED) + self.doubts


def _charge(receipt: Receipt) -> str:
    return "billing unknown" if receipt.billing is Billing.UNKNOWN else str(receipt.billing)


def _size(raw: bytes | None) -> str:
    """Show a body by its size: a repr is one line."""
    return "None" if raw is None else f"<{len(raw)} bytes>"


@attrs.frozen(kw_only=True)
class _Outcome:
    """What every outcome carries.

    Attributes:
        evdb_vehicle_id: the id asked for, in its canonical form; of an input that is no id, a printable text of it, cut
            after 64 characters: go by ``index`` there.
        index: its place in the input of a batch, from 0; ``None`` for a single lookup.
        raw: the body that came, if any.
        receipt: what it cost.
    """

    evdb_vehicle_id: str
    index: int | None = None
    raw: bytes | None = attrs.field(default=None, repr=_size)
    receipt: Receipt = attrs.field(factory=Receipt)


@attrs.frozen(kw_only=True)
class Found(_Outcome, Generic[T_co]):
    """The service answered with a record.

    Attributes:
        value: the record.
        partial: the service said 206: limited content, not charged.
        message: the envelope's ``error`` text, which the vendor also sends beside a success.
    """

    value: T_co
    partial: bool = False
    message: str | None = None

    def unwrap(self) -> T_co:
        """Return the record, unless the service marked it partial.

        Raises:
            PartialDataError: it is partial; the error holds it as ``value``.
        """
        if self.partial:
            charge = _charge(self.receipt)
            raise PartialDataError(
                f"HTTP 206: limited content for evdb_vehicle_id {self.evdb_vehicle_id} ({charge}); see .value",
                value=self.value,
                billing=self.receipt.billing,
                status=self.receipt.status,
                request_id=self.receipt.request_id,
                attempts=self.receipt.attempts,
                raw=self.raw,
            )
        return self.value


@attrs.frozen(kw_only=True)
class NoData(_Outcome):
    """The service has no data for this id (204, or a 206 with nothing in it). Not charged.

    A doubt before it that was sent again, by ``RetryPolicy(resend_in_doubt=…)``, stays one in the receipt.
    """

    def unwrap(self) -> NoReturn:
        """Raise the error that says so.

        Raises:
            NoDataError: in any case.
        """
        raise NoDataError(
            f"HTTP {self.receipt.status}: no data for evdb_vehicle_id {self.evdb_vehicle_id} ({_charge(self.receipt)})",
            billing=self.receipt.billing,
            status=self.receipt.status,
            request_id=self.receipt.request_id,
            attempts=self.receipt.attempts,
            raw=self.raw,
        )


@attrs.frozen(kw_only=True)
class _Unsuccessful(_Outcome):
    """An outcome that is an error.

    Attributes:
        error: what went wrong.
    """

    error: OneAutoError

    def unwrap(self) -> NoReturn:
        """Raise the error.

        Raises:
            OneAutoError: a copy of ``error``, in any case.
        """
        # A copy: one outcome may be unwrapped by several tasks, and a raised exception collects tracebacks.
        raise copy.copy(self.error)


@attrs.frozen(kw_only=True)
class Failed(_Unsuccessful):
    """The lookup failed. ``receipt.billing`` says what it cost."""


@attrs.frozen(kw_only=True)
class InDoubt(_Unsuccessful):
    """Sent, and no trustworthy answer: it may have been charged. Not sent again by itself."""


@attrs.frozen(kw_only=True)
class NotSent(_Unsuccessful):
    """No answer was asked for: nothing left for this id, so nothing was charged.

    Attributes:
        reason: why.
    """

    reason: NotSentReason


@attrs.frozen(kw_only=True)
class BatchSummary:
    """What a batch has done so far, in counts.

    Attributes:
        total: outcomes so far; the six counts below add up to it.
        found: full records.
        partial: records the service marked partial (206).
        no_data: ids the service has nothing for (204, or a 206 with nothing in it).
        failed: errors; what they cost is known, but for statuses the vendor does not list.
        in_doubt: sent, no trustworthy answer, perhaps charged.
        not_sent: ids nothing left for.
        duplicates: outcomes shared with another lookup of the same id, mostly of the same input.
        from_ledger: outcomes that the ledger had: answers, and what it holds in doubt.
        billed: lookups charged.
        not_billed: lookups not charged.
        unknown: lookups of which it is not known whether they were charged.
        spent: charges that this batch made or may have made: ``billed``, and each request in doubt. What was in doubt
            before is not among them.
        attempts: HTTP requests made.
        wasted: requests turned away with 429 or 503.
        elapsed: seconds since the batch began, or that it took.
        stopped: why the batch stopped asking, if it did.
    """

    total: int = 0
    found: int = 0
    partial: int = 0
    no_data: int = 0
    failed: int = 0
    in_doubt: int = 0
    not_sent: int = 0
    duplicates: int = 0
    from_ledger: int = 0
    billed: int = 0
    not_billed: int = 0
    unknown: int = 0
    spent: int = 0
    attempts: int = 0
    wasted: int = 0
    elapsed: float = 0.0
    stopped: NotSentReason | None = None


@attrs.frozen(kw_only=True)
class Plan:
    """What a batch would buy, in counts; the six kinds of ids add up to ``total``.

    Attributes:
        total: ids in the input.
        new: ids that would be bought.
        answered: ids that the ledger has an answer for.
        in_doubt: ids that were sent before and are held; bought only with ``RetryPolicy(resend_in_doubt=…)``.
        under_way: ids that somebody else on the same ledger is buying now.
        duplicates: ids that come again.
        invalid: inputs that cannot be ids.
        most_billed: the most charges it can make, doubts included, within what the budgets allow. One kind of id is not
            counted: what the ledger has for it cost nothing (206) and does not fit the endpoint's class, which shows
            only when it is read, and then it is asked for again.
        most_cost: the same in money, or ``None`` if no budget names a price.
        spent: charges, doubts included, that the ledger holds for this account and host: a client's budget counts them
            in, so whoever wants to buy all of this allows so many more.
    """

    total: int
    new: int
    answered: int
    in_doubt: int
    under_way: int
    duplicates: int
    invalid: int
    most_billed: int
    most_cost: Decimal | None = None
    spent: int = 0


Outcome: TypeAlias = Found[T] | NoData | Failed | InDoubt | NotSent

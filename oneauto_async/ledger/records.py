"""What a ledger holds and hands out, as frozen records."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeAlias

import attrs

from ..errors import Billing

Headers: TypeAlias = tuple[tuple[str, str], ...]

_SECRET_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "set-cookie", "set-cookie2", "x-api-key"}
)


class State(StrEnum):
    """How far the purchase of one answer has got."""

    CLAIMED = "claimed"
    """A living process is about to ask; nothing of the request has left."""
    SENT = "sent"
    """The request may have left."""
    ANSWERED = "answered"
    """The answer is kept."""
    IN_DOUBT = "in_doubt"
    """Sent, and nothing proves whether it was charged. Counted as spent, and not sent again by itself."""
    FAILED = "failed"
    """Ended without an answer worth keeping; the id may be asked for again."""


UNDER_WAY = (State.CLAIMED, State.SENT)


class Standing(StrEnum):
    """What the ledger has to say of an id before it is asked for."""

    NEW = "new"
    ANSWERED = "answered"
    IN_DOUBT = "in_doubt"
    UNDER_WAY = "under_way"


@attrs.frozen(cache_hash=True)
class Service:
    """What answers are asked of. Answers of different services are never mixed.

    Attributes:
        account: your own label of the account that pays; never derived from the API key.
        host: the host, with its port and any path before the endpoint's.
        endpoint: the endpoint's path and the name of its parameter, as in ``/path/?evdb_vehicle_id``.
    """

    account: str
    host: str
    endpoint: str


@attrs.frozen(cache_hash=True)
class LedgerKey:
    """One question: which id, of which service."""

    service: Service
    vehicle_id: str


@attrs.frozen(kw_only=True)
class Settlement:
    """How a purchase ended.

    Attributes:
        state: ``ANSWERED``, ``IN_DOUBT`` or ``FAILED``; not looked at where it goes to `Ledger.retract`.
        billing: what it cost, as far as is known.
        attempts: HTTP requests made.
        status: the last HTTP status, if one was seen.
        request_id: the gateway's id of the last request.
        headers: the answer's headers.
        raw: the answer's bytes as they came.
        flaw: why the bytes are not whole, if they are not.
        note: what a person should know, such as why it is in doubt.
    """

    state: State
    billing: Billing
    attempts: int = 0
    status: int | None = None
    request_id: str | None = None
    headers: Headers = ()
    raw: bytes | None = None
    flaw: str | None = None
    note: str | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """One purchase as the ledger holds it: at most one charge.

    Attributes:
        seq: counts the purchases of a ledger; a later one has a higher number, whatever the clock said.
        key: what was asked.
        state: how far it has got.
        billing: what it cost, as far as is known.
        claimed_at, sent_at, settled_at: the moments, in seconds since the epoch; ``None`` for what has not happened.
        attempts: HTTP requests made.
        status: the last HTTP status, if one was seen.
        request_id: the gateway's id of the last request, to match with the vendor's log.
        headers: the answer's headers, but for those that carry secrets.
        raw: the answer's bytes as they came.
        flaw: why the bytes are not whole, if they are not.
        note: what a person should know.
        checksum: of the answer and what it answers; ``None`` if nothing is kept.
        damage: what of it cannot be what was written, and is left out here; ``None`` if all of it can be read.
    """

    seq: int
    key: LedgerKey
    state: State
    billing: Billing
    claimed_at: float
    sent_at: float | None = None
    settled_at: float | None = None
    attempts: int = 0
    status: int | None = None
    request_id: str | None = None
    headers: Headers = attrs.field(default=(), repr=False)
    raw: bytes | None = attrs.field(default=None, repr=lambda raw: "None" if raw is None else f"<{len(raw)} bytes>")
    flaw: str | None = None
    note: str | None = None
    checksum: str | None = attrs.field(default=None, repr=False)
    damage: str | None = None

    def age(self, now: float) -> float:
        """Return the seconds since it was settled; 0 if the clock has been set back since."""
        return max(0.0, now - (self.settled_at if self.settled_at is not None else self.claimed_at))

    @property
    def is_intact(self) -> bool:
        """Whether the kept answer is, bit for bit, what came for this id; if answered, there is one, and its moment."""
        if self.damage is not None or (self.state is State.ANSWERED and None in (self.raw, self.settled_at)):
            return False
        if self.raw is None:
            return self.checksum is None
        return self.checksum == checksum_of(self.key, self.status, self.flaw, headers_text(self.headers), self.raw)


@attrs.frozen(kw_only=True)
class Spending:
    """What an account has spent at a host, in charges.

    Attributes:
        billed: answers that were charged.
        in_doubt: requests that may have been charged.
        under_way: purchases that may still become either.
    """

    billed: int = 0
    in_doubt: int = 0
    under_way: int = 0

    @property
    def spent(self) -> int:
        """Charges that count as spent, whether billed or in doubt."""
        return self.billed + self.in_doubt

    @property
    def committed(self) -> int:
        """What is spent or may be, which is what a budget is held against."""
        return self.spent + self.under_way


@attrs.frozen(kw_only=True)
class Limit:
    """The most that an account may spend at a host.

    Attributes:
        most: charges.
        since: seconds since the epoch; what was claimed before does not count. ``None`` for everything.
    """

    most: int
    since: float | None = None


@attrs.frozen(kw_only=True)
class Terms:
    """What a lookup accepts of the ledger, and what it may buy.

    Attributes:
        max_age: seconds; an older answer is bought again. ``None`` for no bound.
        refresh: buy again whatever is kept.
        accept_from: the ``seq`` from which on a kept answer will do whatever its age: that of a purchase that was under
            way when it was asked for.
        resend: buy what is in doubt once more.
        may_buy: else only what is kept is handed out.
    """

    max_age: float | None = None
    refresh: bool = False
    accept_from: int | None = None
    resend: bool = False
    may_buy: bool = True


@attrs.frozen(kw_only=True)
class Claim:
    """Leave to buy one answer; whoever holds it settles it.

    Attributes:
        seq: the entry it stands for.
        key: what may be asked.
        claimed_at: seconds since the epoch.
        owner: the process that holds it, as the ledger numbers them.
        is_sent: it is marked as sent already.
    """

    seq: int
    key: LedgerKey
    claimed_at: float
    owner: int = 0
    is_sent: bool = False


@attrs.frozen
class Kept:
    """The ledger has an answer that will do."""

    entry: Entry


@attrs.frozen
class HeldInDoubt:
    """The last purchase is in doubt, and nobody said to send it again."""

    entry: Entry


@attrs.frozen
class Busy:
    """Someone else is buying the same answer now."""

    seq: int


@attrs.frozen
class OverBudget:
    """Buying could exceed the limit. Once ``spending.spent`` alone reaches it, waiting does not help."""

    spending: Spending


Decision: TypeAlias = Claim | Kept | HeldInDoubt | Busy | OverBudget


@attrs.frozen(kw_only=True)
class Verification:
    """What a look at the whole ledger found.

    Attributes:
        entries: how many entries were read.
        damaged: the ``seq`` of each whose answer is not what its checksum says.
        problems: everything that is wrong, a line each; empty when all is well.
    """

    entries: int
    damaged: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


def without_secrets(headers: Headers) -> Headers:
    """Leave out the headers that carry credentials."""
    return tuple([header for header in headers if header[0].lower() not in _SECRET_HEADERS])


def headers_text(headers: Headers) -> str:
    """Return the headers as they are kept: a JSON list of names and values."""
    return json.dumps(headers)


def moment_text(seconds: float, *, sep: str = "T", timespec: str = "milliseconds") -> str:
    """Return a moment as ISO 8601 has it (UTC); one that no calendar holds, in a damaged entry, as the number it is."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(sep, timespec)
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} s after 1970"


def checksum_of(key: LedgerKey, status: int | None, flaw: str | None, headers: str, raw: bytes) -> str:
    """Return the SHA-256, in hex, of a line for each thing that was asked and came, then the bytes that came.

    The lines: account, host, endpoint, id, status, flaw (empty if there is none), headers.
    """
    service = key.service
    lines = (service.account, service.host, service.endpoint, key.vehicle_id, str(status), flaw or "", headers, "")
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass"))
    digest.update(raw)
    return digest.hexdigest()

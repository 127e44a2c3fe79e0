"""Bookkeeping: what each order does to the entries. The storage is given; each method is a part of one transaction."""

from __future__ import annotations

from typing import Protocol

import attrs

from ..errors import Billing, LedgerError
from .records import (
    Busy,
    Claim,
    Decision,
    Entry,
    HeldInDoubt,
    Kept,
    LedgerKey,
    Limit,
    OverBudget,
    Settlement,
    Spending,
    Standing,
    State,
    Terms,
    checksum_of,
    headers_text,
    without_secrets,
)
from .rules import Freshness, Past, judge

GONE_BEFORE = "the process that claimed it ended before it sent anything"
GONE_AFTER = "the process that sent it ended before an answer was written down"


@attrs.frozen
class Owned(Past):
    """An earlier entry, and whose it is."""

    owner: int


@attrs.frozen
class Answer:
    """What came, as it is kept: without secrets, and under a checksum."""

    headers: str
    flaw: str | None
    raw: bytes
    checksum: str

    @classmethod
    def sealed(cls, key: LedgerKey, settlement: Settlement, raw: bytes) -> Answer:
        """Make it of what came for a key."""
        headers = headers_text(without_secrets(settlement.headers))
        return cls(headers, settlement.flaw, raw, checksum_of(key, settlement.status, settlement.flaw, headers, raw))


class Store(Protocol):
    """Where entries are kept; all calls are within one transaction."""

    def history(self, key: LedgerKey) -> list[Owned]:
        """Return the entries of a key but for the failed."""
        ...

    def past(self, seq: int) -> Owned | None:
        """Return one entry in brief."""
        ...

    def load(self, seq: int) -> Entry:
        """Return one entry whole."""
        ...

    def under_way(self) -> list[Owned]:
        """Return all entries that are claimed or sent."""
        ...

    def add(self, key: LedgerKey, owner: int, claimed_at: float, sent_at: float | None) -> int:
        """Add an entry in state ``CLAIMED``, or ``SENT`` if there is a moment for it; return its ``seq``."""
        ...

    def mark_sent(self, seq: int, now: float) -> None:
        """Turn ``CLAIMED`` into ``SENT``; what came of an attempt before says nothing of this one."""
        ...

    def retract(self, seq: int, last: Settlement) -> None:
        """Turn ``SENT`` into ``CLAIMED``."""
        ...

    def settle(self, seq: int, settlement: Settlement, answer: Answer | None, now: float) -> None:
        """Give an entry in any state its end, keep the answer if there is one, and the spending in step."""
        ...

    def settle_claim(self, claim: Claim, settlement: Settlement, answer: Answer | None, now: float) -> None:
        """Do the same for an entry that is most likely still as its owner left it, which takes less."""
        ...

    def spending(self, account: str, host: str, since: float | None) -> Spending:
        """Return what the entries add up to."""
        ...

    def lives(self, owner: int) -> bool:
        """Tell whether a process is still there."""
        ...

    def bury(self, owner: int) -> None:
        """Note that a process is gone: should it come back, it finds its claims lost."""
        ...


class Books:
    """The ledger's orders over a store, as one owner among several.

    Attributes:
        owner: this process, as the store numbers it.
        held: the claims that someone in this process answers for.
    """

    def __init__(self, store: Store, free_max_age: float) -> None:
        self._store = store
        self._free_max_age = free_max_age
        self.owner = 0
        self.held: set[int] = set()
        self._taken: list[int] = []
        self._ended: list[int] = []

    # A transaction ends.

    def committed(self) -> None:
        """Learn that what was done since the last time is durable."""
        self.held.difference_update(self._ended)
        self._taken, self._ended = [], []

    def rolled_back(self) -> None:
        """Learn that it was undone."""
        self.held.difference_update(self._taken)
        self._taken, self._ended = [], []

    # Orders.

    def claim(self, key: LedgerKey, terms: Terms, limit: Limit | None, now: float, *, sending: bool) -> Decision:
        """Hand out what is kept, or a claim, or say why not."""
        standing, past = self._judged(key, terms, now)
        match standing:
            case Standing.ANSWERED:
                return Kept(self._store.load(past.seq))
            case Standing.IN_DOUBT:
                return HeldInDoubt(self._store.load(past.seq))
            case Standing.UNDER_WAY:
                return Busy(past.seq)
        if refusal := self._refusal(key, terms, limit, now):
            return refusal
        # Should the clock have been set back, it counts against the limit all the same.
        claimed_at = now if limit is None or limit.since is None else max(now, limit.since)
        seq = self._store.add(key, self.owner, claimed_at, now if sending else None)
        self.held.add(seq)
        self._taken.append(seq)
        return Claim(seq=seq, key=key, claimed_at=claimed_at, owner=self.owner, is_sent=sending)

    def mark_sent(self, claim: Claim, now: float) -> bool:
        """Note that a request is about to leave."""
        if claim.owner != self.owner:
            return False
        self._store.mark_sent(claim.seq, now)
        return True

    def retract(self, claim: Claim, last: Settlement, now: float) -> None:
        """Note that an attempt was surely not charged; a claim that was lost meanwhile ends so."""
        if claim.owner == self.owner:
            self._store.retract(claim.seq, last)
        else:
            self.settle(claim, attrs.evolve(last, state=State.FAILED, billing=Billing.NOT_BILLED), now)

    def settle(self, claim: Claim, settlement: Settlement, now: float) -> None:
        """Note how a claim ended."""
        answer = None if settlement.raw is None else Answer.sealed(claim.key, settlement, settlement.raw)
        self._store.settle_claim(claim, settlement, answer, now)
        self._ended.append(claim.seq)

    def resolve(self, seq: int, billed: bool, now: float) -> Entry:
        """Note what became of a doubt."""
        past = self._store.past(seq)
        if past is None or past.state is not State.IN_DOUBT:
            raise LedgerError(f"entry {seq} is not in doubt" if past else f"the ledger has no entry {seq}")
        doubt = self._store.load(seq)
        settlement = Settlement(
            state=State.FAILED,
            billing=Billing.BILLED if billed else Billing.NOT_BILLED,
            attempts=doubt.attempts,
            status=doubt.status,
            request_id=doubt.request_id,
            note=f"resolved by hand: {'charged, and no answer kept' if billed else 'not charged'}",
        )
        self._store.settle(seq, settlement, None, now)
        return self._store.load(seq)

    def lay_to_rest(self, now: float) -> int:
        """End what processes that are gone have left behind; return how many doubts that makes."""
        return sum(self._lay_to_rest(left, now) for left in self._store.under_way() if not self._is_alive(left))

    # What they share.

    def _judged(self, key: LedgerKey, terms: Terms, now: float) -> tuple[Standing, Past]:
        history = self._store.history(key)
        if not history:
            return Standing.NEW, _NOTHING
        for left in history:
            if left.state in (State.CLAIMED, State.SENT) and not self._is_alive(left):
                self._lay_to_rest(left, now)
                history = self._store.history(key)
        freshness = Freshness(terms=terms, free_max_age=self._free_max_age, now=now)
        standing, past = judge(history, freshness)
        return standing, past or _NOTHING

    def _refusal(self, key: LedgerKey, terms: Terms, limit: Limit | None, now: float) -> OverBudget | None:
        if not terms.may_buy:
            return OverBudget(Spending())
        if limit is None:
            return None
        spending = self._spending(key, limit)
        if spending.committed >= limit.most and spending.under_way:
            self.lay_to_rest(now)  # what the dead have reserved is free again
            spending = self._spending(key, limit)
        return OverBudget(spending) if spending.committed >= limit.most else None

    def _spending(self, key: LedgerKey, limit: Limit) -> Spending:
        return self._store.spending(key.service.account, key.service.host, limit.since)

    def _is_alive(self, left: Owned) -> bool:
        if left.owner == self.owner:
            return left.seq in self.held
        return self._store.lives(left.owner)

    def _lay_to_rest(self, left: Owned, now: float) -> bool:
        """End one entry whose owner is gone: what it had sent is in doubt, what it had not is free."""
        sent = left.state is State.SENT
        settlement = Settlement(
            state=State.IN_DOUBT if sent else State.FAILED,
            billing=Billing.UNKNOWN if sent else Billing.NOT_BILLED,
            note=GONE_AFTER if sent else GONE_BEFORE,
        )
        if left.owner != self.owner:
            self._store.bury(left.owner)
        self._store.settle(left.seq, settlement, None, now)
        return sent


_NOTHING = Past(0, State.FAILED, Billing.NOT_BILLED, None)

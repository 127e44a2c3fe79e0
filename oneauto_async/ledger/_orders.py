"""The orders a ledger is given with every lookup. Each can be asked beforehand what it will look at, so that all of a
group may be looked at together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from .records import Claim, Decision, LedgerKey, Limit, Settlement, Terms

if TYPE_CHECKING:
    from ._books import Books


@attrs.frozen
class Claiming:
    """Hand out what is kept for a key, or leave to buy it; ``sending``, marked as sent."""

    key: LedgerKey
    terms: Terms
    limit: Limit | None
    now: float
    sending: bool

    def __call__(self, books: Books) -> Decision:
        """Carry it out."""
        return books.claim(self.key, self.terms, self.limit, self.now, sending=self.sending)


@attrs.frozen
class Settling:
    """Note how a claim ended."""

    claim: Claim
    settlement: Settlement
    now: float

    def __call__(self, books: Books) -> None:
        """Carry it out."""
        books.settle(self.claim, self.settlement, self.now)

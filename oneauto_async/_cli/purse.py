"""What a run may spend, and where it keeps its books."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from ..settings import Budget

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Purse"]


@attrs.frozen(kw_only=True)
class Purse:
    """What a run may spend, and where it keeps its books.

    Attributes:
        ledger: the file of the ledger, or ``None`` for no ledger.
        max_calls: most charges that the ledger may come to, or the run if it has none.
        max_cost: the same in money.
        price: what one answer costs.
        max_age: seconds; an older answer is bought again.
        retry_in_doubt: send once more what may have been charged.
        refresh_failed: buy again what the ledger holds and cannot be used.
    """

    ledger: Path | None = None
    max_calls: int | None = None
    max_cost: Decimal | None = None
    price: Decimal | None = None
    max_age: float | None = None
    retry_in_doubt: bool = False
    refresh_failed: bool = False

    @property
    def budget(self) -> Budget | None:
        """The tighter of the two caps, or ``None`` if there is none.

        Raises:
            ConfigurationError: an amount is out of its range.
        """
        caps = [] if self.max_calls is None else [self.max_calls]
        if self.max_cost is not None:
            caps.append(Budget(max_cost=self.max_cost, price=self.price).most)
        return Budget(max_billed=min(caps), price=self.price) if caps else None

    def worth(self, charges: int) -> str:
        """Return what so many charges cost, as a remark, if the price is known."""
        return "" if self.price is None else f" ({charges * self.price:f} at {self.price:f} each)"

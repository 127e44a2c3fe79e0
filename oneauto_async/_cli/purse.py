"""What a run may spend, and where it keeps its books."""

from __future__ import annotations

import stat
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from ..settings import Budget

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

__all__ = ["CURRENCIES", "Purse", "is_there"]

CURRENCIES = "£€$"
"""Signs that an amount may bear. The first is the vendor's, for amounts that bear none."""


def is_there(ledger: Path) -> bool:
    """Tell whether there is anything at the place of a ledger; an empty file is a ledger that has not begun."""
    try:
        found = ledger.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # opening it will tell what is wrong, as with all that is no plain file
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode)


@attrs.frozen(kw_only=True)
class Purse:
    """What a run may spend, and where it keeps its books.

    Attributes:
        ledger: the file of the ledger, or ``None`` for no ledger.
        declines_ledger: somebody said that there is to be none.
        max_calls: most charges that the ledger may come to, or the run if it has none.
        max_cost: the same in money.
        price: what one answer costs.
        currency: the sign of both.
        since: charges from before do not count against the caps.
        max_age: seconds; an older answer is bought again.
        refresh: buy again whatever the ledger holds.
        retry_in_doubt: send once more what may have been charged.
        refresh_failed: buy again what the ledger holds and cannot be used.
        agreed: most charges of this run that whoever pays has seen in the estimate.
    """

    ledger: Path | None = None
    declines_ledger: bool = False
    max_calls: int | None = None
    max_cost: Decimal | None = None
    price: Decimal | None = None
    currency: str = CURRENCIES[0]
    since: date | None = None
    max_age: float | None = None
    refresh: bool = False
    retry_in_doubt: bool = False
    refresh_failed: bool = False
    agreed: int | None = None

    @property
    def budget(self) -> Budget | None:
        """The tightest of the caps, or ``None`` if there is none.

        Raises:
            ConfigurationError: an amount is out of its range.
        """
        caps = [] if self.max_calls is None else [self.max_calls]
        if self.max_cost is not None:
            caps.append(Budget(max_cost=self.max_cost, price=self.price).most)
        return Budget(max_billed=min(caps), price=self.price, since=self.since) if caps else None

    def without_ledger(self) -> Purse:
        """Return the same before the ledger has begun."""
        return attrs.evolve(self, ledger=None, since=None)

    def worth(self, charges: int) -> str | None:
        """Return what so many charges cost, if the price is known."""
        return None if self.price is None else self._money(charges * self.price)

    def bill(self, charges: int) -> str:
        """Return what so many charges cost and how that comes about, as a remark, if the price is known."""
        return "" if self.price is None else f" ({self.worth(charges)} at {self._money(self.price)} each)"

    def _money(self, amount: Decimal) -> str:
        """Show an amount exactly, with pence at least."""
        exponent = amount.as_tuple().exponent
        assert isinstance(exponent, int)  # it is a number
        return f"{self.currency}{amount:f}" if exponent < -2 else f"{self.currency}{amount:.2f}"

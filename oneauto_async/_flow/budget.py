"""A budget counted in memory: for a client without a ledger, and for a batch. Pure."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class Meter:
    """Charges reserved and spent, of the most there may be.

    Attributes:
        most: the most charges.
        reserved: those that may still come to nothing.
        spent: those that were charged, or may have been.
    """

    most: int
    reserved: int = 0
    spent: int = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may be reserved."""
        return self.reserved + self.spent < self.most

    @property
    def is_spent(self) -> bool:
        """Whether there will never be room again."""
        return self.spent >= self.most

    def reserve(self) -> None:
        """Set one aside, before its request leaves."""
        assert self.has_room
        self.reserved += 1

    def settle(self, *, spent: bool) -> None:
        """Turn a reserved one into a spent one, or give it back."""
        self.reserved -= 1
        self.spent += spent

    def spend(self, charges: int) -> bool:
        """Count charges that were made already, if there is room for all of them; say whether there was."""
        if charges and self.reserved + self.spent + charges > self.most:
            return False
        self.spent += charges
        return True


def reserve_all(meters: tuple[Meter, ...]) -> bool:
    """Reserve one in every meter, or in none."""
    if not all(meter.has_room for meter in meters):
        return False
    for meter in meters:
        meter.reserve()
    return True

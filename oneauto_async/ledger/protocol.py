"""What a client needs of a ledger. Write your own over any store that has transactions; two are in this package."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Protocol

from .records import (
    Claim,
    Decision,
    Entry,
    LedgerKey,
    Limit,
    Service,
    Settlement,
    Spending,
    Standing,
    State,
    Terms,
    Verification,
)


class Ledger(Protocol):
    """Books of what was asked, what came and what it cost, shared by all who open the same one.

    Each method is all or nothing. What is awaited is durable on return; `settle` and `retract` only order it. None
    blocks the event loop. What one caller orders takes place in that order. Every failure is a `LedgerError`; a ledger
    that failed once may work again.
    """

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        ...

    async def open(self) -> None:
        """Make it ready; what processes that are gone had sent is in doubt from now on.

        Cancelling leaves it as it would be without this call.

        Raises:
            LedgerError: it cannot be opened, or is no ledger of a version this package knows. It is untouched.
        """
        ...

    async def aclose(self) -> None:
        """Write what was ordered, give back what is still claimed, and close. Closing again does nothing.

        Cancelling waits for the end all the same.

        Raises:
            LedgerError: the last of it could not be written.
        """
        ...

    async def flush(self) -> None:
        """Wait until all that was ordered is durable.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: what was ordered could not be written.
        """
        ...

    async def claim(
        self, key: LedgerKey, terms: Terms, limit: Limit | None = None, *, sending: bool = False
    ) -> Decision:
        """Return what is kept for a key, or leave to buy it, which nobody else has until it is settled.

        Of many who ask at once, in this process or another, one gets the claim and the rest are told `Busy`. A claim
        counts against ``limit`` from this moment. Cancelling gives back a claim that comes too late.

        Arguments:
            key: what is asked for.
            terms: what will do.
            limit: the most that may be spent.
            sending: mark a claim as sent in the same step: its request leaves as soon as this returns.

        Raises:
            LedgerError: it cannot be read or written. Nothing is claimed.
        """
        ...

    async def mark_sent(self, claim: Claim) -> bool:
        """Note, durably, that the request is about to leave; from now on only its owner can say it was not charged.

        Returns:
            ``False`` if the claim was lost: this process was taken for gone. Then nothing may be sent.

        Raises:
            LedgerError: it could not be written. Nothing may be sent.

        Cancelling ends the wait. The mark may have been written or not: `retract` it.
        """
        ...

    def retract(self, claim: Claim, last: Settlement) -> None:
        """Order: what was marked as sent was surely not charged, and the claim stands as before.

        Arguments:
            claim: the claim.
            last: what came of the attempt; its state and billing are not looked at.

        Raises:
            LedgerError: it cannot be ordered.
        """
        ...

    def settle(self, claim: Claim, settlement: Settlement) -> Awaitable[None]:
        """Order the end of a claim; awaiting it returns when it is durable. It takes place whether awaited or not.

        Cancelling the wait changes nothing.

        Raises:
            LedgerError: at once, it cannot be ordered; when awaited, it could not be written.
        """
        ...

    async def find(self, key: LedgerKey) -> Entry | None:
        """Return the newest entry of a key that did not fail, or ``None``.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: it cannot be read.
        """
        ...

    async def standings(self, service: Service, vehicle_ids: Iterable[str], terms: Terms) -> dict[str, Standing]:
        """Return where each id stands; the new ones are left out.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: it cannot be read.
        """
        ...

    def entries(self, state: State | None = None) -> AsyncIterator[Entry]:
        """Yield all entries, or those in one state, oldest first.

        Leaving it early, or cancelling, changes nothing.

        Raises:
            LedgerError: it cannot be read.
        """
        ...

    async def spending(self, account: str, host: str, since: float | None = None) -> Spending:
        """Return what an account has spent at a host, from a moment on (seconds since the epoch) or in all.

        Cancelling ends the wait and changes nothing.

        Raises:
            LedgerError: it cannot be read.
        """
        ...

    async def resolve(self, seq: int, *, billed: bool) -> Entry:
        """Settle a doubt by what the vendor's log says; the id may then be asked for again, if this was its only one.

        Raises:
            LedgerError: there is no such entry, it is not in doubt, or its end could not be written.

        Cancelling ends the wait. What has gone to the disk by then takes place all the same.
        """
        ...

    async def verify(self) -> Verification:
        """Read everything and report what is damaged; nothing is changed.

        Cancelling ends the wait.

        Raises:
            LedgerError: it cannot be read at all.
        """
        ...

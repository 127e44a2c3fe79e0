"""What processes that are gone have left behind, as it will stand once somebody opens the file to write."""

from __future__ import annotations

import sqlite3

import attrs

from ...errors import Billing
from .._books import GONE_AFTER
from ..records import Entry, Spending, State
from ..rules import Past
from . import owners

_UNDER_WAY = "SELECT seq, state, owner FROM lookups WHERE state IN ('claimed', 'sent')"

_AMONG = """
    SELECT state, count(*) FROM lookups JOIN services USING (service)
    WHERE account = ? AND host = ? AND claimed_at >= ? AND seq IN
"""


@attrs.frozen
class Departed:
    """The entries that somebody left behind.

    Attributes:
        sent: those in doubt: their requests may have left.
        claimed: those that are free again.
    """

    sent: frozenset[int] = frozenset()
    claimed: frozenset[int] = frozenset()

    @classmethod
    def found(cls, connection: sqlite3.Connection) -> Departed:
        """Find them."""
        rows = connection.execute(_UNDER_WAY).fetchall()
        living = {owner: owners.lives(connection, owner) for owner in {owner for _, _, owner in rows}}
        left = [(seq, state) for seq, state, owner in rows if not living[owner]]
        return cls(
            sent=frozenset(seq for seq, state in left if state == State.SENT.value),
            claimed=frozenset(seq for seq, state in left if state == State.CLAIMED.value),
        )

    @property
    def state(self) -> str:
        """The state of an entry, in SQL."""
        if not self.sent and not self.claimed:
            return "state"
        sent, claimed = _listed(self.sent), _listed(self.claimed)
        return f"CASE WHEN seq IN ({sent}) THEN 'in_doubt' WHEN seq IN ({claimed}) THEN 'failed' ELSE state END"

    def entry(self, entry: Entry) -> Entry:
        """Return an entry as it will stand."""
        if entry.seq in self.sent:
            return attrs.evolve(entry, state=State.IN_DOUBT, billing=Billing.UNKNOWN, note=GONE_AFTER)
        return attrs.evolve(entry, state=State.FAILED) if entry.seq in self.claimed else entry

    def past(self, past: Past) -> Past:
        """Do the same for an entry in brief."""
        if past.seq in self.sent:
            return attrs.evolve(past, state=State.IN_DOUBT, billing=Billing.UNKNOWN)
        return attrs.evolve(past, state=State.FAILED) if past.seq in self.claimed else past

    def spending(self, connection: sqlite3.Connection, account: str, host: str, since: float | None) -> Spending:
        """Return by how much they change what an account has spent."""
        if not self.sent and not self.claimed:
            return Spending()
        question = f"{_AMONG} ({_listed(self.sent | self.claimed)}) GROUP BY state"
        counts = dict(connection.execute(question, (account, host, 0.0 if since is None else since)).fetchall())
        sent = counts.get(State.SENT.value, 0)
        return Spending(in_doubt=sent, under_way=-sent - counts.get(State.CLAIMED.value, 0))


NOBODY = Departed()


def _listed(numbers: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))

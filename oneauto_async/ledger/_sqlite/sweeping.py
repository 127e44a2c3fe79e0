"""Where a great many ids stand, by reading the rows in the order they lie in: a million in about a second.

Nearly every id has one answer and nothing else. Only ids are read for those; the few with a longer history are left to
be judged one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...errors import Billing
from ..records import Standing
from ..rules import Freshness

ROWS = 20_000
"""Rows to a question: ten milliseconds in which a commit may have to wait."""

SHARDS = 64

SEPARATOR = "\x1f"
"""Between the ids of one answer, which comes as one text: a row for each would take twice as long. No id holds it."""

_ROWS = "SELECT group_concat(vehicle_id, char(31)) FROM lookups NOT INDEXED WHERE seq BETWEEN ? AND ? AND service = ?"
_AGE = "settled_at >= CASE billing WHEN 'billed' THEN ? ELSE ? END"

_UNANSWERED = f"{_ROWS} AND state <> 'failed' AND (state <> 'answered' OR typeof(settled_at) <> 'real')"
"""And those that are damaged, which are judged as well."""

_FRESH = f"{_ROWS} AND state = 'answered' AND {_AGE}"
_STALE = f"{_ROWS} AND state = 'answered' AND NOT {_AGE}"


class _Seen:
    """The ids of one kind of row, and those that came more than once.

    They lie in many small sets: a set of a million that grows, or is freed, holds up the event loop for a tenth of a
    second, and a loop of our own does not.
    """

    def __init__(self) -> None:
        self._shards: list[set[str]] = [set() for _ in range(SHARDS)]
        self.repeated: set[str] = set()

    def __contains__(self, vehicle_id: str) -> bool:
        return vehicle_id in self._shards[hash(vehicle_id) % SHARDS]

    def __iter__(self) -> Iterator[str]:
        for shard in self._shards:
            yield from shard

    def add(self, rows: list[tuple[str | None]]) -> None:
        """Take in the ids of one answer of the database."""
        ((text,),) = rows
        shards, repeated = self._shards, self.repeated
        for vehicle_id in text.split(SEPARATOR) if text else ():
            shard = shards[hash(vehicle_id) % SHARDS]
            if vehicle_id in shard:
                repeated.add(vehicle_id)
            else:
                shard.add(vehicle_id)

    def among(self, ids: Sequence[str]) -> Iterator[str]:
        """Yield those of the ids that were seen."""
        shards = self._shards
        return (vehicle_id for vehicle_id in ids if vehicle_id in shards[hash(vehicle_id) % SHARDS])


def sweep(
    ask: Callable[[str, Sequence[Any]], list[Any]], service: int, last: int, ids: Sequence[str], freshness: Freshness
) -> tuple[dict[str, Standing], list[str]]:
    """Return the ids that have an answer that will do, and those that must be judged by all of their entries.

    Arguments:
        ask: asks the database.
        service: its number in the tables.
        last: the last row.
        ids: what is asked for.
        freshness: which answers will do.
    """
    oldest = (freshness.oldest(Billing.BILLED), freshness.oldest(Billing.NOT_BILLED))
    fresh, stale, unanswered = _Seen(), _Seen(), _Seen()
    for start in range(1, last + 1, ROWS):
        rows = (start, start + ROWS - 1, service)
        # In this order: a row that is answered meanwhile is then seen twice, and judged.
        unanswered.add(ask(_UNANSWERED, rows))
        stale.add(ask(_STALE, (*rows, *oldest)))
        fresh.add(ask(_FRESH, (*rows, *oldest)))
    intricate = fresh.repeated | set(unanswered) | {vehicle_id for vehicle_id in stale if vehicle_id in fresh}
    standings = dict.fromkeys(fresh.among(ids), Standing.ANSWERED)
    asked = {vehicle_id for vehicle_id in ids if vehicle_id in intricate} if intricate else set()
    for vehicle_id in asked:
        standings.pop(vehicle_id, None)
    return standings, sorted(asked)

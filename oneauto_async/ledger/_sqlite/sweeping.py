"""Where a great many ids stand, by reading the rows in the order they lie in: a million in about a second.

Nearly every id has one answer and nothing else. Only ids are read for those; the few with a longer history are left to
be judged one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ...errors import Billing
from ..records import Standing
from ..rules import Freshness

ROWS = 20_000
"""Rows to a question: ten milliseconds in which a commit may have to wait."""

SEPARATOR = "\x1f"
"""Between the ids of one answer, which comes as one text: a row for each would take twice as long. No id holds it."""

_ROWS = "SELECT group_concat(vehicle_id, char(31)) FROM lookups NOT INDEXED WHERE seq BETWEEN ? AND ? AND service = ?"
_AGE = "settled_at >= CASE billing WHEN 'billed' THEN ? ELSE ? END"

_UNANSWERED = f"{_ROWS} AND state IN ('claimed', 'sent', 'in_doubt')"
_FRESH = f"{_ROWS} AND state = 'answered' AND {_AGE}"
_STALE = f"{_ROWS} AND state = 'answered' AND NOT {_AGE}"


@attrs.define
class _Seen:
    """The ids of one kind of row, and those that came more than once."""

    ids: set[str] = attrs.field(factory=set)
    repeated: set[str] = attrs.field(factory=set)

    def add(self, rows: list[tuple[str | None]]) -> None:
        ((text,),) = rows
        found = text.split(SEPARATOR) if text else []
        distinct = set(found)
        self.repeated |= self.ids & distinct
        if len(distinct) < len(found):
            self.repeated |= {vehicle_id for vehicle_id, count in Counter(found).items() if count > 1}
        self.ids |= distinct


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
    intricate = fresh.repeated | (fresh.ids & stale.ids) | unanswered.ids
    fresh.ids -= intricate
    return _found(ids, fresh.ids), sorted(_found(ids, intricate))


def _found(ids: Sequence[str], among: set[str]) -> dict[str, Standing]:
    """Return those of the ids that are there, in portions: one look at a million would hold up the event loop."""
    found: dict[str, Standing] = {}
    for start in range(0, len(ids), ROWS):
        found.update(dict.fromkeys(among.intersection(ids[start : start + ROWS]), Standing.ANSWERED))
    return found

"""What a batch would buy, found out without buying anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

from ._batch import Ids, read
from ._ids import canonical_id
from ._lookup import Route
from .errors import InvalidVehicleIdError
from .outcomes import Plan

if TYPE_CHECKING:  # loaded only by a client that has a ledger or a budget
    from ._bookkeeping import Accounts, Wishes

IDS_IN_A_ROW = 5_000
"""Ids that are read before the event loop gets its turn: a few milliseconds."""


async def plan(
    ids: Ids,
    books: Accounts | None,
    route: Route[Any],
    wishes: Wishes | None,
    resends: int,
    price: Decimal | None = None,
) -> Plan:
    """Read all ids, look where they stand, and add up."""
    counts, distinct = await _read(ids)
    standings: Counter[str] = Counter()
    room: int | None = None
    spent = 0
    if books is not None:
        standings.update((await books.standings(route, distinct, wishes)).values())
        room, spent = await books.room(wishes), await books.spent()
    new = len(distinct) - standings.total()
    # Whatever is sent may be sent again after a doubt, and what is in doubt already has had its first time.
    most = (new + standings["under_way"]) * (1 + resends) + standings["in_doubt"] * resends
    most_billed = most if room is None else min(most, room)
    return Plan(
        total=counts.total() + len(distinct),
        new=new,
        answered=standings["answered"],
        in_doubt=standings["in_doubt"],
        under_way=standings["under_way"],
        duplicates=counts["duplicates"],
        invalid=counts["invalid"],
        most_billed=most_billed,
        most_cost=None if price is None else _exact_product(most_billed, price),
        spent=spent,
    )


def _exact_product(count: int, price: Decimal) -> Decimal:
    with localcontext(prec=50):  # whatever the program around us has set
        return count * price


async def _read(ids: Ids) -> tuple[Counter[str], Collection[str]]:
    """Return how many ids come again or are none, and the others."""
    counts: Counter[str] = Counter()
    distinct: dict[str, None] = {}
    number = 0
    async for value in read(ids):
        number += 1
        if number % IDS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        try:
            vehicle_id = canonical_id(value)
        except InvalidVehicleIdError:
            counts["invalid"] += 1
            continue
        if vehicle_id in distinct:
            counts["duplicates"] += 1
        distinct[vehicle_id] = None
    return counts, distinct

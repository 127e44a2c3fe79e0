"""Many lookups: outcomes as they finish, and what each means for money. Simulated: no key, no network, no cost."""

import asyncio
from typing import assert_never

from oneauto_async import (
    BidirectionalCharging,
    Failed,
    Found,
    InDoubt,
    NoData,
    NotSent,
    OneAutoClient,
    Outcome,
    RateLimit,
)

IDS = [*range(10_000, 10_100), "SIM-204", "SIM-206", "SIM-FALSE", "SIM-504", "no such\tid"]


def describe(outcome: Outcome[BidirectionalCharging]) -> str:
    match outcome:
        case Found(value=charging, partial=False):
            return f"found: {charging.vehicle_to_grid_dc.power_output_kw} kW to the grid"
        case Found():
            return "found in part: not billed, some fields are missing"
        case NoData():
            return "nothing known of this id: not billed"
        case Failed(error=error):
            return f"failed, {error.billing}: {error}"
        case InDoubt(error=error):
            return f"perhaps billed, perhaps not: {error}"
        case NotSent(reason=reason):
            return f"never asked: {reason}"
        case _:
            assert_never(outcome)


async def main() -> None:
    limit = RateLimit(rate=200, burst=50)
    async with OneAutoClient.simulated(rate_limit=limit) as client, client.batch(IDS, concurrency=50) as batch:
        async for outcome in batch:
            if not isinstance(outcome, Found) or outcome.partial:
                print(f"{outcome.evdb_vehicle_id}: {describe(outcome)}")
    summary = batch.summary
    print(f"{summary.found} of {summary.total} found, {summary.billed} billed, {summary.unknown} in doubt")


if __name__ == "__main__":
    asyncio.run(main())

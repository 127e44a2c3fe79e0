"""One lookup, and what is in its answer. Simulated: no key, no network, no cost."""

import asyncio

from oneauto_async import OneAutoClient


async def main() -> None:
    async with OneAutoClient.simulated() as client:  # with a key in ONEAUTO_API_KEY: OneAutoClient()
        charging = await client.bidirectional_charging("12345")

    grid = charging.vehicle_to_grid_dc
    print(f"to the grid, DC: {grid.support_status}, {grid.power_output_kw} kW")
    print(f"as a flat record: {charging.to_dict()}")


if __name__ == "__main__":
    asyncio.run(main())

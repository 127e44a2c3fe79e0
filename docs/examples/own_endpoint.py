"""An answer as a class of your own, from an endpoint of your choice. Simulated: no key, no network, no cost."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs

from oneauto_async import CAR_BIDIRECTIONAL_CHARGING, Endpoint, OneAutoClient, SupportStatus


@attrs.frozen(kw_only=True)
class HomePower:
    """What a car can do for a home: only the fields you need, with types that are checked strictly."""

    vehicle_to_home_ac_support_status: SupportStatus | str | None = None  # an open set: unknown texts stay text
    vehicle_to_home_ac_power_output_kw: float | None = None  # a default allows the member to be missing
    vehicle_to_home_dc_power_output_kw: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict)  # whatever else the answer holds


HOME_POWER = Endpoint("/evdatabase/uk/car/bidirectionalcharging/", "evdb_vehicle_id", HomePower)


async def main() -> None:
    async with OneAutoClient.simulated() as client:
        outcome = await client.lookup("12345", endpoint=HOME_POWER)  # Outcome[HomePower]
        power = outcome.unwrap()
        print(f"AC {power.vehicle_to_home_ac_power_output_kw} kW, {len(power.extra)} further fields")

        car = (await client.lookup("12345", endpoint=CAR_BIDIRECTIONAL_CHARGING)).unwrap()
        print(f"the same car with all its fields: AC {car.vehicle_to_home_ac.power_output_kw} kW")


if __name__ == "__main__":
    asyncio.run(main())

"""The record of one van: the vendor's twelve flat fields, and a grouped view over them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

__all__ = ["BidirectionalCharging", "Capability", "SupportStatus", "VehicleToLoad"]


class SupportStatus(StrEnum):
    """The status texts known so far. The set is open: a text not listed here is kept as the plain string it came as."""

    AVAILABLE = "Available"
    ANNOUNCED = "Announced"
    NOT_AVAILABLE = "Not Available"


@attrs.frozen(kw_only=True)
class Capability:
    """One way of taking power from the vehicle's battery.

    Attributes:
        support_status: whether the vehicle can do it; ``None`` (not said) is not the same as "Not Available".
        power_output_kw: the maximum power output in kilowatts.
    """

    support_status: SupportStatus | str | None = None
    power_output_kw: float | None = None


@attrs.frozen(kw_only=True)
class VehicleToLoad(Capability):
    """Powering an electrical appliance, with the ports it is plugged into.

    Attributes:
        exterior_port_details: details of the exterior vehicle-to-load ports.
        interior_port_details: details of the interior vehicle-to-load ports.
    """

    exterior_port_details: str | None = None
    interior_port_details: str | None = None


@attrs.frozen(kw_only=True)
class BidirectionalCharging:
    """The bi-directional charging capabilities of one electric van, with the vendor's field names and meanings.

    Every field may be ``None``: null or missing in the answer. Powers are in kilowatts. The vendor's own sample has
    "Not Available" beside a power of 11, so a status and its power are never checked against each other.

    Attributes:
        vehicle_to_load_support_status: whether the vehicle battery can be used to power an electrical appliance.
        vehicle_to_load_power_output_kw: the maximum power output when powering an electrical appliance, kW.
        vehicle_to_load_exterior_port_details: details of the exterior vehicle-to-load ports.
        vehicle_to_load_interior_port_details: details of the interior vehicle-to-load ports.
        vehicle_to_home_ac_support_status: whether the vehicle battery can be used to provide AC power to a home.
        vehicle_to_home_ac_power_output_kw: the maximum AC power output when powering a home, kW.
        vehicle_to_home_dc_support_status: whether the vehicle battery can be used to provide DC power to a home.
        vehicle_to_home_dc_power_output_kw: the maximum DC power output when powering a home, kW.
        vehicle_to_grid_ac_support_status: whether the vehicle battery can be used to provide AC power to the grid.
        vehicle_to_grid_ac_power_output_kw: the maximum AC power output to the grid, kW.
        vehicle_to_grid_dc_support_status: whether the vehicle battery can be used to provide DC power to the grid.
        vehicle_to_grid_dc_power_output_kw: the maximum DC power output to the grid, kW.
        extra: fields of the answer that are not listed above, as they came.
    """

    vehicle_to_load_support_status: SupportStatus | str | None = None
    vehicle_to_load_power_output_kw: float | None = None
    vehicle_to_load_exterior_port_details: str | None = None
    vehicle_to_load_interior_port_details: str | None = None
    vehicle_to_home_ac_support_status: SupportStatus | str | None = None
    vehicle_to_home_ac_power_output_kw: float | None = None
    vehicle_to_home_dc_support_status: SupportStatus | str | None = None
    vehicle_to_home_dc_power_output_kw: float | None = None
    vehicle_to_grid_ac_support_status: SupportStatus | str | None = None
    vehicle_to_grid_ac_power_output_kw: float | None = None
    vehicle_to_grid_dc_support_status: SupportStatus | str | None = None
    vehicle_to_grid_dc_power_output_kw: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict, hash=False)

    @property
    def vehicle_to_load(self) -> VehicleToLoad:
        """Powering an electrical appliance."""
        return VehicleToLoad(
            support_status=self.vehicle_to_load_support_status,
            power_output_kw=self.vehicle_to_load_power_output_kw,
            exterior_port_details=self.vehicle_to_load_exterior_port_details,
            interior_port_details=self.vehicle_to_load_interior_port_details,
        )

    @property
    def vehicle_to_home_ac(self) -> Capability:
        """Providing AC power to a home."""
        return Capability(
            support_status=self.vehicle_to_home_ac_support_status,
            power_output_kw=self.vehicle_to_home_ac_power_output_kw,
        )

    @property
    def vehicle_to_home_dc(self) -> Capability:
        """Providing DC power to a home."""
        return Capability(
            support_status=self.vehicle_to_home_dc_support_status,
            power_output_kw=self.vehicle_to_home_dc_power_output_kw,
        )

    @property
    def vehicle_to_grid_ac(self) -> Capability:
        """Providing AC power to the grid."""
        return Capability(
            support_status=self.vehicle_to_grid_ac_support_status,
            power_output_kw=self.vehicle_to_grid_ac_power_output_kw,
        )

    @property
    def vehicle_to_grid_dc(self) -> Capability:
        """Providing DC power to the grid."""
        return Capability(
            support_status=self.vehicle_to_grid_dc_support_status,
            power_output_kw=self.vehicle_to_grid_dc_power_output_kw,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the flat record: the vendor's twelve names, then the unknown fields, all plain JSON values."""
        record = {field.name: _plain(getattr(self, field.name)) for field in attrs.fields(type(self))}
        return record | record.pop("extra")  # type: ignore[no-any-return]  # extra is a mapping of JSON values


def _plain(value: Any) -> Any:
    """Turn a known status into the text it stands for; leave every other value as it is."""
    return str(value) if isinstance(value, SupportStatus) else value

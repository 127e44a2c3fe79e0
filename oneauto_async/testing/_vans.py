"""Made-up vans: one plausible record for every id, the same on every machine and in every run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ..models import SupportStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["nulls", "van"]

_CAPABILITIES = (
    "vehicle_to_load",
    "vehicle_to_home_ac",
    "vehicle_to_home_dc",
    "vehicle_to_grid_ac",
    "vehicle_to_grid_dc",
)
_STATUSES = (
    SupportStatus.AVAILABLE,
    SupportStatus.AVAILABLE,
    SupportStatus.ANNOUNCED,
    SupportStatus.ANNOUNCED,
    SupportStatus.NOT_AVAILABLE,
    SupportStatus.NOT_AVAILABLE,
    SupportStatus.NOT_AVAILABLE,
    None,
)
_POWERS = (2.2, 3, 3.3, 3.6, 7, 7.4, 10, 11, 22)
_EXTERIOR_PORTS = ("1 x Type 2 (Adapter)", "1 x UK Socket (BS1363)", "2 x UK Socket (BS1363)", None)
_INTERIOR_PORTS = ("1 x UK Socket (BS1363)", "2 x UK Socket (BS1363)", "1 x 12V Socket", None)


def van(evdb_vehicle_id: str) -> dict[str, Any]:
    """Return the record made up for an id: the vendor's twelve fields and ``simulated``."""
    # A hash of our own: Python's hash() differs from process to process.
    bits = iter(hashlib.blake2b(evdb_vehicle_id.encode("utf-8", "replace"), digest_size=32).digest())
    record: dict[str, Any] = {}
    for name in _CAPABILITIES:
        record |= _capability(name, bits)
        if name == "vehicle_to_load":
            record |= _ports(name, bits)
    return record | {"simulated": True}


def nulls() -> dict[str, Any]:
    """Return a record in which all twelve fields are null."""
    return dict.fromkeys(van(""), None) | {"simulated": True}


def _capability(name: str, bits: Iterator[int]) -> dict[str, Any]:
    status, power = _STATUSES[next(bits) % len(_STATUSES)], _POWERS[next(bits) % len(_POWERS)]
    # The vendor's sample has "Not Available" beside a power, so some of ours do as well.
    told = status in {SupportStatus.AVAILABLE, SupportStatus.ANNOUNCED} or next(bits) % 8 == 0
    return {f"{name}_support_status": status, f"{name}_power_output_kw": power if told else None}


def _ports(name: str, bits: Iterator[int]) -> dict[str, Any]:
    return {
        f"{name}_exterior_port_details": _EXTERIOR_PORTS[next(bits) % len(_EXTERIOR_PORTS)],
        f"{name}_interior_port_details": _INTERIOR_PORTS[next(bits) % len(_INTERIOR_PORTS)],
    }

"""The record of a van: the vendor's twelve fields, the grouped view, and the way back to plain JSON."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import attrs
import pytest

from oneauto_async.models import BidirectionalCharging, Capability, SupportStatus, VehicleToLoad

SAMPLE = Path(__file__).parent / "samples" / "200-success.http"
RESULT: dict[str, Any] = json.loads(SAMPLE.read_bytes().partition(b"\n\n")[2])["result"]
"""The vendor's own sample."""


def test_the_fields_are_the_vendors_in_its_order() -> None:
    """The record has the twelve names of the vendor's page, and ``extra`` for what it does not name."""
    assert [field.name for field in attrs.fields(BidirectionalCharging)] == [*RESULT, "extra"]


@pytest.mark.parametrize("name", RESULT)
def test_each_field_may_be_missing_and_is_documented(name: str) -> None:
    """Nothing is required, and each field's meaning stands in the docstring, powers with their unit."""
    assert getattr(BidirectionalCharging(), name) is None
    (line,) = [line for line in (BidirectionalCharging.__doc__ or "").splitlines() if f"{name}:" in line]
    assert line.endswith("kW.") == name.endswith("_kw")


def test_a_record_becomes_the_flat_json_object_it_came_from() -> None:
    """``to_dict()`` gives the vendor's names in their order, then the unknown fields."""
    record = BidirectionalCharging(**RESULT, extra={"simulated": True})
    assert json.dumps(record.to_dict()) == json.dumps({**RESULT, "simulated": True})


def test_to_dict_holds_plain_texts() -> None:
    """A known status goes out as the text it stands for, not as a member of an enum."""
    record = BidirectionalCharging(vehicle_to_load_support_status=SupportStatus.NOT_AVAILABLE)
    assert type(record.to_dict()["vehicle_to_load_support_status"]) is str


def test_to_dict_leaves_the_record_alone() -> None:
    """A caller may change what it was given."""
    record = BidirectionalCharging(extra={"simulated": True})
    record.to_dict().clear()
    assert record.to_dict()["simulated"] is True


def test_powering_an_appliance_is_one_group() -> None:
    """The grouped view carries the vendor's values, with the details of the ports."""
    assert BidirectionalCharging(**RESULT).vehicle_to_load == VehicleToLoad(
        support_status="Announced",
        power_output_kw=11,
        exterior_port_details="1 x Type 2 (Adapter)",
        interior_port_details="1 x UK Socket (BS1363)",
    )


@pytest.mark.parametrize(
    "group", ["vehicle_to_home_ac", "vehicle_to_home_dc", "vehicle_to_grid_ac", "vehicle_to_grid_dc"]
)
def test_each_other_way_is_a_group_of_status_and_power(group: str) -> None:
    """Each group reads its own two flat fields and no others."""
    fields: dict[str, Any] = {f"{group}_support_status": "Announced", f"{group}_power_output_kw": 7.4}
    assert getattr(BidirectionalCharging(**fields), group) == Capability(
        support_status="Announced", power_output_kw=7.4
    )


def test_not_said_is_not_the_same_as_not_available() -> None:
    """A missing status stays ``None``."""
    assert BidirectionalCharging().vehicle_to_home_ac.support_status is None
    assert str(SupportStatus.NOT_AVAILABLE) == "Not Available"


def test_a_record_is_a_value() -> None:
    """It is frozen, hashable, equal by content, and survives copying and pickling."""
    record = BidirectionalCharging(**RESULT, extra={"simulated": True})
    assert {record: 1}[copy.deepcopy(record)] == 1
    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        record.vehicle_to_load_power_output_kw = 3.0  # type: ignore[misc]  # that is the point

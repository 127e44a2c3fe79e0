"""From JSON values to records, strictly: nothing is coerced, nothing is lost, and every wrong field is named."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import date
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import attrs
import cattrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from oneauto_async._structure import (
    MOST_EXPLAINED,
    MOST_PROBLEMS,
    SchemaMismatch,
    make_converter,
    structure_function,
)
from oneauto_async.endpoints import CAR_BIDIRECTIONAL_CHARGING, VAN_BIDIRECTIONAL_CHARGING, Endpoint
from oneauto_async.errors import ConfigurationError
from oneauto_async.models import BidirectionalCharging, SupportStatus

SAMPLE = Path(__file__).parent / "samples" / "200-success.http"
RESULT: dict[str, Any] = json.loads(SAMPLE.read_bytes().partition(b"\n\n")[2])["result"]
"""The vendor's own sample."""

STATUS = "vehicle_to_load_support_status"
POWER = "vehicle_to_load_power_output_kw"
PORTS = "vehicle_to_load_exterior_port_details"

van = structure_function(VAN_BIDIRECTIONAL_CHARGING)


def own(result: type, **options: Any) -> Any:
    """Return the structure function of a user's own class."""
    return structure_function(Endpoint("/evdatabase/uk/van/example/", "evdb_vehicle_id", result, **options))


def problems_of(structure: Any, value: Any) -> tuple[str, ...]:
    with pytest.raises(SchemaMismatch) as caught:
        structure(value)
    return caught.value.problems


# The vendor's record.


def test_the_vendors_sample_becomes_a_record() -> None:
    """All twelve fields arrive, whole-number powers as exact floats, known statuses as members."""
    record = van(RESULT)
    assert record == BidirectionalCharging(**RESULT)
    assert (type(record.vehicle_to_load_power_output_kw), type(record.vehicle_to_load_support_status)) == (
        float,
        SupportStatus,
    )


def test_the_car_twin_has_the_same_twelve_fields() -> None:
    """The sister endpoint's answers become the same class."""
    assert structure_function(CAR_BIDIRECTIONAL_CHARGING)(RESULT) == van(RESULT)


@pytest.mark.parametrize("result", [{}, dict.fromkeys(RESULT)], ids=["missing", "null"])
def test_missing_and_null_fields_are_none(result: dict[str, None]) -> None:
    """Any field may be null or missing."""
    assert van(result) == BidirectionalCharging()


def test_unknown_members_are_kept_in_extra() -> None:
    """What the class does not name is neither dropped nor an error (B17)."""
    unknown = {"simulated": True, "ports": [{"kw": 3.6, "name": None}], "extra": 1}
    assert van(RESULT | unknown).extra == unknown


def test_a_status_never_seen_before_is_kept_as_text() -> None:
    """The set of statuses is open, and compared exactly (B32)."""
    for text in ("On Trial", "announced", "Announced ", ""):
        status = van({STATUS: text}).vehicle_to_load_support_status
        assert (status, type(status)) == (text, str)


@pytest.mark.parametrize("text", ["nul \x00", "\ud800", "日本"])
def test_odd_texts_pass_unchanged(text: str) -> None:
    """A NUL or a lone surrogate in a text is the service's business (B25)."""
    assert van({PORTS: text}).vehicle_to_load_exterior_port_details == text


@pytest.mark.parametrize(("sent", "read"), [(11, 11.0), (3.6, 3.6), (0, 0.0), (-1.5, -1.5), (2**53, 2.0**53)])
def test_a_number_widens_when_it_does_so_exactly(sent: float, read: float) -> None:
    """Powers come as whole numbers or decimals."""
    power = van({POWER: sent}).vehicle_to_load_power_output_kw
    assert (power, type(power)) == (read, float)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (POWER, "11", "expected number, got str"),
        (POWER, "eleven", "expected number, got str"),
        (POWER, True, "expected number, got bool"),
        (POWER, [11], "expected number, got list"),
        (POWER, {"kw": 11}, "expected number, got object"),
        (POWER, float("nan"), "expected number, got a number too large"),
        (POWER, float("inf"), "expected number, got a number too large"),
        (POWER, float("-inf"), "expected number, got a number too large"),
        (POWER, 2**63 + 1, "expected number, got a whole number that no float holds exactly"),
        (POWER, 10**400, "expected number, got one too large for a float"),
        (STATUS, 1, "expected text, got number"),
        (STATUS, False, "expected text, got bool"),
        (STATUS, ["Announced"], "expected text, got list"),
        (PORTS, 1, "expected text, got number"),
        (PORTS, 1.5, "expected text, got number"),
        (PORTS, {}, "expected text, got object"),
    ],
)
def test_a_wrong_type_is_named_with_its_path_and_without_its_value(name: str, value: Any, problem: str) -> None:
    """Nothing is coerced (B18, B19)."""
    assert problems_of(van, {name: value}) == (f"$.result.{name}: {problem}",)


def test_every_wrong_field_is_reported() -> None:
    """One look at the error shows all that does not fit."""
    assert set(problems_of(van, RESULT | {STATUS: 1, POWER: "11", PORTS: ["1 x Type 2 (Adapter)"]})) == {
        f"$.result.{STATUS}: expected text, got number",
        f"$.result.{POWER}: expected number, got str",
        f"$.result.{PORTS}: expected text, got list",
    }


def test_an_unknown_field_must_be_writable_as_json_again() -> None:
    """1e999 decodes to an infinity, which no JSON can hold: it is refused wherever it stands (B19)."""
    (problem,) = problems_of(van, {"unknown": [{"kw": json.loads("1e999")}]})
    assert problem.startswith("$.result")


@pytest.mark.parametrize("value", [None, [], "text", 1, True])
def test_a_result_that_is_no_object_is_a_mismatch(value: Any) -> None:
    """The function stands on its own, whoever calls it."""
    assert problems_of(van, value)[0].startswith("$.result: expected object, got ")


@pytest.mark.parametrize("name", ["unknown", POWER, STATUS])
@pytest.mark.parametrize("depth", [100, 600, 900])
def test_deep_nesting_is_a_record_or_a_mismatch(name: str, depth: int) -> None:
    """What JSON can decode never ends in another exception: the answer is paid for (B22, B33)."""
    value = json.loads("[" * depth + "]" * depth)
    with contextlib.suppress(SchemaMismatch):
        assert isinstance(van({name: value}), BidirectionalCharging)


# Users' own classes.


class Plug(StrEnum):
    TYPE_2 = "Type 2"
    CCS = "CCS"


class Pair(Enum):
    CCS = ("CCS", "Combined Charging System")

    @classmethod
    def _missing_(cls, value: object) -> Pair | None:
        return next((member for member in cls if member.value[0] == value), None)


class Power(Enum):
    FAST = 11.0


class Phases(Enum):
    ONE = 1
    MANY = "many"

    @classmethod
    def _missing_(cls, value: object) -> Phases | None:
        return cls.MANY if value == 3 else None


@attrs.frozen
class Port:
    plug: Plug
    kilowatts: float
    phases: int = 1


@attrs.frozen
class Vehicle:
    name: str
    ports: list[Port]
    electric: bool = True
    weights: dict[str, float] = attrs.field(factory=dict)
    twin: Vehicle | None = None


vehicle = own(Vehicle)
PORT = {"plug": "CCS", "kilowatts": 50}


def test_a_users_own_class_is_structured_with_its_nested_parts() -> None:
    """Nested classes, lists, closed enums and defaults work; members it does not name are left out."""
    value = {"name": "e-Van", "ports": [PORT], "twin": {"name": "e-Car", "ports": []}, "unknown": 1}
    assert vehicle(value) == Vehicle("e-Van", [Port(Plug.CCS, 50.0)], twin=Vehicle("e-Car", []))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": None}, "$.result.name: expected text, got null"),
        ({"electric": "false"}, "$.result.electric: expected true or false, got str"),
        ({"electric": "maybe"}, "$.result.electric: expected true or false, got str"),
        ({"electric": 0}, "$.result.electric: expected true or false, got number"),
        ({"electric": 1}, "$.result.electric: expected true or false, got number"),
        ({"electric": None}, "$.result.electric: expected true or false, got null"),
        ({"ports": [PORT, PORT | {"kilowatts": "50"}]}, "$.result.ports[1].kilowatts: expected number, got str"),
        ({"ports": [PORT | {"phases": 3.0}]}, "$.result.ports[0].phases: expected whole number, got number"),
        ({"ports": [PORT | {"phases": True}]}, "$.result.ports[0].phases: expected whole number, got bool"),
        ({"ports": [PORT | {"plug": "Type 9"}]}, "$.result.ports[0].plug: does not fit (ValueError)"),
        ({"ports": [PORT | {"plug": 2}]}, "$.result.ports[0].plug: expected text, got number"),
        ({"ports": [{"plug": "CCS"}]}, "$.result.ports[0].kilowatts: missing"),
        ({"ports": ["CCS"]}, "$.result.ports[0]: expected object, got str"),
        ({"weights": {"axle": "1"}}, "$.result.weights['axle']: expected number, got str"),
        ({"twin": {"name": "e-Car", "ports": [1]}}, "$.result.twin.ports[0]: expected object, got number"),
    ],
)
def test_a_problem_in_a_users_class_is_named_with_its_nested_path(changes: dict[str, Any], problem: str) -> None:
    """The strictness is that of the vendor's record, at any depth."""
    assert problems_of(vehicle, {"name": "e-Van", "ports": [PORT]} | changes) == (problem,)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[str], "abc"),
        (list[str], {"a": 1}),
        (Sequence[str], "abc"),
        (tuple[str, ...], "abc"),
        (set[str], "abc"),
        (list, "abc"),
        (dict, [["a", 1]]),
        (dict[str, float], [["a", 1.0]]),
        (Literal[1], True),
        (Literal[1], 1.0),
        (Phases, True),
        (Phases, 1.0),
        (Phases, [1]),
        (Literal[Plug.CCS], "Type 2"),
        (Any, float("inf")),
        (list[Any], [float("inf")]),
        (dict[str, Any], {"a": float("inf")}),
    ],
    ids=repr,
)
def test_no_annotation_opens_a_door_to_coercion(annotation: Any, value: Any) -> None:
    """A text is not a list of its letters, an object not a list of its names, true not 1, an infinity not JSON."""
    assert problems_of(own(attrs.make_class("Own", {"field": attrs.field(type=annotation)})), {"field": value})


@pytest.mark.parametrize(
    ("annotation", "value", "member"),
    [
        (Phases, 1, Phases.ONE),
        (Phases, "many", Phases.MANY),
        (Phases, 3, Phases.MANY),
        (Pair, "CCS", Pair.CCS),
        (Power, 11, Power.FAST),
        (Literal[Plug.CCS, 7], "CCS", Plug.CCS),
        (Literal[Plug.CCS, 7], 7, 7),
    ],
)
def test_a_member_of_an_enum_is_found_by_its_value(annotation: Any, value: Any, member: Any) -> None:
    """Alone, in a literal, or by the enum's own ``_missing_``."""
    cls = attrs.make_class("Own", {"field": attrs.field(type=annotation)})
    assert own(cls)({"field": value}).field is member


def test_an_enum_whose_values_no_json_has_is_refused_before_anything_is_paid() -> None:
    """None of its members could ever be found."""

    class Twins(Enum):
        ONE = (1, 2)

    with pytest.raises(ConfigurationError, match="Twins"):
        own(attrs.make_class("Own", {"field": attrs.field(type=Twins)}))


def test_an_own_class_may_collect_extra_too() -> None:
    """A field called ``extra`` gets what the class does not name, with or without a default."""

    @attrs.frozen
    class Defaulted:
        name: str
        extra: Mapping[str, Any] = attrs.field(factory=dict)

    structure = own(Defaulted)
    assert structure({"name": "x", "a": 1}) == Defaulted("x", {"a": 1})
    assert structure({"name": "x"}) == Defaulted("x", {})


def test_extra_without_a_default_is_empty_when_nothing_is_unknown() -> None:
    """An answer with nothing unknown in it has the extra ``{}``; it does not lack a member called extra."""

    @attrs.frozen
    class Required:
        name: str
        extra: Mapping[str, Any]

    assert own(Required)({"name": "x"}) == Required("x", {})


V = TypeVar("V")


@dataclasses.dataclass
class Socket:
    kilowatts: float | None = None
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Charger(Generic[V]):
    socket: V | None = None
    sockets: list[Socket] = dataclasses.field(default_factory=list)


@pytest.mark.parametrize("value", ["50 kW", [], [{"kilowatts": 50}], 1])
def test_a_dataclass_is_filled_from_nothing_but_an_object(value: Any) -> None:
    """cattrs takes a text or a list for a mapping without members: a record nobody sent."""
    structure = own(Charger[Socket])
    assert problems_of(structure, value)[0].startswith("$.result: expected object, got ")
    assert problems_of(structure, {"sockets": [value]})[0].startswith("$.result.sockets[0]: expected object, got ")
    assert problems_of(structure, {"socket": value})[0].startswith("$.result.socket: expected object, got ")


def test_a_dataclass_is_filled_like_an_attrs_class() -> None:
    """Exactly, with what it does not name in ``extra``."""
    structure = own(Charger[Socket])
    assert structure({"socket": {"kilowatts": 50, "a": 1}, "sockets": [{}]}) == Charger(
        Socket(50.0, {"a": 1}), [Socket()]
    )
    assert problems_of(structure, {"socket": {"kilowatts": "50"}}) == (
        "$.result.socket.kilowatts: expected number, got str",
    )


def test_extra_of_a_dataclass_may_have_no_default() -> None:
    """It is empty, then, when nothing is unknown."""
    cls = dataclasses.make_dataclass("Own", [("extra", dict[str, Any])])
    assert own(cls)({}) == cls({})


@attrs.frozen
class Site:
    ports: list[Port]


def test_so_many_problems_are_named_and_no_more() -> None:
    """A hundred lines help nobody more than a thousand."""
    assert len(problems_of(own(Site), {"ports": [1] * (MOST_EXPLAINED - 1)})) == MOST_PROBLEMS


def test_of_very_many_values_the_first_wrong_one_ends_the_search() -> None:
    """To find the paths of 49,000 wrong ones would hold the event loop for seconds."""
    structure = own(Site)
    assert len(structure({"ports": [PORT] * 10_000}).ports) == 10_000
    assert problems_of(structure, {"ports": [{"plug": "CCS", "kilowatts": ""}] * 49_000}) == (
        "somewhere in $.result: expected number, got str",
    )


def test_of_very_many_values_a_users_converter_tells_the_paths() -> None:
    """Its hooks decide, of unions too, however much there is."""
    converter = make_converter()
    converter.register_structure_hook(float | str, lambda value, _: value)
    structure = own(attrs.make_class("Own", {"field": attrs.field(type=list[float | str])}), converter=converter)
    assert structure({"field": [1.5, "x"] * MOST_EXPLAINED}).field == [1.5, "x"] * MOST_EXPLAINED
    (problem,) = problems_of(own(Site, converter=converter), {"ports": [PORT] * MOST_EXPLAINED + [{}]})[:1]
    assert problem.startswith(f"$.result.ports[{MOST_EXPLAINED}].")


def test_a_validator_that_refuses_is_a_mismatch() -> None:
    """A user's own check is reported like a wrong type, without quoting the answer."""

    @attrs.frozen
    class Positive:
        kilowatts: float = attrs.field(validator=attrs.validators.gt(0))

    assert problems_of(own(Positive), {"kilowatts": -1}) == ("$.result: does not fit (ValueError)",)


def test_a_users_own_converter_rules() -> None:
    """A hook of the given converter turns a text of the service into the field's number."""
    converter = cattrs.Converter()
    converter.register_structure_hook(float, lambda value, _: float(str(value).removesuffix(" kW")))
    value = {"plug": "CCS", "kilowatts": "50 kW"}
    assert own(Port, converter=converter)(value) == Port(Plug.CCS, 50.0)


def test_a_users_own_converter_reports_mismatches_too() -> None:
    """Whatever its hooks raise for a value becomes a problem with a path."""
    converter = make_converter()
    converter.register_structure_hook(float, lambda value, _: 1 / value)
    assert problems_of(own(Port, converter=converter), {"plug": "CCS", "kilowatts": 0}) == (
        "$.result.kilowatts: does not fit (ZeroDivisionError)",
    )


@pytest.mark.parametrize("error", [ValueError, TypeError, ZeroDivisionError, IndexError])
def test_a_plain_converter_reports_mismatches_too(error: type[Exception]) -> None:
    """One without cattrs's groups of errors: no other exception than the library's own reaches a caller who paid."""

    def choke(value: Any, _: Any) -> float:
        raise error(value)

    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(float, choke)
    assert problems_of(own(Port, converter=converter), PORT) == (f"$.result: does not fit ({error.__name__})",)


def test_converters_are_independent() -> None:
    """A hook on one converter touches no other, nor the library's own."""
    make_converter().register_structure_hook(float, lambda value, _: 0.0)
    assert vehicle({"name": "x", "ports": [PORT]}).ports[0].kilowatts == 50.0


class Step(IntEnum):
    ONE = 1


@attrs.frozen
class Undated:
    launched: date


@pytest.mark.parametrize(
    "annotation",
    [
        *(object, complex, int | str, Port | str, list[object], "Nowhere", "list[Nowhere]", "json.nowhere", "list["),
        *(
            tuple[date, ...],
            tuple[str, date],
            tuple[Undated, ...],
            frozenset[date],
            deque[date],
            tuple[date, ...] | None,
        ),
        *(bytes, bytes | None, list[bytes], tuple[bytes, ...], dict[bytes, str]),
        *(dict[int, str], Mapping[float, str], dict[bool, str], dict[Step, str], dict[Literal[1], str]),
    ],
    ids=repr,
)
def test_a_class_no_converter_can_make_is_refused_before_anything_is_sent(annotation: Any) -> None:
    """It is found out when the function is made, not when the first answer has been paid for."""
    with pytest.raises(ConfigurationError, match="cannot be made from an answer"):
        own(attrs.make_class("Own", {"field": attrs.field(type=annotation)}))


@pytest.mark.parametrize("kind", [str, Any, Plug, Pair, Literal["axle", "CCS"], Plug | str])
def test_what_a_text_may_become_names_members(kind: Any) -> None:
    """A name is a text, whatever it then stands for."""
    structure = own(attrs.make_class("Own", {"field": attrs.field(type=dict[kind, float])}))
    assert list(structure({"field": {"CCS": 1}}).field.values()) == [1.0]


def test_hooks_of_the_users_fill_what_is_otherwise_refused() -> None:
    """Bytes, tuples of dates, and names that are numbers."""
    converter = make_converter()
    converter.register_structure_hook(bytes, lambda value, _: value.encode())
    converter.register_structure_hook(date, lambda value, _: date.fromisoformat(value))
    converter.register_structure_hook(int, lambda value, _: int(value))
    kinds = {"raw": bytes, "days": tuple[date, ...], "by_phase": dict[int, str]}
    cls = attrs.make_class("Own", {name: attrs.field(type=kind) for name, kind in kinds.items()})
    filled = own(cls, converter=converter)({"raw": "x", "days": ["2020-01-02"], "by_phase": {"3": "AC"}})
    assert filled == cls(b"x", (date(2020, 1, 2),), {3: "AC"})


def test_a_class_that_is_no_record_is_refused_before_anything_is_sent() -> None:
    """Without fields there is nothing to fill."""
    with pytest.raises(ConfigurationError):
        own(type("Plain", (), {}))


# Whatever comes.

# 1e999 decodes to an infinity; NaN does not get past the decoder.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
good_fields = {
    name: st.none() | (st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False))
    if name.endswith("_kw")
    else st.none() | st.text() | st.sampled_from(SupportStatus).map(str)
    for name in RESULT
}


@given(json_values | st.dictionaries(st.sampled_from(list(RESULT)) | st.text(), json_values, max_size=5))
@examples(1_000)
def test_any_json_value_is_a_record_or_a_mismatch(value: Any) -> None:
    """No other exception; and a record is always legal JSON again (B33)."""
    with contextlib.suppress(SchemaMismatch):
        record = van(value).to_dict()
        assert json.loads(json.dumps(record, allow_nan=False)) == record


@given(
    st.fixed_dictionaries({}, optional=good_fields), st.dictionaries(st.text(), st.integers() | st.text(), max_size=2)
)
def test_what_was_sent_comes_back_out(result: dict[str, Any], unknown: dict[str, Any]) -> None:
    """A record's ``to_dict()`` is the answer it was made from, its missing fields null."""
    sent = unknown | result
    assert json.loads(json.dumps(van(sent).to_dict(), allow_nan=False)) == {**dict.fromkeys(RESULT), **sent}


def test_whatever_a_hook_raises_is_a_mismatch() -> None:
    """An odd exception of a user's validator is named in the mismatch and does not escape."""

    class OddError(Exception):
        exceptions = ("a", "b")

    def refuse(value: Any) -> None:
        raise OddError

    cls = attrs.make_class("Own", {"field": attrs.field(type=str, validator=lambda *_: refuse(None))})
    assert problems_of(own(cls), {"field": "x"}) == ("$.result: does not fit (OddError)",)

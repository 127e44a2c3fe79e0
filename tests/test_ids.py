"""The canonical form of an id: what is the same id, and what is none."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneauto_async._ids import MAX_LENGTH, canonical_id, is_of_another, shown_id
from oneauto_async.errors import InvalidVehicleIdError


class Van(StrEnum):
    FIRST = "12345"


class Number(IntEnum):
    FIRST = 12345


@pytest.mark.parametrize("value", ["12345", 12345, " 12345", "12345\r\n", "\t12345 ", Van.FIRST, Number.FIRST])
def test_one_van_has_one_canonical_id(value: str | int) -> None:
    """Text or number, trimmed: equal ids are asked for, and paid for, once (X05)."""
    canonical = canonical_id(value)
    assert canonical == "12345"
    assert type(canonical) is str


@pytest.mark.parametrize("value", ["007", "é", "日本", "a b", "A1-b_2", "x" * MAX_LENGTH])
def test_text_is_kept_as_it_is(value: str) -> None:
    """Leading zeros, inner spaces and letters of any script stay: an id is never computed with (C17)."""
    assert canonical_id(value) == value


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (10**MAX_LENGTH - 1, "9" * MAX_LENGTH)])
def test_a_number_is_its_digits(value: int, text: str) -> None:
    """A sister endpoint returns the id as a number."""
    assert canonical_id(value) == text


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "\u00a0", "\n"),
        *(None, True, False, 7.0, ["1", "2"], {"id": 1}, b"12345", object()),
        *(-1, 10**MAX_LENGTH, 10**5_000),
        *("x" * (MAX_LENGTH + 1), "x" * 10_000),
        *("1\x002", "1\n2", "1\t2", "1\x7f2", "1\x9f2", "1\u20282", "1\u200b2", "\ufeff12345", "\ud800", "\ue000"),
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:12]!a}" if value != 10**5_000 else "5,001 digits",
)
def test_what_is_no_id_is_refused(value: Any) -> None:
    """Blank, too long, unprintable or of another type: bare httpx would send, and pay for, each of them (C16)."""
    with pytest.raises(InvalidVehicleIdError):
        canonical_id(value)


def test_the_refusal_does_not_repeat_a_long_input() -> None:
    """A whole file given as one id does not fill the log."""
    with pytest.raises(InvalidVehicleIdError) as caught:
        canonical_id("x" * 10_000)
    assert len(str(caught.value)) < 100


ids = st.text(max_size=MAX_LENGTH + 2) | st.integers()


@given(ids)
def test_a_canonical_id_is_fit_to_be_sent_and_stays_the_same(value: str | int) -> None:
    """It is short, trimmed, printable UTF-8, and its own canonical form; nothing else is raised than the refusal."""
    try:
        canonical = canonical_id(value)
    except InvalidVehicleIdError:
        return
    assert canonical == canonical.strip() == canonical_id(canonical)
    assert 1 <= len(canonical.encode()) <= 4 * MAX_LENGTH


@given(st.integers(min_value=0, max_value=10**MAX_LENGTH - 1), st.sampled_from(["", " ", "\n", "\t "]))
def test_a_number_and_its_text_are_the_same_id(value: int, space: str) -> None:
    """1001 and "1001" are one van (X05)."""
    assert canonical_id(value) == canonical_id(f"{space}{value}{space}")


@given(st.one_of(ids, st.none(), st.binary(), st.floats(), st.lists(st.text())))
def test_any_input_can_be_shown(value: object) -> None:
    """An invalid id is reported in one short printable line, whatever it is: it must not break its batch."""
    shown = shown_id(value)
    assert len(shown) <= MAX_LENGTH + 1
    assert shown.isprintable()


def test_a_number_too_long_to_print_can_be_shown() -> None:
    """Python refuses to write out numbers of over 4,300 digits; the report of the bad id must not fail on it."""
    assert len(shown_id(10**5_000)) <= MAX_LENGTH + 1


@pytest.mark.parametrize("named", [99999, "99999", "099999 "])
def test_a_number_that_is_not_the_one_asked_for_is_another_vehicles(named: object) -> None:
    """However the service writes it."""
    assert is_of_another(named, "12345")


@pytest.mark.parametrize("named", [12345, "12345", " 012345", None, True, 1.5, "", "EV-12345", ["99999"], {}, -1])
def test_nothing_else_says_that_an_answer_is_another_vehicles(named: object) -> None:
    """What is paid for is thrown out for nothing less."""
    assert not is_of_another(named, "12345")
    assert not is_of_another("99999", "EV-1")

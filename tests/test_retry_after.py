"""Reading ``Retry-After``: every form a server may send, and none that makes the client hammer or sleep for ever."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples

from oneauto_async._retry_after import RetryAfter, parse_retry_after

NOW = 784111777.0
DATE_FORMS = [
    pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", id="IMF-fixdate"),
    pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", id="RFC 850"),
    pytest.param("Sun Nov  6 08:49:37 1994", id="asctime"),
]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1", 1.0), ("0", 0.0), (" 7 ", 7.0), ("007", 7.0), ("1.5", 1.5), ("1000000000", 1e9)],
)
def test_seconds(value: str, seconds: float) -> None:
    """Whole seconds and decimals are taken as they are; floors and caps are the retry's business (R02 to R06)."""
    assert parse_retry_after([value], None) == RetryAfter(seconds)


@pytest.mark.parametrize(
    "value", ["9" * 18, "9" * 19, "9" * 400, "9" * 5_000], ids=lambda value: f"{len(value)} digits"
)
def test_a_huge_number_is_a_long_wait(value: str) -> None:
    """However many digits it has, it never becomes a short wait: ``Retry-After`` is not shortened (R06)."""
    retry_after = parse_retry_after([value], None)
    assert retry_after is not None
    assert retry_after.wait(NOW) >= 1e9


def test_many_decimals_are_still_a_number() -> None:
    """A server that prints a float in full means what it says (R05)."""
    assert parse_retry_after(["1.5" + "0" * 30], None) == RetryAfter(1.5)


@pytest.mark.parametrize(
    "value",
    [
        *("soon", "", " ", "-1", "+5", "1e3", "0x10", "1_000", "1,5", "nan", "inf", "-inf", "5 s"),
        *("²", "1²", "١", "５"),
        *("Sun, 99 Foo 2024 99:99:99 GMT", "Sun, 31 Feb 2024 08:49:37 GMT", "2024-01-01T00:00:00Z", "06 Nov 1994"),
    ],
)
def test_what_cannot_be_read_is_ignored(value: str) -> None:
    """The caller then falls back on its own back-off (R08, R13); superscript digits pass isdigit() but not float()."""
    assert parse_retry_after([value], None) is None


def test_no_header_is_no_wait() -> None:
    """The gateway's stock 429 names no time (R01)."""
    assert parse_retry_after([], "Sun, 06 Nov 1994 08:49:37 GMT") is None


@pytest.mark.parametrize("value", DATE_FORMS)
def test_each_date_form_is_a_moment_in_utc(value: str) -> None:
    """All three forms of RFC 9110 are read; asctime names no zone and is UTC all the same."""
    assert parse_retry_after([value], None) == RetryAfter(at=NOW)


@pytest.mark.parametrize(("now", "wait"), [(NOW - 2, 2.0), (NOW, 0.0), (NOW + 300_000_000, 0.0)])
def test_a_date_is_waited_for_from_the_time_of_day(now: float, wait: float) -> None:
    """Two seconds ahead waits two; a date long past waits not at all, never a negative time (R10, R11)."""
    assert RetryAfter(at=NOW).wait(now) == wait


@pytest.mark.parametrize("date", DATE_FORMS)
def test_a_date_is_measured_against_the_replys_own_date(date: str) -> None:
    """With a ``Date`` beside it the client's clock, wrong by an hour or a year, does not matter (R21)."""
    retry_after = parse_retry_after(["Sun, 06 Nov 1994 08:49:40 GMT"], date)
    assert retry_after == RetryAfter(3.0)
    assert retry_after.wait(now=NOW + 31_536_000) == 3.0


def test_a_date_before_the_replys_own_date_is_no_wait() -> None:
    """The difference is never negative."""
    assert parse_retry_after(["Sun, 06 Nov 1994 08:49:07 GMT"], "Sun, 06 Nov 1994 08:49:37 GMT") == RetryAfter(0.0)


def test_an_unreadable_date_header_does_not_matter() -> None:
    """Seconds need no clock, and a date falls back on the client's own."""
    assert parse_retry_after(["5"], "yesterday") == RetryAfter(5.0)
    assert parse_retry_after(["Sun, 06 Nov 1994 08:49:37 GMT"], "yesterday") == RetryAfter(at=NOW)


@pytest.mark.parametrize(
    ("values", "wait"),
    [
        (["1", "5", "3"], 5.0),
        (["soon", "2"], 2.0),
        (["2", "Sun, 06 Nov 1994 08:49:47 GMT"], 10.0),
        (["20", "Sun, 06 Nov 1994 08:49:47 GMT"], 20.0),
        (["Sun, 06 Nov 1994 08:49:38 GMT", "Sun, 06 Nov 1994 08:49:41 GMT"], 4.0),
    ],
)
@pytest.mark.parametrize("date", [None, "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_of_several_headers_the_longest_wait_counts(values: list[str], wait: float, date: str | None) -> None:
    """Whoever asked for more patience gets it, whatever the forms and their order."""
    for ordered in (values, values[::-1]):
        retry_after = parse_retry_after(ordered, date)
        assert retry_after is not None
        assert retry_after.wait(NOW) == wait


_pieces = st.sampled_from(
    [
        *("Sun,", "Sunday,", "Sun", "Nov", "06", "6", "06-Nov-94", "1994", "94", "9999", "99999999999999999999"),
        *("08:49:37", "08:49", "08.49.37", "99:99:99", "GMT", "EST", "+0100", "-9999", "+99999999999", "²", "-", ":"),
    ]
)
_values = st.text() | st.lists(_pieces, max_size=7).map(" ".join)


@given(st.lists(_values, max_size=3), st.none() | _values)
@example(["9" * 5_000], None)
@example(["Fri, 31 Dec 9999 23:59:59 -2359"], None)
@examples(500)
def test_any_headers_give_a_wait_that_can_be_slept(values: list[str], date: str | None) -> None:
    """Whatever the headers say, nothing raises and no wait is negative, infinite or not a number."""
    retry_after = parse_retry_after(values, date)
    assert retry_after is None or 0 <= retry_after.wait(NOW) < math.inf

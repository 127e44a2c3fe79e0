"""The pure rules: what earlier entries mean for the next lookup."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledgers import SERVICE

from oneauto_async import Billing
from oneauto_async.ledger import LedgerKey, Spending, Standing, State, Terms
from oneauto_async.ledger.records import UNDER_WAY, checksum_of
from oneauto_async.ledger.rules import Freshness, Past, judge, minus, plus, share

NOW = 1_000_000.0

pasts = st.lists(
    st.builds(
        Past,
        st.integers(1, 99),
        st.sampled_from(State),
        st.sampled_from(Billing),
        st.floats(NOW - 200_000, NOW + 200_000),
    ),
    max_size=6,
    unique_by=lambda past: past.seq,
)
terms = st.builds(
    Terms,
    max_age=st.none() | st.floats(1, 200_000),
    refresh=st.booleans(),
    accept_from=st.none() | st.integers(1, 99),
    resend=st.booleans(),
)


def freshness(terms: Terms) -> Freshness:
    return Freshness(terms=terms, free_max_age=86_400.0, now=NOW)


@given(pasts, terms)
def test_the_rules_hold_for_any_history(history: list[Past], terms: Terms) -> None:
    """What is bought is never under way, never in doubt unless that was asked for, and never there already."""
    standing, past = judge(history, freshness(terms))
    answered = max((one for one in history if one.state is State.ANSWERED), key=lambda one: one.seq, default=None)
    newer_doubts = [
        one for one in history if one.state is State.IN_DOUBT and (answered is None or one.seq > answered.seq)
    ]

    if standing is Standing.NEW:
        assert past is None
        assert not [one for one in history if one.state in UNDER_WAY]
        assert terms.resend or not newer_doubts
        assert answered is None or not freshness(terms).accepts(answered)
    else:
        assert past in history
    if standing is Standing.ANSWERED:
        assert past is answered


@given(pasts, terms)
def test_failures_and_order_do_not_matter(history: list[Past], terms: Terms) -> None:
    """Only ``seq`` orders entries, and an unbilled end is forgotten."""
    relevant = [one for one in reversed(history) if one.state is not State.FAILED]
    assert judge(history, freshness(terms)) == judge(relevant, freshness(terms))


@pytest.mark.parametrize(
    ("billing", "settled_at", "max_age", "fresh"),
    [
        (Billing.BILLED, NOW - 1e9, None, True),
        (Billing.BILLED, NOW - 61, 60.0, False),
        (Billing.BILLED, NOW + 1e6, 60.0, True),
        (Billing.NOT_BILLED, NOW - 86_401, None, False),
        (Billing.NOT_BILLED, NOW - 86_400, None, True),
        (Billing.NOT_BILLED, NOW - 61, 60.0, False),
    ],
)
def test_how_old_an_answer_may_be(billing: Billing, settled_at: float, max_age: float | None, fresh: bool) -> None:
    """The stricter of two bounds; one from the future is fresh."""
    past = Past(1, State.ANSWERED, billing, settled_at)
    assert freshness(Terms(max_age=max_age)).accepts(past) is fresh
    assert freshness(Terms(refresh=True)).oldest(billing) == math.inf


@given(st.sampled_from(State), st.sampled_from(Billing))
def test_an_entry_counts_once(state: State, billing: Billing) -> None:
    """As billed, in doubt or under way, or not at all."""
    part = share(state, billing)
    assert part.billed + part.in_doubt + part.under_way in (0, 1)
    assert minus(plus(part, part), part) == part
    assert plus(part, Spending()) == part


@given(st.binary(max_size=50), st.integers(0, 399), st.integers(0, 7))
def test_a_checksum_tells_any_bit(raw: bytes, place: int, bit: int) -> None:
    """One flipped bit anywhere in the bytes of an answer gives another checksum."""
    key = LedgerKey(SERVICE, "1")
    flipped = bytearray(raw or b"x")
    flipped[place % len(flipped)] ^= 1 << bit
    assert checksum_of(key, 200, None, "[]", raw or b"x") != checksum_of(key, 200, None, "[]", bytes(flipped))


def test_a_checksum_tells_what_was_asked() -> None:
    """An answer that is found under another id, status or service is not taken for that one's."""
    sums = {
        checksum_of(LedgerKey(SERVICE, vehicle_id), status, flaw, headers, b"raw")
        for vehicle_id in ("1", "2")
        for status in (200, 206)
        for headers in ("[]", '[["date", "today"]]')
        for flaw in (None, "TRUNCATED")
    }
    assert len(sums) == 16

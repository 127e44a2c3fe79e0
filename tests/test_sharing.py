"""Sharing a key with others: what is taken for a sign of them, and how several come to equal parts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneauto_async._flow.sharing import ALONE_AFTER, FAR_BELOW, FLOOR, Sharing

LIMIT = 50.0


@pytest.mark.parametrize("is_given", [True, False], ids=["given", "learnt"])
@given(first=st.floats(1.0, 49.0), seed=st.integers(0, 100))
def test_unequal_parts_become_equal(is_given: bool, first: float, seed: int) -> None:
    """Each 429 hits one of two, the more probably the more it sends; in the end neither has twice the other's part."""
    rng = random.Random(seed)
    ways = [Sharing(LIMIT, is_given=is_given) for _ in range(2)]
    rates, sums = [first, LIMIT - first], [0.0, 0.0]
    for moment in range(1, 6000):
        rates = [way.climb(rate, moment * 0.1) for way, rate in zip(ways, rates, strict=True)]
        if sum(rates) > LIMIT:
            loser = 0 if rng.random() * sum(rates) < rates[0] else 1
            rates[loser] = ways[loser].give_way(rates[loser])
        if moment > 3000:
            sums = [total + rate for total, rate in zip(sums, rates, strict=True)]

    assert max(sums) < 2.0 * min(sums)


def test_what_is_got_again_and_again_is_no_sign_of_others() -> None:
    """One alone gets the same between any two 429s."""
    sharing = Sharing(LIMIT, is_given=False)
    for sample in (50.0, 50.5, 49.8, 50.2):
        sharing.compare(sample, 1.0, 50.0)
        assert not sharing.is_likely(50.0)


def test_getting_less_than_before_is_a_sign_until_it_is_the_same_for_a_while() -> None:
    """What comes between two 429s, such as a pause, is compared with nothing."""
    sharing = Sharing(LIMIT, is_given=False)
    sharing.compare(50.0, 1.0, 50.0)
    sharing.forget()
    sharing.compare(30.0, 1.0, 50.0)
    assert not sharing.is_likely(50.0)

    sharing.compare(20.0, 1.0, 50.0)
    assert sharing.is_likely(50.0)
    for _ in range(ALONE_AFTER):
        assert sharing.is_likely(50.0)
        sharing.compare(20.0, 1.0, 50.0)
    assert not sharing.is_likely(50.0)


def test_far_below_the_recent_peak_others_are_likely_until_the_peak_is_forgotten() -> None:
    """The peak fades with each 429, and with samples that agree."""
    sharing = Sharing(LIMIT, is_given=False)
    low = 0.9 * FAR_BELOW * LIMIT
    assert sharing.is_likely(low)
    for _ in range(100):
        sharing.remember(low)
    assert not sharing.is_likely(low)


def test_giving_way_ends_at_a_floor() -> None:
    """Bad luck starves nobody."""
    sharing, rate = Sharing(LIMIT, is_given=True), LIMIT
    for _ in range(50):
        rate = sharing.give_way(rate)
    assert rate == FLOOR * LIMIT

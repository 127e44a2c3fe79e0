"""Sharing a key with others: what is taken for a sign of them."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from oneauto_async._flow.sharing import ALONE_AFTER, Sharing

LIMIT = 50.0


def seems_shared(sharing: Sharing) -> bool:
    """Ask anew each time: a type checker takes a property for a fact."""
    return sharing.is_likely


@given(samples=st.lists(st.floats(49.1, 50.9), max_size=20))
def test_what_is_got_again_and_again_is_no_sign_of_others(samples: list[float]) -> None:
    """One alone gets the same between any two 429s, as nearly as it can be known."""
    sharing = Sharing(LIMIT)
    for sample in samples:
        sharing.compare(sample, 1.0)
        assert not seems_shared(sharing)


def test_getting_less_than_before_is_a_sign_until_it_is_the_same_for_a_while() -> None:
    """What comes between two 429s, such as a pause, is compared with nothing."""
    sharing = Sharing(LIMIT)
    sharing.compare(50.0, 1.0)
    sharing.forget()
    sharing.compare(30.0, 1.0)
    assert not seems_shared(sharing)

    sharing.compare(20.0, 1.0)
    assert seems_shared(sharing)
    for _ in range(ALONE_AFTER):
        assert seems_shared(sharing)
        sharing.compare(20.0, 1.0)
    assert not seems_shared(sharing)


def test_what_is_compared_with_nothing_does_not_tell_that_others_have_left() -> None:
    """A call that was cancelled, or a pause, comes between two 429s: they do not agree, nor differ."""
    sharing = Sharing(LIMIT)
    sharing.suspect()
    for _ in range(2 * ALONE_AFTER):
        sharing.forget()
        sharing.compare(20.0, 1.0)
    assert seems_shared(sharing)


def test_getting_more_is_a_sign_only_where_there_were_others() -> None:
    """A limit that rises is no sign; but where somebody was, it shows that they have taken less."""
    alone, together = Sharing(LIMIT), Sharing(LIMIT)
    together.suspect()
    for sharing in (alone, together):
        sharing.compare(20.0, 1.0)
        sharing.compare(40.0, 1.0)

    assert not seems_shared(alone)
    assert seems_shared(together)


def test_the_highest_rate_is_remembered_for_a_minute_or_so() -> None:
    """With a 429 in six seconds: after ten of them there is half of it left at least, after sixty hardly anything."""
    sharing = Sharing(0.0)
    sharing.remember(LIMIT)
    for _ in range(10):
        sharing.remember(2.0)
    assert sharing.highest(2.0) > LIMIT / 2.0
    for _ in range(60):
        sharing.remember(2.0)

    assert math.isclose(sharing.highest(2.0), 2.0)

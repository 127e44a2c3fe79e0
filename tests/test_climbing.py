"""One's share of a key that others use too: who has less climbs faster, and nobody keeps what others need."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneauto_async._flow.climbing import SHORTEST, STEP, USUAL, Share

WHOLE = 50.0


def test_after_a_refusal_the_pace_falls_by_a_step_and_climbs_back_in_as_many_calls_as_are_usual() -> None:
    """Whoever has half of the key wastes one call in a hundred."""
    share, pace = Share(WHOLE), WHOLE / 2.0
    share.begin(pace)
    for _ in range(int(USUAL)):
        pace *= share.up(pace, behind=1.0)

    assert pace == pytest.approx(WHOLE / 2.0 * (1.0 + STEP), rel=0.03)
    assert share.down(pace) == pytest.approx(pace * (1.0 - STEP))


@given(low=st.floats(0.05, 0.45), more=st.floats(1.05, 2.0))
def test_whoever_has_less_climbs_faster(low: float, more: float) -> None:
    """In proportion to what each has, for the same number of calls."""
    poor, rich = Share(WHOLE), Share(WHOLE)
    poor.begin(low * WHOLE)
    rich.begin(low * more * WHOLE)

    assert poor.up(low * WHOLE, behind=1.0) >= rich.up(low * more * WHOLE, behind=1.0) > 1.0


def test_refused_again_at_once_it_takes_one_more_to_share_the_key() -> None:
    """Two refusals in a row lower the pace from a half to a third, then to a quarter."""
    share, pace, paces = Share(WHOLE), WHOLE / 2.0, []
    for _ in range(2):
        share.begin(pace)
        pace = share.down(pace)
        paces.append(pace)

    assert paces == pytest.approx([WHOLE / 3.0, WHOLE / 4.0], rel=0.02)


def test_it_climbs_ever_faster_when_nothing_is_refused_for_long() -> None:
    """Others have left: all that they had is taken within two hundred calls, if answers come soon."""
    share, pace, calls = Share(WHOLE), WHOLE / 4.0, 0
    share.begin(pace)
    while pace < WHOLE:
        pace, calls = pace * share.up(pace, behind=1.0), calls + 1

    assert calls < 200


def test_it_climbs_no_faster_than_answers_tell_of_it() -> None:
    """Of a hundred calls under way none has told yet what came of the last climb."""
    share = Share(WHOLE)
    share.begin(WHOLE / 2.0)

    assert share.up(WHOLE / 2.0, behind=100.0) ** 100 <= 1.0 + STEP


def test_a_key_that_allows_less_than_was_told_refuses_less_and_less() -> None:
    """What it is taken to allow in all falls with every refusal, and whoever is slow for it is refused less often."""
    share = Share(WHOLE)
    usual = []
    for _ in range(300):
        share.begin(WHOLE / 10.0)
        calls, pace = 0, WHOLE / 10.0
        while pace < WHOLE / 10.0 * (1.0 + STEP):
            pace, calls = pace * share.up(pace, behind=1.0), calls + 1
        usual.append(calls)

    assert usual[0] == pytest.approx(SHORTEST, abs=2)
    assert usual[-1] > 4 * usual[0]
    assert usual == sorted(usual)


@pytest.mark.parametrize("several", [2, 3, 4])
def test_from_wherever_they_begin_all_come_near_to_the_same(several: int) -> None:
    """A bucket that is asked in turn, as often as each is fast; one has almost all of it at first."""
    chance = random.Random(several)
    paces = [WHOLE * 0.9, *([WHOLE * 0.1 / (several - 1)] * (several - 1))]
    shares, got, level = [Share(WHOLE) for _ in paces], [0] * several, 10.0
    for share, pace in zip(shares, paces, strict=True):
        share.begin(pace)
    for call in range(several * 4000):
        who = chance.choices(range(several), weights=paces)[0]
        level = min(10.0, level + WHOLE / sum(paces))
        if level < 1.0:
            paces[who] = shares[who].down(paces[who])
            shares[who].begin(paces[who])
            continue
        level -= 1.0
        paces[who] *= shares[who].up(paces[who], behind=1.0)
        got[who] += call > several * 1000

    assert min(got) > 0.6 * max(got)


def test_it_is_ones_own_after_all_once_enough_refusals_agree() -> None:
    """Three of them, and three times the calls that usually lie between two."""
    share = Share(WHOLE)
    share.begin(WHOLE / 2.0)

    enough = int(3 * USUAL)
    assert not share.is_all(refusals=2, accepted=2 * enough)
    assert not share.is_all(refusals=3, accepted=enough - 1)
    assert share.is_all(refusals=3, accepted=enough)

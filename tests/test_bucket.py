"""The copy of the gateway's bucket: how it paces, and how a key without any burst is spaced."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneauto_async._flow.bucket import TokenBucket


def run(rate: float, calls: int, jitter: float, seed: int = 1) -> tuple[float, int]:
    """Send so many calls through a bucket to a gateway that sees them up to ``jitter`` seconds late."""
    rng, bucket = random.Random(seed), TokenBucket(rate, 1)
    now, refused, level, filled_at = 0.0, 0, 1.0, 0.0
    for _ in range(calls):
        now += bucket.delay(now)
        bucket.take(now)
        bucket.leave(now, now)
        arrival = now + rng.random() * jitter
        level, filled_at = min(1.0, level + (arrival - filled_at) * rate), arrival
        if level >= 1.0 - 1e-9:
            level -= 1.0
            bucket.accept()
        else:
            refused += 1
            bucket.drain(now, was_early=True)
    return now, refused


@given(st.floats(10.0, 500.0), st.floats(0.0, 0.1))
def test_without_burst_few_calls_are_refused_whatever_the_jitter(rate: float, jitter_share: float) -> None:
    """The margin grows, by as many refusals as it takes, until less than one call in a hundred comes too early."""
    _, refused = run(rate, 3000, jitter_share / rate)
    assert refused <= 3000 * 0.01 + 20 * jitter_share / 0.1


def test_without_burst_and_jitter_the_margin_disappears() -> None:
    """A steady way to the gateway ends with the full rate."""
    bucket = TokenBucket(100.0, 1)
    for _ in range(2000):
        bucket.accept()
    assert bucket.rate == 100.0


def test_without_burst_a_margin_that_is_far_too_wide_is_gone_after_a_few_thousand_calls() -> None:
    """Whoever shared the key for a while gets all of it again."""
    bucket = TokenBucket(10.0, 1)
    for moment in range(1000):
        bucket.drain(float(moment), was_early=True)
    assert bucket.rate <= 5.0
    for _ in range(2500):
        bucket.accept()
    assert bucket.rate == 10.0


def test_a_refusal_that_was_not_early_leaves_the_margin_as_it_is() -> None:
    """Keeping farther apart would not help."""
    bucket = TokenBucket(10.0, 1)
    before = bucket.rate
    bucket.drain(1.0, was_early=False)
    assert bucket.rate == before


def test_with_a_burst_each_early_refusal_leaves_room_for_one_more_early_call() -> None:
    """The ways are less even than thought; half of the burst is kept for calls that went out late."""
    bucket = TokenBucket(10.0, 11)
    full = [bucket.level(0.0)]
    for moment in range(1, 12):
        bucket.drain(10.0 * moment, was_early=moment % 2 == 0)
        full.append(bucket.level(10.0 * moment + 9.0))

    assert full[1] == full[0]
    assert full[2] == full[0] - 1.0
    assert full[-1] == 6.0


def test_without_burst_the_next_call_keeps_away_from_one_that_left_late() -> None:
    """A call that left 5 ms later than usual moves the next one by as much."""
    bucket = TokenBucket(100.0, 1)
    now = 0.0
    for _ in range(100):
        now += bucket.delay(now)
        bucket.take(now)
        bucket.leave(now, now + 0.001)
    usual = bucket.delay(now)
    now += usual
    bucket.take(now)
    bucket.leave(now, now + 0.006)
    assert abs(bucket.delay(now) - usual - 0.005) < 1e-4


def test_without_burst_a_shared_key_cannot_widen_the_margin_without_end() -> None:
    """Refusals that are not ours to avoid halve the pace at most; the gate does the rest."""
    bucket = TokenBucket(100.0, 1)
    for moment in range(10_000):
        bucket.drain(float(moment), was_early=True)
    assert bucket.rate >= 50.0


def test_a_token_comes_back_only_as_long_as_the_bucket_has_not_been_full() -> None:
    """After that the gateway would not have had it either: its bucket would have run over."""
    bucket = TokenBucket(10.0, 11)
    for _ in range(3):
        bucket.take(0.0)
    bucket.leave(0.0, 0.0)
    before = bucket.level(0.1)
    bucket.put_back(0.0)
    assert bucket.level(0.1) == before + 1.0

    bucket.take(60.0)
    before = bucket.level(60.0)
    bucket.put_back(0.0)
    assert bucket.level(60.0) == before


@given(st.floats(1.0, 500.0), st.integers(2, 200), st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_a_full_bucket_runs_over_until_the_first_call_leaves(
    rate: float, burst: int, opening: float, stalled: float
) -> None:
    """The first calls open their connections, the later ones find them open: none comes too early.

    If the event loop is busy after the first grant, nobody knows that the first call has to wait as well, until it has
    left: of the calls granted before that one may come too early.
    """
    bucket, on_their_way = TokenBucket(rate, burst), list[tuple[float, float]]()
    now = arrived_at = 0.0
    level, arrived, first_left = float(burst), 0, 0.0
    while arrived < 2 * burst + 10:
        granted = max(now + bucket.delay(now), stalled if on_their_way else 0.0)
        if not on_their_way or granted < on_their_way[0][0]:
            now = granted
            bucket.take(now)
            heapq.heappush(on_their_way, (now if arrived else max(now, stalled) + opening, now))
            continue
        now, granted = heapq.heappop(on_their_way)
        first_left = now if not arrived else first_left
        bucket.leave(granted, now)
        level, arrived_at = min(float(burst), level + (now - arrived_at) * rate) - 1.0, now
        arrived += 1
        assert level >= -1e-6 - (stalled > 0.0 and granted < first_left)


def test_a_busy_event_loop_lets_one_call_out_beyond_a_full_bucket_that_none_has_reached() -> None:
    """Nobody knows whether those that were granted before it have waited as well."""
    bucket = TokenBucket(50.0, 10)
    for _ in range(9):
        bucket.take(0.0)

    assert bucket.level(1.0) == 1.0
    bucket.take(1.0)
    assert bucket.level(1.0) == 0.0
    bucket.leave(0.0, 1.0)
    assert bucket.level(1.0) < 0.0
    assert bucket.level(2.0) == bucket.level(60.0) > 9.0


def test_a_bucket_that_was_found_empty_does_not_run_over() -> None:
    """A refusal heard while another call opens its connection tells more than that the copy was full.

    That call takes the one token it needs when it leaves.
    """
    bucket = TokenBucket(10.0, 11)
    bucket.take(0.0)
    bucket.drain(1.0, was_early=False)
    emptied = bucket.level(1.5)

    bucket.leave(0.0, 1.5)

    assert emptied - 1.0 < bucket.level(1.5) <= emptied


def test_calls_that_were_held_up_and_those_behind_them_share_what_comes_in() -> None:
    """The first hundred wait a second for their connections, the others for none; none of them is refused."""
    rate, burst = 100.0, 5
    bucket = TokenBucket(rate, burst)
    now, level, filled_at, held_up, sent = 0.0, float(burst), 0.0, list[tuple[float, float]](), 0
    for number in range(400):
        now += bucket.delay(now)
        while held_up and held_up[0][0] <= now:  # they leave in between, and the next one may have to wait for it
            left, granted = heapq.heappop(held_up)
            level, filled_at, sent = min(burst, level + (left - filled_at) * rate) - 1.0, left, sent + 1
            assert level >= -1e-6
            bucket.leave(granted, left)
            now += bucket.delay(now)
        bucket.take(now)
        heapq.heappush(held_up, (now + 1.0 if number < 100 else now, now))
    assert sent > 300


@pytest.mark.parametrize("event", [lambda bucket: bucket.doubt(0.1), lambda bucket: bucket.drain(0.1, was_early=False)])
def test_what_is_told_late_to_have_left_is_not_counted_twice(event: Callable[[TokenBucket], None]) -> None:
    """A transport that tells nothing is heard of at the end of its call; what was found out meanwhile holds."""
    told, untold = TokenBucket(10.0, 3), TokenBucket(10.0, 3)
    moments = (0.02, 0.04, 0.06)
    for bucket in (told, untold):
        bucket.take(0.0)
        bucket.leave(0.0, 0.0)
        for moment in moments:
            bucket.take(moment)
            if bucket is told:
                bucket.leave(moment, moment)
        event(bucket)
    for moment in moments:
        untold.leave(moment, moment)

    assert untold.level(0.15) >= told.level(0.15)


def test_a_call_that_never_leaves_is_not_waited_for() -> None:
    """A connection that is refused, or a lookup that is cancelled, took nothing; only its own token is lost."""
    bucket = TokenBucket(10.0, 11)
    full = bucket.level(0.0)
    for _ in range(3):
        bucket.take(0.0)

    bucket.miss(0.0)
    bucket.leave(0.0, 1.0)

    assert bucket.level(1.0) == full - 2.0

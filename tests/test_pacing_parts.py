"""The parts of the pacer, each alone: the ramp, cycles, surges, steps, and what a 429 tells of the rate."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oneauto_async import Found, OneAutoClient, RateLimit
from oneauto_async._flow.balancing import Balancing, balance
from oneauto_async._flow.calls import Fate, Grant, History, Moment
from oneauto_async._flow.climbing import STEP
from oneauto_async._flow.crowding import Crowding
from oneauto_async._flow.cycle import FEWEST_AGAIN, FIRST_CALLS, SHARE, SO_FAR, UNNOTICED, Cycle
from oneauto_async._flow.given import RECENT, is_starved
from oneauto_async._flow.key import Key as Known
from oneauto_async._flow.key import Phase
from oneauto_async._flow.measuring import Interval, measure, sustained
from oneauto_async._flow.pacing import Pacer
from oneauto_async._flow.ramp import AT_ONCE, DOUBLING, DOUBLING_TRIPS, FEW, FIRST_RATE, WINDOW, Ramp
from oneauto_async._flow.runs import COARSEST, LIKELY, explain, run_before
from oneauto_async._flow.sharing import Sharing
from oneauto_async._flow.stepping import IN_A_ROW, KNOWN, SMALLEST, Steps
from oneauto_async._flow.stops import UNTOLD, Stops
from oneauto_async._flow.surge import FIRST, SUREST, Surge
from oneauto_async._flow.way import Refusal
from oneauto_async.testing import Simulator, VirtualClock

TRIP = 0.02


class Key:
    """A token bucket, and the history of one who uses it: calls are sent, arrive at once, and are heard of at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst, self.level, self.at = rate, burst, float(burst), 0.0
        self.history = History()
        self.history.heard(TRIP)
        self.sent = 0

    def send(self, moment: float) -> Grant:
        """Send a call at a moment."""
        self.level = min(self.burst, self.level + (moment - self.at) * self.rate)
        self.at, self.sent = moment, self.sent + 1
        call = Grant(self.sent, moment)
        call.fate = Fate.ACCEPTED if self.level >= 1.0 else Fate.REFUSED
        self.level -= call.fate is Fate.ACCEPTED
        self.history.add(call)
        return call

    def send_until_refused(self, pace: float) -> Grant:
        """Send evenly from now on until one is refused."""
        while (call := self.send(self.at + 1.0 / pace)).fate is Fate.ACCEPTED:
            pass
        return call


@given(rate=st.floats(2.0, 200.0), burst=st.integers(3, 200), faster=st.floats(1.05, 3.0))
def test_two_refusals_without_a_rest_between_them_measure_the_rate(rate: float, burst: int, faster: float) -> None:
    """The rate lies in the interval that accepted calls and seconds between them give."""
    key = Key(rate, burst)
    key.send_until_refused(rate * faster)
    for _ in range(100):
        key.send(key.at + 1.0 / rate)
    newest = key.send_until_refused(rate * faster)

    interval = measure(key.history, newest)

    assert interval.low <= rate <= interval.high
    assert interval.is_narrow


@given(rate=st.floats(2.0, 200.0), burst=st.integers(3, 200), faster=st.floats(1.05, 3.0))
def test_what_was_accepted_since_the_first_refusal_is_the_least_a_key_allows(
    rate: float, burst: int, faster: float
) -> None:
    """It never is more than that, and soon not much less."""
    key = Key(rate, burst)
    key.send_until_refused(rate * faster)
    assert key.history.least() == 0.0
    for _ in range(math.ceil(40.0 * faster)):
        key.send(key.at + 1.0 / (rate * faster))
        assert key.history.least() <= rate + 1e-6

    assert key.history.least() >= 0.8 * rate


@given(rate=st.floats(2.0, 200.0), burst=st.integers(3, 200), faster=st.floats(1.05, 3.0))
def test_a_call_that_failed_behind_the_gateway_may_have_taken_a_token(rate: float, burst: int, faster: float) -> None:
    """The key is not taken for a slower one, however many do."""
    key = Key(rate, burst)
    key.send_until_refused(rate * faster)
    for number in range(100):
        call = key.send(key.at + 1.0 / (rate * faster))
        call.fate = Fate.VOID if call.fate is Fate.ACCEPTED and number % 3 else call.fate
    newest = key.send_until_refused(rate * faster)

    interval = measure(key.history, newest)

    assert interval.low <= rate <= interval.high


@given(rate=st.floats(2.0, 400.0), burst=st.integers(3, 100), faster=st.floats(1.1, 2.0), rest=st.floats(0.0, 3.0))
def test_a_refusal_after_a_rest_measures_the_rate_all_the_same(
    rate: float, burst: int, faster: float, rest: float
) -> None:
    """However long the bucket ran over: since it was full last it has given its burst and what came in."""
    key = Key(rate, burst)  # 100 calls and a tenth faster: 1,100 calls to empty it, and 2,048 are remembered
    first = key.send_until_refused(rate * faster)
    key.send(key.at + burst / rate + rest)
    newest = key.send_until_refused(rate * faster)
    beyond = sum(call.fate is Fate.ACCEPTED and call.left > first.left for call in key.history.newest_first()) - burst
    assume(beyond >= 10)

    found = sustained(key.history, newest, first.left, burst)

    assert found.interval.low <= rate <= found.interval.high


@given(
    rate=st.floats(5.0, 400.0),
    burst=st.integers(4, 60),
    paces=st.lists(st.floats(1.05, 3.0), min_size=1, max_size=3),
    stop=st.floats(0.5, 3.0),
)
def test_runs_between_stops_are_explained_by_the_rate_and_the_burst(
    rate: float, burst: int, paces: list[float], stop: float
) -> None:
    """Whether or not a stop fills the bucket, what the key allows is among what explains them all, and is found."""
    key = Key(rate, burst)
    first = key.send_until_refused(rate * 1.5)
    runs = [run_before(first, key.history.until(first), math.inf)]
    refused = first
    for pace in paces:
        key.send(refused.left + stop)
        before, refused = refused, key.send_until_refused(rate * pace)
        calls = [call for call in key.history.until(refused) if call.left > before.left]
        runs.append(run_before(refused, calls, calls[-1].left - before.left))

    found = explain(runs, rate)

    assert found is not None
    farthest = found.error / LIKELY + COARSEST
    assert found.rate * (1.0 - farthest) <= rate <= found.rate * (1.0 + farthest)


def test_calls_that_leave_in_the_same_moment_leave_few_rates_to_try() -> None:
    """A clock may count in milliseconds."""
    refused, *before = [Grant(number, 1.0) for number in range(20)]
    run = run_before(refused, before, 1.0)

    found = explain([run], 50.0)

    assert found is not None
    assert found.rate < 10_000.0


def test_a_stop_after_which_nothing_is_accepted_is_no_news() -> None:
    """What earlier runs have told is not forgotten because of it."""
    key, stops = Key(50.0, 10), Stops()
    first = key.send_until_refused(100.0)
    stops.begin_with(key.history.until(first), math.inf)
    refused = first
    for pace in (120.0, 80.0):
        stops.learn(refused.left, 1.0)
        key.send(refused.left + 1.0)
        refused = key.send_until_refused(pace)
        found = stops.measure(key.history, refused, 50.0)
    assert found is not None
    error = stops.error

    stops.learn(refused.left, 1e-6)
    nothing = stops.measure(key.history, key.send(refused.left + 1e-5), 50.0)
    assert (nothing, stops.error) == (None, error)
    stops.learn(key.at, 1.0)
    key.send(key.at + 1.0)
    again = stops.measure(key.history, key.send_until_refused(80.0), 50.0)

    assert again is not None
    assert again.rate == pytest.approx(50.0, rel=0.1)
    assert again.error <= error + 1e-9


@given(rate=st.floats(0.2, 0.45), stop=st.floats(0.5, 2.0))  # hardly a call comes in during a stop
def test_stops_after_every_call_or_two_tell_what_the_key_allows_together(rate: float, stop: float) -> None:
    """One by one they are too short to tell anything, as those of a key that allows far less than it did."""
    key, stops = Key(rate, 20), Stops()
    refused = key.send_until_refused(10.0)
    assert math.isinf(stops.highest_rate(key.history))
    for _ in range(UNTOLD + 1):
        stops.learn(refused.left, stop)
        key.send(refused.left + stop)
        refused = key.send_until_refused(10.0)
        assert stops.measure(key.history, refused, 10.0) is None

    assert rate <= stops.highest_rate(key.history) <= rate + 2.0 / (UNTOLD * stop)

    stops.learn(refused.left, stop)
    key.at, key.level = refused.left + 3600.0, 0.0  # nobody asked for an hour, and then others were there
    assert stops.measure(key.history, key.send_until_refused(10.0), 10.0) is None
    assert math.isinf(stops.highest_rate(key.history))


def test_stops_do_not_keep_a_fast_key_from_being_found(clock: VirtualClock) -> None:
    """Few calls are accepted between the first two, and say the same of a slow key with a large burst."""
    simulator = Simulator(rate=100, burst=20, latency=(0.02, 0.03), retry_after="1")

    async def main() -> float:
        async with OneAutoClient.simulated(simulator, clock=clock) as client:
            await client.lookup_many(range(2000))
            return clock.monotonic()

    assert clock.run(main()) < 1.3 * (2000 - 20) / 100


def test_calls_count_in_the_order_they_left_however_long_they_waited_for_a_connection() -> None:
    """One that was let out early and left late came to the gateway late."""
    pacer = Pacer(rate=100.0, burst=20.0)
    early, *others = [Grant(number, 0.01 * number) for number in range(1, 6)]
    for grant in (early, *others):
        pacer.take(grant)
    for grant in others:
        pacer.leave(grant)
    early.left = 0.5
    pacer.leave(early)

    assert [call.number for call in pacer._key.history.newest_first()] == [1, 5, 4, 3, 2]
    assert pacer._key.history.accepted_after(others[-1]) == 1


def test_calls_count_by_when_they_left_though_some_are_told_of_at_their_end() -> None:
    """As those of a transport that says nothing before: an old one that ends late hides none that left after it."""
    history = History()
    late, refused, *others = [Grant(number, 0.01 * number) for number in range(1, 13)]
    for call in (refused, *others, late):
        history.add(call)
    refused.fate = Fate.REFUSED

    assert history.accepted_after(refused) == 10


@pytest.mark.parametrize("start", [0.0, 1e5])
def test_how_long_a_key_has_been_the_same_counts_from_its_first_call(start: float) -> None:
    """A clock may begin anywhere: that of a machine which has run for weeks says nothing of the key."""
    key = Known(rate=2.0)
    key.take(start)
    for later in (30.0, 60.0, 90.0):
        key.cycle.lengthen(2.0, 0.1, start + later, key.sharing)

    assert key.cycle.length == pytest.approx(2.0 * SO_FAR * 90.0)


def test_a_pace_that_rises_far_does_not_take_the_burst_of_a_key_for_none() -> None:
    """What was accepted up to the first refusal was a burst if the key is slow, and hardly any if it is fast."""
    pacer, now = Pacer(), 0.0
    for number in range(40):
        now = 0.01 * number
        pacer.take(call := Grant(number, now))
        pacer.accept(call, now)
    pacer.take(call := Grant(40, now))
    pacer.throttle(call, now + TRIP)
    assert pacer.rate is not None
    assert pacer.rate < 100.0
    now += TRIP
    while pacer.rate < 500.0:
        number, now = number + 1, now + pacer.delay(now)
        pacer.take(call := Grant(number, now))
        pacer.accept(call, now)

    assert pacer.burst == 3


def test_calls_that_have_not_left_yet_will_find_their_tokens_gone() -> None:
    """After a 429 they count like those that left after it."""
    levels = []
    for waiting in (0, 30):
        pacer = Pacer(rate=100.0, burst=40.0)
        refused = Grant(1, 1.0)
        pacer.take(refused)
        pacer.leave(refused)
        for number in range(waiting):
            pacer.take(Grant(2 + number, 1.01))
        pacer.throttle(refused, 1.1)
        levels.append(pacer.level(1.1))

    assert levels[0] >= 1.0
    assert levels[1] < -10.0


@pytest.mark.parametrize(
    ("of_nine", "uneven", "found_out"),
    [(7, 0.0, False), (5, 0.0, True), (5, 0.1, False), (2, 0.1, True)],
    ids=["most", "half", "half, on uneven ways", "hardly any, on uneven ways"],
)
def test_a_given_rate_of_a_key_with_hardly_any_burst_is_left_when_too_few_calls_are_accepted(
    of_nine: int, uneven: float, found_out: bool
) -> None:
    """One refused now and then came too early; where more are than uneven ways explain, the key allows less."""
    pacer = Pacer(ceiling=10.0, burst=1.0)
    for number in range(1, RECENT + 9):
        grant = Grant(number, 0.1 * number)
        pacer.take(grant)
        pacer.leave(grant)
        if number % 9 < of_nine:
            pacer.accept(grant, 0.1 * number + TRIP)
        else:
            pacer.throttle(grant, 0.1 * number + TRIP + uneven * (number % 2))

    assert (pacer.phase is Phase.TRACK) is found_out


@pytest.mark.parametrize(
    "given", [50.0, pytest.param(100.0, marks=pytest.mark.slow)], ids=["by two thirds", "three times"]
)
def test_a_given_limit_without_burst_that_is_too_high_is_left_for_what_the_key_allows(
    clock: VirtualClock, given: float
) -> None:
    """Every second call is refused at first, which no uneven way explains, and hardly any from then on."""
    simulator = Simulator(rate=30, burst=1, latency=(0.02, 0.03))

    async def main() -> RateLimit | None:
        limit = RateLimit(given)
        async with OneAutoClient.simulated(simulator, clock=clock, rate_limit=limit) as client:
            async with client.batch(range(2000)) as batch:
                assert all([isinstance(outcome, Found) async for outcome in batch])
            return client.governor.statistics().learnt

    learnt = clock.run(main())
    assert learnt is not None
    assert learnt.rate == pytest.approx(30.0, rel=0.05)
    assert simulator.statuses[429] < 0.1 * simulator.total_billed


@pytest.mark.parametrize(
    ("accepted", "refused", "reached"),
    [(18, 2, 25.0), (18, 1, None), (200, 1, None)],
    ids=["two of the first calls", "one of the first calls", "one of many"],
)
def test_a_given_limit_is_shared_in_halves_to_begin_with_unless_the_key_gives_it(
    accepted: int, refused: int, reached: float | None
) -> None:
    """Nothing is known yet of how much others take; but a single refused call was only early."""
    pacer, now = Pacer(ceiling=50.0, burst=10.0), 0.0
    for number in range(1, accepted + refused + 1):
        grant, now = Grant(number, now), now + 0.02
        pacer.take(grant)
        pacer.leave(grant)
        if number <= accepted:
            pacer.accept(grant, now + TRIP)
        else:
            pacer.throttle(grant, now + TRIP)

    assert pacer.rate == reached


def test_to_be_refused_at_the_ceiling_takes_a_step_back_however_slow_the_climb_was() -> None:
    """Much of what came in during the climb ran over: what was accepted meanwhile is not what the key allows."""
    pacer, now, number = Pacer(ceiling=50.0, burst=10.0), 0.0, 0

    def call(*, is_accepted: bool) -> None:
        nonlocal now, number
        number, now = number + 1, now + 1.0 / pacer.pace
        grant = Grant(number, now)
        pacer.take(grant)
        pacer.leave(grant)
        (pacer.accept if is_accepted else pacer.throttle)(grant, now + TRIP)

    for is_accepted in (True, True, False, False):
        call(is_accepted=is_accepted)
    while pacer.rate:
        call(is_accepted=True)
        assert number < 1000
    assert number > 100
    call(is_accepted=False)

    assert pacer.rate == pytest.approx(50.0 * (1.0 - STEP))


@pytest.mark.parametrize("burst", [2, 3, 5, 8])
@pytest.mark.parametrize(("share", "reached"), [(0.5, 100.0), (1.0, 50.0), (2.0, 25.0)])
def test_a_balanced_pace_stays_where_the_share_that_is_aimed_at_is_refused(
    burst: int, share: float, reached: float
) -> None:
    """Where less is refused it climbs, as far as was told; where more is, it falls."""
    key = Known(ceiling=100.0, burst=burst)
    key.rate, key.phase = 50.0, Phase.TRACK
    key.history.heard(TRIP)
    balancing = Balancing(key)
    accepted, call = 0.0, Grant(1, 0.0)
    for _ in range(100):
        accepted += balance(burst) / share
        while accepted >= 1.0 and key.rate < 100.0:
            balancing.accept(call, 0.0)
            accepted -= 1.0
        key.episode.lowest = 25.0
        if key.phase is Phase.TRACK:
            balancing.refuse(Refusal(call, Interval(), is_new=True))

    assert key.rate == pytest.approx(reached, rel=0.05)
    assert (key.phase is Phase.FREE) is (reached == 100.0)


@pytest.mark.parametrize(
    ("burst", "uneven", "rate", "found"),
    [(3.0, 0.17, 200.0, True), (50.0, 0.17, 200.0, False), (3.0, 0.17, 10.0, False), (1.0, 0.17, 200.0, False)],
    ids=["a small burst", "a large one", "a slow key", "a burst that may not have been told"],
)
def test_paths_of_uneven_length_are_too_much_for_a_small_burst_of_a_fast_key(
    burst: float, uneven: float, rate: float, found: bool
) -> None:
    """So they are as long as calls overtake each other."""
    crowding = Crowding(burst)
    for number in range(100):
        crowding.hear(0.08 + uneven * (number % 2), rate)
    assert crowding.is_on is found

    for _ in range(100):
        crowding.hear(0.3, rate)
    assert not crowding.is_on


def test_a_few_refusals_do_not_say_how_uneven_a_path_is() -> None:
    """The first ones may be a slow one and a fast one by chance."""
    crowding = Crowding(3.0)
    for number in range(3):
        crowding.hear(0.1 + 0.2 * (number % 2), 200.0)

    assert not crowding.is_on


def test_a_lost_rate_comes_back_with_a_few_calls() -> None:
    """One that was far higher a moment ago is tried again by doubling, once nobody refuses any more."""
    steps = Steps()
    factors = [steps.up(cycle=100.0, behind=0.1, burst=1.0, is_far=True) for _ in range(16)]

    assert math.prod(factors[: int(IN_A_ROW)]) < 2.0
    assert factors[int(IN_A_ROW) :] == [2.0] * (16 - int(IN_A_ROW))


def test_a_pause_right_behind_a_refusal_counts_on_a_long_way_as_well() -> None:
    """Calls arrive when they have been under way for half a round trip, and pauses are known by when they leave."""
    history, rate, burst, pace = History(), 100.0, 1.0, 110.0
    history.heard(0.4)
    until_refused = math.ceil(burst / (1.0 - rate / pace))
    leaving = [0.0, *(0.4 + number / pace for number in range(until_refused + 1))]
    for number, left in enumerate(leaving):
        call = Grant(number, left)
        call.fate = Fate.REFUSED if left in {leaving[0], leaving[-1]} else Fate.ACCEPTED
        history.add(call)
    history.pause(0.01, 0.4)

    assert measure(history, call).high >= rate


def test_whoever_was_refused_every_call_needs_few_accepted_ones_to_know_that_others_have_left() -> None:
    """Three in a row would hardly come by chance then, whatever the key allowed a moment ago."""
    steps = Steps()
    for _ in range(10):
        steps.down(0.5, SMALLEST)
    steps.lose()
    factors = [steps.up(cycle=100.0, behind=0.1, burst=1.0) for _ in range(4)]

    assert math.prod(factors[:2]) < 1.5
    assert factors[2:] == [2.0, 2.0]


def test_a_rate_that_cannot_fall_any_further_is_not_known() -> None:
    """However often the limit seems to be met where it was: it is the slowest pace that was met."""
    steps = Steps()
    for _ in range(10):
        for _ in range(200):
            steps.up(cycle=100.0, behind=0.1, burst=1.0)
        steps.down(0.5, SMALLEST)
        steps.lose()

    assert not steps.is_known


def test_to_be_refused_again_at_once_tells_nothing_of_what_a_key_allows() -> None:
    """The highest rate is remembered as long as before by whoever is refused every call, and no longer by others."""
    refused, steps = Sharing(100.0), Steps()
    for _ in range(50):
        refused.remember(0.0, weight=steps.weight)
        steps.down(1.0, SMALLEST)
    assert refused.peak == 100.0

    for _ in range(int(IN_A_ROW)):
        steps.up(cycle=100.0, behind=0.1, burst=1.0)
    refused.remember(0.0, weight=steps.weight)
    assert refused.peak < 100.0


def test_a_given_limit_of_which_others_take_everything_is_given_up_within_few_calls() -> None:
    """On even paths no two calls in a row are early; on uneven ones they may be."""
    for trips, expected in [([0.01], True), ([0.01, 0.5], False)]:
        history = History()
        for number in range(16):
            call = Grant(number, number / 10.0)
            call.fate = Fate.REFUSED
            history.add(call)
            history.heard(trips[number % len(trips)])
        assert is_starved(history, 10.0, 0.0) is expected


def test_a_rate_that_has_dropped_is_tried_again_soon() -> None:
    """In less than a second of a fast key, and not with every other call of a slow one."""
    fast, slow = Cycle(400.0), Cycle(20.0)
    fast.shorten(100.0, behind=2.0)
    slow.shorten(1.0, behind=0.1)

    assert fast.length / 100.0 <= 1.0
    assert slow.length == FEWEST_AGAIN


def test_the_ramp_lets_a_few_out_at_once_and_others_evenly_until_a_few_are_answered() -> None:
    """Then at a rate that doubles."""
    ramp, now = Ramp(), 0.0
    for sent in range(int(AT_ONCE)):
        assert ramp.delay(now, sent, answered=0) == 0.0
        ramp.take(now, answered=0)
    for _ in range(10):
        assert math.isclose(ramp.delay(now, 1, answered=FEW - 1), 1.0 / FIRST_RATE)
        now += 1.0 / FIRST_RATE
        ramp.take(now, answered=FEW - 1)
    end = now + 4.0 * DOUBLING
    while now < end:
        now += ramp.delay(now, 1, answered=FEW)
        ramp.take(now, answered=FEW)

    assert ramp.rate == pytest.approx(16.0 * FIRST_RATE, rel=0.2)


def test_the_ramp_doubles_in_two_round_trips_where_they_are_long() -> None:
    """What leaves until a refusal is heard then is a part of the burst."""
    ramp, now = Ramp(), 0.0
    for trip in (0.3, 0.1, 0.2):
        ramp.hear(trip)
    for _ in range(int(AT_ONCE)):
        ramp.take(now, answered=FEW)
    end = now + 2.0 * DOUBLING_TRIPS * 0.1
    while now < end:
        now += ramp.delay(now, 1, answered=FEW)
        ramp.take(now, answered=FEW)

    assert ramp.rate == pytest.approx(4.0 * FIRST_RATE, rel=0.05)


def test_the_ramp_waits_for_answers_but_never_holds_back_one_who_asks_alone() -> None:
    """Unanswered calls are bounded; with none, the next one goes."""
    ramp = Ramp()
    for moment in range(100):
        assert ramp.delay(moment * 1e-6, unanswered=0, answered=moment) == 0.0
        ramp.take(moment * 1e-6, answered=moment)
    assert ramp.delay(1.0, unanswered=WINDOW, answered=3) == math.inf
    assert ramp.delay(1.0, unanswered=WINDOW, answered=WINDOW + 1) == 0.0


@given(rate=st.floats(0.5, 500.0), behind=st.floats(0.0, 500.0))
def test_a_steady_key_is_refused_ever_more_seldom_and_never_too_seldom(rate: float, behind: float) -> None:
    """Refused calls become a small share of all; a limit that rises is noticed within a part of the time so far."""
    cycle, sharing, now = Cycle(), Sharing(rate), 0.0
    cycle.begin_anew(rate, behind, is_shared=False)
    assert cycle.length <= max(FIRST_CALLS, 3.0 * behind)
    for _ in range(40):
        cycle.ended(1)
        now += cycle.length / rate
        cycle.lengthen(rate, behind, now, sharing)
        assert cycle.length / rate <= max(UNNOTICED, SO_FAR * now, 4.0 * behind / rate, 3.0 / rate) + 1e-6

    assert cycle.length >= min(1.0 / SHARE, 0.9 * UNNOTICED * rate)


def test_whoever_has_a_part_of_a_key_looks_as_often_as_if_all_were_theirs() -> None:
    """The calls refused are few among all of the key's."""
    whole, part = Cycle(), Cycle()
    for _ in range(20):
        whole.lengthen(50.0, 1.0, 1e6, Sharing(50.0))
        part.lengthen(5.0, 1.0, 1e6, Sharing(50.0))

    assert part.length / 5.0 == pytest.approx(whole.length / 50.0)


def test_whoever_knows_what_others_take_looks_sooner() -> None:
    """The more of a given limit would go unused, and only while others seem to be there."""
    seconds = {}
    for others, told, rate in [(True, 50.0, 10.0), (True, 50.0, 25.0), (True, 0.0, 25.0), (False, 50.0, 25.0)]:
        cycle, sharing = Cycle(), Sharing(told)
        if others:
            sharing.suspect()
        for _ in range(20):
            cycle.lengthen(rate, 1.0, 1.0, sharing)
        seconds[others, told, rate] = cycle.length / rate

    assert seconds[True, 50.0, 10.0] * 0.8 == pytest.approx(seconds[True, 50.0, 25.0] * 0.5)
    assert seconds[True, 50.0, 25.0] < seconds[True, 0.0, 25.0] == seconds[False, 50.0, 25.0] == UNNOTICED


def test_a_surge_grows_until_more_was_sent_than_can_have_been_hidden() -> None:
    """Then, and only then, it is sure that the key allows more."""
    surge, granted, hidden = Surge(), 0, 10.0
    surge.end(Moment(0.0, granted), 0.01)
    beyond = 0.0
    while not surge.is_sure(hidden):
        granted += 20
        beyond += 20 * surge.excess / (1.0 + surge.excess)
        assert surge.go_on(1.0, granted, least=20)
        surge.grow(0.3)
        assert FIRST <= surge.excess <= 0.3

    assert beyond > hidden
    surge.rise(SUREST)
    assert not surge.is_sure(hidden)


def test_a_short_cycle_may_be_a_surge_from_its_429_on() -> None:
    """What it then shows has been true since that 429, and not since the beginning."""
    surge = Surge()
    surge.end(Moment(3.0, 50), 2.0 * FIRST)
    assert surge.go_on(4.0, 60, least=5)
    assert surge.began == 3.0

    surge.end(Moment(5.0, 70), FIRST / 2.0)
    assert surge.go_on(6.0, 80, least=5)
    assert surge.began == 6.0


@given(rate=st.floats(1.0, 400.0), burst=st.sampled_from([1, 2]), first=st.floats(0.1, 3.0))
def test_steps_find_the_rate_of_a_key_with_hardly_any_burst(rate: float, burst: int, first: float) -> None:
    """Wherever they begin, they settle at it, and few calls are refused then."""
    key, steps, pace, refused = Key(rate, burst), Steps(), rate * first, 0
    for number in range(6000):
        call = key.send(key.at + 1.0 / pace)
        if call.fate is Fate.ACCEPTED:
            pace *= steps.up(cycle=200.0, behind=1.0, burst=burst)
        else:
            pace = steps.down(pace, SMALLEST)
            refused += number >= 3000

    assert steps.step <= KNOWN
    assert pace == pytest.approx(rate, rel=0.06)
    assert refused <= 3000 * 0.02

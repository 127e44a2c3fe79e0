"""What the governor keeps to, whatever happens to it, in virtual time: properties over random sequences of events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples

from oneauto_async import Governor, OneAutoError, QuotaExceededError, RateLimit
from oneauto_async._flow.calls import Grant
from oneauto_async._flow.quota import FIRST_HOLD
from oneauto_async.testing import VirtualClock

LONG_ENOUGH = 3600.0
"""Virtual seconds after which somebody who still waits is taken to wait for ever."""

LATENCY = 0.05


class WakingClock(VirtualClock):
    """A clock that can do something in the moment in which a sleeper wakes, before whoever it serves knows of it."""

    on_waking: Callable[[], None] | None = None

    async def sleep(self, seconds: float, *, exact: bool = False) -> None:
        """Sleep."""
        await super().sleep(seconds)
        if self.on_waking is not None:
            asyncio.get_running_loop().call_soon(self.on_waking)
            self.on_waking = None


@attrs.define(eq=False)
class Caller:
    """One who asks for a grant.

    Attributes:
        number: counts those who ask, in the order in which they do.
        is_retry: whether it goes ahead of new ids.
        asked_after: the number of the last grant that had been given when it asked.
        task: its waiting.
    """

    number: int
    is_retry: bool
    asked_after: int = 0
    task: asyncio.Task[Grant] = attrs.field(init=False)

    async def ask(self, governor: Governor) -> Grant:
        """Wait for a grant."""
        self.asked_after = governor._granted  # statistics leave out what was given back
        return await governor.acquire(retrying=self.is_retry)

    @property
    def grant(self) -> Grant | None:
        """What it got, if it got anything."""
        is_served = self.task.done() and not self.task.cancelled() and self.task.exception() is None
        return self.task.result() if is_served else None


@attrs.define
class Play:
    """A governor, those who ask it, and what became of their grants."""

    governor: Governor
    clock: WakingClock
    callers: list[Caller] = attrs.field(factory=list)
    ended: set[Grant] = attrs.field(factory=set)
    returned: list[tuple[Grant, float]] = attrs.field(factory=list)

    def ask(self, *, is_retry: bool) -> None:
        """Let one more ask; it does so in the next turn of the loop."""
        caller = Caller(len(self.callers), is_retry)
        caller.task = asyncio.create_task(caller.ask(self.governor))
        self.callers.append(caller)

    @property
    def waiting(self) -> list[Caller]:
        return [caller for caller in self.callers if not caller.task.done()]

    @property
    def next_in_line(self) -> Caller | None:
        return min(self.waiting, key=lambda caller: (not caller.is_retry, caller.number), default=None)

    @property
    def granted(self) -> list[Grant]:
        """The grants that reached somebody, in the order in which they were given."""
        return sorted((caller.grant for caller in self.callers if caller.grant), key=lambda grant: grant.number)

    @property
    def under_way(self) -> list[Grant]:
        return [grant for grant in self.granted if grant not in self.ended]

    def end(self, grant: Grant, how: Callable[[Governor, Grant], None]) -> None:
        """Tell the governor how a call ended."""
        self.ended.add(grant)
        how(self.governor, grant)

    def give_back(self, grant: Grant) -> None:
        """Undo a grant."""
        self.returned.append((grant, self.clock.monotonic()))
        self.end(grant, Governor.give_back)

    def accept_all(self) -> None:
        for grant in self.under_way:
            self.end(grant, Governor.accept)

    async def answer_until_nobody_waits(self) -> None:
        """The service works again and answers everybody."""
        async with asyncio.timeout(LONG_ENOUGH):
            while self.waiting or self.under_way:
                self.accept_all()
                await asyncio.sleep(LATENCY)

    def check_books(self) -> None:
        """Every grant is counted once, by what became of it."""
        counted = self.governor.statistics()
        ended = counted.accepted + counted.throttled + counted.unavailable + counted.failed
        assert counted.granted == ended + counted.in_flight


Step = Callable[[Play], Coroutine[Any, Any, None]]
Ending = Callable[[Governor, Grant], None]


def asks(count: int, is_retry: bool) -> Step:
    async def step(play: Play) -> None:
        for _ in range(count):
            play.ask(is_retry=is_retry)

    return step


def passes(seconds: float) -> Step:
    async def step(play: Play) -> None:
        await asyncio.sleep(seconds)

    return step


def turns(count: int) -> Step:
    """Let the loop turn so often; between two other steps it does not turn at all."""

    async def step(play: Play) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    return step


def leaves(which: int) -> Step:
    """Cancel one who waits."""

    async def step(play: Play) -> None:
        if play.waiting:
            play.waiting[which % len(play.waiting)].task.cancel()

    return step


def leaves_when_served(times: int) -> Step:
    """Cancel whoever is next in the moment of the grant, so often in turn."""

    def cancel(play: Play, left: int) -> None:
        if play.next_in_line:
            play.next_in_line.task.cancel()
        if left > 1:
            play.clock.on_waking = lambda: cancel(play, left - 1)

    async def step(play: Play) -> None:
        play.clock.on_waking = lambda: cancel(play, times)

    return step


async def everybody_stays(play: Play) -> None:
    """From now on."""
    play.clock.on_waking = None


def sends(which: int) -> Step:
    async def step(play: Play) -> None:
        if play.under_way:
            grant = play.under_way[which % len(play.under_way)]
            play.governor.sent(grant, play.clock.monotonic())

    return step


def gives_back(which: int) -> Step:
    async def step(play: Play) -> None:
        if play.under_way:
            play.give_back(play.under_way[which % len(play.under_way)])

    return step


def ends(which: int, how: Ending) -> Step:
    async def step(play: Play) -> None:
        if play.under_way:
            play.end(play.under_way[which % len(play.under_way)], how)

    return step


def all_end(how: Ending) -> Step:
    """In this moment."""

    async def step(play: Play) -> None:
        for grant in play.under_way:
            play.end(grant, how)

    return step


def refusal(retry_after: float | None) -> Ending:
    return lambda governor, grant: governor.throttle(grant, retry_after)


def unavailability(retry_after: float | None) -> Ending:
    return lambda governor, grant: governor.unavailable(grant, retry_after)


which = st.integers(0, 30)
rests = st.none() | st.sampled_from([0.0, 0.5, 5.0, 60.0])
endings = st.sampled_from([Governor.accept, Governor.accept, Governor.forget])
quiet_steps = st.one_of(
    st.builds(asks, st.integers(1, 12), st.booleans()),
    st.builds(passes, st.sampled_from([0.001, 0.1, 0.5, 1.0, 2.0]) | st.floats(0.001, 3.0)),
    st.builds(turns, st.integers(1, 4)),
    st.builds(leaves, which),
    st.builds(leaves_when_served, st.integers(1, 3)),
    st.builds(sends, which),
    st.builds(gives_back, which),
    st.builds(ends, which, endings),
    st.builds(all_end, endings),
)
mishaps = st.one_of(
    st.builds(refusal, rests),
    st.builds(unavailability, rests),
    st.sampled_from([Governor.fail, Governor.forget, Governor.quota_used_up]),
)
troubles = st.one_of(
    st.builds(ends, which, mishaps),
    st.builds(all_end, st.builds(refusal, rests)),
    st.builds(all_end, st.just(Governor.fail)),
)
quiet_plays = st.lists(quiet_steps, min_size=10, max_size=50)
plays = st.lists(quiet_steps | quiet_steps | troubles, min_size=10, max_size=50)

given_limits = st.builds(
    RateLimit, st.sampled_from([0.5, 1.0, 5.0, 50.0]) | st.floats(0.5, 200), st.sampled_from([1, 2, 3, 10, 30])
)
learnt_limits = st.builds(RateLimit.adaptive, st.none() | given_limits)
limits = given_limits | learnt_limits


def perform(limit: RateLimit, steps: list[Step], then: Step) -> Play:
    """Play the steps one after the other, then one more; the books are looked at after each."""
    clock = WakingClock()
    play = Play(Governor(limit, clock=clock), clock)

    async def main() -> None:
        for step in [*steps, turns(5), everybody_stays, then]:
            await step(play)
            play.check_books()

    clock.run(main())
    return play


A_CANARY_THAT_TELLS_NOTHING = [
    asks(1, False),
    turns(3),
    all_end(Governor.accept),
    asks(5, False),
    turns(3),
    all_end(Governor.fail),
    asks(2, False),
    passes(3.0),
    all_end(Governor.forget),
]


CALLS_OF_WHICH_NOBODY_SAID_WHEN_THEY_LEFT = [
    *(asks(1, False), asks(1, False), asks(1, False), turns(1), asks(1, False), asks(1, False)),
    all_end(Governor.accept),
    passes(0.1),
    sends(0),
    all_end(refusal(None)),
]


async def all_goes_well(play: Play) -> None:
    await play.answer_until_nobody_waits()


@examples(400)
@given(limits, plays)
@example(RateLimit(50, 10), A_CANARY_THAT_TELLS_NOTHING)
@example(RateLimit.adaptive(), CALLS_OF_WHICH_NOBODY_SAID_WHEN_THEY_LEFT)
def test_nobody_waits_for_ever_and_the_books_add_up(limit: RateLimit, steps: list[Step]) -> None:
    """Once the service works again each waiter gets a grant or is turned away, and nothing stays under way."""
    play = perform(limit, steps, all_goes_well)

    counted = play.governor.statistics()
    assert (counted.waiting, counted.in_flight) == (0, 0)
    for caller in play.callers:
        if not caller.task.cancelled() and (error := caller.task.exception()):
            assert isinstance(error, OneAutoError)


@examples(400)
@given(limits, plays)
@example(RateLimit(1, 1), [asks(2, False), turns(3), asks(1, False), gives_back(0)])
def test_retries_go_first_and_equals_in_turn(limit: RateLimit, steps: list[Step]) -> None:
    """Of those who get a grant, whoever asked first gets it first; a retry overtakes every new id that still waits.

    But where a single call at a time asks whether it goes on, that is a new id's while there is one.
    """
    play = perform(limit, steps, all_goes_well)

    served = [(caller, caller.grant.number) for caller in play.callers if caller.grant]
    for earlier, first in served:
        for later, second in served:
            if earlier.is_retry == later.is_retry and earlier.number < later.number:
                assert first < second
            is_newer = not later.is_retry and second > earlier.asked_after
            if earlier.is_retry and is_newer and not (later.grant and later.grant.is_canary):
                assert first < second


@examples(400)
@given(given_limits, plays)
def test_no_window_holds_more_calls_than_the_limit_allows(limit: RateLimit, steps: list[Step]) -> None:
    """In any window of w seconds there are at most rate * w + burst calls.

    Grants that were given back are none; but one that was given before the window and comes back within it may be given
    again there. Whatever a 429 teaches makes it fewer, never more.
    """
    play = perform(limit, steps, all_goes_well)

    assert limit.rate is not None
    gone = {grant for grant, _ in play.returned}
    calls = [grant for grant in play.granted if grant not in gone]
    for index, first in enumerate(calls):
        for count, last in enumerate(calls[index:], start=1):
            again = sum(
                grant.number < first.number and first.at <= moment <= last.at for grant, moment in play.returned
            )
            assert count <= (last.at - first.at) * limit.rate + limit.burst + again + 1e-6


MANY = 40


async def many_ask(play: Play) -> None:
    """Let many more ask of a service that answers at once; they begin when what is owed to the key has come in.

    What was let out while the first call opened its connection for long is owed: the key, being full, gained nothing.
    """
    await play.answer_until_nobody_waits()
    began, rate = play.clock.monotonic(), play.governor.statistics().rate
    await asks(MANY, is_retry=False)(play)
    await play.answer_until_nobody_waits()
    moments = [grant.at for grant in play.granted[-MANY:]]
    longest_debt = max(0.0, began - play.granted[0].at)
    assert min(moments) - began <= longest_debt + (1.05 / rate if rate else LATENCY)
    assert max(moments) - min(moments) <= (1.05 * MANY / rate if rate else MANY * LATENCY)
    assert len(play.granted) >= MANY


@examples(300)
@given(limits, quiet_plays)
@example(RateLimit(1, 1), [asks(3, False), turns(3), leaves(0), leaves(0)])
@example(RateLimit(4, 2), [asks(5, False), passes(1.0), sends(0)])
def test_no_grant_is_lost_by_leaving(limit: RateLimit, steps: list[Step]) -> None:
    """However many leave the queue or give a grant back, the next ones get all that the limit allows."""
    play = perform(limit, steps, many_ask)

    assert play.governor.statistics().in_flight == 0


@examples(60)
@given(given_limits)
def test_leaving_in_the_moment_of_a_grant_costs_the_others_no_time(limit: RateLimit) -> None:
    """The next in line has the grant there and then, so that those who stay are served as if nobody had left."""

    async def half_leave(play: Play) -> None:
        await leaves_when_served(MANY)(play)
        await asks(2 * MANY, is_retry=False)(play)
        await play.answer_until_nobody_waits()

    play = perform(limit, [], half_leave)

    assert limit.rate is not None
    assert play.granted[-1].at <= 1.05 * len(play.granted) / limit.rate


# The quota.


async def used_up(play: Play, before: int, after: int, pause: float, throttled: bool) -> None:
    """Use a quota up with some calls under way, ask through its hold, and let some ask once it is over."""
    governor = play.governor
    await asks(before, is_retry=False)(play)
    await asyncio.sleep(1.0)
    first, *others = play.under_way
    began = play.clock.monotonic()
    play.end(first, Governor.quota_used_up)
    granted = governor.statistics().granted
    while play.clock.monotonic() < began + FIRST_HOLD - 1.0:
        play.ask(is_retry=False)
        await asyncio.sleep(7.0)
    assert governor.statistics().granted == granted

    for grant in others:  # they know of the quota as little as before it was used up
        play.end(grant, refusal(None) if throttled else Governor.accept)
    await asyncio.sleep(began + FIRST_HOLD - play.clock.monotonic() + pause)
    await asks(after, is_retry=False)(play)
    await asyncio.sleep(LONG_ENOUGH)

    (canary,) = play.under_way
    assert governor.statistics().granted == granted + 1
    refused = [caller for caller in play.callers if caller.grant is None and caller.task.done()]
    assert {type(caller.task.exception()) for caller in refused} == {QuotaExceededError}
    assert governor.statistics().waiting == after - 1
    play.end(canary, Governor.accept)
    await many_ask(play)


@examples(100)
@given(limits, st.integers(1, 12), st.integers(1, 12), st.floats(0.0, 5.0), st.booleans())
def test_a_used_up_quota_is_asked_about_by_one_call(
    limit: RateLimit, before: int, after: int, pause: float, throttled: bool
) -> None:
    """Nothing is granted while it holds; then one call goes, the others wait for it, and its success ends it."""

    async def step(play: Play) -> None:
        await used_up(play, before, after, pause, throttled)

    perform(limit, [], step)

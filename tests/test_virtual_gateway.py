"""The model of the gateway that the scenarios run against: its bucket, the ideal, its troubles."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.gateway import ACCEPTED, QUOTA, REFUSED, UNAVAILABLE, UNREACHABLE, Gateway
from scenarios.ideal import ideal_time
from scenarios.named import FIFTY
from scenarios.world import Bucket, Change, Latency, Limit, Outage, Quota, Stall, World
from support.examples import examples

from oneauto_async.testing import VirtualClock
from oneauto_async.testing.clock import VirtualEventLoop


@examples(50)
@given(
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 50),
    later=st.floats(0.5, 500),
    gaps=st.lists(st.floats(0, 0.5), max_size=200),
)
def test_no_window_accepts_more_than_the_limit_allows(rate: float, burst: int, later: float, gaps: list[float]) -> None:
    """In any window of w seconds there are at most w * rate + burst tokens, also when the limit changes."""
    bucket = Bucket(Limit(rate, burst), [Change(5, Limit(later, burst))])
    moments = [sum(gaps[:index]) for index in range(len(gaps))]

    taken = [moment for moment in moments if bucket.take(moment)]

    assert taken[:burst] == moments[:burst]
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= (taken[last] - start) * max(rate, later) + burst + 1e-6


@pytest.mark.parametrize(
    ("world", "count", "seconds"),
    [
        (World(limit=Limit(10, 5)), 5, 0.0),
        (World(limit=Limit(10, 5)), 25, 2.0),
        (World(limit=Limit(10, 5), changes=(Change(1, Limit(100, 5)),)), 115, 2.0),
        (World(limit=Limit(10, 5), changes=(Change(1.05, Limit(20, 5)),)), 16, 1.075),
        (World(limit=Limit(10, 5), changes=(Change(1, Limit(1, 5)),)), 17, 3.0),
        (World(limit=Limit(10, 5), outages=(Outage(1, 3),)), 24, 4.5),
        (World(limit=Limit(10, 5), outages=(Outage(0, 3),)), 15, 4.0),
        (World(limit=Limit(10, 5), outages=(Outage(1, 3),), stalls=(Stall(3, 2),)), 24, 5.5),
        (World(limit=Limit(10, 5), quotas=(Quota(20), Quota(15))), 100, 1.0),
    ],
)
def test_the_ideal_uses_every_token_at_once(world: World, count: int, seconds: float) -> None:
    """Worked out by hand: a burst, then the rate; what gathers in an outage is bounded by the burst."""
    assert ideal_time(world, count) == pytest.approx(seconds + world.latency.mean)


def fates(world: World, moments: list[float]) -> list[str]:
    """Send a call at each moment and return what became of them, in the order they arrived."""
    gateway = Gateway(world)
    transport = gateway.transport()

    async def call(number: int, moment: float) -> None:
        await asyncio.sleep(moment)
        request = httpx.Request("GET", f"https://gateway.invalid/?evdb_vehicle_id={number}")
        with contextlib.suppress(httpx.ConnectError):
            await transport.handle_async_request(request)

    async def main() -> None:
        await asyncio.gather(*(call(number, moment) for number, moment in enumerate(moments)))

    VirtualClock().run(main())
    return [event.fate for event in gateway.books.events]


def test_the_gateway_starts_full_and_a_refused_call_takes_nothing() -> None:
    """Two at once pass, the others do not; half a second later there is one token, however many were refused."""
    assert fates(World(limit=Limit(2, 2)), [0, 0, 0, 0, 0.5, 0.5]) == [ACCEPTED] * 2 + [REFUSED] * 2 + [
        ACCEPTED,
        REFUSED,
    ]


def test_the_gateway_has_outages() -> None:
    """Backends that are away answer, hosts that are away cannot be reached."""
    world = World(limit=Limit(100, 10), outages=(Outage(1, 1), Outage(3, 1, None)), latency=Latency(0, 0))

    assert fates(world, [0, 1, 2, 3, 4]) == [ACCEPTED, UNAVAILABLE, ACCEPTED, UNREACHABLE, ACCEPTED]


def test_the_gateway_counts_quotas() -> None:
    """The smallest refuses first; one with a period begins anew."""
    world = World(limit=Limit(100, 10), quotas=(Quota(2, period=10), Quota(3)), latency=Latency(0, 0))

    assert fates(world, [0, 1, 2, 11, 12]) == [ACCEPTED, ACCEPTED, QUOTA, ACCEPTED, QUOTA]


def test_the_gateway_goes_on_while_the_clients_stall() -> None:
    """A call on its way when the event loop stalls arrives when it would have."""
    gateway = Gateway(World(limit=FIFTY, latency=Latency(1, 1), stalls=(Stall(0.2, 5),)))

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualEventLoop)
        loop.call_at(0.2, loop.jump, 5.0)
        await gateway.transport().handle_async_request(httpx.Request("GET", "https://gateway.invalid/"))
        return loop.time()

    assert VirtualClock().run(main()) == pytest.approx(5.2)
    assert gateway.books.events[0].arrived == pytest.approx(0.5)


def test_a_call_leaves_when_its_connection_is_open() -> None:
    """The first waits for one, the second finds it idle, the third comes after it was dropped."""
    gateway = Gateway(World(limit=FIFTY, latency=Latency(0.1, 0.1), connecting=0.4))

    async def main() -> None:
        transport = gateway.transport()
        for pause in (1, 5, 0):
            await transport.handle_async_request(httpx.Request("GET", "https://gateway.invalid/"))
            await asyncio.sleep(pause)

    VirtualClock().run(main())

    assert [event.left for event in gateway.books.events] == pytest.approx([0.4, 1.5, 7.0])


def test_a_call_that_is_refused_may_be_answered_sooner() -> None:
    """What the gateway refuses by itself does not take the backend's time."""
    gateway = Gateway(World(limit=Limit(1, 1), latency=Latency(1, 1, outward=0.25, refused=0.5)))
    transport = gateway.transport()

    async def call() -> float:
        await transport.handle_async_request(httpx.Request("GET", "https://gateway.invalid/"))
        return asyncio.get_running_loop().time()

    async def main() -> list[float]:
        return list(await asyncio.gather(call(), call()))

    assert VirtualClock().run(main()) == pytest.approx([1.0, 0.5])
    assert [event.arrived for event in gateway.books.events] == pytest.approx([0.25, 0.25])


def answers(world: World, count: int) -> list[httpx.Response]:
    """Send calls one after the other and return their answers."""
    transport = Gateway(world).transport()

    async def main() -> list[httpx.Response]:
        request = httpx.Request("GET", "https://gateway.invalid/?evdb_vehicle_id=1")
        return [await transport.handle_async_request(request) for _ in range(count)]

    return VirtualClock().run(main())


def test_answers_are_the_services_own() -> None:
    """A record in its envelope; 429s of two kinds, told apart by a header; ``Retry-After`` where it is asked for."""
    found, throttled = answers(World(limit=Limit(1, 1), retry_after=3), 2)
    (used_up,) = answers(World(limit=FIFTY, quotas=(Quota(0),)), 1)

    assert found.status_code == 200
    assert found.json()["success"] is True
    assert (throttled.status_code, throttled.headers["retry-after"]) == (429, "3")
    assert throttled.headers["x-amzn-errortype"] == "TooManyRequestsException"
    assert used_up.headers["x-amzn-errortype"] == "LimitExceededException"


@pytest.mark.parametrize(("counts_down", "told"), [(False, "3"), (True, "5")])
def test_an_outage_may_tell_how_long_it_lasts(counts_down: bool, told: str) -> None:
    """A fixed time, or what is left of it, rounded up."""
    outage = Outage(0, 5, 503, retry_after=3, counts_down=counts_down)

    (answer,) = answers(World(limit=FIFTY, outages=(outage,)), 1)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, told)

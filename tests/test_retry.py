"""How patiently one lookup is pursued, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from email.utils import formatdate
from typing import Literal

import httpx
import pytest
from support.raw import ANSWER

from oneauto_async import (
    ConnectionFailedError,
    DeadlineExceededError,
    Failed,
    Found,
    InDoubt,
    NotSent,
    NotSentReason,
    OneAutoClient,
    Outcome,
    PendingError,
    RateLimit,
    RateLimitedError,
    RetryPolicy,
    ServiceUnavailableError,
)
from oneauto_async.models import BidirectionalCharging
from oneauto_async.testing import VirtualClock

OK = httpx.Response(200, content=ANSWER)


class Service:
    """Answers in turn, the last answer for ever, and notes when it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = iter(answers)
        self._last = answers[-1]
        self.times: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.times.append(asyncio.get_running_loop().time())
        answer = next(self._answers, self._last)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def gaps(self) -> list[float]:
        """Seconds between two requests."""
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


def look_up(clock: VirtualClock, service: Service, policy: RetryPolicy | None = None) -> Outcome[BidirectionalCharging]:
    """Look one id up in virtual time."""

    async def main() -> Outcome[BidirectionalCharging]:
        transport = httpx.MockTransport(service)
        async with OneAutoClient(
            "key-of-the-test", transport=transport, retry=policy or RetryPolicy(), clock=clock
        ) as client:
            return await client.lookup("12345")

    return clock.run(main())


def error_of(outcome: Outcome[BidirectionalCharging]) -> Exception:
    """Return the error of a failed outcome."""
    assert isinstance(outcome, Failed | InDoubt | NotSent)
    return outcome.error


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_unbilled_refusal_is_tried_again_until_it_is_answered(clock: VirtualClock, status: int) -> None:
    """Two refusals, then the record: three requests, one answer."""
    service = Service(httpx.Response(status), httpx.Response(status), OK)

    outcome = look_up(clock, service)

    assert isinstance(outcome, Found)
    assert outcome.receipt.attempts == len(service.times) == 3


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimitedError), (500, ServiceUnavailableError), (503, ServiceUnavailableError)]
)
def test_a_refusal_that_stays_ends_after_the_attempts_allowed(
    clock: VirtualClock, status: int, error: type[Exception]
) -> None:
    """``attempts`` is exactly the number of requests, for a key that accepts nothing else meanwhile."""
    service = Service(httpx.Response(status))

    outcome = look_up(clock, service, RetryPolicy(attempts=4))

    assert type(error_of(outcome)) is error
    assert len(service.times) == outcome.receipt.attempts == 4


def test_parallel_lookups_each_use_their_own_attempts(clock: VirtualClock) -> None:
    """A hundred failing lookups make three requests each: no retry state is shared."""
    service = Service(httpx.Response(500))

    async def main() -> list[Outcome[BidirectionalCharging]]:
        transport = httpx.MockTransport(service)
        async with OneAutoClient("key", transport=transport, retry=RetryPolicy(attempts=3), clock=clock) as client:
            return await client.lookup_many(range(100))

    outcomes = clock.run(main())

    assert {outcome.receipt.attempts for outcome in outcomes} == {3}
    assert len(service.times) == 300


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "least"), [("1", 1.0), ("1.5", 1.5), ("40", 40.0), (formatdate(1_767_225_600 + 90, usegmt=True), 90.0)]
)
def test_retry_after_is_waited_out_in_full(clock: VirtualClock, status: int, header: str, least: float) -> None:
    """Seconds, decimals and dates hold the next request back, and not much longer than asked."""
    service = Service(httpx.Response(status, headers={"Retry-After": header}), OK)

    assert isinstance(look_up(clock, service), Found)
    assert least <= service.gaps[0] < least + 1.5


def test_a_date_is_measured_against_the_services_own_clock(clock: VirtualClock) -> None:
    """A client whose clock is a year off still waits the two seconds the service meant."""
    past = 1_700_000_000
    headers = {"Retry-After": formatdate(past + 2, usegmt=True), "Date": formatdate(past, usegmt=True)}

    service = Service(httpx.Response(429, headers=headers), OK)

    assert isinstance(look_up(clock, service), Found)
    assert 2.0 <= service.gaps[0] < 3.5


@pytest.mark.parametrize("header", ["0", "soon", "", "-5", "nan", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_useless_retry_after_leaves_a_floor_between_requests(clock: VirtualClock, header: str) -> None:
    """Zero, nonsense and the past are no licence to hammer."""
    service = Service(httpx.Response(429, headers={"Retry-After": header}), OK)

    assert isinstance(look_up(clock, service), Found)
    assert service.gaps[0] >= 0.05


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_beyond_the_cap_fails_at_once(clock: VirtualClock, status: int) -> None:
    """It is never shortened and never slept out: one request, and the wait stands on the error."""
    service = Service(httpx.Response(status, headers={"Retry-After": "1000000000"}), OK)

    error = error_of(look_up(clock, service))

    assert isinstance(error, RateLimitedError | ServiceUnavailableError)
    assert error.retry_after == 1_000_000_000
    assert service.times == [0.0]


def test_backoff_is_jittered_and_grows(clock: VirtualClock) -> None:
    """Each wait stays under its doubling ceiling, and no two lookups wait alike."""
    service = Service(httpx.Response(500))

    look_up(clock, service)

    assert all(gap <= 0.25 * 2**n + 0.06 for n, gap in enumerate(service.gaps))
    assert len(set(service.gaps)) > 1


def test_the_total_time_bounds_the_attempts(clock: VirtualClock) -> None:
    """No request starts after ``total`` seconds, however many attempts are left."""
    service = Service(httpx.Response(500))

    outcome = look_up(clock, service, RetryPolicy(attempts=1000, total=10))

    assert isinstance(error_of(outcome), ServiceUnavailableError)
    assert service.times[-1] <= 10


def test_an_answer_that_is_not_ready_is_polled_within_its_own_limit(clock: VirtualClock) -> None:
    """202 is asked again every two seconds and does not use up the attempts."""
    service = Service(*[httpx.Response(202)] * 9, OK)

    assert isinstance(look_up(clock, service), Found)
    assert service.gaps == pytest.approx([2.0] * 9)


def test_polling_ends_with_a_pending_error(clock: VirtualClock) -> None:
    """After ``poll_total`` the lookup says that the answer is still not ready, unbilled."""
    service = Service(httpx.Response(202))

    outcome = look_up(clock, service, RetryPolicy(poll_total=10))

    assert isinstance(error_of(outcome), PendingError)
    assert service.times == pytest.approx([0, 2, 4, 6, 8, 10])


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
def test_a_connection_that_failed_before_sending_is_tried_again(clock: VirtualClock, failure: Exception) -> None:
    """Nothing can have been billed, so it is safe."""
    service = Service(failure, failure, OK)

    assert isinstance(look_up(clock, service), Found)
    assert len(service.times) == 3


def test_no_connection_at_all_is_a_connection_failure(clock: VirtualClock) -> None:
    """The error is the library's own, retryable, and says that nothing was sent."""
    error = error_of(look_up(clock, Service(httpx.ConnectError("refused"))))

    assert isinstance(error, ConnectionFailedError)
    assert error.retryable
    assert "not sent" in str(error)


DOUBTS = [
    httpx.ReadTimeout("silence"),
    httpx.ReadError("reset"),
    httpx.WriteError("reset"),
    httpx.RemoteProtocolError("nonsense"),
    httpx.Response(502),
    httpx.Response(504),
    httpx.Response(599),
]


@pytest.mark.parametrize("doubt", DOUBTS, ids=repr)
def test_what_may_have_been_charged_is_not_sent_again(clock: VirtualClock, doubt: httpx.Response | Exception) -> None:
    """One request, and the outcome is in doubt."""
    service = Service(doubt, OK)

    assert isinstance(look_up(clock, service), InDoubt)
    assert len(service.times) == 1


@pytest.mark.parametrize("doubt", DOUBTS, ids=repr)
def test_what_may_have_been_charged_is_sent_again_only_on_request(
    clock: VirtualClock, doubt: httpx.Response | Exception
) -> None:
    """``resend_in_doubt=1`` allows one more request, and not two."""
    service = Service(doubt)

    outcome = look_up(clock, service, RetryPolicy(resend_in_doubt=1))

    assert isinstance(outcome, InDoubt)
    assert len(service.times) == 2


def test_doubt_about_an_earlier_request_stays(clock: VirtualClock) -> None:
    """After a lost answer, a refusal of the resend does not make the first request free."""
    service = Service(httpx.ReadTimeout("silence"), httpx.Response(400))

    outcome = look_up(clock, service, RetryPolicy(resend_in_doubt=1))

    assert isinstance(outcome, InDoubt)


FINAL = [
    httpx.Response(200, content=b'{"success": false, "error": "no"}'),
    httpx.Response(200, content=b""),
    httpx.Response(200, content=b"<html>"),
    httpx.Response(201, content=ANSWER),
    httpx.Response(204),
    httpx.Response(206, content=ANSWER),
    httpx.Response(302, headers={"Location": "https://elsewhere.invalid/"}),
    httpx.Response(304),
    *(httpx.Response(status, headers={"Retry-After": "1"}) for status in (400, 401, 403, 404, 408, 409, 425, 501, 999)),
]


@pytest.mark.parametrize("final", FINAL, ids=repr)
def test_every_other_answer_is_final(clock: VirtualClock, final: httpx.Response) -> None:
    """One request, whatever it says of trying again."""
    service = Service(final, OK)

    look_up(clock, service)

    assert len(service.times) == 1


def test_a_shut_gate_holds_every_other_lookup(clock: VirtualClock) -> None:
    """One ``Retry-After: 30`` delays the lookups that start after it."""
    service = Service(httpx.Response(503, headers={"Retry-After": "30"}), OK)

    async def main() -> None:
        async with OneAutoClient("key", transport=httpx.MockTransport(service), clock=clock) as client:
            first = asyncio.create_task(client.lookup(1))
            await asyncio.sleep(1)
            await asyncio.gather(first, client.lookup(2), client.lookup(3))

    clock.run(main())

    assert service.times[0] == 0.0
    assert min(service.times[1:]) >= 30.0


def test_a_gate_shut_beyond_the_cap_fails_other_lookups_unsent(clock: VirtualClock) -> None:
    """While it lasts they fail at once; afterwards they go out."""
    service = Service(httpx.Response(429, headers={"Retry-After": "500"}), OK)

    async def main() -> Iterator[Outcome[BidirectionalCharging]]:
        async with OneAutoClient("key", transport=httpx.MockTransport(service), clock=clock) as client:
            outcomes = [await client.lookup(number) for number in (1, 2)]
            await asyncio.sleep(500)
            return iter([*outcomes, await client.lookup(3)])

    first, second, third = clock.run(main())

    assert isinstance(first, Failed)
    assert isinstance(second, NotSent)
    assert second.reason is NotSentReason.RATE_LIMITED
    assert isinstance(third, Found)
    assert len(service.times) == 2


def test_a_gate_that_opens_too_late_is_not_waited_for(clock: VirtualClock) -> None:
    """A lookup that may take ten seconds does not stand fifty before a shut gate."""
    service = Service(httpx.Response(503, headers={"Retry-After": "50"}), OK)

    async def main() -> tuple[Outcome[BidirectionalCharging], float]:
        policy = RetryPolicy(total=10)
        async with OneAutoClient("key", transport=httpx.MockTransport(service), clock=clock, retry=policy) as client:
            await client.lookup(1)
            return await client.lookup(2), clock.monotonic()

    outcome, now = clock.run(main())

    assert isinstance(error_of(outcome), DeadlineExceededError)
    assert now == 0.0


@pytest.mark.parametrize("scope", ["key", "call"])
def test_a_key_that_has_not_answered_yet_is_asked_again_slower_and_slower(
    clock: VirtualClock, scope: Literal["key", "call"]
) -> None:
    """Whatever a ``Retry-After`` would hold: there is none."""
    service = Service(*[httpx.Response(429)] * 4, OK)

    async def main() -> Outcome[BidirectionalCharging]:
        limit, transport = RateLimit(50, 10, retry_after_scope=scope), httpx.MockTransport(service)
        async with OneAutoClient("k" * 20, transport=transport, clock=clock, rate_limit=limit) as client:
            return await client.lookup(1)

    assert isinstance(clock.run(main()), Found)
    assert all(0.125 * 2**number <= gap <= 0.25 * 2**number + 0.1 for number, gap in enumerate(service.gaps))


def test_when_the_common_retries_are_used_up_the_error_says_so(clock: VirtualClock) -> None:
    """Else nothing would tell why one lookup makes six requests, and the next one only one."""
    service = Service(httpx.Response(500))

    async def main() -> list[str]:
        async with OneAutoClient("k" * 20, transport=httpx.MockTransport(service), clock=clock) as client:
            return [str(error_of(await client.lookup(number))) for number in range(120)]

    texts = clock.run(main())

    assert "used up" not in texts[0]
    assert "not tried again, since the retries that all lookups share are used up" in texts[-1]


def test_no_back_off_is_longer_than_eight_seconds(clock: VirtualClock) -> None:
    """Of a service that never answered, and so has no outage."""
    service = Service(httpx.Response(503))

    look_up(clock, service, RetryPolicy(attempts=60, total=1000))

    assert 6.0 < max(service.gaps) <= 8.05

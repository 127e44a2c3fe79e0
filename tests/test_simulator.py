"""The simulator: what each call is answered, what it costs, and the same on a real socket."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import math
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeVar

import attrs
import httpx
import pytest

import oneauto_async.testing as testing
from oneauto_async.endpoints import CAR_BIDIRECTIONAL_CHARGING, VAN_BIDIRECTIONAL_CHARGING
from oneauto_async.errors import ConfigurationError
from oneauto_async.models import BidirectionalCharging, SupportStatus
from oneauto_async.settings import RateLimit
from oneauto_async.testing import SIMULATOR_KEY, SPECIAL_IDS, LimitChange, Outage, Simulator, VirtualClock, serve

T = TypeVar("T")
Ask: TypeAlias = Callable[..., Awaitable[httpx.Response]]

VAN = VAN_BIDIRECTIONAL_CHARGING.path
FIELDS = {field.name for field in attrs.fields(BidirectionalCharging)} - {"extra"}


def play(simulator: Simulator, script: Callable[[Ask], Awaitable[T]]) -> T:
    """Run a script against a simulator in virtual time; it asks with ``await ask(id)``."""

    async def main() -> T:
        transport = httpx.ASGITransport(app=simulator)
        headers = {"x-api-key": simulator.api_key}
        async with httpx.AsyncClient(transport=transport, base_url="http://simulator", headers=headers) as client:

            async def ask(evdb_vehicle_id: str, **options: Any) -> httpx.Response:
                return await client.get(VAN, params={"evdb_vehicle_id": evdb_vehicle_id}, **options)

            return await script(ask)

    return VirtualClock().run(main())


def ask_once(simulator: Simulator, evdb_vehicle_id: str = "12345", **options: Any) -> httpx.Response:
    return play(simulator, lambda ask: ask(evdb_vehicle_id, **options))


def statuses(simulator: Simulator, evdb_vehicle_id: str, count: int) -> list[int]:
    """Ask for one id several times in a row."""

    async def script(ask: Ask) -> list[int]:
        return [(await ask(evdb_vehicle_id)).status_code for _ in range(count)]

    return play(simulator, script)


def request(simulator: Simulator, method: str, url: str, **options: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=simulator)
        async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
            return await client.request(method, url, **options)

    return VirtualClock().run(main())


# The record


def test_a_record_has_the_vendors_envelope_and_fields() -> None:
    """An ordinary id gets the documented envelope, the twelve fields and the mark of a simulated record."""
    body = ask_once(Simulator()).json()

    assert (body["success"], body["error"]) == (True, None)
    assert set(body["result"]) == FIELDS | {"simulated"}
    assert body["result"]["simulated"] is True


def test_records_are_plausible() -> None:
    """Statuses are the known three or null, powers small numbers or null, port details texts or null."""

    async def script(ask: Ask) -> list[dict[str, Any]]:
        return [(await ask(str(number))).json()["result"] for number in range(300)]

    records = play(Simulator(), script)
    values = {name: {record[name] for record in records} for name in FIELDS}
    for name, seen in values.items():
        if name.endswith("_status"):
            assert seen == {*map(str, SupportStatus), None}
        elif name.endswith("_kw"):
            assert all(power is None or (0 < power <= 22 and round(power, 1) == power) for power in seen)
            assert {type(power) for power in seen} == {int, float, type(None)}
        else:
            assert all(isinstance(text, str | None) for text in seen)
            assert len(seen) > 2


def test_a_record_depends_on_the_id_alone() -> None:
    """The same id gets the same record from every simulator, pinned here against change; other ids get others."""
    first, again = ask_once(Simulator(), "12345").json(), ask_once(Simulator(seed=7), "12345").json()

    assert first == again
    assert first["result"]["vehicle_to_grid_dc_power_output_kw"] == 11
    assert ask_once(Simulator(), "012345").json() != first


def test_the_car_twin_is_served() -> None:
    """The car endpoint of the same service is there as well."""
    url = f"{CAR_BIDIRECTIONAL_CHARGING.path}?evdb_vehicle_id=12345"

    assert request(Simulator(), "GET", url, headers={"x-api-key": SIMULATOR_KEY}).status_code == 200


def test_every_answer_can_be_named_to_support() -> None:
    """Every answer has the gateway's ids, a date, the JSON type and the mark, the same in every run of a seed."""

    async def script(ask: Ask) -> list[httpx.Headers]:
        return [(await ask(evdb_vehicle_id)).headers for evdb_vehicle_id in ("12345", "SIM-204", "SIM-503")]

    runs = [play(Simulator(), script) for _ in range(2)]
    assert runs[0] == runs[1]
    assert play(Simulator(seed=1), script) != runs[0]
    assert len({headers["x-amzn-requestid"] for headers in runs[0]}) == 3
    for headers in runs[0]:
        assert (headers["content-type"], headers["x-oneauto-simulated"]) == ("application/json", "true")
        assert headers["x-amz-apigw-id"]
        assert parsedate_to_datetime(headers["date"]).year == 2026


# Route, key, id


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"{VAN.rstrip('/')}?evdb_vehicle_id=12345"),
        ("GET", "/?evdb_vehicle_id=12345"),
        ("POST", f"{VAN}?evdb_vehicle_id=12345"),
        ("POST", "/_simulator/books"),
    ],
)
def test_a_wrong_route_or_method_is_the_gateways_403(method: str, url: str) -> None:
    """What is no documented call gets the gateway's answer for a route it does not know."""
    response = request(Simulator(), method, url, headers={"x-api-key": SIMULATOR_KEY})

    assert response.status_code == 403
    assert response.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    assert response.json() == {"message": "Missing Authentication Token"}


@pytest.mark.parametrize("headers", [{}, {"x-api-key": ""}, {"x-api-key": "another"}])
def test_no_key_or_an_unknown_one_is_forbidden(headers: dict[str, str]) -> None:
    """Only the simulator's own keys open it."""
    response = request(Simulator(), "GET", f"{VAN}?evdb_vehicle_id=12345", headers=headers)

    assert response.status_code == 403
    assert response.headers["x-amzn-errortype"] == "ForbiddenException"
    assert response.json() == {"message": "Forbidden"}


@pytest.mark.parametrize(
    "query", ["", "?evdb_vehicle_id=", "?evdb_vehicle_id=%20", "?evdb_vehicle_id=1&evdb_vehicle_id=2"]
)
def test_a_call_without_exactly_one_id_is_a_bad_request(query: str) -> None:
    """A missing, empty or doubled id is refused in the vendor's envelope, and not billed."""
    simulator = Simulator()
    response = request(simulator, "GET", VAN + query, headers={"x-api-key": SIMULATOR_KEY})

    assert response.status_code == 400
    assert response.json()["success"] is False
    assert "evdb_vehicle_id" in response.json()["error"]
    assert (simulator.total_billed, sum(simulator.requests.values())) == (0, 1)


# Limits


def throttled(response: httpx.Response) -> bool:
    return (response.status_code, response.headers.get("x-amzn-errortype"), response.json()) == (
        429,
        "TooManyRequestsException",
        {"message": "Too Many Requests"},
    )


def test_a_key_has_a_token_bucket() -> None:
    """The bucket starts full, refills continuously, and a refused call takes nothing from it."""

    async def script(ask: Ask) -> list[bool]:
        refused = [throttled(await ask(str(number))) for number in range(5)]
        for wait in (0.05, 0.05, 0.1, 10.0):
            await asyncio.sleep(wait)
            refused.append(throttled(await ask("later")))
        return refused + [throttled(await ask("full again")) for _ in range(3)]

    simulator = Simulator(rate=10, burst=3)
    assert play(simulator, script) == [False] * 3 + [True] * 2 + [True, False, False, False] + [False, False, True]
    assert simulator.total_billed == 8


def test_a_client_that_paces_exactly_at_the_rate_is_never_refused() -> None:
    """Rounding of the clock is not held against the client."""

    async def script(ask: Ask) -> None:
        for number in range(1000):
            await ask(str(number))
            await asyncio.sleep(1 / 30)

    simulator = Simulator(rate=30, burst=1)
    play(simulator, script)
    assert simulator.statuses == {200: 1000}


def test_keys_do_not_share_a_bucket() -> None:
    """While one key is over its limit, a request with another key is answered."""

    async def script(ask: Ask) -> list[int]:
        keys = ["one", "one", "two"]
        return [(await ask("1", headers={"x-api-key": key})).status_code for key in keys]

    assert play(Simulator(keys=["one", "two"], rate=1), script) == [200, 429, 200]


def test_retry_after_comes_only_on_request() -> None:
    """The stock 429 has no Retry-After; a simulator told to send one sends it as it was given."""

    async def script(ask: Ask) -> list[str]:
        await ask("1")
        return (await ask("1")).headers.get_list("retry-after")

    assert play(Simulator(rate=1), script) == []
    assert play(Simulator(rate=1, retry_after="1.5"), script) == ["1.5"]


def test_a_limit_changes_when_it_is_told_to() -> None:
    """From one moment on the key allows more, from another nothing is counted; tokens never exceed the burst."""
    changes = [LimitChange(30, RateLimit(None)), LimitChange(10, RateLimit(2, 2))]

    async def script(ask: Ask) -> list[list[int]]:
        seen = []
        for pause in (0, 9, 1, 10, 10):
            await asyncio.sleep(pause)
            seen.append([(await ask("1")).status_code for _ in range(3)])
        return seen

    assert play(Simulator(rate=1, limit_changes=changes), script) == [
        [200, 429, 429],
        [200, 429, 429],
        [200, 429, 429],
        [200, 200, 429],
        [200, 200, 200],
    ]


@pytest.mark.parametrize("at", [-1, math.nan])
def test_a_limit_changes_at_a_moment_that_comes(at: float) -> None:
    """A moment before the first request, or none, is refused at once."""
    with pytest.raises(ConfigurationError, match="LimitChange"):
        LimitChange(at, RateLimit(1))


def test_a_quota_counts_accepted_calls() -> None:
    """A throttled call takes nothing from the quota; once used up, every call is refused for it."""

    async def script(ask: Ask) -> list[httpx.Response]:
        responses = [await ask("1"), await ask("1")]
        await asyncio.sleep(1)
        return [*responses, await ask("SIM-204"), await ask("1")]

    responses = play(Simulator(rate=1, quota=2), script)
    assert [response.status_code for response in responses] == [200, 429, 204, 429]
    assert responses[-1].headers["x-amzn-errortype"] == "LimitExceededException"
    assert responses[-1].json() == {"message": "Limit Exceeded"}


# Latency and failures


def test_latency_takes_virtual_time() -> None:
    """A fixed latency is the time an accepted call takes; a refused one is answered at once."""

    async def script(ask: Ask) -> list[float]:
        return [(await ask("1")).elapsed.total_seconds() and asyncio.get_running_loop().time() for _ in range(2)]

    assert play(Simulator(latency=0.25, quota=1), script) == [0.25, 0.25]


def test_a_range_of_latencies_is_drawn_from_the_seed() -> None:
    """Latencies stay in their range, differ, and repeat with the seed."""

    async def script(ask: Ask) -> list[float]:
        ends = [0.0]
        for _ in range(20):
            await ask("1")
            ends.append(asyncio.get_running_loop().time())
        return [end - begin for begin, end in itertools.pairwise(ends)]

    drawn = play(Simulator(latency=(0.1, 0.3)), script)
    assert min(drawn) >= 0.1 - 1e-9
    assert max(drawn) <= 0.3 + 1e-9
    assert len(set(drawn)) > 10
    assert play(Simulator(latency=(0.1, 0.3)), script) == drawn
    assert play(Simulator(latency=(0.1, 0.3), seed=1), script) != drawn


def test_an_outage_counts_from_the_first_request() -> None:
    """The backend fails between the start and the end of the outage, and at no other time."""

    async def script(ask: Ask) -> list[tuple[int, str | None]]:
        await asyncio.sleep(100)
        seen = []
        for _ in range(5):
            response = await ask("1")
            seen.append((response.status_code, response.headers.get("retry-after")))
            await asyncio.sleep(1)
        return seen

    simulator = Simulator(outage=Outage(1, 2, retry_after="2"))
    assert play(simulator, script) == [(200, None), (503, "2"), (503, "2"), (200, None), (200, None)]


def test_failures_can_be_scripted() -> None:
    """Scripted failures come in order, one for each call that reaches the backend, and are not billed."""
    simulator = Simulator()
    simulator.fail_next(2, retry_after="1")
    simulator.fail_next(1, status=500)

    assert statuses(simulator, "1", 4) == [503, 503, 500, 200]
    assert simulator.bills == {"1": 1}


# Special ids


EXPECTED = {
    "SIM-201": [201, 201],
    "SIM-202": [202, 202, 200, 200],
    "SIM-202-FOREVER": [202] * 4,
    "SIM-204": [204, 204],
    "SIM-206": [206, 206],
    "SIM-206-EMPTY": [206, 206],
    "SIM-400": [400, 400],
    "SIM-401": [401, 401],
    "SIM-403": [403, 403],
    "SIM-404": [404, 404],
    "SIM-429": [429] * 3,
    "SIM-429-ONCE": [429, 200, 200],
    "SIM-429-RETRY-AFTER": [429, 200, 200],
    "SIM-QUOTA": [429] * 3,
    "SIM-500": [500] * 3,
    "SIM-500-ONCE": [500, 200, 200],
    "SIM-502": [502, 502],
    "SIM-503": [503] * 3,
    "SIM-503-ONCE": [503, 200, 200],
    "SIM-503-RETRY-AFTER": [503, 200, 200],
    "SIM-504": [504, 504],
    "SIM-FALSE": [200, 200],
    "SIM-MALFORMED": [200, 200],
    "SIM-EMPTY": [200, 200],
    "SIM-NAN": [200, 200],
    "SIM-WRONG-TYPES": [200, 200],
    "SIM-NULLS": [200, 200],
    "SIM-EXTRA": [200, 200],
    "SIM-NEW-STATUS": [200, 200],
    "SIM-MESSAGE": [200, 200],
    "SIM-SLOW": [200, 200],
    "SIM-SILENT": [504],
}


def test_every_special_id_is_documented_and_tested() -> None:
    """The table of special ids and the table of this test name the same ids, each with a line."""
    assert list(SPECIAL_IDS) == list(EXPECTED)
    assert all(SPECIAL_IDS.values())


@pytest.mark.parametrize("evdb_vehicle_id", EXPECTED)
def test_special_ids_answer_in_their_order(evdb_vehicle_id: str) -> None:
    """A special id answers call after call as its line says, and exactly its 200s are billed."""
    simulator = Simulator()
    expected = EXPECTED[evdb_vehicle_id]

    assert statuses(simulator, evdb_vehicle_id, len(expected)) == expected
    assert simulator.statuses == Counter(expected)
    assert simulator.total_billed == (1 if evdb_vehicle_id == "SIM-SILENT" else expected.count(200))


@pytest.mark.parametrize("evdb_vehicle_id", ["SIM-429-RETRY-AFTER", "SIM-503-RETRY-AFTER"])
def test_retry_after_of_the_special_ids(evdb_vehicle_id: str) -> None:
    """The ids named after it send a Retry-After of one second."""
    assert ask_once(Simulator(), evdb_vehicle_id).headers["retry-after"] == "1"


def test_both_429s_look_as_the_gateways() -> None:
    """Throttle and quota differ in the error type and the message, not in the status."""
    assert throttled(ask_once(Simulator(), "SIM-429"))
    assert ask_once(Simulator(), "SIM-QUOTA").headers["x-amzn-errortype"] == "LimitExceededException"


def test_the_partial_answers() -> None:
    """One 206 has half of its fields, the other has none."""
    half = ask_once(Simulator(), "SIM-206").json()["result"]

    assert set(half) == FIELDS | {"simulated"}
    assert sum(half[name] is None for name in FIELDS) >= 6
    assert any(half[name] is not None for name in FIELDS)
    assert ask_once(Simulator(), "SIM-206-EMPTY").json()["result"] is None


def test_the_unusable_200s() -> None:
    """The billed answers that are no record: a refusal, a web page, nothing, NaN, wrong types."""

    def body(evdb_vehicle_id: str) -> str:
        return ask_once(Simulator(), evdb_vehicle_id).text

    refusal = json.loads(body("SIM-FALSE"))
    assert refusal["success"] is False
    assert refusal["error"]
    assert body("SIM-MALFORMED").startswith("<!DOCTYPE html>")
    assert body("SIM-EMPTY") == ""
    assert ": NaN," in body("SIM-NAN")
    assert json.loads(body("SIM-WRONG-TYPES"))["result"]["vehicle_to_load_power_output_kw"] == "11"


def test_the_unusual_records() -> None:
    """The records a careful client still takes: nulls, unknown members, an unknown status, a text beside success."""

    def body(evdb_vehicle_id: str) -> dict[str, Any]:
        return ask_once(Simulator(), evdb_vehicle_id).json()  # type: ignore[no-any-return]

    assert {body("SIM-NULLS")["result"][name] for name in FIELDS} == {None}
    assert set(body("SIM-EXTRA")["result"]) > FIELDS | {"simulated"}
    assert body("SIM-NEW-STATUS")["result"]["vehicle_to_grid_dc_support_status"] not in [*SupportStatus, None]
    message = body("SIM-MESSAGE")
    assert message["success"] is True
    assert message["error"]


def test_the_slow_and_the_silent() -> None:
    """One id answers after 5 seconds; the other is billed, and left unanswered for 120."""

    async def took(ask: Ask, evdb_vehicle_id: str) -> float:
        began = asyncio.get_running_loop().time()
        await ask(evdb_vehicle_id)
        return asyncio.get_running_loop().time() - began

    assert play(Simulator(), lambda ask: took(ask, "SIM-SLOW")) == 5.0
    assert play(Simulator(), lambda ask: took(ask, "SIM-SILENT")) == 120.0


# Books


def test_a_client_that_hangs_up_is_billed() -> None:
    """The bill is written when the backend takes the call; a call that is cancelled leaves nothing in flight."""

    async def script(ask: Ask) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await ask("SIM-SILENT")

    simulator = Simulator()
    play(simulator, script)
    assert simulator.bills == {"SIM-SILENT": 1}
    assert simulator.statuses == {}
    assert simulator.in_flight == 0


def test_the_books_agree() -> None:
    """Requests, bills and statuses are counted per call, as attributes and on the books' own route."""

    async def script(ask: Ask) -> None:
        await asyncio.gather(*(ask(evdb_vehicle_id) for evdb_vehicle_id in ["1", "1", "2", "SIM-204", "SIM-429"]))

    simulator = Simulator(latency=0.1)
    play(simulator, script)
    assert simulator.books() == {
        "requests": {"1": 2, "2": 1, "SIM-204": 1, "SIM-429": 1},
        "bills": {"1": 2, "2": 1},
        "statuses": {"200": 3, "204": 1, "429": 1},
        "in_flight": 0,
        "max_in_flight": 5,
        "total_billed": 3,
    }
    assert request(simulator, "GET", "/_simulator/books").json() == simulator.books()
    assert repr(simulator) == "<Simulator requests=5 billed=3 in_flight=0>"


def test_reset_starts_afresh() -> None:
    """After a reset the books are empty, and limits, scripts and special ids begin anew; held counters stay live."""
    simulator = Simulator(rate=1, burst=2, quota=2)
    bills = simulator.bills
    statuses(simulator, "SIM-500-ONCE", 2)
    simulator.fail_next(5)

    simulator.reset()

    assert simulator.books()["requests"] == {}
    assert statuses(simulator, "SIM-500-ONCE", 2) == [500, 200]
    assert bills == {"SIM-500-ONCE": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Simulator(keys=[]),
        lambda: Simulator(keys=[""]),
        lambda: Simulator(keys="one-text-is-no-collection"),
        lambda: Simulator(rate=0),
        lambda: Simulator(burst=0),
        lambda: Simulator(quota=-1),
        lambda: Simulator(latency=-1),
        lambda: Simulator(latency=(2, 1)),
        lambda: Simulator().fail_next(-1),
        lambda: Simulator().fail_next(1, status=200),
        lambda: Outage(0, 1, status=600),
        lambda: Outage(-1, 1),
    ],
)
def test_a_senseless_setting_is_refused(make: Callable[[], object]) -> None:
    """What cannot be simulated is refused when it is set."""
    with pytest.raises(ConfigurationError):
        make()


def test_other_protocols_are_refused() -> None:
    """The simulator says that it speaks HTTP only."""

    async def nobody(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(RuntimeError, match="HTTP only, not websocket"):
        VirtualClock().run(Simulator()({"type": "websocket"}, nobody, nobody))


def test_the_public_names() -> None:
    """The door of the package names each thing once, constants first, and has all of it."""
    names = testing.__all__
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(testing, name) for name in names)


# On a real socket


def get(base_url: str, evdb_vehicle_id: str, **options: Any) -> httpx.Response:
    """Ask a served simulator, past any proxy the environment names."""
    with httpx.Client(base_url=base_url, headers={"x-api-key": SIMULATOR_KEY}, trust_env=False) as client:
        return client.get(VAN, params={"evdb_vehicle_id": evdb_vehicle_id}, **options)


def test_a_served_simulator_answers_over_http() -> None:
    """On a socket it gives the same answers, one date each, and shows its books to another process."""
    simulator = Simulator()
    with serve(simulator) as base_url:
        response = get(base_url, "12345")
        nothing = get(base_url, "SIM-204")
        books = httpx.get(f"{base_url}/_simulator/books", trust_env=False).json()

    assert response.json() == ask_once(Simulator(), "12345").json()
    assert response.headers.get_list("date") == [response.headers["date"]]
    assert "server" not in response.headers
    assert (nothing.status_code, nothing.content) == (204, b"")
    assert books == simulator.books()
    assert books["bills"] == {"12345": 1}


@pytest.mark.asyncio
async def test_serving_works_in_an_async_test() -> None:
    """The server has a loop of its own, so that an async test can enter it and ask it."""
    simulator = Simulator(latency=0.05)
    with serve(simulator) as base_url:
        async with httpx.AsyncClient(
            base_url=base_url, headers={"x-api-key": SIMULATOR_KEY}, trust_env=False
        ) as client:
            urls = [f"{VAN}?evdb_vehicle_id={number}" for number in range(20)]
            responses = await asyncio.gather(*map(client.get, urls))

    assert {response.status_code for response in responses} == {200}
    assert 1 < simulator.max_in_flight <= 20
    assert simulator.total_billed == 20


def test_servers_run_side_by_side() -> None:
    """Several servers have their own ports and books."""
    first, second = Simulator(), Simulator(quota=0)
    with serve(first) as one, serve(second) as two:
        assert (get(one, "1").status_code, get(two, "1").status_code) == (200, 429)

    assert (first.bills, second.bills) == ({"1": 1}, {})


def test_a_served_simulator_sees_the_client_hang_up() -> None:
    """The silent id holds its connection no longer than the client does."""
    simulator = Simulator()
    with serve(simulator) as base_url:
        with pytest.raises(httpx.ReadTimeout):
            get(base_url, "SIM-SILENT", timeout=0.1)
        deadline = time.monotonic() + 5
        while simulator.in_flight and time.monotonic() < deadline:
            time.sleep(0.01)

    assert (simulator.in_flight, simulator.bills) == (0, {"SIM-SILENT": 1})


def test_leaving_is_prompt_and_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Calls under way are ended, the port is free, the thread is gone, and nothing is logged about it."""
    caplog.set_level(logging.INFO)
    simulator = Simulator()
    failures: list[httpx.HTTPError] = []

    def hang(evdb_vehicle_id: str) -> None:
        try:
            get(base_url, evdb_vehicle_id, timeout=30)
        except httpx.HTTPError as error:
            failures.append(error)

    with serve(simulator) as base_url:
        callers = [threading.Thread(target=hang, args=(name,)) for name in ("SIM-SLOW", "SIM-SILENT")]
        for caller in callers:
            caller.start()
        while simulator.in_flight < 2:
            time.sleep(0.005)
        began = time.monotonic()
    took = time.monotonic() - began
    for caller in callers:
        caller.join()

    assert took < 2.0
    assert len(failures) == 2
    assert simulator.in_flight == 0
    assert "oneauto-simulator" not in [thread.name for thread in threading.enumerate()]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    with serve(Simulator(), port=int(base_url.rpartition(":")[2])) as again:
        assert again == base_url


def test_leaving_amid_arriving_calls_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Connections that come while the server closes fail on their side only."""

    async def traffic() -> None:
        headers = {"x-api-key": SIMULATOR_KEY}
        async with httpx.AsyncClient(base_url=base_url, headers=headers, trust_env=False) as client:
            calls = (client.get(f"{VAN}?evdb_vehicle_id={number}") for number in range(30))
            await asyncio.gather(*calls, return_exceptions=True)

    for delay in (0.0, 0.005, 0.01, 0.02, 0.03):
        simulator = Simulator(latency=(0.0, 0.05))
        with serve(simulator) as base_url:
            caller = threading.Thread(target=asyncio.run, args=(traffic(),))
            caller.start()
            time.sleep(delay)
        caller.join()
        assert simulator.in_flight == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_answers_come_without_delay() -> None:
    """An answer does not wait for the acknowledgement of its head, which costs 40 ms a call."""

    def ten_calls() -> float:
        began = time.perf_counter()
        for _ in range(10):
            client.get(VAN, params={"evdb_vehicle_id": "12345"})
        return time.perf_counter() - began

    headers = {"x-api-key": SIMULATOR_KEY}
    with serve(Simulator()) as url, httpx.Client(base_url=url, headers=headers, trust_env=False) as client:
        assert min(ten_calls() for _ in range(3)) < 0.3


def test_a_port_in_use_is_told_at_once() -> None:
    """An address that cannot be listened on is the operating system's error, raised where it was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(Simulator(), port=taken.getsockname()[1]).__enter__()


def test_without_uvicorn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing uvicorn is an error with the line that mends it."""
    monkeypatch.delitem(sys.modules, "oneauto_async.testing._uvicorn", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(RuntimeError, match=r'pip install "oneauto-async\[cli\]"'), serve(Simulator()):
        pass


@pytest.mark.asyncio
async def test_a_limit_holds_on_a_real_socket() -> None:
    """In real time no more calls are accepted than the burst and the rate allow."""
    simulator = Simulator(rate=50, burst=5)
    with serve(simulator) as base_url:
        async with httpx.AsyncClient(
            base_url=base_url, headers={"x-api-key": SIMULATOR_KEY}, trust_env=False
        ) as client:
            began = time.monotonic()
            await asyncio.gather(*(client.get(f"{VAN}?evdb_vehicle_id={number}") for number in range(40)))
            took = time.monotonic() - began

    assert 5 <= simulator.total_billed <= 5 + 50 * took + 1
    assert simulator.statuses[200] + simulator.statuses[429] == 40

"""The straight way below httpx's objects and the full way through them: the same outcomes, and when each is taken."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
import respx
from support.raw import ANSWER, CANARY_KEY, RawServer, answers, breaks_off, http, never_answers, sends_in_pieces

from oneauto_async import Failed, Found, InDoubt, NotSent, OneAutoClient, Outcome, RateLimit, RetryPolicy, Timeouts
from oneauto_async._wire.straight import straight_way
from oneauto_async.ledger import MemoryLedger
from oneauto_async.transport import HTTP11Transport

HEAD = b"HTTP/1.1 200 OK\r\n"
URL = httpx.URL("http://127.0.0.1:9/")

BEHAVIOURS = {
    "an answer": answers(),
    "gzip": answers(http(200, gzip.compress(ANSWER), Content_Encoding="gzip")),
    "not gzip": answers(http(200, ANSWER, Content_Encoding="gzip")),
    "half a gzip": answers(http(200, gzip.compress(ANSWER)[:60], Content_Encoding="gzip")),
    "too large": answers(http(200, b" " * (8 * 2**20 + 1))),
    "a bomb": answers(http(200, gzip.compress(b" " * (8 * 2**20 + 1)), Content_Encoding="gzip")),
    "chunks": answers(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)),
    "drops": sends_in_pieces([bytes([byte]) for byte in http(200, b'{"success":true,"result":{}}')]),
    "until close": breaks_off(HEAD + b"\r\n" + ANSWER),
    "a cookie": answers(http(200, ANSWER, Set_Cookie="a=b")),
    "no content": answers(http(204)),
    "partial": answers(http(206, ANSWER)),
    "pending": answers(http(202)),
    "a redirect": answers(http(301, b"", Location="/elsewhere")),
    "a bad request": answers(http(400, b'{"error": "no such id"}', x_amzn_RequestId="r-1")),
    "denied": answers(http(403, b'{"message": "Forbidden"}')),
    "not found": answers(http(404)),
    "too many": answers(http(429, b"", Retry_After="1000")),
    "a quota": answers(http(429, b'{"message": "Limit Exceeded"}')),
    "unavailable": answers(http(503, b"later")),
    "a gateway": answers(http(504)),
    "no JSON": answers(http(200, b"<html>")),
    "nothing": answers(http(200)),
    "latin-1 in the headers": answers(http(200, ANSWER, X="caf\xe9")),
    "the key in the body": answers(http(400, b'{"error": "key %s"}' % CANARY_KEY.encode())),
    "the key in a header": answers(http(500, b"", x_amzn_RequestId=CANARY_KEY)),
    "FIN": breaks_off(),
    "RST": breaks_off(reset=True),
    "half a head": breaks_off(HEAD),
    "half a body": breaks_off(HEAD + b"Content-Length: 9999\r\n\r\n" + ANSWER),
    "bad chunks": answers(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nzz\r\n"),
    "no HTTP": answers(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "two lengths": answers(HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "silence": never_answers(),
    "silence in the body": answers(HEAD + b"Content-Length: 9999\r\n\r\n" + ANSWER),
}


@asynccontextmanager
async def straight(**options: Any) -> AsyncIterator[OneAutoClient]:
    """A default client: nobody watches."""
    async with OneAutoClient(CANARY_KEY, **options) as client:
        yield client


@asynccontextmanager
async def hooked(**options: Any) -> AsyncIterator[OneAutoClient]:
    """A user's client with event hooks, over our transport."""

    async def look(message: Any) -> None:
        pass

    own = httpx.AsyncClient(
        transport=HTTP11Transport(), event_hooks={"request": [look], "response": [look]}, trust_env=False
    )
    async with own, OneAutoClient(CANARY_KEY, http_client=own, **options) as client:
        yield client


@asynccontextmanager
async def logged(**options: Any) -> AsyncIterator[OneAutoClient]:
    """A default client while someone reads httpx's log lines."""
    log = logging.getLogger("httpx")
    level = log.level
    log.setLevel(logging.INFO)
    try:
        async with OneAutoClient(CANARY_KEY, **options) as client:
            yield client
    finally:
        log.setLevel(level)


Way = Callable[..., AbstractAsyncContextManager[OneAutoClient]]


def told(outcome: Outcome[Any]) -> tuple[object, ...]:
    """Return all that an outcome tells but for its duration."""
    receipt = outcome.receipt
    error = outcome.error if isinstance(outcome, Failed | InDoubt | NotSent) else None
    return (
        type(outcome),
        getattr(outcome, "value", None),
        outcome.raw,
        (receipt.billing, receipt.status, receipt.request_id, receipt.attempts, receipt.wasted),
        (type(error), str(error), error and (error.billing, error.retryable, error.status, error.request_id)),
    )


async def look_up(way: Way, server: RawServer, vehicle_id: str) -> tuple[object, ...]:
    """Look one id up the given way, and return what is told of it, and what the server saw."""
    server.asked.clear()
    server.bills.clear()
    options: dict[str, Any] = {
        "base_url": server.base_url,
        "retry": RetryPolicy(attempts=2, poll_total=0),
        "timeouts": Timeouts(read=0.1),
        "rate_limit": RateLimit(1000),
    }
    async with way(**options) as client:
        outcome = await client.lookup(vehicle_id)
    return told(outcome), [asked.head for asked in server.asked], dict(server.bills)


@pytest.mark.asyncio
@pytest.mark.parametrize("behaviour", BEHAVIOURS.values(), ids=BEHAVIOURS.keys())
async def test_both_ways_lead_to_the_same(server: RawServer, behaviour: Any) -> None:
    """The same bytes go out, and the same outcome, error and money come back, whatever the server does."""
    server.on("id é/?&=1", behaviour)
    by_straight, by_hooked, by_logged = [await look_up(way, server, "id é/?&=1") for way in (straight, hooked, logged)]
    assert by_hooked == by_straight
    assert by_logged == by_straight


@pytest.mark.asyncio
async def test_both_ways_fail_the_same_without_a_server() -> None:
    """Refused connections, as often as the policy says."""
    results = []
    for way in (straight, hooked, logged):
        async with way(base_url="http://127.0.0.1:9", retry=RetryPolicy(attempts=2)) as client:
            results.append(told(await client.lookup(1)))
    assert results[0] == results[1] == results[2]


# Which way is taken.


def client_over(transport: httpx.AsyncBaseTransport | None = None, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport or HTTP11Transport(), trust_env=False, **options)


def test_the_straight_way_is_open_when_nobody_watches() -> None:
    """Our transport, also by a mount, in a plain client."""
    transport = HTTP11Transport()
    assert straight_way(client_over(transport), URL) is transport
    assert straight_way(client_over(httpx.AsyncHTTPTransport(), mounts={"http://": transport}), URL) is transport


def test_auth_cookies_and_redirects_do_not_close_it() -> None:
    """They are not used for our calls either way."""
    client = client_over(auth=("user", "password"), cookies={"a": "b"}, follow_redirects=True)
    assert straight_way(client, URL) is not None


async def _hook(message: Any) -> None:
    pass


class _OwnClient(httpx.AsyncClient):
    pass


class _OwnTransport(HTTP11Transport):
    pass


CLOSED_BY = {
    "a request hook": lambda: client_over(event_hooks={"request": [_hook]}),
    "a response hook": lambda: client_over(event_hooks={"response": [_hook]}),
    "a client of another class": lambda: _OwnClient(transport=HTTP11Transport()),
    "a transport of another class": lambda: client_over(_OwnTransport()),
    "the stock transport": lambda: client_over(httpx.AsyncHTTPTransport()),
    "a mock": lambda: client_over(httpx.MockTransport(lambda request: httpx.Response(200))),
    "a mount": lambda: client_over(mounts={"all://": httpx.MockTransport(lambda request: httpx.Response(200))}),
}


@pytest.mark.parametrize("make", CLOSED_BY.values(), ids=CLOSED_BY.keys())
def test_whoever_must_see_the_call_closes_it(make: Callable[[], httpx.AsyncClient]) -> None:
    """Any doubt takes the full way."""
    assert straight_way(make(), URL) is None


@pytest.mark.parametrize("name", ["send", "handle_async_request", "_transport_for_url"])
def test_a_replaced_method_of_one_object_closes_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests do that stub a call on the object at hand."""
    client = client_over()
    owner: Any = client._transport if name == "handle_async_request" else client
    other = httpx.MockTransport(lambda request: httpx.Response(200))
    stub: Any = (lambda url: other) if name == "_transport_for_url" else _hook
    monkeypatch.setattr(owner, name, stub)
    assert straight_way(client, URL) is None


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (httpx.AsyncClient, "send"),
        (httpx.AsyncClient, "_send_handling_auth"),
        (httpx.AsyncClient, "_send_handling_redirects"),
        (httpx.AsyncClient, "_send_single_request"),
        (httpx.AsyncHTTPTransport, "handle_async_request"),
        (HTTP11Transport, "handle_async_request"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_replaced_method_of_a_class_closes_it(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mocking libraries do: vcrpy takes the last of the client's, pytest-httpx the stock transport's."""
    client = client_over()
    assert straight_way(client, URL) is not None
    monkeypatch.setattr(owner, name, _hook)
    assert straight_way(client, URL) is None


def test_httpx_log_lines_close_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads them reads of every call."""
    client = client_over()
    caplog.set_level(logging.INFO, "httpx")
    assert straight_way(client, URL) is None


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_respx_closes_it(using: str) -> None:
    """In both modes, as long as it is active."""
    client = client_over()
    with respx.mock(using=using, assert_all_called=False):
        assert straight_way(client, URL) is None
    assert straight_way(client, URL) is not None


@pytest.mark.asyncio
async def test_a_closed_client_closes_it() -> None:
    """There is no straight way through a closed httpx client, so that httpx raises its own error."""
    client = client_over()
    await client.aclose()
    assert straight_way(client, URL) is None


@asynccontextmanager
async def with_one_connection(*, way: str = "straight", **options: Any) -> AsyncIterator[OneAutoClient]:
    """A client whose lookups have to wait for each other's connection, with a grant in hand."""

    async def look(message: Any) -> None:
        pass

    stock, limits = way == "stock", httpx.Limits(max_connections=1)
    transport = httpx.AsyncHTTPTransport(limits=limits) if stock else HTTP11Transport(max_connections=1)
    hooks = {"request": [look] if way == "hooked" else []}
    own = httpx.AsyncClient(transport=transport, event_hooks=hooks, trust_env=False)
    async with own, OneAutoClient(CANARY_KEY, http_client=own, **options) as client:
        yield client


@pytest.mark.asyncio
@pytest.mark.parametrize("has_ledger", [False, True])
@pytest.mark.parametrize("way", ["straight", "hooked", "stock"])
async def test_nothing_leaves_on_a_connection_that_comes_after_the_quota_ended(
    server: RawServer, way: str, has_ledger: bool
) -> None:
    """All but one wait for the only connection, and have their grants already."""
    server.on("0", answers(http(429, b'{"message": "Limit Exceeded"}'), delay=0.05))
    options: dict[str, Any] = {"way": way, "ledger": MemoryLedger() if has_ledger else None}
    async with with_one_connection(base_url=server.base_url, **options) as client:
        outcomes = await asyncio.gather(*(client.lookup(number) for number in range(8)))

    assert len(server.asked) == 1
    assert isinstance(outcomes[0], Failed)
    assert all(isinstance(outcome, NotSent) and outcome.receipt.attempts == 0 for outcome in outcomes[1:])


@pytest.mark.asyncio
@pytest.mark.parametrize("has_ledger", [False, True])
@pytest.mark.parametrize("way", ["straight", "stock"])
async def test_what_waits_for_a_connection_obeys_retry_after(server: RawServer, way: str, has_ledger: bool) -> None:
    """It leaves when the gate opens, and costs one request."""
    moments: list[float] = []

    async def unavailable_at_first(*details: Any) -> None:
        moments.append(asyncio.get_running_loop().time())
        reply = http(503, b"", Retry_After="0.5") if len(moments) == 1 else http(200, ANSWER)
        await answers(reply, delay=0.05)(*details)

    for number in range(4):
        server.on(str(number), unavailable_at_first)
    ledger = MemoryLedger() if has_ledger else None
    async with with_one_connection(way=way, base_url=server.base_url, ledger=ledger) as client:
        outcomes = await asyncio.gather(*(client.lookup(number) for number in range(4)))
        statistics = client.governor.statistics()

    assert all(isinstance(outcome, Found) for outcome in outcomes)
    assert [outcome.receipt.attempts for outcome in outcomes] == [2, 1, 1, 1]
    assert moments[1] - moments[0] >= 0.5
    assert statistics.in_flight == statistics.waiting == 0

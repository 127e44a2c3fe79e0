"""A user's mocked test sees every call: none may reach a real service and be paid for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpcore
import httpx
import pytest
import respx
from pytest_httpx import HTTPXMock
from support.raw import ANSWER, CANARY_KEY, RawServer, answers, http

from oneauto_async import Failed, Found, InDoubt, NoData, OneAutoClient, RetryPolicy
from oneauto_async.transport import HTTP11Transport

pytestmark = pytest.mark.asyncio

PATH = "/evdatabase/uk/van/bidirectionalcharging/"


async def test_respx_sees_the_calls_of_a_default_client(respx_mock: respx.MockRouter) -> None:
    """In its default mode, with the live address, and the key in the header."""
    route = respx_mock.get(f"https://api.oneautoapi.com{PATH}", params={"evdb_vehicle_id": "12345"})
    route.mock(return_value=httpx.Response(200, content=ANSWER))

    async with OneAutoClient(CANARY_KEY) as client:
        assert isinstance(await client.lookup("12345"), Found)

    assert route.calls.last.request.headers["x-api-key"] == CANARY_KEY


async def test_respx_sees_the_sandbox(respx_mock: respx.MockRouter) -> None:
    """The same path on the vendor's sandbox host."""
    route = respx_mock.get(f"https://sandbox.oneautoapi.com{PATH}").mock(return_value=httpx.Response(204))

    async with OneAutoClient(CANARY_KEY, sandbox=True) as client:
        assert isinstance(await client.lookup("12345"), NoData)

    assert route.called


async def test_respx_sees_the_calls_in_its_httpx_mode() -> None:
    """``using="httpx"`` replaces another layer; no call slips under it."""
    async with respx.mock(using="httpx") as router:
        router.get(f"https://api.oneautoapi.com{PATH}").mock(return_value=httpx.Response(200, content=ANSWER))
        async with OneAutoClient(CANARY_KEY) as client:
            outcomes = await client.lookup_many(range(5))

        assert router.calls.call_count == 5
    assert all(isinstance(outcome, Found) for outcome in outcomes)


async def test_a_call_respx_does_not_expect_fails_the_test() -> None:
    """Its assertion is no fault of the network: it is neither retried nor turned into an outcome."""
    async with respx.mock(assert_all_called=False) as router:
        router.get("https://elsewhere.invalid/")
        async with OneAutoClient(CANARY_KEY) as client:
            with pytest.raises(AssertionError):
                await client.lookup("12345")


async def test_event_hooks_of_a_users_client_see_every_call(server: RawServer) -> None:
    """Their logging and metrics keep working."""
    seen: list[str] = []

    async def note(request: httpx.Request) -> None:
        seen.append(request.url.params["evdb_vehicle_id"])

    async with httpx.AsyncClient(event_hooks={"request": [note]}) as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
            await client.lookup_many([1, 2])

    assert sorted(seen) == ["1", "2"]


async def test_mounts_of_a_users_client_are_respected(server: RawServer) -> None:
    """A mounted transport gets the calls for its addresses."""
    mounts = {server.base_url: httpx.MockTransport(lambda request: httpx.Response(204))}

    async with httpx.AsyncClient(mounts=mounts) as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
            assert isinstance(await client.lookup(1), NoData)

    assert server.asked == []


# Every way to mock, with every kind of client: each of these would reach the raw server if a byte left.


ONCE = RetryPolicy(attempts=1)


@asynccontextmanager
async def default(server: RawServer) -> AsyncIterator[OneAutoClient]:
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE) as client:
        yield client


@asynccontextmanager
async def given_our_transport(server: RawServer) -> AsyncIterator[OneAutoClient]:
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE, transport=HTTP11Transport()) as client:
        yield client


@asynccontextmanager
async def given_the_stock_transport(server: RawServer) -> AsyncIterator[OneAutoClient]:
    async with OneAutoClient(
        CANARY_KEY, base_url=server.base_url, retry=ONCE, transport=httpx.AsyncHTTPTransport()
    ) as client:
        yield client


@asynccontextmanager
async def given_a_stock_client(server: RawServer) -> AsyncIterator[OneAutoClient]:
    async with httpx.AsyncClient() as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE, http_client=own) as client:
            yield client


@asynccontextmanager
async def given_a_client_over_our_transport(server: RawServer) -> AsyncIterator[OneAutoClient]:
    async with httpx.AsyncClient(transport=HTTP11Transport()) as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE, http_client=own) as client:
            yield client


@asynccontextmanager
async def given_a_client_with_hooks_and_auth(server: RawServer) -> AsyncIterator[OneAutoClient]:
    async def look(message: object) -> None:
        pass

    hooks = {"request": [look], "response": [look]}
    async with httpx.AsyncClient(transport=HTTP11Transport(), event_hooks=hooks, auth=("a", "b")) as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE, http_client=own) as client:
            yield client


Make = Callable[[RawServer], AbstractAsyncContextManager[OneAutoClient]]
every_client = pytest.mark.parametrize(
    "make",
    [
        default,
        given_our_transport,
        given_the_stock_transport,
        given_a_stock_client,
        given_a_client_over_our_transport,
        given_a_client_with_hooks_and_auth,
    ],
)


@every_client
@pytest.mark.parametrize("using", ["httpcore", "httpx"])
@pytest.mark.parametrize("opened", ["before", "after"])
async def test_respx_sees_every_call_of_every_client(server: RawServer, make: Make, using: str, opened: str) -> None:
    """In both modes, whether the client was opened before the mock began or after; and no longer when it has ended."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(make(server))] if opened == "before" else []
        async with respx.mock(using=using) as router:
            route = router.get(f"{server.base_url}{PATH}").mock(return_value=httpx.Response(200, content=ANSWER))
            client = clients[0] if clients else await stack.enter_async_context(make(server))
            assert isinstance(await client.lookup(1), Found)
            assert route.call_count == 1
        assert server.connections == 0
        assert isinstance(await client.lookup(2), Found)
        assert server.requests == {"2": 1}


@every_client
async def test_pytest_httpx_sees_every_call_of_every_client(
    server: RawServer, make: Make, httpx_mock: HTTPXMock
) -> None:
    """With the key and the id in the request it keeps."""
    httpx_mock.add_response(url=f"{server.base_url}{PATH}?evdb_vehicle_id=1", content=ANSWER)

    async with make(server) as client:
        assert isinstance(await client.lookup(1), Found)

    assert server.connections == 0
    (request,) = httpx_mock.get_requests()
    assert request.headers["x-api-key"] == CANARY_KEY


@every_client
@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")], ids=repr)
async def test_errors_a_mock_raises_are_outcomes(
    server: RawServer, make: Make, error: httpx.HTTPError, httpx_mock: HTTPXMock
) -> None:
    """So that a user's test of a failing network works; the one says that nothing was sent, the other does not."""
    httpx_mock.add_exception(error, is_reusable=True)
    async with make(server) as client:
        outcome = await client.lookup(1)
    assert isinstance(outcome, Failed if isinstance(error, httpx.ConnectError) else InDoubt)
    assert server.connections == 0


async def answered(*args: object, **options: object) -> httpx.Response:
    """What a hand-made stub returns."""
    return httpx.Response(200, content=ANSWER, request=httpx.Request("GET", "https://stub.invalid/"))


STUBBED: list[tuple[object, str]] = [
    (httpx.AsyncClient, "send"),
    (httpx.AsyncClient, "_send_handling_auth"),
    (httpx.AsyncClient, "_send_handling_redirects"),
    (httpx.AsyncClient, "_send_single_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
    (httpcore.AsyncConnectionPool, "handle_async_request"),
    (HTTP11Transport, "handle_async_request"),
]


@pytest.mark.parametrize(("owner", "name"), STUBBED, ids=lambda value: getattr(value, "__name__", value))
async def test_a_method_replaced_by_hand_is_called(
    server: RawServer, owner: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorders of cassettes and users' own stubs replace one of these."""
    calls: list[object] = []

    async def stub(*args: object, **options: object) -> object:
        calls.append(args)
        if owner is httpcore.AsyncConnectionPool:
            return httpcore.Response(200, content=ANSWER)
        return await answered()

    monkeypatch.setattr(owner, name, stub)
    async with default(server) as client:
        assert isinstance(await client.lookup(1), Found)
    assert len(calls) == 1
    assert server.connections == 0


async def test_a_replaced_choice_of_transport_is_respected(server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As respx does in its httpx mode."""
    mock = httpx.MockTransport(lambda request: httpx.Response(200, content=ANSWER))
    monkeypatch.setattr(httpx.AsyncClient, "_transport_for_url", lambda self, url: mock)
    async with default(server) as client:
        assert isinstance(await client.lookup(1), Found)
    assert server.connections == 0


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """A service in this process."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": ANSWER})


TRANSPORTS: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
    "MockTransport": lambda: httpx.MockTransport(lambda request: httpx.Response(200, content=ANSWER)),
    "a slow MockTransport": lambda: httpx.MockTransport(answered),
    "ASGITransport": lambda: httpx.ASGITransport(app=asgi),
}


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS.keys())
@pytest.mark.parametrize("given", ["as transport", "in a client", "as a mount"])
async def test_a_transport_in_this_process_replaces_ours(
    server: RawServer, transport: Callable[[], httpx.AsyncBaseTransport], given: str
) -> None:
    """Given directly, in a client or as a mount, it answers and no socket is opened."""
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {"transport": transport()}
        if given != "as transport":
            inner: dict[str, Any] = options if given == "in a client" else {"mounts": {"all://": transport()}}
            options = {"http_client": await stack.enter_async_context(httpx.AsyncClient(**inner))}
        client = await stack.enter_async_context(
            OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE, **options)
        )
        assert isinstance(await client.lookup(1), Found)
    assert server.connections == 0


async def test_hooks_see_the_request_and_the_response(server: RawServer) -> None:
    """Over our transport: once each, and the response whole."""
    seen: list[str] = []

    async def note_request(request: httpx.Request) -> None:
        seen.append(f"{request.method} {request.url.params['evdb_vehicle_id']}")

    async def note_response(response: httpx.Response) -> None:
        seen.append(f"{response.status_code} {len(await response.aread())}")

    hooks: dict[str, list[Any]] = {"request": [note_request], "response": [note_response]}
    async with httpx.AsyncClient(transport=HTTP11Transport(), event_hooks=hooks) as own:
        async with OneAutoClient(CANARY_KEY, base_url=server.base_url, retry=ONCE, http_client=own) as client:
            assert isinstance(await client.lookup(1), Found)
    assert seen == ["GET 1", f"200 {len(ANSWER)}"]


async def test_a_mocked_plain_client_over_our_transport_sends_nothing(server: RawServer, httpx_mock: HTTPXMock) -> None:
    """The transport itself notices, whoever uses it."""
    httpx_mock.add_response(text="mocked")
    async with httpx.AsyncClient(transport=HTTP11Transport()) as client:
        assert (await client.get(server.base_url)).text == "mocked"
    assert server.connections == 0


MOCKED_BEFORE_IT_IS_LOADED = """
import asyncio, sys
import httpx, httpcore
import oneauto_async  # its parts are loaded when they are first used

async def answer(self, request, **options):
    return {result}

{owner}.{name} = answer

async def main():
    async with oneauto_async.OneAutoClient("k" * 20, base_url="http://127.0.0.1:9") as client:
        print(type(await client.lookup(1)).__name__)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("owner", "name", "result"),
    [
        ("httpx.AsyncHTTPTransport", "handle_async_request", "httpx.Response(204)"),
        ("httpcore.AsyncConnectionPool", "handle_async_request", "httpcore.Response(204)"),
        ("httpx.AsyncClient", "send", "httpx.Response(204, request=request)"),
    ],
)
async def test_a_mock_that_was_there_first_is_seen_as_well(owner: str, name: str, result: str) -> None:
    """A test may be what loads the library, with its mock at work already."""
    code = MOCKED_BEFORE_IT_IS_LOADED.format(owner=owner, name=name, result=result)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()

    assert said.strip() == b"NoData"


async def test_whoever_wraps_the_stock_transport_gets_each_id_its_own_answer(
    server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracer sees the calls; the stock pool under it would take surplus bytes for the answer to the next one."""
    send, seen = httpx.AsyncHTTPTransport.handle_async_request, []

    async def traced(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        seen.append(request.url.params["evdb_vehicle_id"])
        return await send(self, request)

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", traced)
    for number in range(3):
        answer = http(200, ANSWER.replace(b"10", b"1%d" % number))
        server.on(str(number), answers(answer + answer))
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        powers = [(await client.lookup(number)).unwrap().vehicle_to_home_dc_power_output_kw for number in range(3)]

    assert seen == ["0", "1", "2"]
    assert powers == [10, 11, 12]

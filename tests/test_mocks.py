"""A user's mocked test sees every call: none may reach a real service and be paid for."""

from __future__ import annotations

import httpx
import pytest
import respx
from support.raw import ANSWER, CANARY_KEY, RawServer

from oneauto_async import Found, NoData, OneAutoClient

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

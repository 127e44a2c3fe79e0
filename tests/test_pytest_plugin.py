"""The pytest plugin, used as somebody else's tests use it: in a pytest run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias
from xml.etree import ElementTree as ET

import pytest

import oneauto_async.testing

PLUGIN = "oneauto_async.testing.pytest_plugin"
ROOT = Path(oneauto_async.testing.__file__).parents[2]
INI = """
[pytest]
asyncio_mode = strict
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
HEADER = """
import asyncio, contextlib, socket
import httpx, pytest
from oneauto_async.testing import LiveHostRefusedError, Simulator, SimulatorServer
PATH = "/evdatabase/uk/van/bidirectionalcharging/?evdb_vehicle_id="
LIVE = "api.oneautoapi.com"

def get(server, evdb_vehicle_id):
    with httpx.Client(trust_env=False) as client:
        return client.get(server.base_url + PATH + evdb_vehicle_id, headers={"x-api-key": server.api_key})
"""


IN_THE_PROCESS = """
@pytest.mark.asyncio
@pytest.mark.parametrize("time", [1, 2])
async def test_it(oneauto_simulator: Simulator, time: int) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=oneauto_simulator)) as client:
        headers = {"x-api-key": oneauto_simulator.api_key}
        response = await client.get("http://simulator" + PATH + "12345", headers=headers)
    assert response.json()["result"]["simulated"] is True
    assert oneauto_simulator.bills == {"12345": 1}
"""

ON_A_SOCKET = """
def test_sync(oneauto_server: SimulatorServer) -> None:
    assert get(oneauto_server, "12345").status_code == 200
    assert get(oneauto_server, "SIM-204").status_code == 204
    assert oneauto_server.bills == {"12345": 1}
    assert oneauto_server.requests == {"12345": 1, "SIM-204": 1}
    assert oneauto_server.simulator.max_in_flight == 1

@pytest.mark.asyncio
async def test_async(oneauto_server: SimulatorServer) -> None:
    async with httpx.AsyncClient(trust_env=False, headers={"x-api-key": oneauto_server.api_key}) as client:
        responses = await asyncio.gather(*(client.get(f"{oneauto_server.base_url}{PATH}{n}") for n in range(10)))
    assert oneauto_server.bills.total() == len(responses) == 10
"""

MANY = """
urls = []

def test_serve(oneauto_serve) -> None:
    spent, open_ = oneauto_serve(quota=0), oneauto_serve(keys=["mine"])
    assert (get(spent, "1").status_code, get(open_, "1").status_code, open_.api_key) == (429, 200, "mine")
    urls.extend([spent, open_])

def test_gone() -> None:
    for server in urls:
        before = server.requests.total()
        with contextlib.suppress(httpx.HTTPError):
            get(server, "1")  # by now another program may have the port
        assert server.requests.total() == before
"""

LIVE_HOSTS = """
@pytest.mark.parametrize("fixture", ["oneauto_simulator", "oneauto_server", "oneauto_serve"])
def test_sync(request, fixture) -> None:
    request.getfixturevalue(fixture)
    with pytest.raises(LiveHostRefusedError, match="tried to reach the paid service at api.oneautoapi.com"):
        httpx.get("https://" + LIVE, trust_env=False)
    with pytest.raises(LiveHostRefusedError):
        socket.create_connection((LIVE, 443))

@pytest.mark.asyncio
async def test_async(oneauto_simulator) -> None:
    with pytest.raises(LiveHostRefusedError):
        await asyncio.open_connection(LIVE, 443)
    with pytest.raises(LiveHostRefusedError):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get("https://sandbox.oneautoapi.com")

@pytest.mark.parametrize("host", ["API.OneAutoAPI.com", "oneautoapi.com.", b"api.oneautoapi.com"])
def test_spellings(oneauto_simulator, host) -> None:
    for resolve in (lambda: socket.getaddrinfo(host, 443), lambda: socket.gethostbyname(host)):
        with pytest.raises(LiveHostRefusedError):
            resolve()
    assert not issubclass(LiveHostRefusedError, OSError)

def test_others(oneauto_simulator) -> None:
    assert socket.getaddrinfo("127.0.0.1", 80)
    assert socket.gethostbyname("127.0.0.1") == "127.0.0.1"
"""

AFTERWARDS = """
resolvers = (socket.getaddrinfo, socket.gethostbyname, socket.gethostbyname_ex)

def test_with(oneauto_server) -> None:
    assert socket.getaddrinfo is not resolvers[0]

def test_without() -> None:
    assert (socket.getaddrinfo, socket.gethostbyname, socket.gethostbyname_ex) == resolvers
"""


BODIES = {
    "in_the_process": IN_THE_PROCESS,
    "on_a_socket": ON_A_SOCKET,
    "many": MANY,
    "live_hosts": LIVE_HOSTS,
    "afterwards": AFTERWARDS,
}

Outcomes: TypeAlias = "dict[str, list[str]]"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of the tests of each file, run in one fresh pytest with warnings as errors: passed, or the fault."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "pytest.ini").write_text(INI)
    for name, body in BODIES.items():
        (folder / f"test_{name}.py").write_text(HEADER + body)
    # An installed library is found by its entry point; naming the plugin as well would register it twice.
    installed = any(entry.value == PLUGIN for entry in entry_points(group="pytest11"))
    options = ["--junitxml=report.xml", *([] if installed else ["-p", PLUGIN])]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pytest", *options]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL, check=False)
    outcomes: Outcomes = defaultdict(list)
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        faults = [fault.text or fault.tag for fault in case if fault.tag in {"failure", "error", "skipped"}]
        outcomes[case.attrib["classname"].removeprefix("test_")] += faults or ["passed"]
    return outcomes


def test_a_simulator_in_the_process(outcomes: Outcomes) -> None:
    """``oneauto_simulator`` is a fresh simulator for every test."""
    assert outcomes["in_the_process"] == ["passed"] * 2


def test_a_simulator_on_a_socket(outcomes: Outcomes) -> None:
    """``oneauto_server`` has an address, a key and books, in sync and async tests."""
    assert outcomes["on_a_socket"] == ["passed"] * 2


def test_many_simulators_with_options(outcomes: Outcomes) -> None:
    """``oneauto_serve`` starts as many as the test wants, and all of them are gone after it."""
    assert outcomes["many"] == ["passed"] * 2


def test_live_hosts_are_refused(outcomes: Outcomes) -> None:
    """A test with any of the fixtures cannot resolve a host of the vendor, by whatever way; other hosts it can."""
    assert outcomes["live_hosts"] == ["passed"] * 8


def test_the_refusal_ends_with_the_test(outcomes: Outcomes) -> None:
    """Tests without the fixtures are left alone."""
    assert outcomes["afterwards"] == ["passed"] * 2


def modules_loaded_by(name: str) -> set[str]:
    """Import one module in a fresh interpreter and return all that came with it."""
    code = f"import sys, {name}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_loading_it_starts_nothing() -> None:
    """The plugin is loaded in every run of pytest, so it brings no client, no uvicorn and no plugins of others."""
    assert modules_loaded_by(PLUGIN).isdisjoint({"httpx", "cattrs", "uvicorn", "pytest_asyncio", "respx"})


def test_the_testing_package_needs_no_pytest() -> None:
    """The simulator and the clock can be used without pytest or uvicorn."""
    assert modules_loaded_by("oneauto_async.testing").isdisjoint({"pytest", "uvicorn"})

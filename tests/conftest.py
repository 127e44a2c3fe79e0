"""Fixtures every test file may use."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from support import examples
from support.raw import RawServer, raw_server

from oneauto_async.testing import VirtualClock, refuse_live_hosts

examples.register()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left with it when the others have nothing more to do."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Spare the collector what stays until the end: thousands of tests, looked through again and again, take long."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c_is_heard() -> None:
    """A script's ``&`` has what it starts ignore Ctrl-C, which some tests press: here it is not ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where Python is told to keep no bytecode, processes that tests start share a folder of it, and start faster."""
    with pytest.MonkeyPatch.context() as environment:
        if sys.dont_write_bytecode:
            environment.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            environment.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the machine reaches a test, and no test reaches the paid service."""
    for name in ("API_KEY", "API_KEY_FILE", "BASE_URL", "SANDBOX"):
        monkeypatch.delenv(f"ONEAUTO_{name}", raising=False)
    monkeypatch.delenv("ONE_AUTO_API_KEY", raising=False)
    with refuse_live_hosts():
        yield


@pytest.fixture
def clock() -> VirtualClock:
    """A clock whose time costs nothing; ``clock.run(…)`` runs a coroutine in it."""
    return VirtualClock(seed=1)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[RawServer]:
    """A raw server on 127.0.0.1."""
    async with raw_server() as running:
        yield running

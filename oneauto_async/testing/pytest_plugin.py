"""Fixtures for your own tests; pytest finds them by itself once the library is installed.

While a test uses any of them, the names of the vendor's hosts are not resolved by Python's own sockets, so that a test
cannot cost money; uvloop and proxies resolve them themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oneauto_async.testing import Simulator, SimulatorServer

__all__ = ["oneauto_serve", "oneauto_server", "oneauto_simulator"]

# pytest loads this module in every run of everyone who has the library installed: the fixtures import what they need.


@pytest.fixture
def _oneauto_live_hosts_refused() -> Iterator[None]:
    from oneauto_async.testing import refuse_live_hosts

    with refuse_live_hosts():
        yield


@pytest.fixture
def oneauto_simulator(_oneauto_live_hosts_refused: None) -> Simulator:
    """A simulator of the service, in this process: ``OneAutoClient.simulated(simulator=oneauto_simulator)``."""
    from oneauto_async.testing import Simulator

    return Simulator()


@pytest.fixture
def oneauto_serve(_oneauto_live_hosts_refused: None) -> Iterator[Callable[..., SimulatorServer]]:
    """A function that starts a simulator on a real socket, with the options of `Simulator`; the test's end stops it."""
    from contextlib import ExitStack

    from oneauto_async.testing import Simulator, SimulatorServer, serve

    with ExitStack() as stack:

        def start(**options: Any) -> SimulatorServer:
            simulator = Simulator(**options)
            return SimulatorServer(base_url=stack.enter_context(serve(simulator)), simulator=simulator)

        yield start


@pytest.fixture
def oneauto_server(oneauto_serve: Callable[..., SimulatorServer]) -> SimulatorServer:
    """A simulator on a real socket, with its ``base_url``, ``api_key`` and books (``requests``, ``bills``)."""
    return oneauto_serve()

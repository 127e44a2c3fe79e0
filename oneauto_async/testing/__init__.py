"""Tools to test code that uses this library, without a key, a network or a bill.

The pytest plugin beside them (`oneauto_async.testing.pytest_plugin`) is found by pytest itself.
"""

from __future__ import annotations

from ._live_hosts import LiveHostRefusedError, refuse_live_hosts
from ._options import LimitChange
from .clock import VirtualClock
from .server import SimulatorServer, serve
from .simulator import SIMULATOR_KEY, SPECIAL_IDS, Outage, SimulatedAnswer, Simulator

__all__ = [
    "SIMULATOR_KEY",
    "SPECIAL_IDS",
    "LimitChange",
    "LiveHostRefusedError",
    "Outage",
    "SimulatedAnswer",
    "Simulator",
    "SimulatorServer",
    "VirtualClock",
    "refuse_live_hosts",
    "serve",
]

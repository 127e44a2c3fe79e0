"""From the options of the command line to a client: of the service, or of a private simulator on a real socket."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

import attrs

from .. import OneAutoClient, RateLimit, Timeouts
from ..endpoints import CAR_BIDIRECTIONAL_CHARGING, VAN_BIDIRECTIONAL_CHARGING
from ..errors import ConfigurationError
from ..settings import api_key_from_file, find_api_key
from .exits import Exit, RefusedError
from .progress import warn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..endpoints import Endpoint
    from ..models import BidirectionalCharging

__all__ = ["Settings", "client_for"]

SIMULATED_LATENCY = (0.02, 0.06)
"""Seconds the private simulator takes over an answer."""


@attrs.frozen(kw_only=True)
class Settings:
    """The options that ``lookup`` and ``bulk`` share.

    Attributes:
        rate: calls per second the key allows, or ``None`` if it is not known.
        burst: calls the key allows at once.
        concurrency: lookups under way at once.
        base_url: another address of the service.
        sandbox: the vendor's sandbox instead of the live service.
        key_file: a file that holds the key.
        vehicle: ``van`` or ``car``.
        drain: seconds to wait for answers under way after an interruption.
        simulate: a private simulator instead of the service.
    """

    rate: float | None = None
    burst: int = 1
    concurrency: int = 50
    base_url: str | None = None
    sandbox: bool = False
    key_file: Path | None = None
    vehicle: str = "van"
    drain: float = 5.0
    simulate: bool = False

    @property
    def endpoint(self) -> Endpoint[BidirectionalCharging]:
        """The endpoint that is asked."""
        return CAR_BIDIRECTIONAL_CHARGING if self.vehicle == "car" else VAN_BIDIRECTIONAL_CHARGING


@contextlib.contextmanager
def client_for(settings: Settings) -> Iterator[OneAutoClient]:
    """Make the client, and keep the private simulator running meanwhile if it asks one.

    Raises:
        RefusedError: there is no usable key.
        ConfigurationError: another setting is wrong.
    """
    if not settings.simulate:
        yield _client(settings, _key(settings.key_file), settings.base_url, sandbox=settings.sandbox or None)
        return
    from ..testing import SIMULATOR_KEY, Simulator, serve

    simulator = Simulator(rate=settings.rate, burst=settings.burst, latency=SIMULATED_LATENCY)
    with serve(simulator) as base_url:
        yield _client(settings, SIMULATOR_KEY, base_url, sandbox=None)


def _client(settings: Settings, key: str, base_url: str | None, *, sandbox: bool | None) -> OneAutoClient:
    return OneAutoClient(
        key,
        base_url=base_url,
        sandbox=sandbox,
        max_concurrency=settings.concurrency,
        rate_limit=RateLimit.adaptive() if settings.rate is None else RateLimit(settings.rate, settings.burst),
        timeouts=Timeouts(drain=settings.drain),
    )


def _key(key_file: Path | None) -> str:
    """Find the key in the file or the environment; what is odd about it is told in a line of its own."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            secret = find_api_key(None) if key_file is None else api_key_from_file(key_file)
        except ConfigurationError as error:
            raise RefusedError(f"{error}; here: --key-file FILE, or --simulate to try without one", Exit.KEY) from None
    for warning in caught:
        warn(str(warning.message))
    return secret.reveal()

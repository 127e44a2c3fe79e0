"""From the options of the command line to a client: of the service, or of a private simulator on a real socket."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from .. import OneAutoClient, RateLimit, RetryPolicy, Timeouts
from .._address import SANDBOX_URL, SIMULATED_URL, find_base_url, is_loopback
from .._key import api_key_from_file, find_api_key
from ..endpoints import CAR_BIDIRECTIONAL_CHARGING, VAN_BIDIRECTIONAL_CHARGING
from ..errors import ConfigurationError
from ..ledger import SqliteLedger
from ..transport import HTTP11Transport
from .exits import Exit, RefusedError
from .progress import warn
from .purse import Purse, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..endpoints import Endpoint
    from ..models import BidirectionalCharging

__all__ = ["NO_LEDGER", "Settings", "client_for", "planning_client", "require_key"]

NO_LEDGER = "--no-ledger"
"""The option of `bulk` that keeps none."""

NO_KEY = (
    "no API key: set ONEAUTO_API_KEY, or ONEAUTO_API_KEY_FILE to a file that holds it, or give --key-file FILE; "
    "to try without one, --simulate"
)

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
        account: the label of the account that pays.
        purse: what may be spent, and where the books are.
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
    account: str = "default"
    purse: Purse = attrs.field(factory=Purse)

    @property
    def options(self) -> list[str]:
        """The options that say who is asked, for what and how fast, and whose money pays, as far as they were given."""
        named = {
            "--endpoint": self.vehicle if self.vehicle != "van" else None,
            "--base-url": self.base_url,
            "--key-file": self.key_file,
            "--account": self.account if self.account != "default" else None,
            "--rate": self.rate,
            "--burst": self.burst if self.burst != 1 else None,
            "--concurrency": self.concurrency if self.concurrency != 50 else None,
        }
        flags = {
            "--simulate": self.simulate,
            "--sandbox": self.sandbox,
            NO_LEDGER: self.purse.declines_ledger,
        }
        return [
            *(f"{name}={value}" for name, value in named.items() if value is not None),
            *(name for name, is_set in flags.items() if is_set),
        ]

    @property
    def is_live(self) -> bool:
        """Whether answers cost money: not of the sandbox, nor of anything on this machine.

        Raises:
            ConfigurationError: the address is wrong.
        """
        if self.simulate:
            return False
        url = find_base_url(self.base_url, self.sandbox or None)
        return url != SANDBOX_URL and not is_loopback(urlsplit(url).hostname or "")

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
        with _remarks_on_the_key(warn):
            key = _key(settings.key_file)
        yield _client(settings, key, **_address(settings))
        return
    from ..testing import SIMULATOR_KEY, Simulator, serve

    simulator = Simulator(rate=settings.rate, burst=settings.burst, latency=SIMULATED_LATENCY)
    with serve(simulator) as base_url:
        transport = _Rerouted(base_url, max_connections=settings.concurrency)
        yield _client(settings, SIMULATOR_KEY, base_url=SIMULATED_URL, transport=transport)


def planning_client(settings: Settings) -> OneAutoClient:
    """Make a client that only plans: it has no key, and no ledger unless there is one already, which it only reads.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    ledger = settings.purse.ledger
    if ledger is not None and not is_there(ledger):
        settings = attrs.evolve(settings, purse=settings.purse.without_ledger())
    address = {"base_url": SIMULATED_URL} if settings.simulate else _address(settings)
    return _client(settings, "none", read_only=True, **address)


def require_key(settings: Settings) -> None:
    """Raise `RefusedError` if there is no usable key."""
    if not settings.simulate:
        with _remarks_on_the_key(lambda remark: None):
            _key(settings.key_file)


def _address(settings: Settings) -> dict[str, Any]:
    return {"base_url": settings.base_url, "sandbox": settings.sandbox or None}


def _client(settings: Settings, key: str, *, read_only: bool = False, **where: Any) -> OneAutoClient:
    purse = settings.purse
    return OneAutoClient(
        key,
        max_concurrency=settings.concurrency,
        rate_limit=RateLimit.adaptive() if settings.rate is None else RateLimit(settings.rate, settings.burst),
        retry=RetryPolicy(resend_in_doubt=int(purse.retry_in_doubt)),
        timeouts=Timeouts(drain=settings.drain),
        budget=purse.budget,
        ledger=None if purse.ledger is None else SqliteLedger(purse.ledger, read_only=read_only),
        account=settings.account,
        **where,
    )


class _Rerouted(HTTP11Transport):
    """Carries what is asked of the simulator to wherever it listens.

    So its name in a ledger is the same in every run, and not that of anything that sells answers.
    """

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(**options)
        self._place = urlsplit(base_url)

    async def handle_async_request(self, request: Any) -> Any:
        """Send the request to the simulator."""
        place = self._place
        request.url = request.url.copy_with(scheme=place.scheme, host=place.hostname, port=place.port)
        return await super().handle_async_request(request)


def _key(key_file: Path | None) -> str:
    """Find the key in the file or the environment."""
    try:
        return (find_api_key(None, missing=NO_KEY) if key_file is None else api_key_from_file(key_file)).reveal()
    except ConfigurationError as error:
        raise RefusedError(str(error), Exit.KEY) from None


@contextlib.contextmanager
def _remarks_on_the_key(told: Callable[[str], None]) -> Iterator[None]:
    """Tell what is odd about the key, each in a line of its own, at the end of the block."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        told(str(warning.message))

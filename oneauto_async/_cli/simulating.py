"""The ``simulate`` command: the simulator in the foreground, until Ctrl-C."""

from __future__ import annotations

import contextlib
import ipaddress
import threading
from typing import TYPE_CHECKING, Any

from ..testing import SIMULATOR_KEY, SPECIAL_IDS, Outage, Simulator, serve
from .exits import Exit, RefusedError
from .interrupts import endings, handled
from .progress import counted, say
from .stdout import print_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["run_simulator", "simulator_from"]

_OUTAGE_FORM = "--outage wants START:LENGTH[:STATUS[:RETRY_AFTER]] with seconds for START and LENGTH"


def _outage(text: str) -> Outage:
    """Read an outage from its form on the command line.

    Raises:
        RefusedError: it has another form.
    """
    start, _, others = text.partition(":")
    length, _, others = others.partition(":")
    status, _, retry_after = others.partition(":")
    try:
        return Outage(float(start), float(length), status=int(status or 503), retry_after=retry_after or None)
    except ValueError:
        raise RefusedError(f"{_OUTAGE_FORM}, got {text!r}") from None


def run_simulator(simulator: Simulator, *, host: str, port: int, list_ids: bool) -> Exit:
    """Serve until Ctrl-C or its like, and tell how to reach it.

    Raises:
        RefusedError: the address cannot be listened on, or nobody can be told.
    """
    _require_loopback(host)
    with _interruption() as interrupted, _serving(simulator, host, port) as base_url:
        print_lines(_introduction(base_url, list_ids=list_ids))
        while not interrupted.wait(3600):
            pass
    calls = counted(simulator.requests.total(), "call", "calls")
    say(f"served {calls}, {simulator.total_billed} of them billed (in the simulation only)")
    return Exit.OK


def _require_loopback(host: str) -> None:
    with contextlib.suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return
    raise RefusedError(
        f"the simulator serves this machine alone: --host must be 127.0.0.1, ::1 or localhost, not {host}"
    )


@contextlib.contextmanager
def _interruption() -> Iterator[threading.Event]:
    """Turn Ctrl-C and its like into an event."""
    event = threading.Event()
    with handled(endings(), lambda *_: event.set()):
        yield event


@contextlib.contextmanager
def _serving(simulator: Simulator, host: str, port: int) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            base_url = stack.enter_context(serve(simulator, host=host, port=port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RefusedError(f"cannot listen on {host}:{port}: {reason}; choose another --port") from None
        except RuntimeError as error:
            raise RefusedError(str(error)) from None
        yield base_url


def _introduction(base_url: str, *, list_ids: bool) -> Iterator[str]:
    yield f"# simulating the service at {base_url}; Ctrl-C ends it. Its data are made up. In another terminal:"
    yield f"export ONEAUTO_BASE_URL={base_url}"
    yield f"export ONEAUTO_API_KEY={SIMULATOR_KEY}"
    if list_ids:
        yield from (f"# {name:<20} {about}" for name, about in SPECIAL_IDS.items())


def simulator_from(*, outage: str | None, **behaviour: Any) -> Simulator:
    """Make the simulator from the options of the ``simulate`` command.

    Raises:
        ConfigurationError: an option is out of its range.
    """
    return Simulator(outage=None if outage is None else _outage(outage), **behaviour)

"""Keep a test from the paid service: its hosts' names are not resolved."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["LiveHostRefusedError", "refuse_live_hosts"]

_DOMAIN = "oneautoapi.com"
_RESOLVERS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex")


class LiveHostRefusedError(RuntimeError):
    """A test tried to reach the paid service.

    It is no ``OSError``: nothing that retries network faults may take it for one.
    """


@contextlib.contextmanager
def refuse_live_hosts() -> Iterator[None]:
    """Refuse to resolve any host of the vendor, in every thread, until the block is left.

    It covers the functions of ``socket``, and with them asyncio's own event loops. It cannot see a call through a
    proxy that resolves names itself, or an event loop with a resolver of its own, such as uvloop.

    Raises:
        LiveHostRefusedError: from whatever tries to resolve one.
    """
    originals = {name: getattr(socket, name) for name in _RESOLVERS}
    for name, resolve in originals.items():
        setattr(socket, name, _guarded(resolve))
    try:
        yield
    finally:
        for name, resolve in originals.items():
            setattr(socket, name, resolve)


def _guarded(resolve: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(resolve)
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_live(host):
            raise LiveHostRefusedError(
                f"a test tried to reach the paid service at {_text(host)}: use the simulator's base_url or transport"
            )
        return resolve(host, *args, **kwargs)

    return guarded


def _is_live(host: Any) -> bool:
    return f".{_text(host)}".endswith(f".{_DOMAIN}")


def _text(host: Any) -> str:
    text = host.decode("ascii", "replace") if isinstance(host, bytes | bytearray) else str(host)
    return text.lower().rstrip(".")

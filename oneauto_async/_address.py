"""The address: which service is asked, and that the key goes to no other and is read by nobody on the way."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ._checks import shown, variable
from .errors import ConfigurationError

LIVE_URL = "https://api.oneautoapi.com"
SANDBOX_URL = "https://sandbox.oneautoapi.com"

SIMULATED_URL = "https://simulator.invalid"
"""A simulator in this process: a name that no resolver knows, so that nothing else can be reached by it."""


def find_base_url(base_url: str | None, sandbox: bool | None, environ: Mapping[str, str] | None = None) -> str:
    """Find the address: the arguments, else ``ONEAUTO_BASE_URL`` or ``ONEAUTO_SANDBOX``, else the live service.

    That it is not the sandbox leaves open where else to: a program that is led to a simulator stays there.

    Returns:
        Scheme, host and any path before the endpoint's, without a trailing slash.

    Raises:
        ConfigurationError: both kinds given at once, or an address the key must not be sent to.
    """
    if not isinstance(sandbox, bool | None):
        raise ConfigurationError(f"sandbox must be True or False, got {shown(sandbox)}")
    if base_url is not None and sandbox is not None:
        raise ConfigurationError("give sandbox or base_url, not both: each names the host")
    given = sandbox
    if base_url is None and not sandbox:
        base_url = variable("ONEAUTO_BASE_URL", environ).strip() or None
        sandbox = sandbox is None and _flag("ONEAUTO_SANDBOX", variable("ONEAUTO_SANDBOX", environ).strip())
        if base_url is not None and sandbox:
            raise ConfigurationError("ONEAUTO_BASE_URL and ONEAUTO_SANDBOX are both set: unset one of them")
    if base_url is not None:
        url = _checked_url(base_url)
        if given is False and url == SANDBOX_URL:
            raise ConfigurationError("sandbox=False, but ONEAUTO_BASE_URL names the sandbox: change one of them")
        return url
    return SANDBOX_URL if sandbox else LIVE_URL


def _flag(name: str, text: str) -> bool:
    if text.lower() in {"1", "true", "yes", "on"}:
        return True
    if text.lower() in {"", "0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name} must be true or false, got {text!r}")


LONGEST_ADDRESS = 2000
"""Far beyond any address there is; httpx refuses one of 65,536 characters, and the endpoint's path comes on top."""

_URL_TEXT = re.compile(r"[\w.:/\[\]~%+-]+")


def _checked_url(url: object) -> str:
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url must be text, got {type(url).__name__}")
    url = url.strip()
    if len(url) > LONGEST_ADDRESS:
        raise ConfigurationError(f"base_url has at most {LONGEST_ADDRESS} characters, got {len(url)}")
    if "@" in url:
        raise ConfigurationError("base_url must not hold a user name or password")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"base_url must look like {LIVE_URL}, without a query")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"base_url is not an address: {url!a}") from None
    if not host or port == 0 or not all(host.split(".")) or not _URL_TEXT.fullmatch(url):
        raise ConfigurationError(f"base_url must look like {LIVE_URL}, got {url!a}")
    if parts.scheme not in {"https", "http"}:
        raise ConfigurationError(f"base_url must start with https://, got {url!a}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            f"base_url must start with https:// (http:// would show the key to anyone on the way), got {url!a}"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

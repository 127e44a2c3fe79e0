"""What a person sets: limits, patience, addresses and the key. Wrong values are refused before anything is sent."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import attrs

from .errors import ConfigurationError

__all__ = ["Budget", "RateLimit", "RetryPolicy", "Timeouts"]

LARGEST = 1e9
"""No setting is larger: as seconds, thirty years."""

LOWEST_RATE = 1e-6
"""Calls per second: one in eleven days."""

CLOCK_DIFFERENCE = timedelta(days=1)
"""By this much the date may be ahead of UTC somewhere, and clocks may differ."""

LONGEST_LABEL = 200
"""Characters; a label is something a person wrote."""

SMALLEST_PRICE, LARGEST_AMOUNT = Decimal("0.000001"), 10**12
"""Bounds of money, in any currency: what is beyond them is a mistake."""

LIVE_URL = "https://api.oneautoapi.com"
SANDBOX_URL = "https://sandbox.oneautoapi.com"


def _number(low: float, *, inclusive: bool = False) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validate a finite number above (or from) a lower bound."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        usable = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= LARGEST
        if not usable or (value == low and not inclusive):
            bound = "at least" if inclusive else "more than"
            most = f"{LARGEST:,.0f}"
            raise ConfigurationError(f"{name} must be a number of {bound} {low:g}, up to {most}, got {_shown(value)}")

    return check


def _whole(low: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validate a whole number from a lower bound to the largest setting."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        require_whole(name, value, low)
        if value > LARGEST:
            raise ConfigurationError(f"{name} must be at most {LARGEST:,.0f}")

    return check


def require_kind(name: str, value: object, *kinds: type) -> None:
    """Refuse an argument that is of another class, before anything begins."""
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigurationError(f"{name} must be of {wanted}, got {value!r}")


def require_clock(clock: object) -> None:
    """Refuse what cannot tell the time."""
    if not all(hasattr(clock, name) for name in ("monotonic", "wall", "random", "sleep")):
        raise ConfigurationError(f"clock must be a Clock, such as SystemClock() or VirtualClock(), got {clock!r}")


def require_whole(name: str, value: object, low: int) -> None:
    """Raise `ConfigurationError` unless the value is a whole number of at least ``low``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ConfigurationError(f"{name} must be a whole number of at least {low}, got {_shown(value)}")


def require_label(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is a text that can be read on one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > LONGEST_LABEL:
        raise ConfigurationError(
            f"{name} must be a text of 1 to {LONGEST_LABEL} printable characters, got {_shown(value)}"
        )


def _shown(value: object) -> str:
    """Show a wrong value; Python does not print whole numbers of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to show"


def require_seconds(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is ``None`` or a finite number of seconds above 0."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST
    if value is not None and not usable:
        most = f"{LARGEST:,.0f}"
        raise ConfigurationError(f"{name} must be a number of seconds above 0, up to {most}, got {_shown(value)}")


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds allowed, for one attempt and for closing.

    Attributes:
        connect: to open a connection, TLS included.
        read: between two pieces of the answer. The gateway gives up after 29 s, so a value below 30 makes the client
            itself the source of calls whose billing is unknown.
        attempt: for one whole attempt, however slowly the answer drips.
        drain: how long `OneAutoClient.aclose` waits for answers that are already on their way.
    """

    connect: float = attrs.field(default=5.0, validator=_number(0))
    read: float = attrs.field(default=35.0, validator=_number(0))
    attempt: float = attrs.field(default=45.0, validator=_number(0))
    drain: float = attrs.field(default=35.0, validator=_number(0, inclusive=True))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How patiently one lookup is pursued. Nothing that may have been charged is sent again by default.

    Attributes:
        attempts: most requests for one lookup, over 429, 500, 503 and connections that failed before sending. A 429 is
            counted only if the key has accepted no call, of whichever lookup, since this lookup's previous try and
            within the last three seconds (of a slow key within the time of twenty calls, at most 20 s): a queue that
            moves is no failure. A call that asked for all lookups whether an outage is over is not counted either.
        total: seconds from the first request to the last, waits included; also the longest a lookup waits before its
            first request for a shut gate, for the end of an outage, and for somebody else on the same ledger who buys
            the same id.
        max_retry_after: the longest ``Retry-After`` that is waited out, in seconds. A longer one fails the lookup at
            once, and is never shortened.
        poll_interval: seconds between two polls of an answer that is not ready (202).
        poll_total: seconds of polling before `PendingError`.
        resend_in_doubt: how often a lookup whose request may already have been charged is sent again. Each resend can
            cost the price of another answer.
    """

    attempts: int = attrs.field(default=6, validator=_whole(1))
    total: float = attrs.field(default=300.0, validator=_number(0))
    max_retry_after: float = attrs.field(default=120.0, validator=_number(0, inclusive=True))
    poll_interval: float = attrs.field(default=2.0, validator=_number(0))
    poll_total: float = attrs.field(default=30.0, validator=_number(0, inclusive=True))
    resend_in_doubt: int = attrs.field(default=0, validator=_whole(0))


def _scope(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or value not in {"key", "call"}:
        raise ConfigurationError(f"RateLimit.retry_after_scope must be 'key' or 'call', got {_shown(value)}")


def _initial(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, RateLimit) and value.rate is not None):
        raise ConfigurationError(
            "RateLimit.adaptive(initial=…) takes a RateLimit(rate, burst), such as governor.statistics().learnt, "
            f"got {_shown(value)}"
        )


@attrs.frozen
class RateLimit:
    """The key's limit, as a token bucket: ``burst`` calls at once, then ``rate`` per second.

    ``RateLimit(rate=50, burst=10)`` paces all calls to it, and below it if the key turns out to allow less.
    ``RateLimit.adaptive()`` learns the limit from the refusals: calls start slowly, double until the first 429, and
    then keep a little above what the key was measured to allow.

    Attributes:
        rate: calls per second, from 0.000001, or ``None`` when the limit is not known.
        burst: calls the key allows at once after a rest.
        retry_after_scope: whom a ``Retry-After`` on a 429 holds: every call of the ``"key"``, or that ``"call"`` alone.
            One on a 500 or 503 always holds all.
        initial: with an adaptive limit, what an earlier run has learnt.
    """

    rate: float | None = attrs.field(validator=attrs.validators.optional(_number(LOWEST_RATE, inclusive=True)))
    burst: int = attrs.field(default=1, validator=_whole(1))
    retry_after_scope: Literal["key", "call"] = attrs.field(default="key", kw_only=True, validator=_scope)
    initial: RateLimit | None = attrs.field(default=None, kw_only=True, validator=_initial)

    def __attrs_post_init__(self) -> None:
        if self.rate is None and self.burst != 1:
            raise ConfigurationError("RateLimit(burst=…) needs the rate: RateLimit(rate=50, burst=10)")
        if self.rate is not None and self.initial is not None:
            raise ConfigurationError("give RateLimit(rate, burst), or RateLimit.adaptive(initial=…), and not both")

    @classmethod
    def adaptive(
        cls, initial: RateLimit | None = None, *, retry_after_scope: Literal["key", "call"] = "key"
    ) -> RateLimit:
        """Return a limit for a key whose limit is not known.

        Arguments:
            initial: what an earlier run has learnt, as ``governor.statistics().learnt``: a first guess.
            retry_after_scope: as above.
        """
        return cls(rate=None, initial=initial, retry_after_scope=retry_after_scope)


def _most(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        require_whole(f"Budget.{attribute.name}", value, 0)


def _money(low: Decimal) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validate an exact amount, or none."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None:
            return
        exact = isinstance(value, Decimal | int) and not isinstance(value, bool) and Decimal(value).is_finite()
        if not exact or not low <= Decimal(str(value)) <= LARGEST_AMOUNT:
            raise ConfigurationError(
                f"Budget.{attribute.name} must be a Decimal (or a whole number) from {low} to {LARGEST_AMOUNT:,}, such "
                f"as Decimal('0.50'), got {_shown(value)}"
            )

    return check


def _moment(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ConfigurationError(f"Budget.since must say its time zone: datetime(..., tzinfo=UTC), got {value!r}")
    if not isinstance(value, date | None):
        raise ConfigurationError(
            f"Budget.since must be a date, which begins at midnight UTC, or a datetime with a time zone, got {value!r}"
        )
    if value is not None and _beginning(value) > datetime.now(UTC) + CLOCK_DIFFERENCE:
        raise ConfigurationError(f"Budget.since is in the future, and until then no cap would hold: {value}")


def _beginning(since: date) -> datetime:
    return since if isinstance(since, datetime) else datetime.combine(since, time.min, UTC)


@attrs.frozen(kw_only=True)
class Budget:
    """The most that may be spent. Give ``max_billed``, or ``max_cost`` with the ``price`` of one answer.

    A charge is reserved before its request leaves, and given back only if it surely was not charged; what is in doubt
    counts as spent. So no concurrency exceeds it.

    ``OneAutoClient(budget=…)`` counts, with a ledger, all that it holds for the account and host, whichever process
    bought it; without one, what this client buys. ``batch(budget=…)`` counts what that batch buys.

    Attributes:
        max_billed: most charges.
        max_cost: most money, in the currency of ``price``; whatever was bought before is valued at ``price`` too.
        price: what one answer costs.
        since: only what was bought from then on counts: a date, from midnight UTC, or a datetime with a time zone. A
            moment of the next day counts from when the client is made, and a later one is refused: until then no cap
            would hold. It needs a ledger.
    """

    max_billed: int | None = attrs.field(default=None, validator=_most)
    max_cost: Decimal | int | None = attrs.field(default=None, validator=_money(Decimal(0)))
    price: Decimal | int | None = attrs.field(default=None, validator=_money(SMALLEST_PRICE))
    since: date | None = attrs.field(default=None, validator=_moment)

    def __attrs_post_init__(self) -> None:
        if (self.max_billed is None) == (self.max_cost is None):
            raise ConfigurationError("give Budget(max_billed=…), or Budget(max_cost=…, price=…), and not both")
        if self.max_cost is not None and self.price is None:
            raise ConfigurationError("Budget(max_cost=…) needs the price of one answer: price=Decimal('0.50')")

    @property
    def most(self) -> int:
        """The most charges it allows."""
        if self.max_billed is not None:
            return self.max_billed
        assert self.max_cost is not None
        assert self.price is not None
        with localcontext(prec=50):  # whatever the program around us has set
            return int(Decimal(self.max_cost) // Decimal(self.price))

    @property
    def since_seconds(self) -> float | None:
        """The moment it begins, in seconds since the epoch."""
        return None if self.since is None else _beginning(self.since).timestamp()


class Secret:
    """A text that shows itself to nobody who does not ask: masked in every repr, refused by pickle and copy."""

    __slots__ = ("_raw", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._raw = value.encode()

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value

    def reveal_bytes(self) -> bytes:
        """Return the text as it goes over the wire."""
        return self._raw

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled or copied; make a new client where you need one")


def find_api_key(argument: str | None, environ: Mapping[str, str] = os.environ) -> Secret:
    """Find the key: the argument, else ``ONEAUTO_API_KEY`` or ``ONE_AUTO_API_KEY``, else ``ONEAUTO_API_KEY_FILE``.

    Raises:
        ConfigurationError: no key, two different ones, or one that cannot be sent. The key is never in the message.
    """
    if argument is not None:
        return _checked_key(argument, "api_key")
    names = [name for name in ("ONEAUTO_API_KEY", "ONE_AUTO_API_KEY") if environ.get(name, "").strip()]
    if len({environ[name].strip() for name in names}) > 1:
        raise ConfigurationError("ONEAUTO_API_KEY and ONE_AUTO_API_KEY are both set and differ: unset one of them")
    if names:
        return _checked_key(environ[names[0]], names[0])
    if path := environ.get("ONEAUTO_API_KEY_FILE"):
        return api_key_from_file(Path(path))
    raise ConfigurationError(
        "no API key: set ONEAUTO_API_KEY (or ONEAUTO_API_KEY_FILE to a file that holds it), or pass api_key=…; "
        "to try the library without one, use OneAutoClient.simulated()"
    )


def api_key_from_file(path: Path) -> Secret:
    """Read the key from a file of one line; a byte-order mark and line ends are dropped.

    Raises:
        ConfigurationError: the file cannot be read or does not hold one key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{_key_file(path)} cannot be read: {reason}") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.warn(f"{_key_file(path)} is open to other users: chmod 600 it", UserWarning, stacklevel=3)
    return _checked_key(text, _key_file(path))


def _key_file(path: Path) -> str:
    """Name the key file; a bare word is not shown, because it may be the key itself, put in the wrong place."""
    return f"the key file {str(path)!r}" if len(path.parts) > 1 or path.suffix else "the key file"


def _checked_key(key: object, origin: str) -> Secret:
    if not isinstance(key, str):
        raise ConfigurationError(f"{origin} must be text, got {type(key).__name__}")
    key = key.strip()
    if not key:
        raise ConfigurationError(f"{origin} is empty")
    if key == "your-api-key-here":
        raise ConfigurationError(f"{origin} is the placeholder from the vendor's page: put your own key there")
    if not all("!" <= character <= "~" for character in key):
        raise ConfigurationError(f"{origin} holds a space, a line end or a character that no HTTP header can carry")
    return Secret(key)


def find_base_url(base_url: str | None, sandbox: bool | None, environ: Mapping[str, str] = os.environ) -> str:
    """Find the address: the arguments, else ``ONEAUTO_BASE_URL`` or ``ONEAUTO_SANDBOX``, else the live service.

    That it is not the sandbox leaves open where else to: a program that is led to a simulator stays there.

    Returns:
        Scheme, host and any path before the endpoint's, without a trailing slash.

    Raises:
        ConfigurationError: both kinds given at once, or an address the key must not be sent to.
    """
    if not isinstance(sandbox, bool | None):
        raise ConfigurationError(f"sandbox must be True or False, got {_shown(sandbox)}")
    if base_url is not None and sandbox is not None:
        raise ConfigurationError("give sandbox or base_url, not both: each names the host")
    given = sandbox
    if base_url is None and not sandbox:
        base_url = environ.get("ONEAUTO_BASE_URL", "").strip() or None
        sandbox = sandbox is None and _flag("ONEAUTO_SANDBOX", environ)
        if base_url is not None and sandbox:
            raise ConfigurationError("ONEAUTO_BASE_URL and ONEAUTO_SANDBOX are both set: unset one of them")
    if base_url is not None:
        url = _checked_url(base_url)
        if given is False and url == SANDBOX_URL:
            raise ConfigurationError("sandbox=False, but ONEAUTO_BASE_URL names the sandbox: change one of them")
        return url
    return SANDBOX_URL if sandbox else LIVE_URL


def _flag(name: str, environ: Mapping[str, str]) -> bool:
    text = environ.get(name, "").strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"", "0", "false", "no", "off"}:
        return False
    raise ConfigurationError(f"{name} must be true or false, got {text!r}")


_URL_TEXT = re.compile(r"[\w.:/\[\]~%+-]+")


def _checked_url(url: object) -> str:
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url must be text, got {type(url).__name__}")
    url = url.strip()
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

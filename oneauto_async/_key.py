"""The key: where it comes from, and that it shows itself to nobody."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from .errors import ConfigurationError


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


NO_KEY = (
    "no API key: set ONEAUTO_API_KEY (or ONEAUTO_API_KEY_FILE to a file that holds it), or pass api_key=…; "
    "to try the library without one, use OneAutoClient.simulated()"
)


def find_api_key(argument: str | None, environ: Mapping[str, str] = os.environ, *, missing: str = NO_KEY) -> Secret:
    """Find the key: the argument, else ``ONEAUTO_API_KEY`` or ``ONE_AUTO_API_KEY``, else ``ONEAUTO_API_KEY_FILE``.

    Arguments:
        argument: what was given.
        environ: the environment.
        missing: what to say if there is none.

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
    raise ConfigurationError(missing)


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

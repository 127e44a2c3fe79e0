"""The key: where it comes from, and that it shows itself to nobody."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ._checks import variable
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


class GivenKey:
    """What was given for a key, before it is checked: a mistake in a key must not make it show."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<given key>"


NO_KEY = (
    "no API key: set ONEAUTO_API_KEY (or ONEAUTO_API_KEY_FILE to a file that holds it), or pass api_key=…; "
    "to try the library without one, use OneAutoClient.simulated()"
)


def find_api_key(
    argument: GivenKey | str | None, environ: Mapping[str, str] | None = None, *, missing: str = NO_KEY
) -> Secret:
    """Find the key: the argument, else ``ONEAUTO_API_KEY`` or ``ONE_AUTO_API_KEY``, else ``ONEAUTO_API_KEY_FILE``.

    Arguments:
        argument: what was given.
        environ: the environment, if it is not this process's.
        missing: what to say if there is none.

    Raises:
        ConfigurationError: no key, two different ones, or one that cannot be sent. The key is never in the message, nor
            in a local of the library's that a traceback may show.
    """
    argument = argument if isinstance(argument, GivenKey) else GivenKey(argument)
    if argument.value is not None:
        return _checked_key(argument, "api_key")
    names = [name for name in ("ONEAUTO_API_KEY", "ONE_AUTO_API_KEY") if variable(name, environ).strip()]
    if len({variable(name, environ).strip() for name in names}) > 1:
        raise ConfigurationError("ONEAUTO_API_KEY and ONE_AUTO_API_KEY are both set and differ: unset one of them")
    if names:
        return _checked_key(GivenKey(variable(names[0], environ)), names[0])
    if variable("ONEAUTO_API_KEY_FILE", environ):
        return api_key_from_file(Path(variable("ONEAUTO_API_KEY_FILE", environ)))
    raise ConfigurationError(missing)


def api_key_from_file(path: Path) -> Secret:
    """Read the key from a file of one line; a byte-order mark and line ends are dropped.

    Raises:
        ConfigurationError: the file cannot be read or does not hold one key.
    """
    origin, (given, mode, reason) = _key_file(path), _read(path)
    del path  # it may be the key itself, and locals are shown in some tracebacks
    if reason is not None:
        raise ConfigurationError(f"{origin} cannot be read: {reason}")
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        warnings.warn(f"{origin} is open to other users: chmod 600 it", UserWarning, stacklevel=3)
    return _checked_key(given, origin)


def _read(path: Path) -> tuple[GivenKey, int, str | None]:
    """Return what a file holds, its mode, and why it cannot be read, if so: the exception may hold the key."""
    try:
        return GivenKey(path.read_text(encoding="utf-8-sig")), path.stat().st_mode, None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return GivenKey(None), 0, str(error.strerror) if isinstance(error, OSError) else "it is not text"


def _key_file(path: Path) -> str:
    """Name the key file; a bare word is not shown, because it may be the key itself, put in the wrong place."""
    return f"the key file {str(path)!r}" if len(path.parts) > 1 or path.suffix else "the key file"


def _checked_key(given: GivenKey, origin: str) -> Secret:
    fault = _fault_of(given.value)
    if fault is not None:
        raise ConfigurationError(f"{origin} {fault}")
    return Secret(given.value.strip())


def _fault_of(key: object) -> str | None:
    """Say why a text can be no key; it is raised elsewhere, where the text is no local."""
    if not isinstance(key, str):
        return f"must be text, got {type(key).__name__}"
    key = key.strip()
    if not key:
        return "is empty"
    if key == "your-api-key-here":
        return "is the placeholder from the vendor's page: put your own key there"
    if not all("!" <= character <= "~" for character in key):
        return "holds a space, a line end or a character that no HTTP header can carry"
    return None

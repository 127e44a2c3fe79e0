"""Checks of what was given: each says what it must be, and shows what it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from .errors import ConfigurationError

LARGEST_SETTING = 1e9
"""No setting is larger: as seconds, thirty years."""

LONGEST_LABEL = 200
"""Characters; a label is something a person wrote."""


def number(low: float, *, inclusive: bool = False) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validate a finite number above (or from) a lower bound."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        usable = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= LARGEST_SETTING
        if not usable or (value == low and not inclusive):
            bound = "at least" if inclusive else "more than"
            most = f"{LARGEST_SETTING:,.0f}"
            raise ConfigurationError(f"{name} must be a number of {bound} {low:g}, up to {most}, got {shown(value)}")

    return check


def whole(low: int) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    """Validate a whole number from a lower bound to the largest setting."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        require_whole(name, value, low)
        if value > LARGEST_SETTING:
            raise ConfigurationError(f"{name} must be at most {LARGEST_SETTING:,.0f}")

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
        raise ConfigurationError(f"{name} must be a whole number of at least {low}, got {shown(value)}")


def require_label(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is a text that can be read on one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > LONGEST_LABEL:
        raise ConfigurationError(
            f"{name} must be a text of 1 to {LONGEST_LABEL} printable characters, got {shown(value)}"
        )


def shown(value: object) -> str:
    """Show a wrong value; Python does not print whole numbers of thousands of digits."""
    try:
        return repr(value)
    except ValueError:
        return f"a {type(value).__name__} too long to show"


def require_seconds(name: str, value: object) -> None:
    """Raise `ConfigurationError` unless the value is ``None`` or a finite number of seconds above 0."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LARGEST_SETTING
    if value is not None and not usable:
        most = f"{LARGEST_SETTING:,.0f}"
        raise ConfigurationError(f"{name} must be a number of seconds above 0, up to {most}, got {shown(value)}")


def variable(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Return an environment variable; the environment, which may hold the key, is no local of whoever refuses it."""
    return (os.environ if environ is None else environ).get(name, "")

"""The canonical form of an ``evdb_vehicle_id``, found before anything is compared, sent or paid for."""

from __future__ import annotations

import unicodedata

from .errors import InvalidVehicleIdError

MAX_LENGTH = 64
"""Far beyond any id seen; a longer one is a mistake such as a whole line of a file."""


_TOO_LARGE = 10**MAX_LENGTH


def canonical_id(value: str | int) -> str:
    """Return the id as it is sent: text, trimmed, leading zeros kept.

    A whole number is taken as its decimal digits, because a sister search endpoint returns the same id as a number.

    Raises:
        InvalidVehicleIdError: not text or a whole number, empty, too long, or holding control characters.
    """
    text = _as_text(value).strip()
    if not text:
        raise InvalidVehicleIdError("an evdb_vehicle_id must not be empty")
    if len(text) > MAX_LENGTH:
        raise InvalidVehicleIdError(f"an evdb_vehicle_id has at most {MAX_LENGTH} characters, got {len(text)}")
    if not (text.isascii() and text.isalnum()) and any(_is_unprintable(character) for character in text):
        raise InvalidVehicleIdError(f"an evdb_vehicle_id must not hold control characters, got {text!a}")
    return text


def is_of_another(named: object, vehicle_id: str) -> bool:
    """Tell whether an id that an answer names is not the one that was asked for.

    Only whole numbers are compared: of other ids it is not known in how many ways the service writes them.
    """
    if isinstance(named, bool) or not isinstance(named, str | int) or not _is_number(vehicle_id):
        return False
    try:
        text = canonical_id(named)
    except InvalidVehicleIdError:
        return False
    return _is_number(text) and text.lstrip("0") != vehicle_id.lstrip("0")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def shown_id(value: object) -> str:
    """Return a short, printable text for an input that is no valid id, to report it by."""
    try:
        text = ascii(value)
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return f"<{type(value).__name__} too long to show>"
    return text if len(text) <= MAX_LENGTH else f"{text[:MAX_LENGTH]}…"


def _as_text(value: object) -> str:
    # bool is an int to Python, and True is nobody's vehicle.
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0 or value >= _TOO_LARGE:
            raise InvalidVehicleIdError(f"an evdb_vehicle_id is not negative and has at most {MAX_LENGTH} digits")
        return str(int(value))
    raise InvalidVehicleIdError(f"an evdb_vehicle_id is text or a whole number, got {type(value).__name__}")


def _is_unprintable(character: str) -> bool:
    """Tell control, format, surrogate, private and unassigned characters and line separators from the rest."""
    category = unicodedata.category(character)
    return category.startswith("C") or category in {"Zl", "Zp"}

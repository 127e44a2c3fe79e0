"""JSON as the service should speak it: strict where Python's own decoder is not."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class ContradictionError(ValueError):
    """An object says two things under one name: which of them is meant, nobody can tell."""


def _named_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(members)
    if len(named) != len(members):
        _require_agreement(members)
    return named


def _require_agreement(members: list[tuple[str, Any]]) -> None:
    """Refuse a name with two values; only what is said again is compared, or deep answers would take minutes."""
    first: dict[str, Any] = {}
    for name, value in members:
        if name in first and _said(first[name]) != _said(value):
            raise ContradictionError
        first.setdefault(name, value)


def _said(value: Any) -> str:
    """Return a value as text in which ``true`` and ``1`` differ, and the order of names does not matter."""
    return json.dumps(value, sort_keys=True)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_named_once)


def decode_json(body: bytes) -> Any:
    """Decode one JSON value in UTF-8, a byte-order mark allowed.

    Raises:
        ValueError: not UTF-8, not JSON, or something behind the value; NaN and infinities are not JSON, and an object
            that says two things under one name (`ContradictionError`) is not taken for any.
        RecursionError: nested too deeply.
    """
    return _DECODER.decode(body.decode("utf-8").removeprefix("\ufeff"))


def is_legal_json(value: Any) -> bool:
    """Tell whether a decoded value can be written as JSON again: 1e999 decodes to an infinity, which cannot.

    Raises:
        RecursionError: nested too deeply.
    """
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_legal_json, value.values()))
    return all(map(is_legal_json, value)) if isinstance(value, list) else True


def json_kind(value: Any) -> str:
    """Name the type of a decoded value, never its content."""
    return _KINDS.get(type(value), type(value).__name__)


_KINDS = {dict: "object", float: "number", int: "number", type(None): "null"}

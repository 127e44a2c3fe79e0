"""From JSON values to attrs classes, strictly: the one door to cattrs.

cattrs by itself turns ``"false"`` into ``True``, ``None`` into ``'None'`` and 3.9 into 3, and drops what it does not
know. Money was paid for the answer, so here a wrong type is an error that names its path, and nothing is dropped.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NoReturn, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import AttributeValidationNote, Converter, IterableValidationNote
from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn

from .endpoints import Endpoint
from .errors import ConfigurationError

T = TypeVar("T")

_JSON_NAMES = {dict: "object", float: "number", int: "number", type(None): "null"}
_EXPECTED = {bool: "true or false", int: "whole number", str: "text"}


class Mismatch(ValueError):  # noqa: N818  # a finding about a value, not a fault of the library
    """A value does not have the type its field is documented with; the message says which was expected."""


class SchemaMismatch(Exception):  # noqa: N818  # a report of several mismatches that never leaves the library
    """All fields that do not fit, one line each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems


def make_converter() -> Converter:
    """Return a new strict converter for classes that describe answers of the service.

    Nothing is coerced: text is not a number, a number is not a boolean, NaN and infinities are refused, a whole number
    becomes a float only if it does so exactly. ``X | None`` allows null, a default allows a missing member, and
    ``SomeStrEnum | str | None`` is an open set: known texts become members, others stay text. A field called ``extra``
    collects the members the class does not name.
    """
    converter = Converter(structure_fallback_factory=_refuse)
    for kind in _EXPECTED:
        converter.register_structure_hook(kind, _exact(kind))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_factory(_is_nullable, lambda kind: _nullable_hook(kind, converter))
    converter.register_structure_hook_factory(_is_open_enum, _open_enum_hook)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _class_hook(cls, converter))
    return converter


def structure_function(endpoint: Endpoint[T]) -> Callable[[Any], T]:
    """Look the endpoint's hook up once; the function turns a ``result`` object into the endpoint's class.

    Raises:
        ConfigurationError: the class has a field no converter can make. Found out here, before anything is paid.
    """
    converter = endpoint.converter if endpoint.converter is not None else make_converter()
    try:
        hook = converter.get_structure_hook(endpoint.result)
    except (StructureHandlerNotFoundError, TypeError, NameError) as error:
        raise ConfigurationError(f"{endpoint.result!r} cannot be made from an answer: {error}") from None

    def structure(value: Any) -> T:
        try:
            return hook(value, endpoint.result)  # type: ignore[no-any-return]  # cattrs hooks are untyped
        except (BaseValidationError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
            raise SchemaMismatch(tuple(_problems(error, "$.result"))) from None

    return structure


def _refuse(kind: Any) -> NoReturn:
    """Stand in for a hook that does not exist: refuse the class when it is looked up, before its answer is paid for."""
    raise StructureHandlerNotFoundError(f"no hook for {kind!r}", kind)


def _exact(kind: type) -> Callable[[Any, Any], Any]:
    def hook(value: Any, target: Any) -> Any:
        if type(value) is not kind:
            raise Mismatch(f"expected {_EXPECTED[kind]}, got {_got(value)}")
        # cattrs asks this hook for subclasses too: a StrEnum, say, which then refuses texts that are not its own.
        return value if target is kind else target(value)

    return hook


def _number(value: Any, _: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int:
        return _widened(value)
    raise Mismatch(f"expected number, got {_got(value)}")


def _widened(value: int) -> float:
    try:
        widened = float(value)
    except OverflowError:
        raise Mismatch("expected number, got one too large for a float") from None
    if widened != value:
        raise Mismatch("expected number, got a whole number that no float holds exactly")
    return widened


def _got(value: Any) -> str:
    """Name a JSON value's type, never its content."""
    if isinstance(value, float) and not math.isfinite(value):
        return "a number too large"
    return _JSON_NAMES.get(type(value), type(value).__name__)


def _is_nullable(kind: Any) -> bool:
    """Tell ``X | None`` for one X."""
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    return len(members) == 2 and type(None) in members


def _nullable_hook(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Look the inner hook up now; cattrs's own would look for it at each value, after the answer was paid for."""
    (inner,) = set(get_args(kind)) - {type(None)}
    hook = converter.get_structure_hook(inner)
    return lambda value, _: None if value is None else hook(value, inner)


def _is_open_enum(kind: Any) -> bool:
    """Tell ``SomeStrEnum | str`` and ``SomeStrEnum | str | None``."""
    if get_origin(kind) not in (Union, types.UnionType):
        return False
    members = set(get_args(kind)) - {type(None)}
    return len(members) == 2 and str in members and any(_is_str_enum(member) for member in members)


def _is_str_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _open_enum_hook(kind: Any) -> Callable[[Any, Any], Any]:
    enum = next(member for member in get_args(kind) if _is_str_enum(member))
    nullable = type(None) in get_args(kind)
    known: Mapping[str, Any] = {str(member): member for member in enum}

    def hook(value: Any, _: Any) -> Any:
        if type(value) is str:
            return known.get(value, value)
        if value is None and nullable:
            return None
        raise Mismatch(f"expected text, got {_got(value)}")

    return hook


def _class_hook(cls: type[Any], converter: Converter) -> Callable[[Any, Any], Any]:
    """Make the hook of one attrs class: an object in, members it does not name into ``extra`` if it has that field."""
    structure = make_dict_structure_fn(cls, converter)
    names = {field.name for field in attrs.fields(cls)}
    known = names - {"extra"}
    collects = "extra" in names

    def hook(value: Any, kind: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(f"expected object, got {_got(value)}")
        if collects and not value.keys() <= known:
            value = _with_extra(value, known)
        return structure(value, kind)

    return hook


def _with_extra(value: dict[str, Any], known: set[str]) -> dict[str, Any]:
    extra = {name: member for name, member in value.items() if name not in known}
    if not all(_is_legal_json(member) for member in extra.values()):
        raise Mismatch("expected JSON, got a number too large in an unknown field")
    return {name: member for name, member in value.items() if name in known} | {"extra": extra}


def _is_legal_json(value: Any) -> bool:
    """Tell whether a decoded value can be written as JSON again: 1e999 decodes to an infinity, which cannot."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_legal_json, value.values()))
    return all(map(_is_legal_json, value)) if isinstance(value, list) else True


def _problems(error: BaseException, path: str) -> Iterator[str]:
    """Walk cattrs's nested groups to one line per wrong field, ``path: what was expected``."""
    if not isinstance(error, BaseValidationError):
        yield f"{path}: {_reason(error)}"
        return
    for inner in error.exceptions:
        yield from _problems(inner, path + _step(inner))


def _step(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index!r}]"
    return ""


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return "missing"
    # Only our own message is free of the answer's content; other exceptions quote the value they choke on.
    return str(error) if isinstance(error, Mismatch) else f"does not fit ({type(error).__name__})"

"""From JSON values to attrs classes and dataclasses, strictly: the one door to cattrs.

cattrs by itself turns ``"false"`` into ``True``, ``None`` into ``'None'`` and 3.9 into 3, and drops what it does not
know. Money was paid for the answer, so here a wrong type is an error that names its path, and nothing is dropped.

Functions import cattrs when they run: it takes a tenth of this package's import time, and the first lookup is the first
to need it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum, StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, TypeVar, Union, get_args, get_origin

import attrs

from ._json import is_legal_json, json_kind
from .endpoints import Endpoint
from .errors import ConfigurationError

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")

Hook: TypeAlias = Callable[[Any, Any], Any]

MOST_PROBLEMS = 100
"""Wrong fields that are named; more would tell a person nothing."""

MOST_EXPLAINED = 1_000
"""Values of an answer whose problems are told with their paths; each costs some 50 µs, during which the loop waits."""

_EXPECTED = {bool: "true or false", int: "whole number", str: "text"}


class Mismatch(ValueError):  # noqa: N818  # a finding about a value, not a fault of the library
    """A value does not have the type its field is documented with; the message says which was expected."""


class SchemaMismatch(Exception):  # noqa: N818  # a report of several mismatches that never leaves the library
    """The fields that do not fit, one line each."""

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
    return _new_converter(detailed_validation=True)


def _new_converter(*, detailed_validation: bool) -> Converter:
    """Make the converter; without details it stops at the first wrong value, and does not tell its path."""
    converter = _strict_class()(detailed_validation=detailed_validation, structure_fallback_factory=_refuse)
    for kind in _EXPECTED:
        converter.register_structure_hook(kind, _exact(kind))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(bytes, _never_bytes)
    converter.register_structure_hook_factory(_is_any, lambda _: _legal_json)
    converter.register_structure_hook_factory(_is_literal, _literal_hook)
    converter.register_structure_hook_factory(_is_enum, _enum_hook)
    _guard(converter, list)
    _guard(converter, dict)
    converter.register_structure_hook_factory(_is_nullable, _nullable_hook)
    converter.register_structure_hook_factory(_is_open_enum, _open_enum_hook)
    converter.register_structure_hook_factory(_is_record, _class_hook)
    return converter


@functools.cache
def _strict_class() -> type[Converter]:
    from cattrs import Converter

    class StrictConverter(Converter):
        """Refuses bytes when they are looked up, unless the user has a hook for them: cattrs has no factory for it."""

        def get_structure_hook(self, type: Any, cache_result: bool = True) -> Any:  # noqa: A002  # cattrs's name
            hook = super().get_structure_hook(type, cache_result)
            return _refuse(type, "JSON has nothing for") if hook is _never_bytes else hook

    return StrictConverter


def structure_function(endpoint: Endpoint[T]) -> Callable[[Any], T]:
    """Look the endpoint's hook up once; the function turns a ``result`` object into the endpoint's class.

    Raises:
        ConfigurationError: the class has a field no converter can make. Found out here, before anything is paid.
    """
    kind, own = endpoint.result, endpoint.converter
    try:
        hook: Hook = (own or _new_converter(detailed_validation=False)).get_structure_hook(kind)
    except Exception as error:  # noqa: BLE001  # an annotation is code: to read it as a type may raise anything
        raise ConfigurationError(f"{kind!r} cannot be made from an answer: {error}") from None

    @functools.cache  # made for the first answer that does not fit: most programs see none
    def explaining_hook() -> Hook:
        return make_converter().get_structure_hook(kind)

    def structure(value: Any) -> T:
        try:
            return hook(value, kind)  # type: ignore[no-any-return]  # cattrs hooks are untyped
        except Exception as error:  # noqa: BLE001  # a hook of the user's may raise anything, and the answer is paid for
            # A user's converter cannot be had in two kinds: cattrs's copy of one lacks some of its hooks.
            is_bare = own is None and _has_many_values(value)
            found = error if own or is_bare else _mismatch(explaining_hook(), value, kind) or error
            path = "somewhere in $.result" if is_bare else "$.result"
            problems = tuple(islice(_problems(found, path), MOST_PROBLEMS))
            _drop_frames(error)
            _drop_frames(found)
            raise SchemaMismatch(problems) from None

    return structure


def _mismatch(hook: Hook, value: Any, kind: Any) -> Exception | None:
    """Return what a hook raises, with the path of each value that does not fit."""
    try:
        hook(value, kind)
    except Exception as error:  # noqa: BLE001  # as above
        return error
    return None


def _has_many_values(value: Any) -> bool:
    """Tell an answer of more than ``MOST_EXPLAINED`` values, at any depth."""
    containers, count = [value] if type(value) in _CONTAINERS else [], 0
    for container in containers:  # it grows by those found inside
        values = container.values() if type(container) is dict else container
        count += len(values)
        if count > MOST_EXPLAINED:
            return True
        if not _CONTAINERS.isdisjoint(map(type, values)):
            containers += [inner for inner in values if type(inner) in _CONTAINERS]
    return False


_CONTAINERS = frozenset({dict, list})


def _drop_frames(error: BaseException) -> None:
    """Let go of what was being done: each refers to the other, and both to an answer that may be large."""
    error.__traceback__ = None
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            _drop_frames(inner)


def _refuse(kind: Any, why: str = "no hook for") -> NoReturn:
    """Stand in for a hook that does not exist: refuse the class when it is looked up, before its answer is paid for."""
    from cattrs import StructureHandlerNotFoundError

    raise StructureHandlerNotFoundError(f"{why} {kind!r}", kind)


def _exact(kind: type) -> Hook:
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


def _number_or_null(value: Any, _: Any) -> float | None:
    return None if value is None else _number(value, float)


def _widened(value: int) -> float:
    try:
        widened = float(value)
    except OverflowError:
        raise Mismatch("expected number, got one too large for a float") from None
    if widened != value:
        raise Mismatch("expected number, got a whole number that no float holds exactly")
    return widened


def _got(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "a number too large"
    return json_kind(value)


def _never_bytes(value: Any, _: Any) -> NoReturn:
    """Mark bytes as what is never looked up with success, see ``_strict_class``."""
    raise Mismatch(f"expected bytes, which JSON does not have, got {_got(value)}")


def _is_any(kind: Any) -> bool:
    return kind is Any


def _legal_json(value: Any, _: Any) -> Any:
    if not is_legal_json(value):
        raise Mismatch("expected JSON, got a number too large")
    return value


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _literal_hook(kind: Any) -> Hook:
    return _choice(get_args(kind), kind)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _enum_hook(kind: type[Enum]) -> Hook:
    """Choose a member by its value, or let the class itself find one for a value it does not have."""
    choose = _choice(tuple(kind), kind, is_open=_finds_others(kind))

    def hook(value: Any, target: Any) -> Any:
        try:
            return choose(value, target)
        except Mismatch:
            member = kind._missing_(value)
            if not isinstance(member, kind):
                raise
            return member

    return hook


def _finds_others(kind: type[Enum]) -> bool:
    return "_missing_" in {name for base in kind.__mro__ if base is not Enum for name in vars(base)}


def _choice(allowed: tuple[Any, ...], kind: Any, *, is_open: bool = False) -> Hook:
    """Compare types as well: to Python ``True == 1 == 1.0``, of which only a whole number may stand for a float.

    Of an enum's members, JSON has the values; unless it is open to others, all of them must be some that JSON can have.
    """
    values = [(one.value if isinstance(one, Enum) else one, one) for one in allowed]
    if not is_open and not all(value is None or type(value) in (bool, int, float, str) for value, _ in values):
        _refuse(kind)

    def hook(value: Any, _: Any) -> Any:
        for one, member in values:
            if value == one and (type(value) is type(one) or (type(value), type(one)) == (int, float)):
                return member
        raise Mismatch(f"expected one of {tuple(one for one, _ in values)}, got {_got(value)}")

    return hook


def _guard(converter: Converter, shape: type[list[Any]] | type[dict[str, Any]]) -> None:
    """Let collections be made only of JSON's own: cattrs would take a text for a list of its letters."""
    being_made: list[Any] = []

    def applies(kind: Any) -> bool:
        return _shape(kind) is shape and kind not in being_made

    def factory(kind: Any, converter: Converter) -> Hook:
        being_made.append(kind)
        try:
            make = converter.get_structure_hook(kind, cache_result=False)
        finally:
            being_made.remove(kind)
        _ask_for_parts(kind, converter)
        if get_args(kind) and Any not in get_args(kind):
            return lambda value, target: make(_require(value, shape), target)
        return lambda value, target: make(_legal_json(_require(value, shape), target), target)

    converter.register_structure_hook_factory(applies, factory)


def _ask_for_parts(kind: Any, converter: Converter) -> None:
    """Look up what a collection is made of: of a tuple or a set, cattrs would at each value, after it was paid for."""
    parts = [part for part in get_args(kind) if part is not ...]
    hooks = [converter.get_structure_hook(part) for part in parts]
    if _shape(kind) is dict and len(parts) == 2 and not _can_be_a_name(parts[0], hooks[0]):
        _refuse(parts[0], "the name of a member is text, never")


def _can_be_a_name(kind: Any, hook: Hook) -> bool:
    """Tell whether a text may become one; a hook of the user's may make anything of it."""
    if getattr(hook, "__module__", None) != __name__ or kind is Any:
        return True
    if _is_literal(kind) or (_is_enum(kind) and not issubclass(kind, int | float)):
        allowed = get_args(kind) if _is_literal(kind) else tuple(kind)
        texts = [one for one in allowed if isinstance(one.value if isinstance(one, Enum) else one, str)]
        return bool(texts) or (_is_enum(kind) and _finds_others(kind))
    return _is_union(kind) or (isinstance(kind, type) and issubclass(kind, str))


def _shape(kind: Any) -> type | None:
    """Tell which of JSON's collections a type is made of, if any."""
    origin = get_origin(kind) or kind
    if not isinstance(origin, type) or issubclass(origin, str | bytes | bytearray):
        return None
    if issubclass(origin, Mapping):
        return dict
    return list if issubclass(origin, Iterable) else None


def _require(value: Any, shape: type) -> Any:
    if type(value) is not shape:
        raise Mismatch(f"expected {'list' if shape is list else 'object'}, got {_got(value)}")
    return value


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _is_nullable(kind: Any) -> bool:
    """Tell ``X | None`` for one X."""
    members = get_args(kind) if _is_union(kind) else ()
    return len(members) == 2 and type(None) in members


def _nullable_hook(kind: Any, converter: Converter) -> Hook:
    """Look the inner hook up now; cattrs's own would look for it at each value, after the answer was paid for."""
    (inner,) = set(get_args(kind)) - {type(None)}
    hook = converter.get_structure_hook(inner)
    if hook is _number:
        return _number_or_null
    return lambda value, _: None if value is None else hook(value, inner)


def _is_open_enum(kind: Any) -> bool:
    """Tell ``SomeStrEnum | str`` and ``SomeStrEnum | str | None``."""
    if not _is_union(kind):
        return False
    members = set(get_args(kind)) - {type(None)}
    return len(members) == 2 and str in members and any(_is_str_enum(member) for member in members)


def _is_str_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _open_enum_hook(kind: Any) -> Hook:
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


def _is_record(kind: Any) -> bool:
    """Tell an attrs class or a dataclass, generic ones too; an enum may have one for its values."""
    cls = get_origin(kind) or kind
    return isinstance(cls, type) and not issubclass(cls, Enum) and (attrs.has(cls) or dataclasses.is_dataclass(cls))


def _class_hook(cls: Any, converter: Converter) -> Hook:
    """Make the hook of one class: an object in, members it does not name into ``extra`` if it has that field."""
    from cattrs.gen import make_dict_structure_fn

    structure = make_dict_structure_fn(cls, converter)
    has_default = _fields(get_origin(cls) or cls)
    known = has_default.keys() - {"extra"}
    collects = "extra" in has_default
    needs_extra = collects and not has_default["extra"]

    def hook(value: Any, kind: Any) -> Any:
        _require(value, dict)
        if needs_extra or (collects and not value.keys() <= known):
            value = _with_extra(value, known)
        return structure(value, kind)

    return hook


def _fields(cls: Any) -> dict[str, bool]:
    """Name the fields of a class, and tell which have a default."""
    if attrs.has(cls):
        return {field.name: field.default is not attrs.NOTHING for field in attrs.fields(cls)}
    missing = (dataclasses.MISSING, dataclasses.MISSING)
    return {field.name: (field.default, field.default_factory) != missing for field in dataclasses.fields(cls)}


def _with_extra(value: dict[str, Any], known: AbstractSet[str]) -> dict[str, Any]:
    extra = {name: member for name, member in value.items() if name not in known}
    if not all(is_legal_json(member) for member in extra.values()):
        raise Mismatch("expected JSON, got a number too large in an unknown field")
    return {name: member for name, member in value.items() if name in known} | {"extra": extra}


def _problems(error: BaseException, path: str) -> Iterator[str]:
    """Walk cattrs's nested groups to one line per wrong field, ``path: what was expected``."""
    from cattrs import BaseValidationError

    if not isinstance(error, BaseValidationError):
        yield f"{path}: {_reason(error)}"
        return
    for inner in error.exceptions:
        yield from _problems(inner, path + _step(inner))


def _step(error: BaseException) -> str:
    from cattrs import AttributeValidationNote, IterableValidationNote

    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
        if isinstance(note, IterableValidationNote):
            return f"[{note.index!r}]"
    return ""


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return "missing"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    # Only our own message is free of the answer's content; other exceptions quote the value they choke on.
    return str(error) if isinstance(error, Mismatch) else f"does not fit ({type(error).__name__})"

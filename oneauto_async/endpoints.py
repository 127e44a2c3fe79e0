"""Endpoints as data: where to ask, under which parameter, and which class the answer becomes."""

from __future__ import annotations

import re
from typing import Any, Generic, Protocol, TypeVar

import attrs

from .errors import ConfigurationError
from .models import BidirectionalCharging

__all__ = ["CAR_BIDIRECTIONAL_CHARGING", "VAN_BIDIRECTIONAL_CHARGING", "Endpoint", "Structurer"]

T = TypeVar("T")


class Structurer(Protocol):
    """What an endpoint needs of a converter; a `cattrs.Converter` fits, and ``make_converter()`` makes a strict one."""

    def get_structure_hook(
        self,
        type: Any,  # noqa: A002  # the name cattrs gives it
        cache_result: bool = True,
    ) -> Any:
        """Return a callable ``(value, type) -> instance``."""
        ...


def _is_path(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+/?", value):
        raise ConfigurationError(f"Endpoint.path must look like /evdatabase/uk/van/name/, got {value!r}")


def _is_name(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]+", value):
        raise ConfigurationError(f"Endpoint.parameter must be a plain name, got {value!r}")


@attrs.frozen(cache_hash=True)  # it is a key in every lookup
class Endpoint(Generic[T]):
    """One endpoint that is asked by an ``evdb_vehicle_id``.

    Attributes:
        path: the path behind the host, kept as written; the vendor's end with a slash.
        parameter: the name of the query parameter that carries the id.
        result: the attrs class, or dataclass, the answer's ``result`` object becomes. A field called ``extra`` collects
            what the class does not name; without one, unknown members are left out (they are still in the outcome's
            ``raw``).
        converter: a converter of your own, or ``None`` for the strict one of ``make_converter()``.

    Raises:
        ConfigurationError: ``path`` is not like ``/evdatabase/uk/van/name/``, or ``parameter`` is not made of letters,
            digits and underscores. The class is looked at when the endpoint is first asked.
    """

    path: str = attrs.field(validator=_is_path)
    parameter: str = attrs.field(validator=_is_name)
    result: type[T]
    converter: Structurer | None = attrs.field(default=None, eq=id)


VAN_BIDIRECTIONAL_CHARGING: Endpoint[BidirectionalCharging] = Endpoint(
    "/evdatabase/uk/van/bidirectionalcharging/", "evdb_vehicle_id", BidirectionalCharging
)
"""The bi-directional charging capabilities of an electric van."""

CAR_BIDIRECTIONAL_CHARGING: Endpoint[BidirectionalCharging] = Endpoint(
    "/evdatabase/uk/car/bidirectionalcharging/", "evdb_vehicle_id", BidirectionalCharging
)
"""The same twelve fields for an electric car."""

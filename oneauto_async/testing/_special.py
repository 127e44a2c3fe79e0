"""The ids that get a special answer, each with the line that documents it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import attrs

from ._gateway import SimulatedAnswer, envelope, gateway_answer, quota_exceeded
from ._vans import nulls, van

__all__ = ["SPECIAL_IDS", "special_answer"]

_Maker: TypeAlias = Callable[[str], SimulatedAnswer]


@attrs.frozen
class _Special:
    """One special id.

    Attributes:
        about: what it does, in a line.
        makers: makes the answer to the first call, the second, and so on; the last one goes on for ever.
    """

    about: str
    makers: tuple[_Maker, ...]


def special_answer(evdb_vehicle_id: str, earlier: int) -> SimulatedAnswer | None:
    """Return the answer of a special id after so many earlier calls for it, or ``None`` for an ordinary id."""
    special = _SPECIALS.get(evdb_vehicle_id)
    if special is None:
        return None
    return special.makers[min(earlier, len(special.makers) - 1)](evdb_vehicle_id)


def _found(status: int = 200, **envelope_members: Any) -> _Maker:
    """Answer with the record of the id."""
    return lambda evdb_vehicle_id: envelope(status, success=True, result=van(evdb_vehicle_id), **envelope_members)


def _changed(status: int = 200, **fields: Any) -> _Maker:
    """Answer with the record of the id, some fields of it replaced."""
    return lambda evdb_vehicle_id: envelope(status, success=True, result=van(evdb_vehicle_id) | fields)


def _always(answer: SimulatedAnswer) -> _Maker:
    """Answer the same whatever the id."""
    return lambda evdb_vehicle_id: answer


def _gateway(status: int) -> _Maker:
    return _always(gateway_answer(status))


def _after(seconds: float) -> _Maker:
    """Answer with the record, that much later."""
    found = _found()
    return lambda evdb_vehicle_id: attrs.evolve(found(evdb_vehicle_id), delay=seconds)


def _half(evdb_vehicle_id: str) -> SimulatedAnswer:
    names = [name for name in van(evdb_vehicle_id) if name != "simulated"]
    return _changed(206, **dict.fromkeys(names[len(names) // 2 :], None))(evdb_vehicle_id)


_PENDING = _always(envelope(202, success=True, error="Accepted for processing: ask again for the result"))
_SILENT = _always(attrs.evolve(gateway_answer(504), delay=120.0, silent=True))
_HTML = SimulatedAnswer(status=200, body=b"<!DOCTYPE html>\n<html><body><h1>Please sign in</h1></body></html>\n")

_SPECIALS: Mapping[str, _Special] = {
    "SIM-201": _Special("201 with a full record: a status the vendor does not list", (_found(201),)),
    "SIM-202": _Special("202 to the first two calls, then the record", (_PENDING, _PENDING, _found())),
    "SIM-202-FOREVER": _Special("202 to every call", (_PENDING,)),
    "SIM-204": _Special("204: no data for this id", (_always(SimulatedAnswer(status=204)),)),
    "SIM-206": _Special("206 with half of the fields null", (_half,)),
    "SIM-206-EMPTY": _Special("206 whose result is null", (_always(envelope(206, success=True)),)),
    "SIM-400": _Special(
        "400 with an error text", (_always(envelope(400, success=False, error="evdb_vehicle_id is not valid")),)
    ),
    "SIM-401": _Special("401: the key is not accepted", (_gateway(401),)),
    "SIM-403": _Special("403: the service is not enabled for the key", (_gateway(403),)),
    "SIM-404": _Special("404: no such route", (_gateway(404),)),
    "SIM-429": _Special("429, throttled, to every call", (_gateway(429),)),
    "SIM-429-ONCE": _Special("429, throttled, once; then the record", (_gateway(429), _found())),
    "SIM-429-RETRY-AFTER": _Special(
        "429 with Retry-After: 1 once; then the record",
        (_always(gateway_answer(429).with_retry_after("1")), _found()),
    ),
    "SIM-QUOTA": _Special("429, quota used up, to every call", (_always(quota_exceeded()),)),
    "SIM-500": _Special("500 to every call", (_gateway(500),)),
    "SIM-500-ONCE": _Special("500 once; then the record", (_gateway(500), _found())),
    "SIM-502": _Special("502 to every call: may have been billed", (_gateway(502),)),
    "SIM-503": _Special("503 to every call", (_gateway(503),)),
    "SIM-503-ONCE": _Special("503 once; then the record", (_gateway(503), _found())),
    "SIM-503-RETRY-AFTER": _Special(
        "503 with Retry-After: 1 once; then the record",
        (_always(gateway_answer(503).with_retry_after("1")), _found()),
    ),
    "SIM-504": _Special("504 to every call: may have been billed", (_gateway(504),)),
    "SIM-FALSE": _Special(
        "200 whose success is false (billed)",
        (_always(envelope(200, success=False, error="No data available for this vehicle")),),
    ),
    "SIM-MALFORMED": _Special("200 with an HTML page (billed)", (_always(_HTML),)),
    "SIM-EMPTY": _Special("200 with an empty body (billed)", (_always(SimulatedAnswer(status=200)),)),
    "SIM-NAN": _Special(
        "200 with NaN, which is not JSON (billed)", (_changed(vehicle_to_load_power_output_kw=float("nan")),)
    ),
    "SIM-WRONG-TYPES": _Special(
        "200 with fields of wrong types (billed)",
        (
            _changed(
                vehicle_to_load_support_status=1,
                vehicle_to_load_power_output_kw="11",
                vehicle_to_load_exterior_port_details=["1 x Type 2 (Adapter)"],
                vehicle_to_home_ac_power_output_kw=True,
            ),
        ),
    ),
    "SIM-NULLS": _Special("200 with all twelve fields null", (lambda _: envelope(200, success=True, result=nulls()),)),
    "SIM-EXTRA": _Special(
        "200 with members that the vendor does not document",
        (
            lambda evdb_vehicle_id: envelope(
                200,
                success=True,
                result=van(evdb_vehicle_id) | {"vehicle_to_moon_support_status": "Announced", "ports": [{"kw": 3.6}]},
                request_cost=0.5,
            ),
        ),
    ),
    "SIM-NEW-STATUS": _Special(
        "200 with a status text never seen before", (_changed(vehicle_to_grid_dc_support_status="On Trial"),)
    ),
    "SIM-MESSAGE": _Special(
        "200, success, and an error text beside it, as in the vendor's sample",
        (_found(error="If there is an error the message would go here"),),
    ),
    "SIM-SLOW": _Special("the record after 5 seconds", (_after(5.0),)),
    "SIM-SILENT": _Special("billed, and then no answer (504 after 120 seconds)", (_SILENT,)),
}

SPECIAL_IDS: Mapping[str, str] = MappingProxyType({name: special.about for name, special in _SPECIALS.items()})
"""The ids that get a special answer, and what each does; every other id gets a record made up from it."""

"""Rows of the tables as records, and the questions that bring them.

A row may be damaged, and then it still comes: as far as it can be read, and so that nothing is bought again because of
it, nor counted as less than it may have cost.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from ...errors import Billing
from .._books import Owned
from ..records import Entry, Headers, LedgerKey, Service, Spending, State
from ..rules import Past, share

PAST = "SELECT seq, state, billing, settled_at, owner FROM lookups"

ENTRY = """
    SELECT seq, account, host, endpoint, vehicle_id, state, billing, claimed_at, sent_at, settled_at, attempts, status,
           request_id, note, headers, raw, flaw, checksum
    FROM lookups LEFT JOIN services USING (service) LEFT JOIN answers USING (seq)
"""


FRESH_FOR_EVER = sys.float_info.max
"""The moment of an answer that has none: it is handed out, and seen to be damaged, until it is refreshed."""

_STATES, _BILLINGS = {state.value: state for state in State}, {billing.value: billing for billing in Billing}


@attrs.frozen
class _Column:
    """What one column of the entries' question may hold, and what is read instead of anything else."""

    name: str
    holds: Callable[[Any], bool]
    instead: Any = None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int)


def _is_whole_or_none(value: Any) -> bool:
    return value is None or isinstance(value, int)


def _is_bytes_or_none(value: Any) -> bool:
    return value is None or isinstance(value, bytes | str)  # one bit makes a text of bytes


def is_moment(value: Any) -> bool:
    """Tell whether a column of moments may hold it."""
    return isinstance(value, float) and math.isfinite(value)


def _is_moment_or_none(value: Any) -> bool:
    return value is None or is_moment(value)


_COLUMNS = (
    _Column("seq", _is_whole),
    _Column("account", _is_text, "?"),
    _Column("host", _is_text, "?"),
    _Column("endpoint", _is_text, "?"),
    _Column("vehicle_id", _is_text, "?"),
    _Column("state", _STATES.__contains__, State.IN_DOUBT.value),
    _Column("billing", _BILLINGS.__contains__, Billing.UNKNOWN.value),
    _Column("claimed_at", is_moment, 0.0),
    _Column("sent_at", _is_moment_or_none),
    _Column("settled_at", _is_moment_or_none),
    _Column("attempts", _is_whole, 0),
    _Column("status", _is_whole_or_none),
    _Column("request_id", _is_text_or_none),
    _Column("note", _is_text_or_none),
    _Column("headers", _is_text_or_none),
    _Column("raw", _is_bytes_or_none),
    _Column("flaw", _is_text_or_none),
    _Column("checksum", _is_text_or_none),
)
"""In the order of the question."""


def entry_from(row: Sequence[Any]) -> Entry:
    """Read one row of the entries' question; what cannot have been written is left out, and told as its damage."""
    damaged = [column.name for column, value in zip(_COLUMNS, row, strict=True) if not column.holds(value)]
    if not damaged:
        return _entry(*row)
    readable = [
        column.instead if column.name in damaged else value for column, value in zip(_COLUMNS, row, strict=True)
    ]
    return attrs.evolve(_entry(*readable), damage=f"{', '.join(damaged)} cannot be what was written")


def _entry(
    seq: int,
    account: str,
    host: str,
    endpoint: str,
    vehicle_id: str,
    state: str,
    billing: str,
    claimed_at: float,
    sent_at: float | None,
    settled_at: float | None,
    attempts: int,
    status: int | None,
    request_id: str | None,
    note: str | None,
    headers: str | None,
    raw: bytes | str | None,
    flaw: str | None,
    checksum: str | None,
) -> Entry:
    return Entry(
        seq=seq,
        key=LedgerKey(Service(account, host, endpoint), vehicle_id),
        state=_STATES[state],
        billing=_BILLINGS[billing],
        claimed_at=claimed_at,
        sent_at=sent_at,
        settled_at=settled_at,
        attempts=attempts,
        status=status,
        request_id=request_id,
        note=note,
        headers=_headers(headers),
        raw=raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw,
        flaw=flaw,
        checksum=checksum,
    )


def _headers(text: str | None) -> Headers:
    """Read the headers; damaged ones come out as none, and then the checksum does not agree."""
    try:
        return () if text is None else tuple((name, value) for name, value in json.loads(text))
    except (ValueError, TypeError):
        return ()


def owned_from(row: tuple[int, str, str, float | None, int]) -> Owned:
    seq, state, billing, settled_at, owner = row
    return Owned(seq, *_in_brief(state, billing, settled_at), owner)


def past_from(row: tuple[int, str, str, float | None]) -> Past:
    seq, state, billing, settled_at = row
    return Past(seq, *_in_brief(state, billing, settled_at))


def _in_brief(state: str, billing: str, settled_at: float | None) -> tuple[State, Billing, float | None]:
    read = _STATES.get(state, State.IN_DOUBT)
    if not is_moment(settled_at):
        settled_at = FRESH_FOR_EVER if read is State.ANSWERED else None
    return read, _BILLINGS.get(billing, Billing.UNKNOWN), settled_at


def share_of(state: str, billing: str) -> Spending:
    """Return what an entry adds to the spending."""
    return share(_STATES.get(state, State.IN_DOUBT), _BILLINGS.get(billing, Billing.UNKNOWN))

"""Rows of the tables as records, and the questions that bring them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...errors import Billing, LedgerError
from .._books import Owned
from ..records import Entry, Headers, LedgerKey, Service, State

PAST = "SELECT seq, state, billing, settled_at, owner FROM lookups"

ENTRY = """
    SELECT seq, account, host, endpoint, vehicle_id, state, billing, claimed_at, sent_at, settled_at, attempts, status,
           request_id, note, headers, raw, flaw, checksum
    FROM lookups JOIN services USING (service) LEFT JOIN answers USING (seq)
"""


def entry_from(row: Sequence[Any]) -> Entry:
    """Read one row of the entries' question.

    Raises:
        LedgerError: the row cannot be what was written.
    """
    try:
        return _entry(*row)
    except (ValueError, TypeError) as error:
        raise LedgerError(f"entry {row[0]} is damaged: {error}") from error


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
        state=State(state),
        billing=Billing(billing),
        claimed_at=float(claimed_at),
        sent_at=None if sent_at is None else float(sent_at),
        settled_at=None if settled_at is None else float(settled_at),
        attempts=attempts,
        status=status,
        request_id=request_id,
        note=note,
        headers=_headers(headers),
        raw=raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw,  # one bit makes a text of bytes
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
    try:
        settled_at = None if settled_at is None else float(settled_at)
        return Owned(seq, State(state), Billing(billing), settled_at, owner)
    except (ValueError, TypeError) as error:
        raise LedgerError(f"entry {seq} is damaged: {error}") from error

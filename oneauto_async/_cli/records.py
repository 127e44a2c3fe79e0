"""One outcome as one flat record, and the exit code it asks for."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import attrs

from ..errors import (
    AccessDeniedError,
    Billing,
    BudgetExceededError,
    ConnectionFailedError,
    LedgerError,
    QuotaExceededError,
)
from ..models import BidirectionalCharging
from ..outcomes import Failed, Found, InDoubt, NoData, NotSent, NotSentReason, Source
from .exits import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..outcomes import Outcome, Receipt

__all__ = [
    "COLUMNS",
    "FIELDS",
    "FORMATS",
    "OUTCOMES",
    "Format",
    "Record",
    "VanOutcome",
    "answered_again",
    "exit_of",
    "flat_formats",
    "holds_bytes_paid_for",
    "record_of",
    "was_paid_before",
]

VanOutcome: TypeAlias = "Outcome[BidirectionalCharging]"
Record: TypeAlias = dict[str, Any]

FIELDS = tuple(field.name for field in attrs.fields(BidirectionalCharging) if field.name != "extra")
"""The vendor's twelve names."""

COLUMNS = (
    "evdb_vehicle_id",
    "outcome",
    *FIELDS,
    "extra",
    "error",
    "reason",
    "message",
    "billing",
    "status",
    "request_id",
    "attempts",
    "source",
    "raw",
)
"""The members of every record, in this order, whatever its outcome."""

OUTCOMES = ("found", "partial", "no_data", "failed", "in_doubt", "not_sent")
"""What the member ``outcome`` can be."""


def record_of(outcome: VanOutcome) -> Record:
    """Return the flat record of an outcome: all of `COLUMNS`, ``None`` where there is nothing to say."""
    return {
        **dict.fromkeys(COLUMNS),
        "evdb_vehicle_id": outcome.evdb_vehicle_id,
        **_particulars(outcome),
        **_cost(outcome.receipt),
    }


def _particulars(outcome: VanOutcome) -> Record:
    match outcome:
        case Found():
            kind = "partial" if outcome.partial else "found"
            return {"outcome": kind, **_fields(outcome.value), "message": outcome.message}
        case NoData():
            return {"outcome": "no_data"}
        case Failed():
            return {"outcome": "failed", **_problem(outcome.error), "raw": _kept(outcome)}
        case InDoubt():
            return {"outcome": "in_doubt", **_problem(outcome.error), "raw": _kept(outcome)}
        case NotSent():
            return {"outcome": "not_sent", **_problem(outcome.error), "reason": str(outcome.reason)}
        case _:
            assert_never(outcome)


def _fields(value: BidirectionalCharging) -> Record:
    flat = value.to_dict()
    return {name: flat[name] for name in FIELDS} | {"extra": dict(value.extra) or None}


def _problem(error: Exception) -> Record:
    return {"error": type(error).__name__, "message": str(error)}


def _kept(outcome: Failed | InDoubt) -> str | None:
    """Return the body of an answer that could not be used but may have been paid for: it is bought only once."""
    if outcome.raw is None or not holds_bytes_paid_for(outcome):
        return None
    return outcome.raw.decode(errors="backslashreplace")


def holds_bytes_paid_for(outcome: Failed | InDoubt) -> bool:
    """Tell whether bytes came that were, or may have been, charged for, now or before."""
    receipt = outcome.receipt
    return outcome.raw is not None and (receipt.billing is not Billing.NOT_BILLED or was_paid_before(receipt))


PAID = 200
"""The status of what is charged."""


def was_paid_before(receipt: Receipt) -> bool:
    """Tell whether this is an answer of the ledger that an earlier lookup paid for."""
    return receipt.source is Source.LEDGER and receipt.status == PAID


def _cost(receipt: Receipt) -> Record:
    return {
        "billing": str(receipt.billing),
        "status": receipt.status,
        "request_id": receipt.request_id,
        "attempts": receipt.attempts,
        "source": str(receipt.source),
    }


def answered_again(record: Record) -> Record:
    """Return the record for a second row of the same id: the same answer, which was asked and paid for only once."""
    return record | {"billing": str(Billing.NOT_BILLED), "attempts": 0, "source": str(Source.JOINED)}


def exits_of(outcome: VanOutcome) -> set[Exit]:
    """Return the exit codes that apply to an outcome: what was in doubt before may also have been refused."""
    codes = {exit_of(outcome)}
    if isinstance(outcome, InDoubt) and isinstance(outcome.error, _OF_THE_RUN):
        codes.add(_exit_of_error(outcome.error))
    return codes


_OF_THE_RUN = (AccessDeniedError, QuotaExceededError, BudgetExceededError)


def exit_of(outcome: VanOutcome) -> Exit:
    """Return the exit code that this outcome alone would end the run with."""
    match outcome:
        case Found() | NoData():
            return Exit.OK
        case InDoubt():
            return Exit.IN_DOUBT
        case NotSent(reason=NotSentReason.ACCESS_DENIED):
            return Exit.KEY
        case NotSent(reason=NotSentReason.QUOTA | NotSentReason.BUDGET):
            return Exit.QUOTA
        case NotSent():
            return Exit.FAILED
        case Failed() if outcome.receipt.billing is Billing.UNKNOWN:
            return Exit.IN_DOUBT
        case Failed():
            return _exit_of_error(outcome.error)
        case _:
            assert_never(outcome)


def _exit_of_error(error: Exception) -> Exit:
    known = {
        AccessDeniedError: Exit.KEY,
        QuotaExceededError: Exit.QUOTA,
        BudgetExceededError: Exit.QUOTA,
        ConnectionFailedError: Exit.UNREACHABLE,
        LedgerError: Exit.LEDGER,
    }
    return next((code for kind, code in known.items() if isinstance(error, kind)), Exit.FAILED)


@attrs.frozen(kw_only=True)
class Format:
    """A way to write records as bytes.

    Attributes:
        heading: what stands before the first record.
        line: one record, its line end included.
    """

    heading: bytes
    line: Callable[[Record], bytes]


def _json_line(record: Record) -> bytes:
    return f"{_json(record)}\n".encode()


def _json(value: object) -> str:
    """Write legal JSON in plain ASCII, so that no terminal, pipe or locale can trip over a vehicle's text."""
    return json.dumps(value, allow_nan=False)


def _csv_row(cells: object) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)  # type: ignore[arg-type]  # an iterable of cells
    # A lone surrogate is legal in JSON and in no file: its escape shows what came.
    return text.getvalue().encode(errors="backslashreplace")


def flat_formats(columns: tuple[str, ...]) -> dict[str, Format]:
    """Return the formats of records with these members; in a cell, what is a mapping or a sequence is JSON."""

    def line(record: Record) -> bytes:
        cells = (record[name] for name in columns)
        return _csv_row(_json(cell) if isinstance(cell, dict | tuple) else cell for cell in cells)

    return {"jsonl": Format(heading=b"", line=_json_line), "csv": Format(heading=_csv_row(columns), line=line)}


FORMATS = flat_formats(COLUMNS)

"""What an older output holds, asked before it is replaced: it may be the only place of what was paid for."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import IO

    from .records import Record

__all__ = ["holds_answer", "may_hold_more"]

LONGEST_HEADING = 10_000
"""Characters; in JSON Lines, the id stands first."""

LARGEST_CELL = 2**31 - 1
"""Characters that are read of a cell: it may hold all that came, and each byte of that as an escape."""

_ANSWERS = frozenset({"found", "partial", "no_data"})


def may_hold_more(output: Path, is_answered: Callable[[str], bool]) -> bool:
    """Tell whether a file holds an answer for an id that is not answered now; one that is not ours may hold anything.

    Arguments:
        output: an output of ``bulk``, in either format, or any other file.
        is_answered: tells of an id whether its answer is there without that file.
    """
    return _holds(output, lambda identifier: not is_answered(identifier), if_not_ours=True)


def holds_answer(output: Path, is_wanted: Callable[[str], bool]) -> bool:
    """Tell whether a file surely holds an answer for one of the ids that are wanted."""
    return _holds(output, is_wanted, if_not_ours=False)


def _holds(output: Path, is_wanted: Callable[[str], bool], *, if_not_ours: bool) -> bool:
    is_ours = False
    try:
        with output.open(encoding="utf-8-sig", newline="") as file:
            is_ours = "evdb_vehicle_id" in file.readline(LONGEST_HEADING)
            file.seek(0)
            return any(_is_answer(record) and is_wanted(record["evdb_vehicle_id"]) for record in _records(file))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, csv.Error):
        return if_not_ours or is_ours


def _records(file: IO[str]) -> Iterator[Record]:
    first = file.read(1)
    file.seek(0)
    if first == "{":
        return _json_records(file)
    csv.field_size_limit(LARGEST_CELL)
    return csv.DictReader(file, strict=True)


def _json_records(lines: Iterable[str]) -> Iterator[Record]:
    return (json.loads(line) for line in lines)


def _is_answer(record: Record) -> bool:
    """Tell whether it was worth its price: an answer, or the bytes of one that was paid for and cannot be used."""
    is_kept = record["outcome"] == "failed" and bool(record["raw"]) and record["error"] != "LedgerError"
    return record["outcome"] in _ANSWERS or record["billing"] == "billed" or is_kept

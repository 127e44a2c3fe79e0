"""The ids that a run left unasked, written beside its output so that they are the input of another run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .inputs import are_plain
from .outputs import hidden, is_database, unused

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["rest_paths", "write_rest"]


def rest_paths(output: Path) -> tuple[Path, Path]:
    """Return the two names that the ids left of an output may stand under: as plain lines, and as JSON Lines."""
    return output.with_name(f"{output.name}.rest.txt"), output.with_name(f"{output.name}.rest.jsonl")


def write_rest(output: Path, ids: list[str]) -> Path:
    """Write the ids one per line; if one of them would not be read back from a plain line, all as JSON Lines.

    A ledger is never written over, whatever it is called.
    """
    plain, quoted = (unused(path) if is_database(path) else path for path in rest_paths(output))
    if are_plain(ids):
        return _written(plain, "".join(f"{identifier}\n" for identifier in ids))
    return _written(quoted, "".join(f"{json.dumps(identifier)}\n" for identifier in ids))


def _written(path: Path, text: str) -> Path:
    part = hidden(path)
    try:
        part.write_text(text, encoding="utf-8")
        return part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise

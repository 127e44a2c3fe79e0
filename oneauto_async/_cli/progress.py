"""What a person is told of a running job on standard error: how far it is, and lines of text."""

from __future__ import annotations

import contextlib
import sys
from typing import Protocol

import attrs

__all__ = ["Progress", "Standing", "printable", "say", "warn"]


@attrs.frozen(kw_only=True)
class Standing:
    """How far a job is.

    Attributes:
        done: input rows that have their record.
        billed: calls charged so far.
        turned_away: calls the service refused with 429 or 503.
    """

    done: int
    billed: int
    turned_away: int


class Progress(Protocol):
    """Shows how far a job is."""

    def show(self, standing: Standing) -> None:
        """Show the latest figures."""
        ...


def say(text: str) -> None:
    """Print lines on standard error. That nobody reads them is no reason to lose what was paid for."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(f"warning: {text}")


def printable(text: str) -> str:
    """Return the text with every character escaped that could move a terminal's cursor or hide what stands there."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)

"""What a person sees of a running job, on standard error: a bar on a terminal, nothing between two lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["Progress", "Standing", "printable", "progress_on", "say", "warn"]


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


class _Unseen:
    """Shows nothing: standard error is no terminal."""

    def show(self, standing: Standing) -> None:
        """Do nothing."""


def progress_on(total: int, *, transient: bool, hidden: bool) -> AbstractContextManager[Progress]:
    """Return what shows the progress of a job: a bar, if standard error can draw one.

    Args:
        total: how many rows the job has.
        transient: remove the bar at the end.
        hidden: show none in any case.
    """
    if hidden or not _can_draw():
        return contextlib.nullcontext(_Unseen())
    from .terminal import bar

    return bar(total, transient=transient)


def _can_draw() -> bool:
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


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

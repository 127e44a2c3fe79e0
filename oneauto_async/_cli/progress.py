"""What a person is told of a running job on standard error: how far it is, and lines of text."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from typing import TYPE_CHECKING, Protocol, TextIO

import attrs

if TYPE_CHECKING:
    from .. import GovernorStatistics

__all__ = ["Progress", "Standing", "counted", "printable", "say", "silence", "warn"]


@attrs.frozen(kw_only=True)
class Standing:
    """How far a job is.

    Attributes:
        done: input rows that have their record.
        billed: calls charged so far.
        statistics: what the governor is doing.
    """

    done: int
    billed: int
    statistics: GovernorStatistics

    def figures(self, speed: float | None) -> str:
        """Return the figures beside a bar.

        Arguments:
            speed: rows that get their record per second just now, if it is known.
        """
        unavailable = self.statistics.unavailable
        figures = (
            _pace(self.statistics, speed),
            f"429s {self.statistics.throttled}",
            f"500s and 503s {unavailable}" if unavailable else "",
            f"billed {self.billed}",
        )
        return ", ".join(filter(None, figures))


def _pace(statistics: GovernorStatistics, speed: float | None) -> str:
    """Tell how fast it goes and what the key allows, or why nothing goes."""
    if statistics.gate > 0:
        return f"paused {math.ceil(statistics.gate)} s: Retry-After"
    if statistics.is_outage:
        return "outage: one call at a time"
    return ", ".join(filter(None, ("" if speed is None else f"{speed:.0f}/s", _limit(statistics))))


def _limit(statistics: GovernorStatistics) -> str:
    if statistics.learnt is not None and statistics.learnt.rate is not None:
        rate = statistics.learnt.rate
        return f"limit {rate:.0f}/s learnt" if rate >= 10 else f"limit {rate:.2g}/s learnt"
    return f"limit {statistics.rate:g}/s" if statistics.phase == "free" and statistics.rate is not None else ""


class Progress(Protocol):
    """Shows how far a job is."""

    def show(self, standing: Standing) -> None:
        """Show the latest figures."""
        ...


def say(text: str) -> None:
    """Print lines on standard error. That nobody reads them is no reason to lose what was paid for."""
    if sys.stderr is not None:
        try:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        except OSError:
            silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that the interpreter's last flush has no complaint, nor an exit code."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(f"warning: {text}")


def counted(number: int, one: str, many: str) -> str:
    """Return the number with the words that go with it, as in ``1 id is`` and ``2 ids are``."""
    return f"{number} {one if number == 1 else many}"


def printable(text: str) -> str:
    """Return the text with every character escaped that could move a terminal's cursor or hide what stands there."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)

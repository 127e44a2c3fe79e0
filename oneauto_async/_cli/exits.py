"""How a run of the command line ends: its exit codes, which of several wins, and the refusal a person can act on."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Exit", "RefusedError", "worst"]


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    """Every id was answered: found, partial, or the service has no data for it."""
    FAILED = 1
    USAGE = 2
    KEY = 3
    QUOTA = 4
    """The quota or the budget is used up."""
    IN_DOUBT = 5
    UNREACHABLE = 6
    LEDGER = 7
    """The ledger cannot be read, written or trusted."""
    INTERRUPTED = 130


_ORDER = (
    Exit.INTERRUPTED,
    Exit.LEDGER,
    Exit.KEY,
    Exit.QUOTA,
    Exit.UNREACHABLE,
    Exit.IN_DOUBT,
    Exit.FAILED,
)


def worst(exits: Collection[Exit]) -> Exit:
    """Return the exit code to leave with when several apply."""
    return next((code for code in _ORDER if code in exits), Exit.OK)


class RefusedError(Exception):
    """Something expected is in the way: shown as one ``error:`` line that says what to do, never as a traceback.

    Attributes:
        code: the exit code it ends the run with.
    """

    def __init__(self, message: str, code: Exit = Exit.USAGE) -> None:
        """Keep the message and the exit code."""
        super().__init__(message)
        self.code = code

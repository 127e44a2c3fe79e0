"""What each way of pacing to a key has to tell: how its rate follows from what is accepted and refused. Pure."""

from __future__ import annotations

from typing import Protocol

import attrs

from .calls import Grant
from .measuring import Interval


@attrs.frozen
class Refusal:
    """A call that was refused, and what that says.

    Attributes:
        grant: the call.
        interval: what the key's rate can be.
        is_new: it is the first of its episode: the others say the same.
    """

    grant: Grant
    interval: Interval
    is_new: bool


class Way(Protocol):
    """A way of pacing to a key that has refused calls, from then on."""

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted: the key may allow more."""

    def refuse(self, refusal: Refusal) -> None:
        """Set the rate by what a refusal says."""

    def refill(self, refused: Grant, now: float) -> None:
        """Start the copy of the bucket anew, after the refused call that left last."""

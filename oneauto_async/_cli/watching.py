"""Choosing what a person sees of a running job: a bar on a terminal, nothing between two lines elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .progress import Progress, Standing

__all__ = ["progress_on"]


class _Unseen:
    """Shows nothing: standard error is no terminal."""

    def show(self, standing: Standing) -> None:
        """Do nothing."""


def progress_on(total: int, *, transient: bool, hidden: bool) -> AbstractContextManager[Progress]:
    """Return what shows the progress of a job: a bar, if standard error can draw one.

    Arguments:
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

"""Tracebacks as a crash reporter or ``pytest -l`` shows them."""

from __future__ import annotations

import traceback


def with_locals(error: BaseException) -> str:
    """Return an exception's traceback and the locals of every function but the one that caught it."""
    assert error.__traceback__ is not None
    trace = error.__traceback__.tb_next
    return "".join(traceback.TracebackException(type(error), error, trace, capture_locals=True).format())

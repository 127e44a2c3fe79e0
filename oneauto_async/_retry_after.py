"""Reading ``Retry-After``: delta seconds, decimals, or one of three HTTP date forms (RFC 9110, 5.6.7 and 10.2.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC
from email.utils import parsedate_to_datetime

import attrs

# ASCII digits only: superscript digits pass isdigit() but not float().
_SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")

FOR_EVER = 1e15
"""Seconds, some thirty million years: a longer wait is the same to everyone, and this one still adds to a time."""


@attrs.frozen
class RetryAfter:
    """How long the service asked to be left alone; where several headers did, the longest of them.

    Attributes:
        seconds: the wait, when a header named one or came beside a ``Date`` to measure its date against.
        at: the moment, in seconds since the epoch, when a header was a date and nothing told the server's own time.
    """

    seconds: float = 0.0
    at: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds to wait when the time of day is ``now``; never negative."""
        return self.seconds if self.at is None else max(self.seconds, self.at - now)


def parse_retry_after(values: Iterable[str], date: str | None) -> RetryAfter | None:
    """Return the longest wait that was asked for; unparsable, negative and non-finite values are ignored.

    Arguments:
        values: every ``Retry-After`` header of the reply.
        date: the reply's ``Date`` header. A date is measured against it, so that a wrong clock here does no harm.
    """
    server_now = None if date is None else _moment(date)
    waits = [wait for value in values if (wait := _parse(value.strip(), server_now)) is not None]
    if not waits:
        return None
    moments = [wait.at for wait in waits if wait.at is not None]
    return RetryAfter(seconds=max(wait.seconds for wait in waits), at=max(moments, default=None))


def _parse(value: str, server_now: float | None) -> RetryAfter | None:
    if _SECONDS.fullmatch(value):
        return RetryAfter(seconds=min(float(value), FOR_EVER))
    moment = _moment(value)
    if moment is None:
        return None
    return RetryAfter(at=moment) if server_now is None else RetryAfter(seconds=max(0.0, moment - server_now))


def _moment(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        # The asctime form names no zone; every HTTP date is UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None

"""What a reply means: a pure function from (status, headers, body) to a verdict. No I/O, no clock.

The table is the vendor's own list of status codes, and what is known of the gateway in front of it. It is read header
first (the gateway's error type), body second, status last, because the service's owner can change bodies most easily.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, ClassVar, TypeAlias

import attrs

from ._json import ContradictionError, decode_json, json_kind
from ._retry_after import RetryAfter, parse_retry_after
from .errors import (
    AnswerTooLargeError,
    ApiFailureError,
    BadRequestError,
    Billing,
    DeadlineExceededError,
    MalformedAnswerError,
    OneAutoError,
    SchemaMismatchError,
    TruncatedAnswerError,
    UnexpectedStatusError,
)
from .outcomes import NotSentReason

Headers: TypeAlias = Sequence[tuple[str, str]]

EXCERPT = 160
"""Characters of the service's own text that go into an error message."""


LARGEST_ERROR = 16 * 1024
"""Bytes of an error body that are decoded to find its text; the gateway's have less than a hundred."""

MOST_PARTS = 20_000
"""Members and escaped characters an answer may have in all; a record has a dozen."""


class Flaw(Enum):
    """Why a reply whose status was seen has no trustworthy body."""

    TRUNCATED = auto()
    TOO_LARGE = auto()
    UNDECODABLE = auto()
    TIMED_OUT = auto()


@attrs.frozen
class Answer:
    """200, or 206 when partial: the ``result`` object, not yet checked field by field."""

    result: dict[str, Any]
    partial: bool = False
    message: str | None = None

    @property
    def billing(self) -> Billing:
        """Tell a full answer, which is charged, from a partial one, which is not."""
        return Billing.NOT_BILLED if self.partial else Billing.BILLED


@attrs.frozen
class NoContent:
    """204, or 206 with nothing in it."""

    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen
class Pending:
    """202: accepted, not ready yet."""

    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen
class Throttled:
    """429: too fast for the key; the bucket refills within seconds."""

    retry_after: RetryAfter | None = None
    text: str = ""
    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen
class QuotaUsedUp:
    """429: the key's count for the day, week or month is used up."""

    text: str = ""
    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen
class Unavailable:
    """500 or 503: the service cannot serve this now."""

    retry_after: RetryAfter | None = None
    text: str = ""
    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen
class Denied:
    """401, 403, 404: wrong for every id, so a batch stops."""

    reason: NotSentReason
    text: str = ""
    billing: ClassVar[Billing] = Billing.NOT_BILLED


@attrs.frozen
class Rejected:
    """Final for this id alone."""

    error: type[OneAutoError]
    text: str
    billing: Billing
    problems: tuple[str, ...] = ()


@attrs.frozen
class Doubtful:
    """A gateway speaks for a backend that may have charged: 502, 504 and unlisted 5xx; or no HTTP status at all."""

    text: str = ""
    billing: ClassVar[Billing] = Billing.UNKNOWN


Verdict: TypeAlias = Answer | NoContent | Pending | Throttled | QuotaUsedUp | Unavailable | Denied | Rejected | Doubtful


def classify(status: int, headers: Headers, body: bytes, flaw: Flaw | None = None) -> Verdict:
    """Say what a reply means.

    Arguments:
        status: the HTTP status as a number; any number.
        headers: name and value pairs as received, in any case, repeats included.
        body: the decoded body, or as much of it as came.
        flaw: why the body is not whole, if it is not.
    """
    if status in (200, 206):
        return _content(status, body) if flaw is None else _broken(status, flaw)
    if status == 202:
        return Pending()
    if status == 204:
        return NoContent()
    if 400 <= status < 500:
        return _client_error(status, headers, body)
    if status in (500, 503):
        return Unavailable(_retry_after(headers), error_text(body))
    if status < 200 or (500 < status < 600 and status != 501):
        return Doubtful(error_text(body))
    return Rejected(UnexpectedStatusError, error_text(body), charge_of(status))


def charge_of(status: int) -> Billing:
    """Say what a reply costs by its status alone: what is known before its body is looked at.

    It agrees with the billing of the verdict, whatever the headers and the body.
    """
    if status == 200:
        return Billing.BILLED
    if status in (202, 204, 206, 500, 501, 503):
        return Billing.NOT_BILLED
    return Billing.UNKNOWN if status < 300 or 500 <= status < 600 else Billing.NOT_BILLED


def _client_error(status: int, headers: Headers, body: bytes) -> Verdict:
    kind = _error_type(headers)
    text = error_text(body)
    if _is_quota(status, kind, text):
        return QuotaUsedUp(text)
    if status == 429 or kind in _THROTTLES:
        return Throttled(_retry_after(headers), text)
    if status == 404 or kind == "MissingAuthenticationTokenException" or text == "Missing Authentication Token":
        return Denied(NotSentReason.WRONG_ROUTE, text)
    if status in (401, 403):
        return Denied(NotSentReason.ACCESS_DENIED, text)
    return Rejected(BadRequestError if status == 400 else UnexpectedStatusError, text, Billing.NOT_BILLED)


_THROTTLES = frozenset({"TooManyRequestsException", "ThrottlingException"})


def _is_quota(status: int, kind: str, text: str) -> bool:
    """Tell a used-up quota from a throttle, by the gateway's error type or else by the words of a 429."""
    if kind == "LimitExceededException":
        return True
    if status != 429 or kind in _THROTTLES:
        return False
    words = text.lower()
    throttled = "too many" in words or re.search(r"\brate\b", words)
    # A text that names both, as the vendor's page does for 429, proves neither: a throttle is the cheaper mistake.
    return not throttled and ("limit exceeded" in words or "quota" in words)


def _broken(status: int, flaw: Flaw) -> Verdict:
    error, text = _FLAWS[flaw]
    return Rejected(error, text, charge_of(status))


_FLAWS: dict[Flaw, tuple[type[OneAutoError], str]] = {
    Flaw.TRUNCATED: (TruncatedAnswerError, "the answer broke off"),
    Flaw.TOO_LARGE: (AnswerTooLargeError, "the answer is larger than this client accepts"),
    Flaw.UNDECODABLE: (MalformedAnswerError, "the answer is not encoded as its content-encoding says"),
    Flaw.TIMED_OUT: (DeadlineExceededError, "the answer did not end within the time allowed for an attempt"),
}


def _content(status: int, body: bytes) -> Verdict:
    """Judge the body of a 200 or 206 whose bytes are whole."""
    if not body.strip():
        return NoContent() if status == 206 else _malformed(status, "an empty body: charged, nothing delivered")
    if _is_overloaded(body):
        return _malformed(status, "far more members or escapes than any record has")
    try:
        envelope = decode_json(body)
    except (ValueError, RecursionError) as error:
        return _malformed(status, f"{_json_fault(error)}: {excerpt(body.decode('utf-8', 'replace'))}")
    if not isinstance(envelope, dict) or "success" not in envelope:
        return _malformed(status, f"not the documented envelope: {excerpt(body.decode('utf-8', 'replace'))}")
    return _envelope(status, envelope)


def _envelope(status: int, envelope: dict[str, Any]) -> Verdict:
    """``success`` decides: the vendor's own success sample carries an error text."""
    success, result = envelope["success"], envelope.get("result")
    if type(success) is not bool:
        return _mismatch(status, f"$.success: expected true or false, got {json_kind(success)}")
    if status == 206 and not result:
        return NoContent()
    if not success:
        return Rejected(ApiFailureError, _stated_error(envelope) or "no reason given", charge_of(status))
    if result is None:
        return _malformed(status, "success without a result")
    if type(result) is not dict:
        return _mismatch(status, f"$.result: expected object, got {json_kind(result)}")
    return Answer(result, partial=status == 206, message=_stated_error(envelope))


def _is_overloaded(body: bytes) -> bool:
    """Tell a body whose decoding would take a second and hundreds of megabytes, by counting what it is made of."""
    return len(body) > MOST_PARTS and sum(map(body.count, (b",", b"[", b"{", b"\\"))) > MOST_PARTS


def _malformed(status: int, text: str) -> Rejected:
    return Rejected(MalformedAnswerError, text, charge_of(status))


def _mismatch(status: int, problem: str) -> Rejected:
    return Rejected(SchemaMismatchError, problem, charge_of(status), (problem,))


def _json_fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "JSON nested too deeply"
    if isinstance(error, ContradictionError):
        return "an object says two things under one name"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"


def error_text(body: bytes) -> str:
    """Find the service's own words in an error body: ``error``, ``result.error`` or the gateway's ``message``."""
    if not body.strip():
        return ""
    if len(body) > LARGEST_ERROR:
        return excerpt(body[: 4 * EXCERPT].decode("utf-8", "replace"))
    try:
        envelope = decode_json(body)
    except (ValueError, RecursionError):
        return excerpt(body[: 4 * EXCERPT].decode("utf-8", "replace"))
    return (_stated_error(envelope) if isinstance(envelope, dict) else None) or _said(envelope)


def _stated_error(envelope: dict[str, Any]) -> str | None:
    result = envelope.get("result")
    nested = result.get("error") if isinstance(result, dict) else None
    for text in (envelope.get("error"), nested, envelope.get("message"), envelope.get("Message")):
        if text:
            return _said(text)
    return None


def _said(value: Any) -> str:
    """Show what the service said in whatever shape it came."""
    try:
        return excerpt(value if isinstance(value, str) else json.dumps(value))
    except RecursionError:
        return "(nested too deeply to show)"


def excerpt(text: str) -> str:
    """Make foreign text safe to show: one line, printable, short."""
    if len(text) <= EXCERPT and text.isprintable() and " " not in text:
        return text
    shown = text[: 4 * EXCERPT]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else " " for c in shown)
    shown = " ".join(shown.split())
    return shown if len(shown) <= EXCERPT else f"{shown[:EXCERPT]}…"


def _values(headers: Headers, name: str) -> list[str]:
    return [value for header, value in headers if header.lower() == name]


def _error_type(headers: Headers) -> str:
    """Return the gateway's error type; it may carry a suffix behind a colon."""
    return next(iter(_values(headers, "x-amzn-errortype")), "").partition(":")[0].strip()


def _retry_after(headers: Headers) -> RetryAfter | None:
    return parse_retry_after(_values(headers, "retry-after"), next(iter(_values(headers, "date")), None))


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id the vendor's support can find the request by; header names are given in lower case."""
    found = headers.get("x-amzn-requestid") or headers.get("x-amz-apigw-id")
    return None if found is None else excerpt(found)

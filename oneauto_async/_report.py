"""From how a lookup ended to its outcome: the error a person reads, with what it cost and what to do."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar, assert_never

from ._classify import (
    Answer,
    Denied,
    Doubtful,
    NoContent,
    Pending,
    QuotaUsedUp,
    Rejected,
    Throttled,
    Unavailable,
)
from ._flow.retry import Ended
from ._retry_after import RetryAfter
from ._wire.exchange import Lost, Unsent
from .errors import (
    VENDOR_CONTACT,
    AccessDeniedError,
    Billing,
    BudgetExceededError,
    ClientClosedError,
    ConnectionFailedError,
    DeadlineExceededError,
    InDoubtError,
    OneAutoError,
    PendingError,
    ProxyError,
    QuotaExceededError,
    RateLimitedError,
    SchemaMismatchError,
    ServiceUnavailableError,
    UnexpectedStatusError,
)
from .outcomes import Failed, InDoubt, NoData, NotSent, NotSentReason, Outcome, Receipt

T = TypeVar("T")
E = TypeVar("E", bound=OneAutoError)


_BILLING_TEXTS = {Billing.BILLED: "billed", Billing.NOT_BILLED: "not billed", Billing.UNKNOWN: "billing unknown"}


class Facts(NamedTuple):
    """What is known of a lookup when it ends.

    Attributes:
        vehicle_id: the id asked for.
        receipt: what it cost.
        raw: the last body that came.
        wall: the time of day, to read a ``Retry-After`` that is a date.
        note: what else explains how it ended.
    """

    vehicle_id: str
    receipt: Receipt
    raw: bytes | None
    wall: float
    note: str = ""

    def error(self, kind: type[E], headline: str, text: str = "", **more: Any) -> E:
        """Make an error whose message can be read alone."""
        receipt = self.receipt
        said = f": {text}" if text else ""
        facts = [f"evdb_vehicle_id {self.vehicle_id}", _BILLING_TEXTS[receipt.billing]]
        if receipt.attempts != 1:
            facts.append(f"{receipt.attempts} requests")
        if self.note:
            facts.append(self.note)
        if receipt.request_id:
            facts.append(f"request id {receipt.request_id}")
        if receipt.billing is Billing.UNKNOWN:
            more["retryable"] = (
                False  # asking again could be charged twice, whatever kind of error the last attempt was
            )
        return kind(
            f"{headline}{said} ({', '.join(facts)})",
            billing=receipt.billing,
            status=receipt.status,
            request_id=receipt.request_id,
            attempts=receipt.attempts,
            raw=self.raw,
            **more,
        )

    def seconds(self, retry_after: RetryAfter | None) -> float | None:
        """Return how long the service asked to wait, in seconds."""
        return None if retry_after is None else retry_after.wait(self.wall)


def unsuccessful(ended: Ended, facts: Facts) -> Outcome[Any]:
    """Return the outcome of a lookup that ended with anything but an answer."""
    if isinstance(ended, NoContent):
        return NoData(evdb_vehicle_id=facts.vehicle_id, raw=facts.raw, receipt=facts.receipt)
    return failed(_error(ended, facts), facts)


def failed(error: OneAutoError, facts: Facts) -> Failed | InDoubt:
    """Return the outcome of an error: in doubt when a request left and nothing trustworthy tells what became of it."""
    # A status the vendor does not list may be charged too, but it is an answer: it failed, with billing unknown.
    in_doubt = facts.receipt.billing is Billing.UNKNOWN and not isinstance(error, UnexpectedStatusError)
    kind = InDoubt if in_doubt else Failed
    return kind(evdb_vehicle_id=facts.vehicle_id, raw=facts.raw, receipt=facts.receipt, error=error)


def mismatched(problems: tuple[str, ...], facts: Facts) -> Failed | InDoubt:
    """Return the outcome of an answer whose fields do not have their documented types."""
    shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    headline = f"HTTP {facts.receipt.status}: the answer is not of the documented shape, see .raw"
    return failed(facts.error(SchemaMismatchError, headline, shown, problems=problems), facts)


def turned_away(refusal: OneAutoError, facts: Facts) -> Outcome[Any]:
    """Return the outcome of a lookup the governor did not let through (again)."""
    more: dict[str, Any] = {}
    if isinstance(refusal, RateLimitedError | ServiceUnavailableError):
        more = {"retry_after": refusal.retry_after}
    error = facts.error(type(refusal), str(refusal), **more)
    if facts.receipt.attempts:
        return failed(error, facts)
    return not_sent(_refusal_reason(refusal), error, facts)


def not_sent(reason: NotSentReason, error: OneAutoError, facts: Facts) -> NotSent:
    """Return the outcome of a lookup nothing left for."""
    return NotSent(evdb_vehicle_id=facts.vehicle_id, receipt=facts.receipt, error=error, reason=reason)


def interrupted(facts: Facts, *, sent: bool, is_closing: bool) -> Outcome[Any]:
    """Return the outcome of a lookup that was cut short, ``sent`` if a request was under way.

    The client that closes does that, or the last who leaves, or a transport that is cancelled by somebody else.
    """
    if sent:
        cause = "the client was closed" if is_closing else "it was broken off"
        return failed(facts.error(InDoubtError, f"{cause} before the answer came; it may be charged"), facts)
    cause = (
        "the client was closed before this lookup ended" if is_closing else "given up: whoever asked for it has left"
    )
    return called_off(NotSentReason.CLOSED, ClientClosedError, cause, facts)


def called_off(reason: NotSentReason, kind: type[OneAutoError], text: str, facts: Facts) -> Outcome[Any]:
    """Return the outcome of a lookup that is not waited for any longer."""
    error = facts.error(kind, text)
    return failed(error, facts) if facts.receipt.attempts else not_sent(reason, error, facts)


def stop_reason(outcome: Outcome[Any]) -> NotSentReason | None:
    """Say why nothing more should be asked after this outcome, if it is one that is true for every id."""
    match outcome:
        case Failed(error=QuotaExceededError()) | InDoubt(error=QuotaExceededError()):
            return NotSentReason.QUOTA
        case Failed(error=AccessDeniedError()) | InDoubt(error=AccessDeniedError()):
            return NotSentReason.ACCESS_DENIED
        case Failed(error=UnexpectedStatusError(status=404)):
            return NotSentReason.WRONG_ROUTE
        case NotSent(reason=reason) if reason not in _OF_ONE_ID:
            return reason
        case _:
            return None


_OF_ONE_ID = (NotSentReason.INVALID_ID, NotSentReason.DEADLINE, NotSentReason.BUSY)


def _refusal_reason(refusal: OneAutoError) -> NotSentReason:
    match refusal:
        case QuotaExceededError():
            return NotSentReason.QUOTA
        case RateLimitedError():
            return NotSentReason.RATE_LIMITED
        case ServiceUnavailableError():
            return NotSentReason.SERVICE_UNAVAILABLE
        case BudgetExceededError():
            return NotSentReason.BUDGET
        case _:
            return NotSentReason.DEADLINE


def _error(ended: Ended, facts: Facts) -> OneAutoError:
    status = facts.receipt.status
    match ended:
        case Pending():
            return facts.error(PendingError, "HTTP 202: accepted, but still not ready; ask again later")
        case Throttled(retry_after=wait, text=text):
            return _waiting_error(RateLimitedError, f"HTTP {status}: too many requests for this key", wait, text, facts)
        case QuotaUsedUp(text=text):
            return facts.error(QuotaExceededError, f"HTTP {status}: the key's quota is used up", text)
        case Unavailable(retry_after=wait, text=text):
            headline = (
                f"HTTP {status}: the service is unavailable; if it stays so, the vendor's contact is {VENDOR_CONTACT}"
            )
            return _waiting_error(ServiceUnavailableError, headline, wait, text, facts)
        case Denied(reason=reason, text=text):
            return _denied(reason, text, facts)
        case Rejected():
            return _rejected(ended, facts)
        case Doubtful(text=text):
            return facts.error(
                InDoubtError, f"HTTP {status}: no answer from behind the gateway; it may be charged", text
            )
        case Lost(text=text):
            return facts.error(InDoubtError, "sent, but no answer came; it may be charged", text)
        case Unsent(text=text, proxy=proxy):
            kind = ProxyError if proxy else ConnectionFailedError
            return facts.error(kind, "not sent: no connection to the service", text, retryable=not ended.final)
        case Answer() | NoContent():
            raise AssertionError(f"{ended!r} is no failure")
        case _:
            assert_never(ended)


def _waiting_error(
    kind: type[RateLimitedError] | type[ServiceUnavailableError],
    headline: str,
    retry_after: RetryAfter | None,
    text: str,
    facts: Facts,
) -> OneAutoError:
    wait = facts.seconds(retry_after)
    asked = "" if wait is None else f", which asks to wait {wait:.6g} s"
    return facts.error(kind, headline + asked, text, retry_after=wait)


def _denied(reason: NotSentReason, text: str, facts: Facts) -> OneAutoError:
    status = facts.receipt.status
    if reason is NotSentReason.WRONG_ROUTE:
        kind = UnexpectedStatusError if status == 404 else AccessDeniedError
        return facts.error(kind, f"HTTP {status}: no such route; check base_url and the endpoint's path", text)
    headline = f"HTTP {status}: access denied; check the API key and that this service is enabled for it"
    return facts.error(AccessDeniedError, headline, text)


def _rejected(verdict: Rejected, facts: Facts) -> OneAutoError:
    kind, status = verdict.error, facts.receipt.status
    if issubclass(kind, SchemaMismatchError):
        return mismatched(verdict.problems, facts).error
    if issubclass(kind, DeadlineExceededError):
        return facts.error(kind, f"HTTP {status}", verdict.text, retryable=verdict.billing is Billing.NOT_BILLED)
    hint = {200: "; the answer is in .raw and is not bought again by itself"}.get(status or 0, "")
    return facts.error(kind, f"HTTP {status}{_HEADLINES.get(kind.__name__, '')}{hint}", verdict.text)


_HEADLINES = {
    "ApiFailureError": ": the service says that the call failed",
    "BadRequestError": ": the service refuses this request",
    "UnexpectedStatusError": ": a status the vendor does not document for this call",
}

"""Everything that can go wrong, as one tree.

OneAutoError
├── ConfigurationError (also a ValueError)      a setting is wrong; nothing was sent
├── InvalidVehicleIdError (also a ValueError)   the id cannot be asked for; nothing was sent
├── ClientClosedError                           used before ``async with``, after closing, or from another event loop
├── ConnectionFailedError                       surely not sent
│   └── ProxyError                              the proxy refused the way to the service
├── InDoubtError                                sent, and no trustworthy answer came back
├── DeadlineExceededError                       the time allowed ran out
├── BudgetExceededError                         buying could cost more than the budget allows
├── LedgerError                                 the ledger cannot be read, written or trusted
└── ResponseError                               the service answered, and the answer is an error
    ├── BadRequestError                         400
    ├── AccessDeniedError                       401, 403: the key or what it may ask for
    ├── NoDataError                             204, or a 206 with nothing in it
    ├── PartialDataError                        206: ``.value`` holds what came
    ├── PendingError                            202, and polling did not see the end of it
    ├── RateLimitedError                        429 throttle: ``.retry_after`` when it was told
    ├── QuotaExceededError                      429 quota: used up until the vendor resets it
    ├── ServiceUnavailableError                 500, 503
    ├── UnexpectedStatusError                   any status the vendor's page does not list
    ├── ApiFailureError                         200 or 206 whose ``success`` is false
    ├── MalformedAnswerError                    200 or 206 that is not the vendor's envelope
    │   ├── AnswerTooLargeError
    │   └── TruncatedAnswerError
    └── SchemaMismatchError                     200 or 206 whose fields have the wrong types

Every error carries the facts as attributes and a message that can be read alone. No error holds the API key, a request
or an object of the HTTP library, and every one can be pickled.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "AccessDeniedError",
    "AnswerTooLargeError",
    "ApiFailureError",
    "BadRequestError",
    "Billing",
    "BudgetExceededError",
    "ClientClosedError",
    "ConfigurationError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "InDoubtError",
    "InvalidVehicleIdError",
    "LedgerError",
    "MalformedAnswerError",
    "NoDataError",
    "OneAutoError",
    "PartialDataError",
    "PendingError",
    "ProxyError",
    "QuotaExceededError",
    "RateLimitedError",
    "ResponseError",
    "SchemaMismatchError",
    "ServiceUnavailableError",
    "TruncatedAnswerError",
    "UnexpectedStatusError",
]


class Billing(StrEnum):
    """Whether the service charges for what happened, by the vendor's table of status codes."""

    BILLED = "billed"
    NOT_BILLED = "not billed"
    UNKNOWN = "unknown"
    """The request left and nothing proves either way, so it is *in doubt*."""


class OneAutoError(Exception):
    """Base of every error of a lookup, a setting or a ledger.

    Attributes:
        billing: whether this call was charged, as far as can be known.
        retryable: whether asking again later may help *and* cannot by itself be charged twice.
        status: the HTTP status, or ``None`` if none was seen.
        request_id: the gateway's id of the request, to quote to the vendor's support.
        attempts: how many HTTP requests were made for this lookup.
        raw: the body that came, if any, as bytes.
    """

    default_billing: ClassVar[Billing] = Billing.NOT_BILLED
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        billing: Billing | None = None,
        retryable: bool | None = None,
        status: int | None = None,
        request_id: str | None = None,
        attempts: int = 0,
        raw: bytes | None = None,
    ) -> None:
        # Only the message goes into args: pickling then rebuilds from it and restores the attributes from __dict__.
        super().__init__(message)
        self.billing = self.default_billing if billing is None else billing
        self.retryable = self.default_retryable if retryable is None else retryable
        self.status = status
        self.request_id = request_id
        self.attempts = attempts
        self.raw = raw


class ConfigurationError(OneAutoError, ValueError):
    """A setting is missing or wrong. Nothing was sent."""


class InvalidVehicleIdError(OneAutoError, ValueError):
    """The id cannot be an ``evdb_vehicle_id``. Nothing was sent."""


class ClientClosedError(OneAutoError):
    """The client is not open, was closed before the lookup ended, or belongs to another event loop or thread.

    ``attempts`` tells whether anything had been sent.
    """


class ConnectionFailedError(OneAutoError):
    """No connection to the service could be used, so the request surely never left."""

    default_retryable = True


class ProxyError(ConnectionFailedError):
    """The proxy refused to open the way to the service, so the request surely never reached it."""


class InDoubtError(OneAutoError):
    """The request was sent and no trustworthy answer came back: it may have been charged.

    It is not sent again unless ``RetryPolicy(resend_in_doubt=…)`` says so.
    """

    default_billing = Billing.UNKNOWN


class DeadlineExceededError(OneAutoError):
    """The time allowed for a lookup or a batch ran out. ``billing`` tells what is known of the money."""

    default_retryable = True


class BudgetExceededError(OneAutoError):
    """The budget has no room for another charge: no further request was sent. Allow more, and ask again."""


class LedgerError(OneAutoError):
    """The ledger cannot be opened, read or written, or what it holds is damaged.

    Without a ledger that works nothing is sent. If an answer had come and could not be written down, ``raw`` holds it
    and ``billing`` says what it cost.
    """


class ResponseError(OneAutoError):
    """The service answered, and the answer is not a usable record."""


class BadRequestError(ResponseError):
    """400: the service refuses the request for this id. Not charged."""


class AccessDeniedError(ResponseError):
    """401 or 403: the key is invalid or the service is not enabled for it. Not charged; a batch stops."""


class NoDataError(ResponseError):
    """204, or a 206 with nothing in it: the service has no data for this id. Not charged."""


class PartialDataError(ResponseError):
    """206: the service answered with limited content. Not charged.

    Attributes:
        value: the record as far as it came.
    """

    def __init__(self, message: str = "", *, value: Any = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.value = value


class PendingError(ResponseError):
    """202, and polling ended before the answer was ready. Not charged so far; ask again later."""

    default_retryable = True


class RateLimitedError(ResponseError):
    """429, throttled. Not charged.

    Attributes:
        retry_after: seconds the service asked to wait, or ``None`` if it named no time.
    """

    default_retryable = True

    def __init__(self, message: str = "", *, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class QuotaExceededError(ResponseError):
    """429, the key's quota for the day, week or month is used up. Not charged; a batch stops."""


VENDOR_CONTACT = "help@oneautoapi.com"
"""The vendor's own contact for a service that stays unavailable, from its page on status codes."""


class ServiceUnavailableError(ResponseError):
    """500 or 503. Not charged. The vendor's contact for a lasting outage is help@oneautoapi.com.

    Attributes:
        retry_after: seconds the service asked to wait, or ``None`` if it named no time.
    """

    default_retryable = True

    def __init__(self, message: str = "", *, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.retry_after = retry_after


class UnexpectedStatusError(ResponseError):
    """A status the vendor's page does not list for this call; ``billing`` tells what is known of the money."""


class ApiFailureError(ResponseError):
    """A 200 or 206 whose ``success`` is false; ``raw`` keeps the answer, which is never bought again by itself.

    A 200 is counted as billed, and a 206 is free: see ``billing``.
    """

    default_billing = Billing.BILLED


class MalformedAnswerError(ResponseError):
    """A 200 or 206 that is not the vendor's envelope; ``raw`` keeps what came.

    A 200 is counted as billed, and a 206 is free: see ``billing``.
    """

    default_billing = Billing.BILLED


class AnswerTooLargeError(MalformedAnswerError):
    """The answer is larger than the client accepts; ``raw`` keeps the first part."""


class TruncatedAnswerError(MalformedAnswerError):
    """The answer broke off; ``raw`` keeps what came."""


class SchemaMismatchError(ResponseError):
    """A 200 or 206 whose fields do not have the documented types, or which names another vehicle; ``raw`` keeps it.

    A 200 is counted as billed, and a 206 is free: see ``billing``.

    Attributes:
        problems: one line per wrong field, such as ``$.result.x: expected number, got str``.
    """

    default_billing = Billing.BILLED

    def __init__(self, message: str = "", *, problems: tuple[str, ...] = (), **facts: Any) -> None:
        super().__init__(message, **facts)
        self.problems = problems

"""Async client for One Auto API's electric-van bi-directional charging lookups.

``OneAutoClient`` is the way in; see its docstring, and the README for a first lookup and a bulk run.
"""

from ._batch import Batch
from ._client import OneAutoClient
from ._flow.governor import Governor
from ._flow.statistics import GovernorStatistics
from ._structure import make_converter
from .clock import Clock, SystemClock
from .endpoints import CAR_BIDIRECTIONAL_CHARGING, VAN_BIDIRECTIONAL_CHARGING, Endpoint
from .errors import (
    AccessDeniedError,
    AnswerTooLargeError,
    ApiFailureError,
    BadRequestError,
    Billing,
    BudgetExceededError,
    ClientClosedError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    InDoubtError,
    InvalidVehicleIdError,
    LedgerError,
    MalformedAnswerError,
    NoDataError,
    OneAutoError,
    PartialDataError,
    PendingError,
    ProxyError,
    QuotaExceededError,
    RateLimitedError,
    ResponseError,
    SchemaMismatchError,
    ServiceUnavailableError,
    TruncatedAnswerError,
    UnexpectedStatusError,
)
from .models import BidirectionalCharging, Capability, SupportStatus, VehicleToLoad
from .outcomes import (
    BatchSummary,
    Failed,
    Found,
    InDoubt,
    NoData,
    NotSent,
    NotSentReason,
    Outcome,
    Plan,
    Receipt,
    Source,
)
from .settings import Budget, RateLimit, RetryPolicy, Timeouts

__version__ = "0.1.0"

__all__ = [
    "CAR_BIDIRECTIONAL_CHARGING",
    "VAN_BIDIRECTIONAL_CHARGING",
    "AccessDeniedError",
    "AnswerTooLargeError",
    "ApiFailureError",
    "BadRequestError",
    "Batch",
    "BatchSummary",
    "BidirectionalCharging",
    "Billing",
    "Budget",
    "BudgetExceededError",
    "Capability",
    "ClientClosedError",
    "Clock",
    "ConfigurationError",
    "ConnectionFailedError",
    "DeadlineExceededError",
    "Endpoint",
    "Failed",
    "Found",
    "Governor",
    "GovernorStatistics",
    "InDoubt",
    "InDoubtError",
    "InvalidVehicleIdError",
    "LedgerError",
    "MalformedAnswerError",
    "NoData",
    "NoDataError",
    "NotSent",
    "NotSentReason",
    "OneAutoClient",
    "OneAutoError",
    "Outcome",
    "PartialDataError",
    "PendingError",
    "Plan",
    "ProxyError",
    "QuotaExceededError",
    "RateLimit",
    "RateLimitedError",
    "Receipt",
    "ResponseError",
    "RetryPolicy",
    "SchemaMismatchError",
    "ServiceUnavailableError",
    "Source",
    "SupportStatus",
    "SystemClock",
    "Timeouts",
    "TruncatedAnswerError",
    "UnexpectedStatusError",
    "VehicleToLoad",
    "make_converter",
]

"""Async client for One Auto API's electric-van bi-directional charging lookups.

``OneAutoClient`` is the way in; see its docstring, and the README for a first lookup and a bulk run.

What is named here is loaded when it is first used, so that ``oneauto-async --help``, or a test run that only has the
package installed, need not wait for an HTTP client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_ROOMS = (
    *("errors", "models", "clock", "settings", "outcomes", "endpoints", "_structure"),
    *("_flow.statistics", "_flow.governor", "_batch", "_client"),
)
"""Where the names are, the quick to load first."""

_PUBLIC_ROOMS = frozenset({"errors", "models", "clock", "settings", "outcomes", "endpoints", "events", "ledger"})
"""Modules that are there as attributes without an import of their own."""

if not TYPE_CHECKING:  # a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> object:
        """Load a name, or a public module, when it is first asked for."""
        if name in _PUBLIC_ROOMS:
            return import_module(f".{name}", __name__)
        if name in __all__:
            for room in _ROOMS:
                found = getattr(import_module(f".{room}", __name__), name, None)
                if found is not None:
                    globals()[name] = found
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Name what can be asked for, loaded or not."""
        return sorted({*globals(), *__all__, *_PUBLIC_ROOMS})

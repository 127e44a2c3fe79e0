"""What may be given to a client: each check refuses before anything begins, and says what to give instead."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable

from .errors import ConfigurationError
from .events import Observer
from .settings import Budget


def require_many(ids: object) -> None:
    """Refuse what is no iterable, and a text, which is one of letters."""
    if isinstance(ids, str | bytes | bytearray) or not isinstance(ids, Iterable | AsyncIterable):
        raise ConfigurationError(
            f"ids must be an iterable of ids, not one {type(ids).__name__}; for one id use lookup()"
        )


def require_ledger(ledger: object) -> None:
    """Refuse the class instead of a ledger, or a path."""
    if ledger is not None and (isinstance(ledger, type) or not hasattr(ledger, "mark_sent")):
        raise ConfigurationError(f"ledger must be a ledger, such as SqliteLedger('answers.ledger'), got {ledger!r}")


def callables(observers: object) -> tuple[Observer, ...]:
    """Return the observers, if they are some that can be called."""
    given = tuple(observers) if isinstance(observers, Iterable) else (observers,)
    if not isinstance(observers, Iterable) or not all(callable(observer) for observer in given):
        raise ConfigurationError(f"observers must be an iterable of callables, got {observers!r}")
    return given


def require_countable(budget: object, ledger: object, *, of_batch: bool = False) -> None:
    """Refuse a budget that cannot be counted where it is given."""
    if budget is None:
        return
    if not isinstance(budget, Budget):
        raise ConfigurationError(f"budget must be a Budget, got {type(budget).__name__}")
    if budget.since is not None and (ledger is None or of_batch):
        whose = "a batch's budget counts that batch" if of_batch else "without a ledger a budget counts this client"
        raise ConfigurationError(f"Budget.since is for a client with a ledger: {whose}")

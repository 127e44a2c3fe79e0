"""The tree of errors, and what each of them carries."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import pytest

from oneauto_async import errors
from oneauto_async.errors import (
    Billing,
    ConfigurationError,
    InvalidVehicleIdError,
    OneAutoError,
    PartialDataError,
    RateLimitedError,
    SchemaMismatchError,
    ServiceUnavailableError,
)
from oneauto_async.models import BidirectionalCharging

ERRORS = [member for name in errors.__all__ if issubclass(member := getattr(errors, name), OneAutoError)]

FACTS: dict[str, Any] = {
    "billing": Billing.UNKNOWN,
    "retryable": True,
    "status": 599,
    "request_id": "7b1f0c52",
    "attempts": 3,
    "raw": b"\xff\x00",
}
OWN_FACTS: dict[type[OneAutoError], dict[str, Any]] = {
    PartialDataError: {"value": BidirectionalCharging(vehicle_to_load_power_output_kw=3.6)},
    RateLimitedError: {"retry_after": 1.5},
    ServiceUnavailableError: {"retry_after": 1.5},
    SchemaMismatchError: {"problems": ("$.result.x: expected number, got str",)},
}


def facts_of(error_class: type[OneAutoError]) -> dict[str, Any]:
    return FACTS | OWN_FACTS.get(error_class, {})


def drawn_tree() -> dict[str, str]:
    """Read the tree at the head of the module: each error's name and its parent's."""
    parents, path = {}, ["OneAutoError"]
    for line in (errors.__doc__ or "").splitlines():
        if branch := re.match(r"([│ ]*)[├└]── (\w+)", line):
            depth = 1 + len(branch[1]) // 4
            path[depth:] = [branch[2]]
            parents[branch[2]] = path[depth - 1]
    return parents


def test_the_tree_is_as_drawn() -> None:
    """The drawing at the head of ``errors.py`` shows every class under its parent, and no other."""
    classes = {error.__name__: error.__mro__[1].__name__ for error in ERRORS if error is not OneAutoError}
    assert drawn_tree() == classes


def test_every_error_of_the_module_is_exported() -> None:
    """A user can catch all that may be raised."""
    defined = {name for name, member in vars(errors).items() if getattr(member, "__module__", "") == errors.__name__}
    assert defined == set(errors.__all__)


@pytest.mark.parametrize("error_class", ERRORS)
def test_only_mistakes_of_the_caller_are_value_errors(error_class: type[OneAutoError]) -> None:
    """As the drawing says of two of them."""
    expected = error_class in (ConfigurationError, InvalidVehicleIdError)
    assert issubclass(error_class, ValueError) is expected
    assert (f"{error_class.__name__} (also a ValueError)" in (errors.__doc__ or "")) is expected


@pytest.mark.parametrize("error_class", ERRORS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_every_error_survives_copying_and_pickling(error_class: type[OneAutoError], copied: Any) -> None:
    """Message and facts arrive in another process as they were."""
    error = copied(error_class("what happened", **facts_of(error_class)))
    assert (type(error), str(error)) == (error_class, "what happened")
    assert {name: getattr(error, name) for name in facts_of(error_class)} == facts_of(error_class)


@pytest.mark.parametrize("error_class", ERRORS)
def test_the_facts_are_attributes_and_not_in_the_message(error_class: type[OneAutoError]) -> None:
    """``str`` and ``repr`` show the message alone: no body, no record."""
    error = error_class("what happened", **facts_of(error_class))
    assert repr(error) == f"{error_class.__name__}('what happened')"


@pytest.mark.parametrize("error_class", ERRORS)
def test_without_facts_nothing_is_claimed_to_have_been_seen(error_class: type[OneAutoError]) -> None:
    """An error made from a message alone has no status, id, attempts or body."""
    error = error_class("what happened")
    assert (error.status, error.request_id, error.attempts, error.raw) == (None, None, 0, None)


BILLED = {
    "ApiFailureError",
    "MalformedAnswerError",
    "AnswerTooLargeError",
    "TruncatedAnswerError",
    "SchemaMismatchError",
}
RETRYABLE = {
    *("ConnectionFailedError", "ProxyError", "DeadlineExceededError"),
    *("PendingError", "RateLimitedError", "ServiceUnavailableError"),
}


@pytest.mark.parametrize("error_class", ERRORS)
def test_each_error_has_its_usual_price(error_class: type[OneAutoError]) -> None:
    """A 200 that cannot be used is billed, a lost request unknown, all else free."""
    usual = Billing.BILLED if error_class.__name__ in BILLED else Billing.NOT_BILLED
    expected = Billing.UNKNOWN if error_class is errors.InDoubtError else usual
    assert error_class("what happened").billing is expected


@pytest.mark.parametrize("error_class", ERRORS)
def test_each_error_says_whether_to_ask_again(error_class: type[OneAutoError]) -> None:
    """Only what may pass by itself and cannot by itself be charged twice."""
    assert error_class("what happened").retryable is (error_class.__name__ in RETRYABLE)

"""How a lookup ended, as a value: unwrapped, shown, and sent to another process."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from oneauto_async.errors import (
    ApiFailureError,
    Billing,
    InDoubtError,
    InvalidVehicleIdError,
    NoDataError,
    OneAutoError,
    PartialDataError,
    ResponseError,
)
from oneauto_async.models import BidirectionalCharging
from oneauto_async.outcomes import (
    BatchSummary,
    Failed,
    Found,
    InDoubt,
    NoData,
    NotSent,
    NotSentReason,
    Outcome,
    Receipt,
)

SAMPLE = (Path(__file__).parent / "samples" / "200-success.http").read_bytes().partition(b"\n\n")[2]
RECORD = BidirectionalCharging(**json.loads(SAMPLE)["result"])


def receipt(billing: Billing, status: int | None) -> Receipt:
    return Receipt(billing=billing, status=status, request_id="7b1f0c52", attempts=2, elapsed=0.25)


FOUND = Found(
    evdb_vehicle_id="1", index=0, raw=SAMPLE, receipt=receipt(Billing.BILLED, 200), value=RECORD, message="a message"
)
PARTIAL = attrs.evolve(FOUND, partial=True, receipt=receipt(Billing.NOT_BILLED, 206))
NO_DATA = NoData(evdb_vehicle_id="2", index=1, raw=b"", receipt=receipt(Billing.NOT_BILLED, 204))
FAILED = Failed(
    evdb_vehicle_id="3",
    raw=b"{}",
    receipt=receipt(Billing.BILLED, 200),
    error=ApiFailureError("HTTP 200: no", billing=Billing.BILLED, status=200, raw=b"{}"),
)
IN_DOUBT = InDoubt(evdb_vehicle_id="4", receipt=receipt(Billing.UNKNOWN, None), error=InDoubtError("it may be charged"))
NOT_SENT = NotSent(evdb_vehicle_id="''", reason=NotSentReason.INVALID_ID, error=InvalidVehicleIdError("empty"))
OUTCOMES = [FOUND, PARTIAL, NO_DATA, FAILED, IN_DOUBT, NOT_SENT]


def test_a_record_unwraps_to_itself() -> None:
    """`unwrap` of a full answer returns the very record it holds."""
    assert FOUND.unwrap() is RECORD


def test_a_partial_record_unwraps_to_an_error_that_holds_it() -> None:
    """206 is not taken for a full answer by accident."""
    with pytest.raises(
        PartialDataError, match=r"HTTP 206: limited content for evdb_vehicle_id 1 \(not billed\)"
    ) as caught:
        PARTIAL.unwrap()
    assert caught.value.value is RECORD


def test_no_data_unwraps_to_its_error() -> None:
    """204 is an error to those who want a record."""
    with pytest.raises(NoDataError, match=r"HTTP 204: no data for evdb_vehicle_id 2 \(not billed\)"):
        NO_DATA.unwrap()


@pytest.mark.parametrize("outcome", [PARTIAL, NO_DATA])
def test_an_answer_after_a_doubt_does_not_say_that_nothing_was_charged(outcome: Found[Any] | NoData) -> None:
    """The doubt was sent again, and may have been charged."""
    with pytest.raises(ResponseError, match=r"\(billing unknown\)"):
        attrs.evolve(outcome, receipt=Receipt(billing=Billing.UNKNOWN, doubts=1)).unwrap()


@pytest.mark.parametrize("outcome", [PARTIAL, NO_DATA])
def test_an_unwrapped_error_carries_the_receipt(outcome: Found[Any] | NoData) -> None:
    """What it cost is on the error as it is on the outcome."""
    with pytest.raises(OneAutoError) as caught:
        outcome.unwrap()
    error, paper = caught.value, outcome.receipt
    assert (error.billing, error.status, error.request_id, error.attempts, error.raw) == (
        *(paper.billing, paper.status, paper.request_id, paper.attempts),
        outcome.raw,
    )


@pytest.mark.parametrize("outcome", [FAILED, IN_DOUBT, NOT_SENT])
def test_an_unsuccessful_outcome_unwraps_to_its_error(outcome: Failed | InDoubt | NotSent) -> None:
    """The same error, as a copy: several tasks may unwrap one outcome, and each raise collects a traceback."""
    with pytest.raises(type(outcome.error)) as caught:
        outcome.unwrap()
    assert caught.value.__dict__ == outcome.error.__dict__
    assert outcome.error.__traceback__ is None


def plain(outcome: Any) -> dict[str, Any]:
    """Return an outcome as values that compare: exceptions do not."""
    fields = attrs.asdict(outcome, recurse=False)
    error = fields.pop("error", None)
    return fields | ({"type": type(error), "args": error.args, "facts": vars(error)} if error else {})


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_every_outcome_can_be_pickled(outcome: Outcome[BidirectionalCharging]) -> None:
    """A worker in another process can send its outcomes home."""
    restored = pickle.loads(pickle.dumps(outcome))
    assert type(restored) is type(outcome)
    assert plain(restored) == plain(outcome)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_every_outcome_shows_itself_in_one_short_line(outcome: Outcome[BidirectionalCharging]) -> None:
    """A body is shown by its size, be it a megabyte."""
    shown = repr(attrs.evolve(outcome, raw=b"\n" * 1_000_000))
    assert "<1000000 bytes>" in shown
    assert "\n" not in shown
    assert len(shown) < 1_600


def test_a_body_that_never_came_is_shown_as_none() -> None:
    """It is told from an empty one."""
    assert "raw=None" in repr(IN_DOUBT)
    assert "raw=<0 bytes>" in repr(NO_DATA)


@pytest.mark.parametrize("outcome", [*OUTCOMES, Receipt(), BatchSummary()], ids=lambda outcome: type(outcome).__name__)
def test_every_outcome_is_frozen(outcome: Any) -> None:
    """What happened does not change, whoever is handed it."""
    name = attrs.fields(type(outcome))[0].name
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(outcome, name, None)


def test_the_union_is_closed_and_generic() -> None:
    """``Outcome[T]`` is one of five, and only a found record is typed."""
    alias: Any = Outcome
    assert get_args(alias[BidirectionalCharging]) == (Found[BidirectionalCharging], NoData, Failed, InDoubt, NotSent)


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: type(outcome).__name__)
def test_every_outcome_can_be_matched(outcome: Outcome[BidirectionalCharging]) -> None:
    """The five patterns of the documentation cover all."""
    match outcome:
        case Found(value=record, partial=partial):
            seen = record is RECORD and partial is (outcome is PARTIAL)
        case NoData(evdb_vehicle_id=evdb_vehicle_id):
            seen = evdb_vehicle_id == "2"
        case Failed(error=error) | InDoubt(error=error) | NotSent(error=error):
            seen = isinstance(error, OneAutoError)
    assert seen

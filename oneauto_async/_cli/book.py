"""The books of one run: which input rows have their record, what became of them, and what it cost."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..errors import AccessDeniedError, Billing, BudgetExceededError, LedgerError, PendingError, QuotaExceededError
from ..outcomes import Failed, InDoubt, NotSent, Source
from .records import answered_again, exits_of, holds_bytes_paid_for, record_of, was_paid_before

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from .exits import Exit
    from .outputs import Sink
    from .records import Record, VanOutcome

__all__ = ["Book", "is_damaged"]


class Book:
    """Takes the outcome of every different id and writes the record of every row that holds it.

    The library would find duplicates too, but it would have to keep their outcomes. A book keeps only the ids.

    Attributes:
        outcomes: rows per kind of outcome.
        billing: different ids per `Billing`.
        doubts: requests made that may have been charged, and of which nothing proves it.
        served: the ids that a ledger had the answer for.
        held: the ids that a ledger held in doubt before the run.
        saved: of those served, the ids whose answers were paid for before.
        is_over_budget: the budget left some out.
        is_damaged: the ledger has entries that it cannot serve.
        attempts: requests made for the outcomes taken.
        exits: the exit codes that apply.
        stranded: records that could not be written, after `trouble`.
        trouble: why the sink takes no more.
        first_problem: the record of the first failure, to show as an example.
        refusal: why the first of those was not bought again that were to be.
        unbought: the ids that were to be bought again, and can be still: the ledger has something of each.
    """

    def __init__(self, rows: Sequence[str], sink: Sink) -> None:
        """Open the books of these rows; records go into the sink."""
        self.outcomes: Counter[str] = Counter()
        self.billing: Counter[Billing] = Counter()
        self.doubts = self.served = self.held = self.saved = 0
        self.is_over_budget = self.is_damaged = False
        self.attempts = 0
        self.exits: set[Exit] = set()
        self.stranded: list[Record] = []
        self.trouble: OSError | None = None
        self.first_problem: Record | None = None
        self.refusal: NotSent | Failed | None = None
        self._sink = sink
        self._rows = rows
        self._first_rows: dict[str, int] = {}
        self._more_rows: dict[str, list[int]] = {}
        self.unbought: set[str] = set()
        self._refused_for_good: set[str] = set()
        self._settled = bytearray(len(rows))
        for row, identifier in enumerate(rows):
            if self._first_rows.setdefault(identifier, row) != row:
                self._more_rows.setdefault(identifier, []).append(row)

    @property
    def ids(self) -> Collection[str]:
        """The different ids, in input order."""
        return self._first_rows.keys()

    @property
    def total(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    @property
    def done(self) -> int:
        """How many rows have their record."""
        return self.outcomes.total()

    @property
    def duplicates(self) -> int:
        """How many rows repeat an earlier id."""
        return self.total - len(self._first_rows)

    @property
    def has_answers(self) -> bool:
        """Whether the service said anything about any id, or may have charged for one."""
        answered = self.outcomes.keys() & {"found", "partial", "no_data", "in_doubt"}
        return bool(answered) or self.billing[Billing.BILLED] > 0

    def take(self, outcome: VanOutcome) -> None:
        """Write the records of an outcome. One that was taken already is left alone."""
        first = self._first_rows[outcome.evdb_vehicle_id]
        if self._settled[first] == _OPEN:
            self._count(outcome)
            state = _state(outcome)
            self._enter(first, state, record := record_of(outcome))
            for row in self._more_rows.get(outcome.evdb_vehicle_id, ()):
                self._enter(row, state, answered_again(record))

    def take_as_left(self, outcome: VanOutcome) -> None:
        """Write the records of what is kept of an id that was to be bought again, unless it was."""
        if self._settled[self._first_rows[outcome.evdb_vehicle_id]] == _OPEN:
            if outcome.evdb_vehicle_id not in self._refused_for_good:
                self.unbought.add(outcome.evdb_vehicle_id)
            self.take(outcome)

    def note_refusal(self, outcome: NotSent | Failed) -> None:
        """Note why an id was not bought again; its record is to be what is kept of it."""
        self.is_over_budget |= isinstance(outcome.error, BudgetExceededError)
        self.exits.update(exits_of(outcome))
        self.refusal = self.refusal or outcome
        if not _is_owed(outcome):
            self._refused_for_good.add(outcome.evdb_vehicle_id)

    def left(self) -> list[str]:
        """Return the different ids that asking again may help and that cost nothing so far, in input order."""
        return [identifier for identifier, row in self._first_rows.items() if self._is_left(identifier, row)]

    def _is_left(self, identifier: str, row: int) -> bool:
        return self._settled[row] in {_OPEN, _OWED} or identifier in self.unbought

    def has_answer(self, identifier: str) -> bool:
        """Tell whether the record of an id holds an answer, or what was paid for and is of no use."""
        row = self._first_rows.get(identifier)
        return row is not None and self._settled[row] == _ANSWERED

    def lacks_answer(self, identifier: str) -> bool:
        """Tell whether an id was asked for, and its record holds none."""
        return identifier in self._first_rows and not self.has_answer(identifier)

    def _count(self, outcome: VanOutcome) -> None:
        self.billing[outcome.receipt.billing] += 1
        self.doubts += outcome.receipt.doubts
        self.held += outcome.receipt.billing is Billing.UNKNOWN and not outcome.receipt.doubts
        if outcome.receipt.source is Source.LEDGER:
            self.served += outcome.receipt.billing is Billing.NOT_BILLED
            self.saved += was_paid_before(outcome.receipt)
        self.is_over_budget |= isinstance(outcome, NotSent | InDoubt) and isinstance(outcome.error, BudgetExceededError)
        self.is_damaged |= is_damaged(outcome)
        self.attempts += outcome.receipt.attempts
        self.exits.update(exits_of(outcome))

    def _enter(self, row: int, state: int, record: Record) -> None:
        self.outcomes[record["outcome"]] += 1
        self._settled[row] = state
        if record["error"] is not None:
            self.first_problem = self.first_problem or record
        self._write(row, record)

    def _write(self, row: int, record: Record) -> None:
        if self.trouble is None:
            try:
                self._sink.write(row, record)
            except OSError as error:
                self.trouble = error
        if self.trouble is not None:
            self.stranded.append(record)


_OPEN, _OWED, _DOUBTFUL, _FAILED, _ANSWERED = range(5)


def _state(outcome: VanOutcome) -> int:
    if isinstance(outcome, InDoubt):
        return _ANSWERED if _is_odd_answer(outcome) else _DOUBTFUL
    if _is_owed(outcome):
        return _OWED
    if isinstance(outcome, Failed) and (is_damaged(outcome) or not holds_bytes_paid_for(outcome)):
        return _FAILED
    return _ANSWERED


def _is_odd_answer(outcome: InDoubt) -> bool:
    """Tell whether it is a kept answer of a status that nobody knows, which failed when it came (201, say).

    Anything else in doubt, as the page of a gateway, is no answer.
    """
    status = outcome.receipt.status
    is_odd = status is not None and 200 < status < 300 and not isinstance(outcome.error, PendingError)
    return is_odd and outcome.raw is not None


def is_damaged(outcome: VanOutcome) -> bool:
    """Tell whether it is an entry of the ledger that is damaged: its bytes are worth nothing."""
    return isinstance(outcome, Failed) and isinstance(outcome.error, LedgerError)


def _is_owed(outcome: VanOutcome) -> bool:
    """Tell whether the id is still to be asked for: nothing was sent, or what stood in the way may go away."""
    match outcome:
        case NotSent():
            return True
        case Failed(error=error):
            # A wrong route, as a refused key, is no fault of the id.
            return error.retryable or error.status == 404 or isinstance(error, AccessDeniedError | QuotaExceededError)
        case _:
            return False

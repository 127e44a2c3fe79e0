"""What one run of ``lookup`` or ``bulk`` works with, and what it knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from ..errors import Billing
from ..settings import Budget
from .interrupts import Interrupts

if TYPE_CHECKING:
    from pathlib import Path

    from .. import Batch, BidirectionalCharging
    from ..errors import LedgerError
    from ..outcomes import NotSent
    from .book import Book
    from .exits import RefusedError
    from .outputs import Sink
    from .reaching import Settings
    from .records import VanOutcome

__all__ = ["Job"]


@attrs.define(kw_only=True, eq=False)
class Job:
    """What one run works with, and what it knows.

    Attributes:
        settings: how to ask.
        book: what became of each row.
        sink: where the records go.
        output: the file among the sinks, if it is one.
        form: the format that was asked for, if one was.
        source: the input's name, and where in it the ids stand; empty if they were typed.
        brief: a handful of lookups: in input order, reported in one line.
        may_ask: a person is there to be asked whether it may begin.
        batches: what was asked in turn, so far.
        set_aside: kept answers that are of no use, and are bought again.
        unsent: what was not sent of ids that the ledger may have something for, by id.
        ledger_trouble: why the ledger takes no more.
        fault: what ended the run that nobody expects, as the machine being out of open files.
        unnamed: why the output could not take its name.
        started: when, on the monotonic clock.
        kept: the name that the output got: its own, or one beside it; ``None`` if there is no such file.
        homeless_at: where the contents of an output are whose folder is gone, as in ``on standard output``.
        stranded_at: where the records are that did not fit into the output, in such words.
        was_interrupted: a signal came before the last outcome.
    """

    settings: Settings
    book: Book
    sink: Sink
    output: Path | None = None
    form: str | None = None
    source: str = ""
    brief: bool = False
    interrupts: Interrupts = attrs.field(factory=Interrupts, init=False)
    may_ask: bool = False
    batches: list[Batch[BidirectionalCharging]] = attrs.field(factory=list, init=False)
    set_aside: list[VanOutcome] = attrs.field(factory=list, init=False)
    unsent: dict[str, NotSent] = attrs.field(factory=dict, init=False)
    ledger_trouble: LedgerError | None = attrs.field(default=None, init=False)
    fault: Exception | None = attrs.field(default=None, init=False)
    unnamed: RefusedError | None = attrs.field(default=None, init=False)
    started: float = attrs.field(factory=time.monotonic, init=False)
    kept: Path | None = attrs.field(default=None, init=False)
    homeless_at: str | None = attrs.field(default=None, init=False)
    stranded_at: str | None = attrs.field(default=None, init=False)
    was_interrupted: bool = attrs.field(default=False, init=False)

    def agree_to(self, most: int | None) -> None:
        """Let the run be charged no more than whoever pays has agreed to."""
        purse = attrs.evolve(self.settings.purse, agreed=most)
        self.settings = attrs.evolve(self.settings, purse=purse)

    @property
    def leave(self) -> Budget | None:
        """What is left of what whoever pays has agreed to, if nothing else is the cap."""
        agreed = self.settings.purse.agreed
        if agreed is None:
            return None
        return Budget(max_billed=max(0, agreed - sum(batch.summary.spent for batch in self.batches)))

    @property
    def ledger_failed(self) -> bool:
        """Whether an answer may have come that the ledger lacks."""
        return self.ledger_trouble is not None

    @property
    def got_through(self) -> bool:
        """Whether it is known of every id what became of it, and asking again would change nothing."""
        is_open = self.book.trouble is not None or self.book.left() or self.book.billing[Billing.UNKNOWN]
        return not (self.ledger_failed or is_open)

    @property
    def attempts(self) -> int:
        """Requests made."""
        return max(self.book.attempts, sum(batch.summary.attempts for batch in self.batches))

    @property
    def wasted(self) -> int:
        """Requests turned away with 429 or 503."""
        return sum(batch.summary.wasted for batch in self.batches)

"""What one run of ``lookup`` or ``bulk`` works with, and what it knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from ..errors import Billing
from .interrupts import Interrupts
from .outputs import FileSink

if TYPE_CHECKING:
    from pathlib import Path

    from .. import Batch, BidirectionalCharging
    from ..errors import LedgerError
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
        ledger_trouble: why the ledger takes no more.
        unnamed: why the output could not take its name.
        started: when, on the monotonic clock.
        kept: the name that the output got: its own, or one beside it; ``None`` if there is no such file.
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
    ledger_trouble: LedgerError | None = attrs.field(default=None, init=False)
    unnamed: RefusedError | None = attrs.field(default=None, init=False)
    started: float = attrs.field(factory=time.monotonic, init=False)
    kept: Path | None = attrs.field(default=None, init=False)
    was_interrupted: bool = attrs.field(default=False, init=False)

    @property
    def ledger_failed(self) -> bool:
        """Whether an answer may have come that the ledger lacks."""
        return self.ledger_trouble is not None

    @property
    def is_on_stdout(self) -> bool:
        """Whether the output lost its folder, so that what is in it goes to standard output."""
        return isinstance(self.sink, FileSink) and self.sink.is_homeless

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

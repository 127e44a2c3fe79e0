"""One job, from checked ids to an exit code: ask, see through what is paid, write, report."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from ..errors import Billing, LedgerError
from ..outcomes import Failed, NotSent, Source
from .book import is_damaged
from .earlier import holds_answer, may_hold_more
from .estimating import require_leave
from .exits import Exit, RefusedError, worst
from .outputs import FileSink
from .progress import Standing, counted, printable, say
from .reaching import client_for
from .records import FORMATS
from .refuge import hand_over
from .report import beginning, how_to_go_on, is_run_alone, unread
from .report import lines as report_lines
from .rest import write_rest
from .serving import kept_outcomes
from .stdout import HeldSink, StreamSink, silence_stdout
from .watching import progress_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from .. import Governor, OneAutoClient
    from .job import Job
    from .progress import Progress
    from .records import VanOutcome

__all__ = ["run"]

TICK = 0.2
"""Seconds between two looks at the figures for the bar."""


def run(job: Job) -> Exit:
    """Do the job and report it on standard error.

    Raises:
        RefusedError: something is wrong with the key or the ledger, or nobody agreed to the cost.
        ConfigurationError: another setting is wrong. Nothing was sent.
    """
    try:
        job.agree_to(require_leave(job))
        with client_for(job.settings) as client:
            if not job.brief:
                say("\n".join(beginning(job)))
            job.interrupts.outlive()
            asyncio.run(_supervised(client, job))
    finally:
        job.sink.discard()  # does nothing once the output has its name
    return _reported(job)


async def _supervised(client: OneAutoClient, job: Job) -> None:
    """Ask, and write whatever came in every event: signals only count until this ends."""
    with job.interrupts.caught(lambda: isinstance(job.sink, StreamSink) and job.sink.is_writing):
        try:
            await _ask(client, job)
        except LedgerError as error:
            job.ledger_trouble = error
        except Exception as error:  # whatever it is, what was paid for is to be kept and told
            if not job.batches:
                raise
            job.fault = error
        finally:
            _keep(job)


async def _ask(client: OneAutoClient, job: Job) -> None:
    try:
        async with contextlib.AsyncExitStack() as stack:
            await job.interrupts.step(_open(client, stack), told=_tell_of_the_ledger)
            job.was_interrupted = job.interrupts.count > 0
            if not job.was_interrupted:
                await _ask_and_close(client, job)
    finally:
        for outcome in (*client.unclaimed, *job.unsent.values()):
            job.book.take(outcome)
        for outcome in job.set_aside:
            job.book.take_as_left(outcome)


async def _open(client: OneAutoClient, stack: contextlib.AsyncExitStack) -> None:
    await stack.enter_async_context(client)


def _tell_of_the_ledger() -> None:
    """Tell what a run waits for that was stopped before it began: only a ledger takes long to open, if it is locked."""
    say("stopping, with nothing sent, as soon as the ledger is open or gives up")


async def _ask_and_close(client: OneAutoClient, job: Job) -> None:
    await job.interrupts.step(_collect(client, job))
    job.was_interrupted = job.interrupts.count > 0
    if job.was_interrupted:
        say(f"stopping: waiting at most {job.settings.drain:g} s for calls under way; Ctrl-C again for no wait")
    await job.interrupts.step(client.aclose())


async def _collect(client: OneAutoClient, job: Job) -> None:
    with progress_on(job.book.total, transient=job.brief, hidden=_prints_on_terminal(job)) as progress:
        async with _shown(job, client.governor, progress):
            purse = job.settings.purse
            await _ask_for(job.book.ids, client, job, purse.max_age, refresh=purse.refresh)
            if job.unsent and job.book.trouble is None:
                await _serve(client, job)
            if job.set_aside and job.book.trouble is None and job.batches[0].summary.stopped is None:
                await _ask_again(client, job)


async def _serve(client: OneAutoClient, job: Job) -> None:
    """Take what the ledger has of the ids that were not sent; those that are left then are truly not bought."""
    async with contextlib.aclosing(kept_outcomes(client, job)) as outcomes:
        async for outcome in outcomes:
            del job.unsent[outcome.evdb_vehicle_id]
            _take(job, outcome)
            if job.book.trouble is not None:
                return
    for outcome in job.unsent.values():
        job.book.take(outcome)


async def _ask_again(client: OneAutoClient, job: Job) -> None:
    """Buy what is kept and of no use; what came since the run began, others have bought."""
    # Of a damaged entry the age says nothing.
    damaged, others = (
        [outcome.evdb_vehicle_id for outcome in job.set_aside if is_damaged(outcome) is wanted]
        for wanted in (True, False)
    )
    await _ask_for(others, client, job, time.monotonic() - job.started, is_second=True)
    if job.book.trouble is None:
        await _ask_for(damaged, client, job, None, refresh=True, is_second=True)


async def _ask_for(
    ids: Iterable[str],
    client: OneAutoClient,
    job: Job,
    max_age: float | None,
    *,
    refresh: bool = False,
    is_second: bool = False,
) -> None:
    batch = client.batch(
        ids,
        endpoint=job.settings.endpoint,
        concurrency=job.settings.concurrency,
        ordered=job.brief,
        deduplicate=False,  # the book has done so already, and keeps no outcomes
        max_age=max_age,
        refresh=refresh,
        budget=job.leave,
    )
    async with batch:
        job.batches.append(batch)
        async for outcome in batch:
            if is_second:
                _take_again(job, outcome)
            elif isinstance(outcome, NotSent) and _may_be_kept(job):
                job.unsent[outcome.evdb_vehicle_id] = outcome
            else:
                _take(job, outcome)
            if job.book.trouble is not None:
                break


def _take(job: Job, outcome: VanOutcome) -> None:
    if job.settings.purse.refresh_failed and _is_useless(outcome):
        job.set_aside.append(outcome)
    else:
        job.book.take(outcome)


def _take_again(job: Job, outcome: VanOutcome) -> None:
    """Take what came of buying again; if nothing was bought, what is kept stays the record."""
    if isinstance(outcome, NotSent) or (isinstance(outcome, Failed) and outcome.receipt.billing is Billing.NOT_BILLED):
        job.book.note_refusal(outcome)
    else:
        job.book.take(outcome)


def _may_be_kept(job: Job) -> bool:
    """Tell whether the ledger may have an answer that would do for an id that was not sent."""
    purse = job.settings.purse
    return purse.ledger is not None and not purse.refresh


def _is_useless(outcome: VanOutcome) -> bool:
    """Tell whether it was kept, and never will be of any use."""
    return isinstance(outcome, Failed) and outcome.receipt.source is Source.LEDGER


def _prints_on_terminal(job: Job) -> bool:
    """Tell whether records appear on the screen one by one, where a bar would be in their way."""
    return isinstance(job.sink, StreamSink) and sys.stdout.isatty()


@contextlib.asynccontextmanager
async def _shown(job: Job, governor: Governor, progress: Progress) -> AsyncIterator[None]:
    """Keep the figures fresh, also while no outcome comes because a 429 holds everything."""
    ticker = asyncio.ensure_future(_tick(job, governor, progress))
    try:
        yield
    finally:
        ticker.cancel()
        progress.show(_standing(job, governor))


async def _tick(job: Job, governor: Governor, progress: Progress) -> None:
    while True:
        progress.show(_standing(job, governor))
        await asyncio.sleep(TICK)


def _standing(job: Job, governor: Governor) -> Standing:
    statistics = governor.statistics()
    return Standing(done=job.book.done, billed=job.book.billing[Billing.BILLED], statistics=statistics)


def _keep(job: Job) -> None:
    """Give the output its name, unless a file that bears it, now or after the next run, is worth more."""
    replaces = job.output is not None and job.output.exists()
    if not job.book.done or (replaces and not job.book.has_answers):
        return
    try:
        job.kept = _committed(job)
    except OSError as error:
        job.book.trouble = job.book.trouble or error
        if isinstance(job.sink, HeldSink):
            job.book.stranded = job.sink.held
    except RefusedError as error:
        job.unnamed = error


def _committed(job: Job) -> Path | None:
    """Return the name that the output got."""
    if job.output is not None and isinstance(job.sink, FileSink) and _stays_beside(job, job.output):
        return job.sink.commit_beside()
    job.sink.commit()
    return job.output


def _stays_beside(job: Job, output: Path) -> bool:
    """Tell whether this run's records and an older output may each be the only place of something paid for."""
    if job.ledger_failed:
        return True  # the next run, told to go on, replaces the output by what the ledger has
    if not output.exists():
        return False
    if job.got_through:
        return holds_answer(output, job.book.lacks_answer)
    return job.settings.purse.ledger is None or may_hold_more(output, job.book.has_answer)


def _reported(job: Job) -> Exit:
    if job.ledger_trouble is not None and not job.batches:
        raise RefusedError(f"{job.ledger_trouble}; nothing was sent", Exit.LEDGER)
    if job.output is None and job.book.trouble is not None:
        silence_stdout()  # it takes no more, and must hold nothing up that follows
    if isinstance(job.book.trouble, BrokenPipeError):
        say(unread(job))
    else:
        _find_refuge(job)
        say("\n".join(report_lines(job)))
        _save_the_rest(job)
        _tell_trouble(job)
    if job.ledger_trouble is not None:
        say(f"error: the run was stopped: {printable(str(job.ledger_trouble))}")
    if job.fault is not None:
        say(f"error: the run was stopped: {printable(f'{type(job.fault).__name__}: {job.fault}')}")
    return worst(_exits(job))


def _exits(job: Job) -> set[Exit]:
    troubles = (job.book.trouble, job.unnamed, job.fault)
    incomplete = job.book.done < job.book.total or any(trouble is not None for trouble in troubles)
    return {
        *job.book.exits,
        *([Exit.INTERRUPTED] if job.was_interrupted else []),
        *([Exit.LEDGER] if job.ledger_trouble is not None else []),
        *([Exit.FAILED] if incomplete else []),
    }


def _save_the_rest(job: Job) -> None:
    """Write the ids that are left next to what was kept, and tell how to go on."""
    left = job.book.left()
    if not left and job.was_interrupted:
        say("interrupted: no ids are left that were not asked for")
    if not left or (job.brief and not job.book.is_over_budget and not job.was_interrupted):
        return
    rest = None
    if job.kept is not None and is_run_alone(job):
        with contextlib.suppress(OSError):
            rest = write_rest(job.kept, left)
    say("\n".join(how_to_go_on(job, len(left), rest)))


def _tell_trouble(job: Job) -> None:
    """Tell why the output ended early or has no name, and where else its records are."""
    if job.unnamed is not None:
        place = f"; what was answered is {job.homeless_at}" if job.homeless_at else ""
        say(f"error: {printable(f'{job.unnamed}{place}')}")
    if job.book.trouble is None:
        return
    why = f"{job.output or 'standard output'}: {job.book.trouble.strerror}: the run was stopped"
    if job.stranded_at is not None:
        stranded = counted(len(job.book.stranded), "record that did not fit is", "records that did not fit are")
        why = f"{why}; {stranded} {job.stranded_at} as JSON Lines"
    say(f"error: {printable(why)}")


def _find_refuge(job: Job) -> None:
    """Hand over what no file holds, so that no record is lost that has another way out."""
    if job.output is None and job.settings.purse.ledger is not None and not job.ledger_failed:
        return  # that has them
    if job.output is not None and isinstance(job.sink, FileSink) and job.sink.is_homeless:
        job.homeless_at = hand_over(job.sink.contents(), suffix=job.output.suffix)
    if job.book.stranded:
        lines = map(FORMATS["jsonl"].line, job.book.stranded)
        job.stranded_at = hand_over(b"".join(lines), suffix=".jsonl")

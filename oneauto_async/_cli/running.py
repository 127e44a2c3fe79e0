"""One job, from checked ids to an exit code: ask, see through what is paid, write, report."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

from ..errors import Billing, LedgerError
from ..outcomes import Failed, Source
from .book import is_damaged
from .earlier import holds_answer, may_hold_more
from .estimating import require_leave
from .exits import Exit, RefusedError, worst
from .outputs import FileSink
from .progress import Standing, counted, printable, say
from .reaching import client_for
from .records import FORMATS
from .report import beginning, how_to_go_on, unread
from .report import lines as report_lines
from .rest import write_rest
from .stdout import HeldSink, StreamSink, silence_stdout, write_stdout
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
        require_leave(job)
        with client_for(job.settings) as client:
            if not job.brief:
                say("\n".join(beginning(job)))
            asyncio.run(_supervised(client, job))
    finally:
        job.sink.discard()  # does nothing once the output has its name
    return _reported(job)


async def _supervised(client: OneAutoClient, job: Job) -> None:
    """Ask, and write whatever came in every event: signals only count until this ends."""
    with job.interrupts.caught():
        try:
            await _ask(client, job)
        except LedgerError as error:
            job.ledger_trouble = error
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
        for outcome in (*client.unclaimed, *job.set_aside):
            job.book.take(outcome)


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
            if job.set_aside and job.book.trouble is None:
                await _ask_again(client, job)


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
    )
    async with batch:
        job.batches.append(batch)
        async for outcome in batch:
            if job.settings.purse.refresh_failed and not is_second and _is_useless(outcome):
                job.set_aside.append(outcome)
            else:
                job.book.take(outcome)
            if job.book.trouble is not None:
                break


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
    if isinstance(job.book.trouble, BrokenPipeError):
        silence_stdout()
        say(unread(job))
    else:
        say("\n".join(report_lines(job)))
        _save_the_rest(job)
        _tell_trouble(job)
    if job.ledger_trouble is not None:
        say(f"error: the run was stopped: {printable(str(job.ledger_trouble))}")
    return worst(_exits(job))


def _exits(job: Job) -> set[Exit]:
    incomplete = job.book.done < job.book.total or job.book.trouble is not None or job.unnamed is not None
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
    if job.kept is not None and job.settings.purse.ledger is None and job.book.has_answers:
        with contextlib.suppress(OSError):
            rest = write_rest(job.kept, left)
    say("\n".join(how_to_go_on(job, len(left), rest)))


def _tell_trouble(job: Job) -> None:
    """Tell why the output ended early or has no name, and let no record be lost that has another way out."""
    if job.unnamed is not None:
        _print_homeless(job)
        say(f"error: {printable(str(job.unnamed))}")
    if job.book.trouble is None:
        return
    why = f"{job.output or 'standard output'}: {job.book.trouble.strerror}: the run was stopped"
    if job.output is None:
        silence_stdout()
    else:
        _print_stranded(job)
        stranded = counted(len(job.book.stranded), "record that did not fit is", "records that did not fit are")
        why = f"{why}; {stranded} on standard output as JSON Lines"
    say(f"error: {printable(why)}")


def _print_homeless(job: Job) -> None:
    """Hand over what no file holds any more."""
    if isinstance(job.sink, FileSink) and job.sink.is_homeless and sys.stdout is not None:
        with contextlib.suppress(OSError, RefusedError):
            write_stdout(job.sink.contents())


def _print_stranded(job: Job) -> None:
    if sys.stdout is not None:
        with contextlib.suppress(OSError):
            StreamSink(sys.stdout.buffer, FORMATS["jsonl"]).write_all(job.book.stranded)

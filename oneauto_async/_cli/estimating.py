"""What a run would buy, told before it buys anything; and leave to buy it, if it costs money and nobody set a cap."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import attrs

from ..errors import LedgerError
from .exits import Exit, RefusedError
from .progress import counted, printable, say
from .purse import is_there
from .reaching import planning_client, require_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..outcomes import Plan
    from .job import Job
    from .reaching import Settings

__all__ = ["estimate", "require_leave", "require_means"]

A_LEDGER_IS_NEEDED = "add -o OUTPUT or --ledger PATH, or say --no-ledger"


def estimate(job: Job) -> list[str]:
    """Return what the run would buy, a line each. Nothing is sent, and no file is left behind.

    Raises:
        RefusedError: the ledger cannot be read.
        ConfigurationError: a setting is wrong.
    """
    return [*_lines(job, _plan(job))]


def require_means(settings: Settings) -> None:
    """See that a run that costs money has a key, and a ledger unless somebody will have none.

    Raises:
        RefusedError: one of them is missing. Nothing was read or sent.
        ConfigurationError: the address is wrong.
    """
    if not settings.is_live:
        return
    require_key(settings)
    if settings.purse.ledger is None and not settings.purse.declines_ledger:
        raise RefusedError(f"this run costs money, and nothing would keep what it buys: {A_LEDGER_IS_NEEDED}")


def require_leave(job: Job) -> int | None:
    """See that whoever pays has agreed: by a cap or, asked once, by a yes. What costs nothing needs no leave.

    Returns the most charges of this run that this is leave for: what is kept may be too old by the time somebody has
    answered. ``None`` if a cap says it already, or nothing costs money.

    Raises:
        RefusedError: there is no cap and nobody to ask, or the answer was no; or the ledger cannot be read. Nothing was
            sent.
    """
    if job.brief or job.settings.purse.budget is not None or not job.settings.is_live:
        return None
    plan = _plan(job)
    if plan.most_billed == 0:
        return 0
    if not job.may_ask:
        answers = counted(plan.most_billed, "answer", "answers")
        held = f" (with {plan.spent} that the ledger holds)" if plan.spent else ""
        raise RefusedError(
            f"this run may be charged for up to {answers}, and nobody is there to agree: add "
            f"--max-calls {plan.spent + plan.most_billed}{held}, or --max-cost with --price; "
            "`oneauto-async estimate` tells more"
        )
    say("\n".join(_lines(job, plan)))
    _ask()
    return plan.most_billed


def _ask() -> None:
    """Ask once; whatever is no yes is a no.

    Raises:
        RefusedError: nobody agreed.
    """
    try:
        _forget_what_was_typed()
        sys.stderr.write("Ask for them? [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    except (UnicodeError, OSError):  # bytes that are no text, or a terminal that was closed
        answer = ""
    except KeyboardInterrupt:
        say("")
        raise RefusedError("interrupted: nothing was sent", Exit.INTERRUPTED) from None
    if not answer.endswith("\n"):
        say("")  # the end of the input leaves the cursor behind the question
    if answer.strip().lower() not in {"y", "yes"}:
        raise RefusedError("not agreed: nothing was sent")


def _forget_what_was_typed() -> None:
    """Drop what stood in the terminal before the estimate did: it cannot be a yes to that."""
    with contextlib.suppress(ImportError):  # of Windows
        import termios

        with contextlib.suppress(AttributeError, OSError, ValueError, termios.error):  # a stand-in for a terminal
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _plan(job: Job) -> Plan:
    try:
        return asyncio.run(_planned(job))
    except LedgerError as error:
        raise RefusedError(f"{error}; nothing was sent", Exit.LEDGER) from None


async def _planned(job: Job) -> Plan:
    settings, ids = job.settings, job.book.ids
    async with planning_client(settings) as client:
        plan = await client.plan(ids, endpoint=settings.endpoint, max_age=settings.purse.max_age)
        if settings.purse.refresh_failed and plan.answered:
            # Which of the kept answers are of no use shows only when they are read: at worst all of them.
            worst = await client.plan(ids, endpoint=settings.endpoint, refresh=True)
            plan = attrs.evolve(plan, most_billed=worst.most_billed)
    return plan


def _lines(job: Job, plan: Plan) -> Iterator[str]:
    purse = job.settings.purse
    yield f"new: {plan.new}"
    yield f"answered: {plan.answered} in the ledger, served from it"
    yield f"in doubt: {plan.in_doubt}" + (", sent once more" if purse.retry_in_doubt else ", held and not sent again")
    if plan.under_way:
        yield f"under way: {plan.under_way}, being bought by another run"
    yield f"duplicates: {job.book.duplicates}, asked once"
    yield f"invalid: {plan.invalid}"
    yield f"most it can cost: {counted(plan.most_billed, 'answer', 'answers')}{purse.bill(plan.most_billed)}"
    if plan.spent:
        yield f"paid for or in doubt already: {plan.spent}, which --max-calls and --max-cost count in"
    if purse.ledger is not None:
        yield printable(f"ledger: {purse.ledger}" + ("" if is_there(purse.ledger) else ", not there yet"))
    elif job.settings.is_live:
        yield (
            "ledger: none, as you say" if purse.declines_ledger else f"ledger: none; for the run, {A_LEDGER_IS_NEEDED}"
        )

"""The lines at the end of a run: what became of the ids, what it cost, and how to go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import Billing
from .outputs import FileSink, unused
from .progress import counted, printable
from .reaching import NO_LEDGER
from .records import OUTCOMES
from .shell import as_argument, command, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .job import Job
    from .purse import Purse

__all__ = ["beginning", "how_to_go_on", "lines", "unread"]

MOST_TYPED = 50
"""Ids that a command to copy may hold."""

NO_ANSWER = "without a record, or with one that is not_sent, or failed and not billed"
"""How the ids that are left are known by their records."""


def beginning(job: Job) -> list[str]:
    """Return the lines before the first call."""
    book = job.book
    ledger = job.settings.purse.ledger
    books = "" if ledger is None else f"; ledger: {ledger}"
    what = f"{_different(job)} in {counted(book.total, 'row', 'rows')}"
    return [printable(f"asking for {what} of {job.source}{books}"), *_left_behind(job)]


def _left_behind(job: Job) -> Iterator[str]:
    for part in job.sink.left_behind if isinstance(job.sink, FileSink) else ():
        yield printable(
            f"{part} is of another run with this output, which was killed or is still going on: "
            "look for paid answers in it that no ledger has before you remove it"
        )


def _different(job: Job) -> str:
    return counted(len(job.book.ids), "different id", "different ids")


def unread(job: Job) -> str:
    """Return the line for a reader of standard output that went away, as ``head`` does when it has seen enough."""
    lost = counted(len(job.book.stranded), "record", "records")
    return f"stopped: standard output was closed; {_money(job)}; {lost} could not be handed over ({_keeper(job)})"


def _keeper(job: Job) -> str:
    """Tell what keeps the records that a reader did not take, or would have kept them."""
    if job.settings.purse.ledger is not None:
        what = "what came before it failed" if job.ledger_failed else "what was paid for"
        return f"the ledger keeps {what}, and the same command serves it again"
    return "--ledger keeps what is paid for" if job.brief else "-o keeps all"


def lines(job: Job) -> list[str]:
    """Return the summary of a run, a line each."""
    body = [f"{_outcomes(job)}; {_money(job)}; calls: {_calls(job)}"] if job.brief else [*_long(job)]
    return [*body, *_remarks(job)]


def _long(job: Job) -> Iterator[str]:
    yield f"rows: {job.book.done} of {job.book.total}, {_different(job)}, {_pace(job)}"
    yield f"outcomes: {_outcomes(job)}"
    yield f"money: {_money(job)}"
    yield f"calls: {_calls(job)}"
    if job.output is not None:
        yield printable(f"output: {_where(job, job.output)}")


def _pace(job: Job) -> str:
    seconds = time.monotonic() - job.started
    return f"in {seconds:.1f} s"


def _outcomes(job: Job) -> str:
    counts = job.book.outcomes
    return ", ".join(f"{counts[kind]} {kind}" for kind in OUTCOMES if counts[kind]) or "none"


def _money(job: Job) -> str:
    billing, purse = job.book.billing, job.settings.purse
    billed, served = billing[Billing.BILLED], job.book.served
    parts = [f"{billed} billed{purse.bill(billed)}", f"{billing[Billing.NOT_BILLED] - served} not billed", _doubts(job)]
    if purse.ledger is not None:
        worth = purse.worth(job.book.saved)
        parts.append(f"{served} served by the ledger" + (f" ({worth} saved)" if worth and served else ""))
    return ", ".join(parts)


def _doubts(job: Job) -> str:
    book, purse = job.book, job.settings.purse
    remarks = [f"{book.held} of them before this run"] if book.held else []
    if book.doubts and (worth := purse.worth(book.doubts)):  # of an earlier id, several requests may be in doubt
        remarks.append(f"at most {worth}{' by this run' if book.held or purse.retry_in_doubt else ''}")
    return f"{book.doubts + book.held} in doubt" + (f" ({', '.join(remarks)})" if remarks else "")


def _calls(job: Job) -> str:
    return f"{job.attempts}, {job.wasted} of them turned away (429 or 503)"


def _where(job: Job, output: Path) -> str:
    if job.unnamed is not None:
        where = job.homeless_at or "in the file named below"
        return f"{output} could not be written; what there is stands {where}"
    if job.kept is None:
        return f"{output} was left as it was: nothing was answered" if output.exists() else "none: nothing was answered"
    missing = job.book.total - job.book.done
    partial = f" (partial: {counted(missing, 'row is', 'rows are')} missing)" if missing else ""
    is_sorted = not isinstance(job.sink, FileSink) or job.sink.is_sorted
    told = f"{job.kept}{partial}{'' if is_sorted else '; not in input order: there was no room to sort it'}"
    if job.kept == output:
        return told
    as_it_was = "left as it was" if output.exists() else "not made"
    why = "it has answers that this run lacks" if job.got_through else "this run did not get through"
    return f"{told}; {output} was {as_it_was}: {why}"


def _remarks(job: Job) -> Iterator[str]:
    problem = job.book.first_problem
    if problem is not None and not job.brief:
        yield printable(f"first problem: {problem['evdb_vehicle_id']}: {problem['error']}: {problem['message']}")
    if job.book.doubts or job.book.held:
        yield from _about_doubts(job.settings.purse)
    refusal = job.book.refusal
    if refusal is not None:
        yield printable(f"not bought again: {refusal.evdb_vehicle_id}: {type(refusal.error).__name__}: {refusal.error}")
    if job.ledger_failed and job.book.has_answers:
        yield printable(f"the ledger failed: an answer that it lacks is {_places(job)} alone, so keep that")
    if job.book.is_damaged:
        again = "--refresh" if job.brief else "--refresh-failed"
        yield f"what is damaged in the ledger is not served; {again} buys it again"
    if job.settings.simulate:
        yield "simulated: the data are made up and nothing was paid"


def _places(job: Job) -> str:
    """Tell where the records of this run are."""
    if job.kept is not None:
        main = f"in {job.kept}"
    elif job.unnamed is not None:
        main = job.homeless_at or "in the file named below"
    else:
        main = "on standard output"
    return main if job.stranded_at in {None, main} else f"{main} and {job.stranded_at}"


def _about_doubts(purse: Purse) -> Iterator[str]:
    what = "in doubt: sent, and no trustworthy answer; it may have been charged"
    if purse.ledger is None:
        yield f"{what}: look into the vendor's log before you ask again"
        return
    who = "only --retry-in-doubt asks again, and would each time" if purse.retry_in_doubt else "nothing asks again"
    yield f"{what}, so {who} by itself"
    yield f"to settle them: {_settling(purse.ledger)}; or run again with --retry-in-doubt, which may pay twice"


def _settling(ledger: Path) -> str:
    """Tell how to settle what is in doubt, by commands to copy if they can be."""
    path = as_argument(ledger)
    show, resolve = command("ledger", "show", path), command("ledger", "resolve", path, "--not-billed", "ID")
    if show is not None and resolve is not None:
        return f"compare `{show}` with the vendor's log, and say what became of each: `{resolve}` or `--billed ID`"
    lists = printable(f"what `ledger show` lists of {ledger}")
    return f"compare {lists} with the vendor's log, and say with `ledger resolve` what became of each"


def _again(job: Job, rest: Path | None) -> str:
    """Return what to do about the ids that are left, so that nothing this run has bought is bought once more."""
    purse = job.settings.purse
    if purse.refresh:
        names = quoted(*job.book.left()) or f"the ids that are left ({NO_ANSWER})"
        return f"name {names} alone: the same command would buy all of them again"
    if is_run_alone(job):
        what = "whatever the ledger lacks" if job.ledger_failed else "what this run has bought and is of no use"
        return f"{_alone(job, rest)}: the same command would buy once more {what}"
    without = ""
    if purse.retry_in_doubt and (job.book.doubts or job.book.held):
        without = " without --retry-in-doubt, which would send once more what is in doubt"
    also = "" if purse.max_age is None else ", and what is too old for --max-age by then"
    return f"run the same command again{without}: only these are asked for{also}"


def is_run_alone(job: Job) -> bool:
    """Tell whether a second run would, or may, buy once more what this one has bought, unless told the ids."""
    if job.settings.purse.ledger is None or job.ledger_failed:
        return job.book.has_answers
    return job.settings.purse.refresh_failed and job.book.billing[Billing.BILLED] > 0


def _alone(job: Job, rest: Path | None) -> str:
    """Return how to ask for the ids that are left: by a command to copy, or in words where none is right."""
    alone = f"for {'it' if len(job.book.left()) == 1 else 'them'} alone"
    again = _typed(job) if rest is None else _for_the_rest(job, rest)
    if again is not None:
        return f"run `{again}` {alone}"
    purse = job.settings.purse
    if rest is None:
        wishes = " with --refresh-failed" if purse.refresh_failed else ""
        return f"run {'lookup' if job.brief else 'bulk'}{wishes} {alone} ({NO_ANSWER})"
    books = "" if purse.ledger is None else f", --ledger {purse.ledger}"
    return f"run bulk {alone}, with {rest} as INPUT, another OUTPUT{books} and else the same options"


def _are_left_in_two_ways(job: Job) -> bool:
    """Tell whether some ids are to be bought again, and others may be kept: no one lookup is right for all of them."""
    is_cut_short = job.was_interrupted or job.ledger_failed or bool(job.fault or job.book.trouble)
    return is_cut_short and 0 < len(job.book.unbought) < len(job.book.left())


def _typed(job: Job) -> str | None:
    """Return the command that names the ids that are left, and no others; ``None`` if there is none to copy."""
    purse, left = job.settings.purse, job.book.left()
    if len(left) > MOST_TYPED or _are_left_in_two_ways(job):
        return None
    wishes = ["--refresh"] if job.book.unbought else [] if purse.max_age is None else [f"--max-age={purse.max_age}"]
    options = [option for option in job.settings.options if option != NO_LEDGER]  # a lookup keeps none by itself
    return command("lookup", *wishes, *_books(purse), *options, "--", *left)


def _for_the_rest(job: Job, rest: Path) -> str | None:
    """Return the command for a file of the ids that are left; ``None`` if there is none to copy."""
    purse = job.settings.purse
    assert job.output is not None
    onward = unused(job.output.with_name(f"{job.output.stem}.rest{job.output.suffix}"))
    form = [] if job.form is None else [f"--format={job.form}"]
    wishes = ["--refresh-failed"] if purse.refresh_failed else []
    wishes += [] if purse.max_age is None else [f"--max-age={purse.max_age}"]
    options = [*form, *_books(purse), *wishes, *job.settings.options]
    return command("bulk", as_argument(rest), "-o", as_argument(onward), *options)


def _books(purse: Purse) -> list[str]:
    return [] if purse.ledger is None else [f"--ledger={purse.ledger}"]


def _by_what(job: Job) -> str:
    """Tell what raises the cap."""
    asked = "by another yes, or " if job.settings.purse.agreed else ""
    return f"{asked}with --max-calls or --max-cost"


def how_to_go_on(job: Job, left: int, rest: Path | None) -> list[str]:
    """Return what a person can do about the ids that are left: this run paid nothing for them."""
    ids, them = counted(left, "id is", "ids are"), "it" if left == 1 else "them"
    paid = "this run paid nothing" if job.fault is None else "as far as is known, this run paid nothing"
    what = f"{'interrupted: ' if job.was_interrupted else ''}{ids} left, and {paid} for {them}"
    if job.settings.purse.ledger is not None:
        first = f"allow more {_by_what(job)}, and " if job.book.is_over_budget else ""
        first += "see to the ledger, and " if job.ledger_failed else ""
        served = "what it still has" if job.ledger_failed else "what was paid for"
        return [
            printable(f"{what}; to go on, {first}{_again(job, rest)}"),
            printable(f"{served} is served by the ledger {job.settings.purse.ledger}"),
        ]
    first = "the cap is reached: to pay for more, " if job.book.is_over_budget else ""
    if rest is None:
        cost = " and pays for the answered ones once more" if job.book.has_answers else ""
        alone = f"; {first}{_alone(job, None)}" if left <= MOST_TYPED or job.book.has_answers else ""
        return [printable(f"{what}{alone}; running the same command again asks for every id{cost}")]
    return [
        printable(f"{what}; {'it is' if left == 1 else 'they are'} in {rest}: {first}{_alone(job, rest)}"),
        "running the same command again would ask, and pay, for the answered ids once more",
    ]

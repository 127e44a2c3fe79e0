"""What the ``ledger`` commands do: look into a ledger, export it, check it, and settle its doubts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import ConfigurationError, LedgerError
from ..ledger import Entry, Service, Spending, SqliteLedger, State
from ..ledger.records import moment_text
from .exits import Exit, RefusedError
from .progress import counted, printable
from .purse import is_there
from .records import Format, Record, flat_formats
from .shell import as_typed
from .stdout import require_stdout, silence_stdout, write_stdout

__all__ = ["MEMBERS", "export", "resolve", "show", "verify"]

Work: TypeAlias = Callable[[SqliteLedger], Coroutine[Any, Any, Exit]]

MEMBERS = (
    "entry",
    "account",
    "host",
    "endpoint",
    "evdb_vehicle_id",
    "state",
    "billing",
    "claimed_at",
    "sent_at",
    "settled_at",
    "attempts",
    "status",
    "request_id",
    "headers",
    "raw",
    "raw_base64",
    "flaw",
    "note",
    "checksum",
    "intact",
)
"""The members of every exported entry, in this order."""


def show(path: Path) -> Exit:
    """Print what a ledger holds, what was spent, and what is in doubt. Nothing is changed."""
    return _with_ledger(path, _show)


def export(path: Path, form: str) -> Exit:
    """Print every entry, oldest first. Nothing is changed."""
    written = flat_formats(MEMBERS)[form]
    return _with_ledger(path, lambda ledger: _export(ledger, written))


def verify(path: Path) -> Exit:
    """Print what is damaged, if anything. Nothing is changed."""
    return _with_ledger(path, _verify)


def resolve(path: Path, ids: Iterable[str], *, billed: bool, by_number: bool) -> Exit:
    """Settle doubts: all of them that were named, or none if one of them is not in doubt."""
    settled = [*dict.fromkeys(map(as_typed, ids))]
    return _with_ledger(path, lambda ledger: _resolve(ledger, settled, billed, by_number), read_only=False)


def _with_ledger(path: Path, work: Work, *, read_only: bool = True) -> Exit:
    """Open a ledger that is there, and work with it; a reader of standard output that went away is no drama.

    Raises:
        RefusedError: there is no ledger, or it cannot be used; or standard output is closed or full.
    """
    require_stdout()
    if not is_there(path):
        raise RefusedError(f"there is no ledger {path}", Exit.LEDGER)
    try:
        return asyncio.run(_opened(SqliteLedger(path, read_only=read_only), work))
    except (LedgerError, ConfigurationError) as error:
        raise RefusedError(str(error), Exit.LEDGER) from None
    except BrokenPipeError:
        silence_stdout()
        return Exit.OK


async def _opened(ledger: SqliteLedger, work: Work) -> Exit:
    async with ledger:
        return await work(ledger)


# Showing.


async def _show(ledger: SqliteLedger) -> Exit:
    states: dict[Service, Counter[State]] = {}
    doubts: list[Entry] = []
    async for entry in ledger.entries():
        states.setdefault(entry.key.service, Counter())[entry.state] += 1
        if entry.state is State.IN_DOUBT:
            doubts.append(entry)
    total = sum(counts.total() for counts in states.values())
    _print(f"{counted(total, 'entry', 'entries')} in {ledger.path}")
    for service, counts in states.items():
        kinds = ", ".join(f"{counts[state]} {_word(state)}" for state in State if counts[state])
        _print(f"{_name(service)}: {kinds}")
    for account, host in dict.fromkeys((service.account, service.host) for service in states):
        _print(f"spent by account {account} at {host}: {_spent(await ledger.spending(account, host))}")
    for doubt in doubts:
        _print(_doubt(doubt))
    return Exit.OK


def _word(state: State) -> str:
    return state.replace("_", " ")


def _spent(spending: Spending) -> str:
    return f"{spending.billed} billed, {spending.in_doubt} in doubt, {spending.under_way} under way"


def _doubt(entry: Entry) -> str:
    facts = (
        f"sent {_moment(entry.sent_at)}",
        f"status {entry.status}" if entry.status else "",
        f"request id {entry.request_id}" if entry.request_id else "",
        entry.note or "",
        f"damaged: {entry.damage}" if entry.damage else "",
    )
    told = ", ".join(fact for fact in facts if fact)
    return f"in doubt: {entry.key.vehicle_id} (entry {entry.seq}, {_name(entry.key.service)}): {told}"


def _name(service: Service) -> str:
    return f"{service.endpoint} at {service.host}, account {service.account}"


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else moment_text(seconds)


def _print(line: str) -> None:
    write_stdout(f"{printable(line)}\n".encode(errors="backslashreplace"))


# Exporting.


async def _export(ledger: SqliteLedger, form: Format) -> Exit:
    write_stdout(form.heading)
    async for entry in ledger.entries():
        write_stdout(form.line(_record(entry)))
    return Exit.OK


def _record(entry: Entry) -> Record:
    service, text = entry.key.service, _text(entry.raw)
    shown = (
        *(entry.seq, service.account, service.host, service.endpoint, entry.key.vehicle_id),
        *(str(entry.state), str(entry.billing)),
        *(_moment(entry.claimed_at), _moment(entry.sent_at), _moment(entry.settled_at)),
        *(entry.attempts, entry.status, entry.request_id, entry.headers, text),
        base64.b64encode(entry.raw).decode() if entry.raw is not None and text is None else None,
        *(entry.flaw, entry.note, entry.checksum, entry.is_intact),
    )
    return dict(zip(MEMBERS, shown, strict=True))


def _text(raw: bytes | None) -> str | None:
    """Return an answer as text; one that is none is written as Base64 instead."""
    with contextlib.suppress(UnicodeDecodeError):
        return None if raw is None else raw.decode()
    return None


# Checking.


async def _verify(ledger: SqliteLedger) -> Exit:
    found = await ledger.verify()
    for problem in found.problems:
        _print(problem)
    if found.problems:
        raise RefusedError(
            f"{ledger.path} is damaged: of {found.entries} entries, {len(found.damaged)} are not what was written, and "
            "are not served",
            Exit.LEDGER,
        )
    _print(f"{counted(found.entries, 'entry', 'entries')}: answers and checksums agree, and so do entries and sums")
    return Exit.OK


# Settling.


async def _resolve(ledger: SqliteLedger, ids: list[str], billed: bool, by_number: bool) -> Exit:
    doubts = [entry async for entry in ledger.entries(State.IN_DOUBT)]
    settled = [_named(doubts, identifier, by_number) for identifier in ids]
    for entry in settled:
        await ledger.resolve(entry.seq, billed=billed)
    became = "charged" if billed else "not charged"
    left = [doubt for doubt in doubts if doubt not in settled]
    for entry in settled:
        now = _what_now(entry, left, await ledger.find(entry.key))
        _print(f"{entry.key.vehicle_id} (entry {entry.seq}): {became}; {now}")
    return Exit.OK


def _what_now(settled: Entry, left: list[Entry], newest: Entry | None) -> str:
    """Tell whether an id may be asked for again: not while another of its requests is in doubt, or was answered."""
    if newest is not None and newest.state is State.ANSWERED:
        return f"its answer is kept, as entry {newest.seq}"
    others = ", ".join(str(doubt.seq) for doubt in left if doubt.key == settled.key)
    return f"it is in doubt still, as entry {others}" if others else "it may be asked for again"


def _named(doubts: list[Entry], identifier: str, by_number: bool) -> Entry:
    """Return the doubt that is meant.

    Raises:
        RefusedError: there is none, or more than one. Nothing was settled.
    """
    found = [entry for entry in doubts if identifier == (str(entry.seq) if by_number else entry.key.vehicle_id)]
    if len(found) == 1:
        return found[0]
    what = f"entry {identifier}" if by_number else identifier
    if not found:
        raise RefusedError(f"{what} is not in doubt in this ledger; nothing was settled")
    numbers = ", ".join(str(entry.seq) for entry in found)
    raise RefusedError(f"{what} is in doubt more than once: give --entries and one of {numbers}; nothing was settled")

"""A ledger in a file: opening and closing it, its neighbours, its faults, and what a stranger sees of it."""

from __future__ import annotations

import asyncio
import functools
import gc
import math
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples
from support.ledgers import (
    ANYTHING,
    SERVICE,
    answer,
    bought,
    claimed,
    doubt,
    entries_of,
    failure,
    key,
    nothing_known,
    sent,
)

from oneauto_async.errors import ConfigurationError, LedgerError
from oneauto_async.ledger import (
    Busy,
    Claim,
    HeldInDoubt,
    Kept,
    Ledger,
    LedgerKey,
    Limit,
    MemoryLedger,
    OverBudget,
    Spending,
    SqliteLedger,
    State,
    Terms,
    _groups,
)
from oneauto_async.ledger._pace import FEW
from oneauto_async.ledger._sqlite import connecting, owners, reader, schema, spending, writer
from oneauto_async.testing import VirtualClock

asynchronous = pytest.mark.asyncio
posix_only = pytest.mark.skipif(os.name != "posix", reason="modes, links and signals as POSIX has them")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.ledger"


@pytest.fixture(params=["PERSIST", "WAL"])
def either_journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing, whichever the SQLite at hand would be given."""
    monkeypatch.setattr(connecting, "journal_mode", lambda: request.param)
    return str(request.param)


def asked(path: Path, question: str) -> list[Any]:
    """Ask the file as a stranger does."""
    with closing(sqlite3.connect(path)) as stranger:
        return stranger.execute(question).fetchall()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("oneauto-ledger")]


# Opening and closing.


def test_both_kinds_are_ledgers(path: Path) -> None:
    """To the type checker as well."""
    ledgers: list[Ledger] = [MemoryLedger(), SqliteLedger(path)]
    assert [ledger.is_open for ledger in ledgers] == [True, False]


@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_what_was_written_is_there_the_next_time(path: Path) -> None:
    """Through the same object or another, in either way of writing."""
    ledger = SqliteLedger(path)
    async with ledger:
        await bought(ledger, key(), answer(b"kept"))
    async with ledger, SqliteLedger(path) as other:
        for one in (ledger, other):
            decision = await one.claim(key(), ANYTHING)
            assert isinstance(decision, Kept)
            assert decision.entry.raw == b"kept"


@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_closing_leaves_one_file_and_no_thread(path: Path) -> None:
    """And closing again does nothing."""
    ledger = SqliteLedger(path)
    async with ledger:
        await bought(ledger, key())
        await ledger.find(key())
        assert threads()
    await ledger.aclose()

    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert threads() == []


@asynchronous
async def test_closing_gives_back_what_is_claimed_and_doubts_what_was_sent(path: Path) -> None:
    """Whoever opens it next finds no loose ends."""
    async with SqliteLedger(path) as ledger:
        await claimed(ledger, key("claimed"))
        await sent(ledger, key("sent"))
    async with SqliteLedger(path) as ledger:
        assert isinstance(await ledger.claim(key("claimed"), ANYTHING), Claim)
        assert isinstance(await ledger.claim(key("sent"), ANYTHING), HeldInDoubt)
        assert (await ledger.spending("default", "api.example")).in_doubt == 1


@asynchronous
async def test_a_closing_that_is_cancelled_still_closes(path: Path) -> None:
    """And then the cancellation goes on."""
    ledger = SqliteLedger(path)
    await ledger.open()
    ordered = asyncio.ensure_future(ledger.claim(key(), ANYTHING))
    await asyncio.sleep(0)
    closing_it = asyncio.create_task(ledger.aclose())
    await asyncio.sleep(0)
    closing_it.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing_it

    assert not ledger.is_open
    assert isinstance(await ordered, Claim)
    async with ledger:
        assert isinstance(await ledger.claim(key(), ANYTHING), Claim)


@asynchronous
async def test_an_opening_that_is_cancelled_leaves_nothing_open(path: Path) -> None:
    """The ledger is still closed afterwards, and can be opened again."""
    ledger = SqliteLedger(path)
    opening = asyncio.create_task(ledger.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert not ledger.is_open
    async with ledger:
        await bought(ledger, key())


@asynchronous
async def test_it_may_be_opened_by_several_at_the_same_time(path: Path) -> None:
    """Each has it open from then on."""
    ledger = SqliteLedger(path)
    await asyncio.gather(ledger.open(), ledger.open(), ledger.open())
    await bought(ledger, key())
    await ledger.aclose()
    assert threads() == []


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("cancelled", [{0}, {1}, {0, 1}])
@asynchronous
async def test_of_several_openings_those_that_are_cancelled_are_nothing_to_the_others(
    path: Path, cancelled: set[int], late: bool
) -> None:
    """Whichever it was that began, and also in the moment when it is open; if all are cancelled, it is closed again."""
    ledger = SqliteLedger(path)
    openings = [asyncio.create_task(ledger.open()) for _ in range(2)]
    await asyncio.sleep(0)

    def cancel(_: object = None) -> None:
        for number in cancelled:
            openings[number].cancel()

    if late:
        assert ledger._opening is not None
        ledger._opening.add_done_callback(cancel)
    else:
        cancel()
    await asyncio.wait(openings)
    assert {number for number, opening in enumerate(openings) if opening.cancelled()} == cancelled
    assert ledger.is_open is (len(cancelled) == 1)
    await ledger.aclose()
    assert threads() == []


@asynchronous
async def test_several_openings_fail_alike(tmp_path: Path) -> None:
    """All who open it at the same time get the error, and it opens once the cause is gone."""
    ledger = SqliteLedger(tmp_path / "folder" / "test.ledger")
    failures = await asyncio.gather(ledger.open(), ledger.open(), return_exceptions=True)
    assert [type(failure) for failure in failures] == [LedgerError, LedgerError]
    (tmp_path / "folder").mkdir()
    async with ledger:
        assert ledger.is_open


@pytest.mark.parametrize("fails", [False, True])
@asynchronous
async def test_closing_waits_for_an_opening_that_is_under_way(path: Path, fails: bool) -> None:
    """Whether the opening succeeds or fails, no file and no thread is open afterwards."""
    ledger = SqliteLedger(path / "nowhere" if fails else path)
    opening = asyncio.create_task(ledger.open())
    await asyncio.sleep(0)
    await ledger.aclose()
    await asyncio.wait([opening])
    assert (ledger.is_open, threads(), isinstance(opening.exception(), LedgerError)) == (False, [], fails)


@asynchronous
async def test_a_claim_that_comes_too_late_is_given_back(path: Path) -> None:
    """A lookup that is cancelled while the disk is at work keeps no id from others."""
    async with SqliteLedger(path) as ledger:
        waiting = asyncio.create_task(ledger.claim(key(), ANYTHING))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await ledger.flush()
        assert isinstance(await ledger.claim(key(), ANYTHING), Claim)


@asynchronous
async def test_a_claim_that_comes_in_the_moment_of_a_cancellation_is_given_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is there, but nobody will ever see it."""
    deliver = _groups.Groups._deliver

    def cancel_at_once(self: _groups.Groups, order: Any, result: Any) -> None:
        deliver(self, order, result)
        if isinstance(result, Claim):
            waiting.cancel()

    async with SqliteLedger(path) as ledger:
        monkeypatch.setattr(_groups.Groups, "_deliver", cancel_at_once)
        waiting = asyncio.create_task(ledger.claim(key(), ANYTHING, sending=True))
        with pytest.raises(asyncio.CancelledError):
            await waiting
        monkeypatch.undo()
        assert [entry.state for entry in await entries_of(ledger)] == [State.FAILED]
        assert isinstance(await ledger.claim(key(), ANYTHING), Claim)


@asynchronous
async def test_closing_right_after_a_cancellation_leaves_no_doubt(path: Path) -> None:
    """However far the claims had got: nobody took them, so nothing was sent."""
    ledger, untaken = SqliteLedger(path), set()
    for turns in range(40):
        async with ledger:
            claims = {id_: asyncio.create_task(ledger.claim(key(id_), ANYTHING, sending=True)) for id_ in _ids(turns)}
            for _ in range(turns):
                await asyncio.sleep(0)
            for claim in claims.values():
                claim.cancel()
            await asyncio.wait(claims.values())
            untaken |= {id_ for id_, claim in claims.items() if claim.cancelled()}
    async with ledger:
        doubts = {entry.key.vehicle_id for entry in await entries_of(ledger, State.IN_DOUBT)}
    assert doubts & untaken == set()
    assert len(untaken) > 40


def _ids(turns: int) -> list[str]:
    return [f"{turns}-{number}" for number in range(4)]


@asynchronous
async def test_a_ledger_that_is_not_open_says_so(path: Path) -> None:
    """Using it raises an error that says to open it by ``async with``."""
    with pytest.raises(LedgerError, match="async with"):
        await SqliteLedger(path).claim(key(), ANYTHING)


def test_another_event_loop_is_refused(path: Path) -> None:
    """And a ledger that is forgotten open warns."""
    ledger = SqliteLedger(path)
    asyncio.run(ledger.open())
    with pytest.raises(LedgerError, match="another event loop"):
        asyncio.run(ledger.claim(key(), ANYTHING))
    holder = [ledger]
    del ledger
    with pytest.warns(ResourceWarning, match="unclosed"):
        _forget(holder)
    for thread in threading.enumerate():
        if thread.name.startswith("oneauto-ledger"):
            thread.join(timeout=10)
    assert threads() == []


def test_an_opening_of_another_event_loop_is_not_waited_for(path: Path) -> None:
    """It would never end: that loop may stand still."""
    ledger = SqliteLedger(path)

    async def begin() -> asyncio.Task[None]:
        opening = asyncio.create_task(ledger.open())
        await asyncio.sleep(0)
        return opening

    with asyncio.Runner() as runner:
        opening = runner.run(begin())
        for step in (ledger.open, ledger.aclose):
            with ThreadPoolExecutor(1) as thread, pytest.raises(LedgerError, match="another event loop"):
                thread.submit(asyncio.run, step()).result(timeout=10)
        runner.run(asyncio.wait_for(opening, 10))
        runner.run(ledger.aclose())


def _forget(holder: list[SqliteLedger]) -> None:
    holder.clear()
    gc.collect()


@pytest.mark.parametrize("action", ["always", "error"])
def test_a_ledger_left_open_at_the_end_of_the_program_warns(path: Path, action: str) -> None:
    """The warning names the ledger, and no `RuntimeError` is printed beside it."""
    code = (
        "import asyncio, sys\n"
        "from oneauto_async.ledger import SqliteLedger\n"
        "ledger = SqliteLedger(sys.argv[1])\n"
        "asyncio.run(ledger.open())\n"
    )
    command = [sys.executable, "-W", f"{action}::ResourceWarning", "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "ResourceWarning: unclosed <SqliteLedger" in done.stderr
    assert "RuntimeError" not in done.stderr


def test_virtual_time_stands_still_while_the_disk_is_at_work(path: Path) -> None:
    """Tests of programs with a ledger need not know of its threads."""
    clock = VirtualClock()

    async def main() -> float:
        async with SqliteLedger(path) as ledger, asyncio.timeout(0.001):
            for number in range(20):
                await bought(ledger, key(number))
        return clock.monotonic()

    assert clock.run(main()) == 0.0


def test_importing_the_ledgers_does_not_load_sqlite3() -> None:
    """Neither the import nor making a `SqliteLedger` loads the sqlite3 module."""
    code = "import sys, oneauto_async, oneauto_async.ledger as l; l.SqliteLedger('x'); print('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# The file.


@pytest.mark.parametrize("name", [":memory:", "", "file:test.ledger", "file::memory:?cache=shared", Path(":memory:")])
def test_what_names_no_file_is_refused(name: str | Path) -> None:
    """SQLite's own names for databases in memory would become files, whose answers a test does not expect to stay."""
    with pytest.raises(ConfigurationError, match=r"MemoryLedger\(\)"):
        SqliteLedger(name)


@posix_only
@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_nobody_else_can_read_it(path: Path) -> None:
    """0600 for the file and whatever lies beside it, also when it was open to others before (D15)."""
    path.touch()
    path.chmod(0o644)
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())
        files = list(path.parent.iterdir())
        assert len(files) > 1
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@posix_only
@pytest.mark.parametrize("linked", ["", "-journal", "-wal", "-shm"])
@asynchronous
async def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path, linked: str) -> None:
    """The file that it leads to is not touched."""
    target = tmp_path / "precious"
    target.write_bytes(b"")
    path.with_name(path.name + linked).symlink_to(target)

    with pytest.raises(LedgerError, match="symbolic link"):
        await SqliteLedger(path).open()
    assert target.read_bytes() == b""


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make another user's link")
@asynchronous
async def test_a_folder_behind_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    """Links of one's own and of root are followed: homes and temporary folders are often behind one."""
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    async with SqliteLedger(link / "test.ledger"):
        pass
    os.lchown(link, 12345, 12345)
    with pytest.raises(LedgerError, match="another user"):
        await SqliteLedger(link / "test.ledger").open()


def _missing_folder(path: Path) -> Path:
    return path.parent / "missing" / path.name


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _text(path: Path) -> Path:
    path.write_bytes(b"evdb_vehicle_id\n" * 1000)
    return path


def _foreign(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE cats (name TEXT)")
    return path


def _newer(path: Path) -> Path:
    asyncio.run(_made(path))
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    return path


async def _made(path: Path) -> None:
    async with SqliteLedger(path):
        pass


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_missing_folder, "No such file"),
        (_folder, "a directory"),
        (_text, "no database"),
        (_foreign, "another program"),
        (_newer, "version 99"),
    ],
)
def test_what_is_no_ledger_is_refused_untouched(path: Path, make: Callable[[Path], Path], text: str) -> None:
    """With the path and the reason, before anything could be sent (D09, D10)."""
    given = make(path)
    before = given.read_bytes() if given.is_file() else None

    with pytest.raises(LedgerError, match=text) as caught:
        asyncio.run(SqliteLedger(given).open())

    assert str(given) in str(caught.value)
    assert before == (given.read_bytes() if given.is_file() else None)
    assert threads() == []


@posix_only
@pytest.mark.parametrize("make", [_text, _foreign, _newer])
def test_what_is_no_ledger_stays_open_to_whom_it_was(path: Path, make: Callable[[Path], Path]) -> None:
    """Another program's file keeps its mode, and so does what lies beside it."""
    files = [make(path), path.with_name(f"{path.name}-journal")]
    for file in files:
        file.touch()
        file.chmod(0o644)

    with pytest.raises(LedgerError):
        asyncio.run(SqliteLedger(path).open())

    assert {stat.S_IMODE(file.stat().st_mode) for file in files if file.exists()} == {0o644}


@posix_only
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone can become somebody else")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_cannot_be_written_is_refused(tmp_path: Path, what: str) -> None:
    """A read-only file, or a folder nobody may write into (D09)."""
    folder = Path("/tmp") / f"oneauto-readonly-{os.getpid()}-{what}"
    folder.mkdir()
    try:
        path = folder / "test.ledger"
        asyncio.run(_made(path))
        path.chmod(0o400 if what == "file" else 0o600)
        for one in (folder, path):
            os.chown(one, 65534, 65534)
        folder.chmod(0o500 if what == "folder" else 0o700)
        if what == "folder":
            path.unlink()
        done = _as_nobody(path)
    finally:
        shutil.rmtree(folder)
    assert "LedgerError" in done.stderr, done.stderr


def _as_nobody(path: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import asyncio, os, sys\n"
        "import oneauto_async.ledger as l, oneauto_async.ledger._sqlite.writer\n"
        "os.setuid(65534)\n"
        f"asyncio.run(l.SqliteLedger({str(path)!r}).open())\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# Migrations.


@asynchronous
async def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one transaction, and what is in it stays (D10)."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key(), answer(b"kept"))
    new = (*schema.MIGRATIONS, ("CREATE TABLE notes (note TEXT)", "INSERT INTO notes VALUES ('second version')"))
    monkeypatch.setattr(connecting, "MIGRATIONS", new)

    async with SqliteLedger(path) as ledger:
        decision = await ledger.claim(key(), ANYTHING)

    assert isinstance(decision, Kept)
    assert asked(path, "PRAGMA user_version") == [(2,)]
    assert asked(path, "SELECT note FROM notes") == [("second version",)]


@asynchronous
async def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is as it was, and its own version opens it."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        broken = (*schema.MIGRATIONS, ("CREATE TABLE notes (note TEXT)", "CREATE TABLE lookups (x)"))
        patch.setattr(connecting, "MIGRATIONS", broken)
        with pytest.raises(LedgerError):
            await SqliteLedger(path).open()

    assert path.read_bytes() == before
    async with SqliteLedger(path) as ledger:
        assert isinstance(await ledger.claim(key(), ANYTHING), Kept)


@asynchronous
async def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    """Opening an empty file that is there makes it a ledger that can be used."""
    path.touch()
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())


@pytest.mark.parametrize(
    ("version", "has_it"),
    [((3, 40, 1), True), ((3, 44, 6), False), ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False)],
)
def test_write_ahead_mode_is_for_those_that_do_it_right(version: tuple[int, ...], has_it: bool) -> None:
    """Others write with a rollback journal."""
    assert connecting.has_wal_reset_bug(version) is has_it


@asynchronous
async def test_the_writing_connection_syncs(path: Path, monkeypatch: pytest.MonkeyPatch, either_journal: str) -> None:
    """FULL: a commit returns when the disk has it (D03)."""
    seen: list[Any] = []

    def connect(path: Path) -> sqlite3.Connection:
        connection = connecting.connect(path)
        seen.extend(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode"))
        return connection

    monkeypatch.setattr(writer, "connect", connect)
    async with SqliteLedger(path):
        assert seen == [2, either_journal.lower()]


# Neighbours.


@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_two_ledgers_on_one_file_never_sell_an_id_twice(path: Path) -> None:
    """Each of a hundred ids is claimed once, by one or the other."""
    async with SqliteLedger(path) as one, SqliteLedger(path) as other:
        decisions = await asyncio.gather(
            *(ledger.claim(key(number), ANYTHING) for number in range(100) for ledger in (one, other))
        )
        claims = [decision for decision in decisions if isinstance(decision, Claim)]
        assert sorted(int(claim.key.vehicle_id) for claim in claims) == list(range(100))
        assert sum(isinstance(decision, Busy) for decision in decisions) == 100


@asynchronous
async def test_a_claim_is_taken_over_when_its_owner_is_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once on this machine; what it had sent is in doubt."""
    async with SqliteLedger(path) as gone, SqliteLedger(path) as here:
        await claimed(gone, key("claimed"))
        await sent(gone, key("sent"))
        assert isinstance(await here.claim(key("claimed"), ANYTHING), Busy)

        _pretend_the_first_is_gone(path)
        assert isinstance(await here.claim(key("claimed"), ANYTHING), Claim)
        assert isinstance(await here.claim(key("sent"), ANYTHING), HeldInDoubt)
        assert (await here.spending("default", "api.example")).committed == 2


def _pretend_the_first_is_gone(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
        hand.execute("UPDATE owners SET pid = 2147483646 WHERE owner = 1")


@asynchronous
async def test_on_another_machine_a_lease_must_run_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim made elsewhere is held until its lease ends, since its pid says nothing here."""
    async with SqliteLedger(path) as gone, SqliteLedger(path) as here:
        await claimed(gone, key())
        _pretend_the_first_is_gone(path)
        with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
            hand.execute("UPDATE owners SET machine = 'elsewhere' WHERE owner = 1")
        assert isinstance(await here.claim(key(), ANYTHING), Busy)
        with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
            hand.execute("UPDATE owners SET alive_until = 0 WHERE owner = 1")
        assert isinstance(await here.claim(key(), ANYTHING), Claim)


@asynchronous
async def test_a_process_that_was_taken_for_gone_finds_its_claims_lost(path: Path) -> None:
    """It may not send any more; but an answer that comes after all is kept."""
    async with SqliteLedger(path) as sleeper, SqliteLedger(path) as here:
        unsent = await claimed(sleeper, key("unsent"))
        under_way = await sent(sleeper, key("under way"))
        _pretend_the_first_is_gone(path)
        await claimed(here, key("unsent"))
        assert isinstance(await here.claim(key("under way"), ANYTHING), HeldInDoubt)

        assert not await sleeper.mark_sent(unsent)
        await sleeper.settle(under_way, answer(b"late"))

        decision = await here.claim(key("under way"), ANYTHING)
        assert isinstance(decision, Kept)
        assert decision.entry.raw == b"late"
        assert isinstance(await sleeper.claim(key("new"), ANYTHING), Claim)
        assert (await here.verify()).problems == ()


@asynchronous
async def test_a_lease_is_renewed_while_nothing_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for its turn for long is not taken for gone."""
    monkeypatch.setattr(owners, "LEASE", 0.4)
    monkeypatch.setattr(owners, "HEARTBEAT", 0.1)
    async with SqliteLedger(path) as waiting, SqliteLedger(path) as other:
        await claimed(waiting, key())
        with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
            hand.execute("UPDATE owners SET machine = 'elsewhere' WHERE owner = 1")
        await asyncio.sleep(0.9)
        assert isinstance(await other.claim(key(), ANYTHING), Busy)


@posix_only
@asynchronous
async def test_a_forked_child_is_refused(path: Path) -> None:
    """It has no threads, and the file's locks are its parent's."""
    async with SqliteLedger(path) as ledger:
        assert "fork" in _refusal_in_a_child(ledger)


def _refusal_in_a_child(ledger: SqliteLedger) -> str:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ledger.settle(Claim(seq=1, key=key(), claimed_at=0.0), answer())
        except LedgerError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8") as told:
        return told.read()


@pytest.mark.parametrize(
    ("change", "lives"),
    [
        ({}, True),
        ({"machine": "elsewhere"}, True),
        ({"boot": "before"}, False),
        ({"pid_space": "another container"}, True),
        ({"machine": "elsewhere", "boot": "before"}, True),
    ],
)
@asynchronous
async def test_who_is_taken_to_live(path: Path, change: dict[str, str], lives: bool) -> None:
    """Within its lease, another machine's or container's process is; one from before a restart is not."""
    async with SqliteLedger(path) as other, SqliteLedger(path) as here:
        await claimed(other, key())
        with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
            for name, value in change.items():
                hand.execute(f"UPDATE owners SET {name} = ? WHERE owner = 1", (value,))
        assert isinstance(await here.claim(key(), ANYTHING), Busy) is lives


@pytest.mark.parametrize("damage", ["pid = 'text'", "pid = 1 << 62", "alive_until = 'text'", "alive_until = x'00'"])
@asynchronous
async def test_a_process_of_which_the_row_is_damaged_is_taken_for_gone(path: Path, damage: str) -> None:
    """What it may have sent is in doubt; should it be there still, it sends nothing that it had claimed."""
    async with SqliteLedger(path) as other, SqliteLedger(path) as here:
        doubtful, free = await claimed(other, key(1)), await claimed(other, key(2))
        assert await other.mark_sent(doubtful)
        with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
            hand.execute(f"UPDATE owners SET {damage} WHERE owner = 1")

        assert isinstance(await here.claim(key(1), ANYTHING), HeldInDoubt)
        assert isinstance(await here.claim(key(2), ANYTHING), Claim)
        assert not await other.mark_sent(free)
    assert asked(path, "SELECT count(*) FROM lookups WHERE state = 'in_doubt'") == [(1,)]


# Budgets that begin within a day.


MOMENT = 1_780_012_800.0 - 4_000
"""Some while before a midnight (UTC)."""


@asynchronous
async def test_the_part_of_a_day_is_counted_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each claim, for as long as nobody else writes: the day may have a great many entries."""
    counts: list[float] = []
    count = spending.count_part

    def counted(connection: sqlite3.Connection, account: str, host: str, since: float) -> Spending:
        counts.append(since)
        return count(connection, account, host, since)

    monkeypatch.setattr(spending, "count_part", counted)
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key("first"))
        limit = Limit(most=100, since=time.time() - 1.5)
        for number in range(20):
            claim = await ledger.claim(key(number), ANYTHING, limit)
            assert isinstance(claim, Claim)
            await ledger.settle(claim, [answer(), doubt(), failure()][number % 3])
    assert len(counts) == 1


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_the_part_of_a_day_is_what_its_entries_say(path: Path, seed: int) -> None:
    """For two ledgers on one file, whatever either of them, or its undone transactions, did meanwhile."""
    since = MOMENT - 1_000
    dice, clock = random.Random(seed), VirtualClock()
    services = [SERVICE, attrs.evolve(SERVICE, endpoint="/another"), attrs.evolve(SERVICE, account="another")]
    moments = [since - 1, since, since + 1_000, since + 4_999, since + 5_000, since + 90_000]
    clock.wall = lambda: dice.choice(moments)  # type: ignore[method-assign]  # each order has a time of its own
    held: list[tuple[SqliteLedger, Claim]] = []

    async with SqliteLedger(path, clock=clock) as one, SqliteLedger(path, clock=clock) as other:
        for number in range(50):
            ledger = dice.choice([one, other])
            await _at_random(dice, ledger, key(number, dice.choice(services)), held)
            told = await ledger.claim(key("new"), ANYTHING, Limit(most=0, since=since))
            assert isinstance(told, OverBudget)
            assert told.spending == await ledger.spending("default", "api.example", since)


async def _at_random(
    dice: random.Random, ledger: SqliteLedger, what: LedgerKey, held: list[tuple[SqliteLedger, Claim]]
) -> None:
    """Take a step, of those that change what is spent."""
    if held and dice.random() < 0.4:
        owner, claim = held.pop(dice.randrange(len(held)))
        await owner.settle(claim, dice.choice([answer(), doubt(), failure()]))
    elif (doubts := await entries_of(ledger, State.IN_DOUBT)) and dice.random() < 0.3:
        await ledger.resolve(dice.choice(doubts).seq, billed=dice.random() < 0.5)
    elif dice.random() < 0.2:
        with pytest.raises(ZeroDivisionError):
            await ledger._order(lambda books: (books.claim(what, ANYTHING, None, MOMENT, sending=True), 1 / 0))
    else:
        claimed_now = await ledger.claim(what, ANYTHING, sending=dice.random() < 0.5)
        assert isinstance(claimed_now, Claim)
        held.append((ledger, claimed_now))


# Faults.


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Limit how large a file of this process may grow: as good as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@posix_only
@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_a_full_disk_loses_nothing(path: Path, small_files: Callable[[int], None]) -> None:
    """The order fails loudly, what is there stays, and what was owed is written once there is room."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key(1), answer(b"before"))
        claim = await sent(ledger, key(2))
        small_files(path.stat().st_size + 20_000)
        with pytest.raises(LedgerError, match="disk"):
            await ledger.settle(claim, answer(b"x" * 200_000))
        small_files(resource.RLIM_INFINITY)

        decision = await ledger.claim(key(1), ANYTHING)
        assert isinstance(decision, Kept)
        decision = await ledger.claim(key(2), ANYTHING)
        assert isinstance(decision, Kept)
        assert decision.entry.raw == b"x" * 200_000
        assert (await ledger.verify()).problems == ()


@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_a_lock_that_is_not_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is an error; a short one is waited for."""
    async with SqliteLedger(path) as ledger:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(ledger.claim(key(1), ANYTHING))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            other.execute("COMMIT")
            assert isinstance(await waiting, Claim)

            monkeypatch.setattr(connecting, "PATIENCE", 0.05)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError, match="locked"):
                await ledger.claim(key(2), ANYTHING)
            other.execute("COMMIT")
        assert isinstance(await ledger.claim(key(2), ANYTHING), Claim)


@asynchronous
async def test_signs_of_life_do_not_pile_up_behind_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an order wait for them, or the end."""
    monkeypatch.setattr(owners, "HEARTBEAT", 0.02)
    monkeypatch.setattr(writer, "SHORT_PATIENCE", 0.0)
    monkeypatch.setattr(connecting, "PATIENCE", 0.2)
    ledger = SqliteLedger(path)
    await ledger.open()
    assert ledger._threads is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="locked"):
            await ledger.flush()
        assert ledger._threads._writing._work_queue.qsize() <= 1
        began = time.monotonic()
        with pytest.raises(LedgerError, match="locked"):
            await ledger.aclose()
        assert time.monotonic() - began < 1.0
        other.execute("COMMIT")


@pytest.mark.parametrize("replaced", [False, True])
@asynchronous
async def test_a_file_that_vanishes_is_noticed(path: Path, replaced: bool) -> None:
    """Deleted or replaced: SQLite alone would go on writing into nothing."""
    ledger = SqliteLedger(path)
    await ledger.open()
    claim = await sent(ledger, key())
    path.rename(path.with_name("moved away"))
    if replaced:
        path.touch()

    with pytest.raises(LedgerError, match="deleted or replaced"):
        await ledger.settle(claim, answer())
    with pytest.raises(LedgerError, match="deleted or replaced"):
        await ledger.claim(key(2), ANYTHING)
    with pytest.raises(LedgerError, match="deleted or replaced"):
        await ledger.aclose()
    assert not ledger.is_open


@asynchronous
async def test_a_damaged_file_is_reported(path: Path) -> None:
    """Pages full of nonsense are an error, not an answer."""
    async with SqliteLedger(path) as ledger:
        await asyncio.gather(*(bought(ledger, key(number), answer(b"x" * 1000)) for number in range(200)))
    data = bytearray(path.read_bytes())
    data[8192:-8192] = b"\xa5" * (len(data) - 16384)
    path.write_bytes(data)

    with pytest.raises(LedgerError, match="damaged"):
        async with SqliteLedger(path) as ledger:
            await asyncio.gather(*(ledger.claim(key(number), ANYTHING) for number in range(200)))


@pytest.mark.parametrize("where", ["raw", "headers", "vehicle_id", "status", "account", "checksum", "flaw"])
@asynchronous
async def test_one_flipped_bit_is_found(path: Path, where: str) -> None:
    """In the answer, or in what it is the answer to (D23)."""
    async with SqliteLedger(path) as ledger:
        for number in range(3):
            await bought(ledger, key(number), answer(b"raw", flaw="TRUNCATED"))
    table = {"account": "services", "vehicle_id": "lookups", "status": "lookups"}.get(where, "answers")
    changed = {"raw": "x'726176'", "status": "201", "headers": "replace(headers, 'content', 'contemt')"}
    condition = "" if table == "services" else "WHERE seq = 2"
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute(f"UPDATE {table} SET {where} = {changed.get(where, repr('changed'))} {condition}")

    async with SqliteLedger(path) as ledger:
        verification = await ledger.verify()
        found = [entry.is_intact for entry in await entries_of(ledger)]

    assert verification.damaged == ((1, 2, 3) if table == "services" else (2,))
    assert [number for number, intact in enumerate(found, 1) if not intact] == list(verification.damaged)
    assert any("entry 2" in problem for problem in verification.problems)


@functools.cache
def _sound_file() -> bytes:
    """Return a ledger of five ids: three answers, a failure and a doubt."""

    async def fill(path: Path) -> None:
        async with SqliteLedger(path) as ledger:
            for number, end in enumerate([answer(), answer(), answer(), failure(), doubt()]):
                await bought(ledger, key(number), end)

    with tempfile.TemporaryDirectory() as name:
        asyncio.run(fill(Path(name) / "sound"))
        return (Path(name) / "sound").read_bytes()


async def _used_in_every_way(path: Path) -> None:
    async with SqliteLedger(path) as ledger:
        for number in range(6):
            await ledger.claim(key(number), ANYTHING)
        await ledger.standings(SERVICE, list("012345"), ANYTHING)
        await ledger.spending(SERVICE.account, SERVICE.host)
        await ledger.resolve(5, billed=True)


async def _looked_at_in_every_way(path: Path, ways: list[Callable[[SqliteLedger], Awaitable[object]]]) -> None:
    for way in ways:
        with suppress(LedgerError):
            async with SqliteLedger(path, read_only=True) as ledger:
                await way(ledger)


@examples(60)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_of_the_file_is_a_ledger_error_at_worst(place: int, bit: int) -> None:
    """Whoever reads on comes to an end, and no other exception comes out."""
    data = bytearray(_sound_file())
    written = [number for number, byte in enumerate(data) if byte]
    data[written[place % len(written)]] ^= 1 << bit
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "damaged"
        path.write_bytes(data)
        asyncio.run(_looked_at_in_every_way(path, [entries_of, SqliteLedger.verify]))
        with suppress(LedgerError):
            asyncio.run(_used_in_every_way(path))


@asynchronous
async def test_entries_out_of_order_end_what_reads_them(path: Path) -> None:
    """Going on from the last one, it would never end."""
    async with SqliteLedger(path) as ledger:
        for number in range(5):
            await bought(ledger, key(number))
    data = path.read_bytes()
    with closing(sqlite3.connect(path)) as hand:
        (page,) = hand.execute("SELECT rootpage FROM sqlite_master WHERE name = 'lookups'").fetchone()
    cells = data[4096 * (page - 1) + 8 :]
    cell = 4096 * (page - 1) + int.from_bytes(cells[6:8], "big")  # of the fourth row: its length, then its number
    assert data[cell + 1] == 4
    path.write_bytes(data[: cell + 1] + b"\x01" + data[cell + 2 :])

    async with SqliteLedger(path, read_only=True) as ledger:
        with pytest.raises(LedgerError, match="not in order"):
            await entries_of(ledger)
        assert (await ledger.verify()).problems


@asynchronous
async def test_a_damaged_list_of_services_makes_no_answer_look_new(path: Path) -> None:
    """Else all of them would be bought again, and no budget would know of what was spent."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key(1))
    data = path.read_bytes()
    with closing(sqlite3.connect(path)) as hand:
        pages = dict(hand.execute("SELECT name, rootpage FROM sqlite_master"))
    for name in ("services", "sqlite_autoindex_services_1"):
        start = 4096 * (pages[name] - 1)
        place = data.index(SERVICE.account.encode(), start)
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        for read_only in (False, True):
            with pytest.raises(LedgerError, match="damaged where it lists the services"):
                await _standing_of_one(SqliteLedger(path, read_only=read_only))


async def _standing_of_one(ledger: SqliteLedger) -> object:
    async with ledger:
        return await ledger.standings(SERVICE, ["1"], ANYTHING)


@asynchronous
async def test_a_number_that_no_entry_can_have_is_the_fault_of_who_asks_alone(path: Path) -> None:
    """What others ordered with it in one group is carried out."""
    async with SqliteLedger(path) as ledger:
        wrong, right = await asyncio.gather(
            ledger.resolve(2**63, billed=True), ledger.claim(key(1), ANYTHING), return_exceptions=True
        )
        for number in (-1, 0, 2**63 - 1):
            with pytest.raises(LedgerError, match="no entry"):
                await ledger.resolve(number, billed=True)

    assert isinstance(wrong, LedgerError)
    assert isinstance(right, Claim)


@pytest.mark.parametrize("path", ["a\0b", b"a"])
def test_a_path_that_is_no_text_is_refused_at_once(path: Any) -> None:
    """Bytes and a path with a NUL raise `ConfigurationError` when the ledger is made."""
    with pytest.raises(ConfigurationError, match="takes the path of a file as text"):
        SqliteLedger(path)


def test_standings_heed_all_terms_however_many_ids_there_are(path: Path) -> None:
    """They are found another way where most of the file is asked for."""
    clock = VirtualClock()

    async def main() -> list[object]:
        terms = Terms(max_age=1, accept_from=1)
        found: list[object] = []
        for books in (SqliteLedger(path, clock=clock), MemoryLedger(clock=clock)):
            async with books:
                await bought(books, key(1))
                await asyncio.sleep(10)
                found.append(await books.standings(SERVICE, ["1"], terms))
        return found

    found = clock.run(main())

    assert found[0] == found[1]
    assert found[0]


DAMAGES = [
    "state = 'answered', settled_at = 'x'",
    "state = 'answered', settled_at = NULL",
    "state = 'answered', settled_at = 9e999",
    "claimed_at = 'x'",
    "sent_at = x'ff'",
    "attempts = 'x'",
    "status = x'ff'",
    "note = x'ff'",
    "vehicle_id = x'ff'",
    "state = 'changed'",
    "billing = 'changed'",
]


async def _with_damage(path: Path, damage: str) -> None:
    """Change the second of three answers as no program would."""
    async with SqliteLedger(path) as ledger:
        for number in range(3):
            await bought(ledger, key(number))
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute("PRAGMA ignore_check_constraints = ON")
        hand.execute(f"UPDATE lookups SET {damage} WHERE seq = 2")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("damage", DAMAGES)
@asynchronous
async def test_a_damaged_entry_is_shown_and_holds_up_no_other(path: Path, damage: str, read_only: bool) -> None:
    """As far as it can be read, and it says so."""
    await _with_damage(path, damage)
    async with SqliteLedger(path, read_only=read_only) as ledger:
        found = await entries_of(ledger)
        verification = await ledger.verify()
        spent = await ledger.spending("default", "api.example", since=1.5)
    assert [entry.is_intact for entry in found] == [True, False, True]
    assert verification.damaged == (2,)
    assert any("entry 2: damaged" in problem for problem in verification.problems)
    assert spent.spent == 3


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if "vehicle_id" not in damage])
@asynchronous
async def test_a_damaged_entry_is_bought_again_on_request_alone(path: Path, damage: str) -> None:
    """It may have been paid for; who wants it anew says so."""
    await _with_damage(path, damage)
    async with SqliteLedger(path) as ledger:
        held = await ledger.claim(key(1), ANYTHING)
        assert isinstance(held, Kept | HeldInDoubt)
        assert not held.entry.is_intact
        assert isinstance(await ledger.claim(key(1), Terms(refresh=True, resend=True)), Claim)


@pytest.mark.parametrize("claimed_at", ["'x'", "-1e20", "1e300"])
@asynchronous
async def test_a_doubt_of_no_day_can_be_settled(path: Path, claimed_at: str) -> None:
    """The sum of all days follows, and verifying tells which day it cannot be."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key(), doubt())
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute(f"UPDATE lookups SET claimed_at = {claimed_at}")
    async with SqliteLedger(path) as ledger:
        await ledger.resolve(1, billed=True)
        assert await ledger.spending("default", "api.example") == Spending(billed=1)
        problems = (await ledger.verify()).problems
    assert any("no day" in problem for problem in problems)


@asynchronous
async def test_sums_that_do_not_agree_are_found(path: Path) -> None:
    """Someone has changed the money by hand."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())
    with closing(sqlite3.connect(path)) as hand, hand:
        hand.execute("UPDATE spending SET billed = 0")
    async with SqliteLedger(path) as ledger:
        assert [problem for problem in (await ledger.verify()).problems if "sum" in problem]


# Strangers.


@asynchronous
async def test_a_stranger_can_read_it(path: Path) -> None:
    """With the sqlite3 tool and no manual."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key("007"), answer(b'{"success":true}'))
        await bought(ledger, key("008"), doubt(status=504))
    rows = asked(path, "SELECT vehicle_id, state, billing, status, request_id, note, answer FROM ledger ORDER BY seq")
    assert rows == [
        ("007", "answered", "billed", 200, "request-1", None, '{"success":true}'),
        ("008", "in_doubt", "unknown", 504, None, "the connection broke", None),
    ]
    ((moment,),) = asked(path, "SELECT claimed_at FROM ledger WHERE vehicle_id = '007'")
    assert moment.startswith("20")
    assert moment.endswith("Z")
    assert asked(path, "SELECT billed, in_doubt, under_way FROM spending") == [(1, 1, 0)]


@pytest.mark.usefixtures("either_journal")
@asynchronous
async def test_a_reader_is_never_refused(path: Path) -> None:
    """It waits for a commit at most, while a batch writes (D18)."""
    async with SqliteLedger(path) as ledger:
        writing = asyncio.gather(*(bought(ledger, key(number)) for number in range(300)))
        with closing(sqlite3.connect(path, timeout=10)) as reader:
            counts = []
            while not writing.done():
                counts.append(reader.execute("SELECT count(*) FROM lookups").fetchone()[0])
                await asyncio.sleep(0.002)
        await writing
    assert counts == sorted(counts)


@asynchronous
async def test_the_event_loop_is_not_held_up(path: Path) -> None:
    """By a disk that takes its time, least of all."""
    stalls: list[float] = []
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        while True:
            before = loop.time()
            await asyncio.sleep(0.001)
            stalls.append(loop.time() - before)

    async with SqliteLedger(path) as ledger:
        watching = asyncio.create_task(watch())
        with closing(sqlite3.connect(path, isolation_level=None)) as slow:
            slow.execute("BEGIN IMMEDIATE")
            waiting = asyncio.gather(*(bought(ledger, key(number)) for number in range(100)))
            await asyncio.sleep(0.3)
            slow.execute("COMMIT")
        await waiting
        watching.cancel()
    assert max(stalls) < 0.1


@asynchronous
async def test_a_group_shares_one_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred orders, of which each two come one after the other, are a few commits."""
    async with SqliteLedger(path) as ledger:
        await claimed(ledger, key("first"))
        groups: list[int] = []
        run = writer.Writer.run

        def counted(self: writer.Writer, orders: Sequence[writer.Order]) -> _groups.Done:
            groups.append(len(orders))
            return run(self, orders)

        monkeypatch.setattr(writer.Writer, "run", counted)
        await asyncio.gather(*(bought(ledger, key(number)) for number in range(100)))
    assert len(groups) <= 2 * math.ceil(100 / FEW)


@asynchronous
async def test_where_a_great_many_stand_is_as_one_by_one(path: Path) -> None:
    """Reading all rows in order gives what judging each id gives, in every mixture of entries."""
    ends = [answer(), doubt(), failure(), nothing_known(), None]
    async with SqliteLedger(path, free_max_age=1) as ledger:
        mixtures = [(one, two) for one in range(5) for two in range(5)]
        for number, mixture in enumerate(mixtures):
            for which in mixture:
                claim = await ledger.claim(key(number), Terms(refresh=True, resend=True))
                if isinstance(claim, Claim):
                    assert await ledger.mark_sent(claim)
                    if (end := ends[which]) is not None:
                        await ledger.settle(claim, end)
        with closing(sqlite3.connect(path, timeout=10)) as hand, hand:
            hand.execute("UPDATE lookups SET settled_at = settled_at - 10 WHERE seq % 3 = 0")
            hand.execute("UPDATE lookups SET settled_at = 'damaged' WHERE seq % 7 = 0")
        ids = [str(number) for number in range(len(mixtures) + 5)]
        for terms in (ANYTHING, Terms(max_age=5), Terms(refresh=True), Terms(resend=True)):
            all_at_once = await ledger.standings(SERVICE, ids, terms)
            one_by_one: dict[str, Any] = {}
            for id_ in ids:
                one_by_one |= await _judged_alone(ledger, id_, terms)
            assert all_at_once == one_by_one


async def _judged_alone(ledger: SqliteLedger, id_: str, terms: Terms) -> dict[str, Any]:
    before, reader.WORTH_A_SWEEP = reader.WORTH_A_SWEEP, 0
    try:
        return dict(await ledger.standings(SERVICE, [id_], terms))
    finally:
        reader.WORTH_A_SWEEP = before

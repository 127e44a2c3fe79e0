"""A ledger that is only looked into: it shows what is there, and nothing on the disk changes by it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from support.ledgers import ANYTHING, SERVICE, answer, bought, claimed, entries_of, key, sent

from oneauto_async import LedgerError, OneAutoClient
from oneauto_async.ledger import Entry, HeldInDoubt, Spending, SqliteLedger, Standing, State
from oneauto_async.ledger._sqlite import connecting, schema
from oneauto_async.testing import Simulator

posix = pytest.mark.skipif(os.name != "posix", reason="kills a process, or takes rights away")


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop."""

    @wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        asyncio.run(test(*arguments, **options))

    return run


@pytest.fixture(params=["PERSIST", "WAL"], autouse=True)
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing."""
    monkeypatch.setattr(connecting, "journal_mode", lambda: request.param)
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger is: alone in its folder."""
    (tmp_path / "books").mkdir()
    return tmp_path / "books" / "answers.ledger"


def on_disk(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return all that can be seen of a folder: names, modes, times and bytes. SQLite's index of a log is none of it."""
    files = [file for file in path.parent.iterdir() if not file.name.endswith("-shm")]
    return {file.name: (file.stat().st_mode, file.stat().st_mtime_ns, file.read_bytes()) for file in files}


async def looked(path: Path) -> tuple[list[Entry], Spending, int]:
    """Look at everything."""
    async with SqliteLedger(path, read_only=True) as ledger:
        found = await ledger.verify()
        assert found.problems == ()
        return await entries_of(ledger), await ledger.spending("default", "api.example"), found.entries


DYING = """
import asyncio, os, signal, sys
sys.path[:0] = sys.argv[1:3]
from support.ledgers import bought, claimed, key, sent
from oneauto_async.ledger import SqliteLedger
from oneauto_async.ledger._sqlite import connecting
connecting.journal_mode = lambda: sys.argv[4]

async def main():
    ledger = SqliteLedger(sys.argv[3])
    await ledger.open()
    await bought(ledger, key("bought"))
    await sent(ledger, key("sent"))
    await claimed(ledger, key("claimed"))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
def left_behind(path: Path, journal: str) -> Path:
    """The ledger of a process that was killed in the middle of things."""
    places = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-c", DYING, *places, str(path), journal], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    return path


@asynchronous
async def test_looking_changes_nothing(path: Path) -> None:
    """Not a byte, not a time, and nothing is left beside the file."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())
    before = on_disk(path)
    entries, spending, checked = await looked(path)
    assert on_disk(path) == before
    assert ([entry.raw for entry in entries], spending, checked) == ([answer().raw], Spending(billed=1), 1)


@posix
@asynchronous
async def test_what_the_dead_left_behind_is_shown_in_doubt_and_left_alone(left_behind: Path) -> None:
    """As the next who writes will find it, but the looking itself settles nothing."""
    before = on_disk(left_behind)
    entries, spending, checked = await looked(left_behind)
    async with SqliteLedger(left_behind, read_only=True) as ledger:
        doubts = await entries_of(ledger, State.IN_DOUBT)
        standings = await ledger.standings(SERVICE, ["bought", "sent", "claimed", "other"], ANYTHING)
        found = [await ledger.find(key(identifier)) for identifier in ("bought", "sent", "claimed")]
        recent = await ledger.spending("default", "api.example", since=entries[1].claimed_at)
    assert on_disk(left_behind) == before

    assert [entry.state for entry in entries] == [State.ANSWERED, State.IN_DOUBT, State.FAILED]
    assert [(entry.key.vehicle_id, "ended before" in (entry.note or "")) for entry in doubts] == [("sent", True)]
    assert (spending, recent, checked) == (Spending(billed=1, in_doubt=1), Spending(in_doubt=1), 3)
    assert standings == {"bought": Standing.ANSWERED, "sent": Standing.IN_DOUBT}
    assert [entry and entry.state for entry in found] == [State.ANSWERED, State.IN_DOUBT, None]

    async with SqliteLedger(left_behind) as ledger:
        assert [entry.state for entry in await entries_of(ledger)] == [entry.state for entry in entries]


@asynchronous
async def test_what_the_living_are_doing_is_shown_as_it_is(path: Path) -> None:
    """Somebody who writes meanwhile is not held up, and what they add is seen."""
    async with SqliteLedger(path) as ledger, SqliteLedger(path, read_only=True) as looking:
        await sent(ledger, key("sent"))
        await claimed(ledger, key("claimed"))
        for number in range(50):
            await bought(ledger, key(number))
            assert len(await entries_of(looking)) == number + 3
        assert (await looking.spending("default", "api.example")) == Spending(billed=50, under_way=2)


async def _is_locked_after_a_look(path: Path) -> bool:
    """Take the write lock, look, and tell whether another process is still kept out.

    Closing a file drops the locks that a process has on it, unless SQLite does the closing.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await looked(path)
        done = await asyncio.to_thread(_try_to_lock, path)
    return b"locked" in done.stderr


@asynchronous
async def test_a_second_look_in_one_process_takes_no_locks_away(path: Path) -> None:
    """Looking at a ledger that is open here does not let others take its write lock."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key("1"))
        assert await _is_locked_after_a_look(path)


@asynchronous
async def test_a_look_takes_no_lock_away_where_nothing_lies_beside_the_file(path: Path) -> None:
    """As when one of two ledgers has closed and taken the journal away, and the other is about to write."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key("1"))
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert await _is_locked_after_a_look(path)


def _try_to_lock(path: Path) -> subprocess.CompletedProcess[bytes]:
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    return subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=False)


@asynchronous
async def test_nothing_can_be_written(path: Path) -> None:
    """What would write says so; flushing and closing have nothing to do."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())
        held = await claimed(ledger, key("2"))
    async with SqliteLedger(path, read_only=True) as ledger:
        for write in (ledger.claim(key("3"), ANYTHING), ledger.mark_sent(held), ledger.resolve(1, billed=True)):
            with pytest.raises(LedgerError, match="only to be read"):
                await write
        with pytest.raises(LedgerError, match="only to be read"):
            ledger.settle(held, answer())
        await ledger.flush()


@asynchronous
async def test_a_client_can_plan_with_it_and_buys_nothing(path: Path) -> None:
    """A lookup fails before its request leaves."""
    async with SqliteLedger(path):
        pass
    async with OneAutoClient.simulated(simulator := Simulator(), ledger=SqliteLedger(path, read_only=True)) as client:
        assert (await client.plan(range(5))).new == 5
        with pytest.raises(LedgerError, match="only to be read"):
            await client.lookup("1")
    assert simulator.requests.total() == 0


@asynchronous
async def test_only_a_ledger_is_opened(path: Path) -> None:
    """What is not there is not made, and what is something else is left as it is."""
    for text in (None, b"", b"no database, and longer than a header of one hundred bytes " * 5):
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(LedgerError, match=str(path)):
            await SqliteLedger(path, read_only=True).open()
        assert [file.read_bytes() for file in path.parent.iterdir()] == ([] if text is None else [text])


def _link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def _folder(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@posix
@pytest.mark.parametrize(
    ("put_there", "said"), [(_link, "a symbolic link"), (_folder, "a directory"), (_pipe, "not a plain file")]
)
@asynchronous
async def test_what_no_run_would_write_to_is_not_read_either(
    path: Path, put_there: Callable[[Path], None], said: str
) -> None:
    """An estimate and the run that follows agree about the file; and a pipe is not waited for."""
    async with SqliteLedger(path):
        pass
    put_there(path)
    for read_only in (True, False):
        with pytest.raises(LedgerError, match=f"is {said}: give the path of the file itself"):
            await SqliteLedger(path, read_only=read_only).open()


@asynchronous
async def test_one_that_needs_newer_tables_is_left_to_who_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened for reading only, an old ledger is refused and its file stays as it was."""
    async with SqliteLedger(path):
        pass
    before = on_disk(path)
    monkeypatch.setattr(connecting, "MIGRATIONS", (*schema.MIGRATIONS, ()))
    with pytest.raises(LedgerError, match="the next run will bring it up"):
        await SqliteLedger(path, read_only=True).open()
    assert on_disk(path) == before


@asynchronous
async def test_a_write_ahead_header_alone_makes_no_log(path: Path) -> None:
    """As after a visit of another program, or in a copy of the file alone."""
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key())
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA journal_mode = WAL")
    other.close()
    before = on_disk(path)
    assert len((await looked(path))[0]) == 1
    assert (on_disk(path), len(list(path.parent.iterdir()))) == (before, 1)


@asynchronous
async def test_a_write_that_was_cut_short_is_undone_in_a_copy(path: Path, tmp_path: Path) -> None:
    """The file and its journal stay as the dead process left them, for the next who writes to mend."""
    async with SqliteLedger(path) as ledger:
        for number in range(30):
            await bought(ledger, key(number), answer(b"x" * 5_000))
    _cut_short(path)
    before = on_disk(path)
    entries, spending, _ = await looked(path)
    assert on_disk(path) == before
    assert (len(entries), spending.billed, len(before)) == (30, 30, 2)


def _cut_short(path: Path) -> None:
    """Leave a file as a process does that dies half-way through a write."""
    code = (
        "import os, sqlite3, sys; file = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "file.execute('PRAGMA journal_mode = PERSIST'); file.execute('PRAGMA cache_size = 3'); file.execute('BEGIN');"
        "file.execute(\"UPDATE answers SET raw = 'spoilt' || raw\"); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.fixture
def without_rights(path: Path) -> Iterator[Callable[[], None]]:
    """Take away the right to write, from the file and its folder."""

    def take() -> None:
        for file in path.parent.iterdir():
            file.chmod(0o400)
        path.parent.chmod(0o500)

    yield take
    path.parent.chmod(0o700)
    shutil.rmtree(path.parent)


@posix
@pytest.mark.parametrize("state", ["closed", "left behind", "cut short", "write-ahead header", "log without index"])
def test_a_file_that_may_only_be_read_is_enough(
    path: Path, without_rights: Callable[[], None], request: pytest.FixtureRequest, state: str
) -> None:
    """In a folder that may only be read, whatever state the file was left in. (Nothing is forbidden to root.)"""
    if state in {"left behind", "log without index"}:
        request.getfixturevalue("left_behind")
    else:
        asyncio.run(_make(path))
    if state == "cut short":
        _cut_short(path)
    if state == "write-ahead header":
        with sqlite3.connect(path) as other:
            other.execute("PRAGMA journal_mode = WAL")
        other.close()
    if state == "log without index":
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    without_rights()
    before, names = on_disk(path), {file.name for file in path.parent.iterdir()}
    entries, spending, _ = asyncio.run(looked(path))
    assert (on_disk(path), spending.billed) == (before, 1)
    assert {file.name for file in path.parent.iterdir()} == names
    assert entries[0].state is State.ANSWERED


async def _make(path: Path) -> None:
    async with SqliteLedger(path) as ledger:
        await bought(ledger, key(), answer(b"x" * 100_000))


@asynchronous
async def test_writing_settles_what_looking_left(path: Path) -> None:
    """The next who writes finds the doubts just the same."""
    async with SqliteLedger(path) as ledger:
        await sent(ledger, key())
    await looked(path)
    async with SqliteLedger(path) as ledger:
        assert isinstance(await ledger.claim(key(), ANYTHING), HeldInDoubt)

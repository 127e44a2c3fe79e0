"""The ledger commands that only look: they work wherever a file can be read, and leave it as it is."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.cli import finish, listed, live, oneauto, posix, records, start, wait_until

from oneauto_async.testing import Simulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOKING = ("show", "export", "verify")


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return the files of a folder with their modes, times and bytes."""
    files = sorted(folder.iterdir())
    return {file.name: (file.stat().st_mode, file.stat().st_mtime_ns, file.read_bytes()) for file in files}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Path]:
    """A ledger alone in its folder, which may be made one that can only be read."""
    folder = tmp_path / "kept"
    folder.mkdir()
    source = listed(tmp_path, "1", "2", "SIM-502")
    assert oneauto("bulk", str(source), "--simulate", "--ledger", str(folder / "books")).returncode == 5
    yield folder / "books"
    folder.chmod(0o700)


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """The ledger of a run that was killed with three calls under way."""
    folder = tmp_path / "left"
    folder.mkdir()
    with serve(simulator := Simulator(latency=30)) as base_url:
        source = listed(tmp_path, "1", "2", "3")
        process = start("bulk", str(source), "--ledger", str(folder / "books"), env=live(base_url))
        wait_until(lambda: simulator.requests.total() == 3)
        process.kill()
        finish(process)
    return folder / "books"


@pytest.mark.parametrize("command", LOOKING)
def test_looking_leaves_everything_as_it_was(ledger: Path, command: str) -> None:
    """Bytes, times and modes of the file, and nothing beside it."""
    before = contents(ledger.parent)
    assert oneauto("ledger", command, str(ledger)).returncode == 0
    assert contents(ledger.parent) == before


@posix
@pytest.mark.parametrize("command", LOOKING)
def test_looking_needs_no_right_to_write(ledger: Path, command: str) -> None:
    """Neither to the file nor to its folder. (Nothing is forbidden to root.)"""
    ledger.chmod(0o400)
    ledger.parent.chmod(0o500)
    before = contents(ledger.parent)
    done = oneauto("ledger", command, str(ledger))
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(ledger.parent) == before


@posix
def test_looking_after_a_crash_shows_the_doubts_and_settles_none(abandoned: Path) -> None:
    """What was under way is listed in doubt, as the next run will find it; the file stays as the crash left it."""
    before = contents(abandoned.parent)
    shown, exported, verified = (oneauto("ledger", command, str(abandoned)) for command in LOOKING)
    assert contents(abandoned.parent) == before
    assert [done.returncode for done in (shown, exported, verified)] == [0, 0, 0]
    assert "0 billed, 3 in doubt, 0 under way" in shown.stdout
    assert shown.stdout.count("the process that sent it ended before an answer was written down") == 3
    assert {entry["state"] for entry in records(exported.stdout)} == {"in_doubt"}
    resolved = oneauto("ledger", "resolve", str(abandoned), "--not-billed", "1", "2", "3")
    assert (resolved.returncode, contents(abandoned.parent) == before) == (0, False)


@posix
def test_looking_while_another_process_writes(tmp_path: Path) -> None:
    """It shows what there is so far, and neither disturbs the other."""
    books, source = tmp_path / "books", listed(tmp_path, *map(str, range(20_000)))
    with serve(simulator := Simulator()) as base_url:
        process = start(
            "bulk", str(source), "-o", str(tmp_path / "out.csv"), "--ledger", str(books), env=live(base_url)
        )
        wait_until(lambda: simulator.total_billed > 5)
        shown, exported, verified = (oneauto("ledger", command, str(books)) for command in LOOKING)
        seen = simulator.total_billed
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert (done.returncode, max(simulator.bills.values())) == (130, 1)
    assert [looked.stderr for looked in (shown, exported, verified)] == ["", "", ""]
    assert 0 < len(records(exported.stdout)) <= seen + 50  # calls


def test_an_empty_file_holds_no_ledger(tmp_path: Path) -> None:
    """As before the first run on it; it is not made into one by looking, and a run may use it."""
    (books := tmp_path / "books").touch()
    for command in LOOKING:
        done = oneauto("ledger", command, str(books))
        assert (done.returncode, "there is no ledger" in done.stderr) == (7, True)
    assert books.read_bytes() == b""
    source = str(listed(tmp_path, "1"))
    assert "not there yet" in oneauto("estimate", source, "--simulate", "--ledger", str(books)).stdout
    assert oneauto("bulk", source, "--simulate", "--ledger", str(books)).returncode == 0


@posix
@pytest.mark.parametrize("command", [*LOOKING, "resolve", "estimate", "bulk"])
def test_every_command_refuses_what_is_no_plain_file_in_the_same_words(tmp_path: Path, command: str) -> None:
    """A pipe nobody writes to, a link to a ledger, and one that leads nowhere: an estimate agrees with its run."""
    source = str(listed(tmp_path, "1"))
    assert oneauto("bulk", source, "--simulate", "--ledger", str(tmp_path / "books")).returncode == 0
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("books")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("pipe", "link", "dangling"):
        ledger = str(tmp_path / name)
        if command in {"estimate", "bulk"}:
            done = oneauto(command, source, "--simulate", "--ledger", ledger)
        else:
            done = oneauto("ledger", command, ledger, *(["--billed", "1"] if command == "resolve" else []))
        assert (done.returncode, "give the path of the file itself" in done.stderr) == (7, True), done.stderr
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", [*LOOKING, "resolve"])
def test_what_is_no_ledger_is_left_alone(tmp_path: Path, command: str) -> None:
    """Another program's database, or a folder: exit 7 and one line."""
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    (tmp_path / "folder").mkdir()
    before = (tmp_path / "other").read_bytes()
    options = ["--billed", "1"] if command == "resolve" else []
    for name in ("other", "folder"):
        done = oneauto("ledger", command, str(tmp_path / name), *options)
        assert (done.returncode, done.stderr.count("\n"), "Traceback" in done.stderr) == (7, 1, False)
    assert (tmp_path / "other").read_bytes() == before

"""The command line at a terminal: the one question it asks, and the bar with its figures."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cli import PATIENCE, listed, live, posix, records

from oneauto_async import GovernorStatistics, RateLimit
from oneauto_async._cli.progress import Standing
from oneauto_async.testing import Simulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT = 5

AGAIN = 3.0
"""Seconds after which a person who hears nothing presses Ctrl-C once more."""

# The process takes the terminal for its own, so that Ctrl-C reaches it, and the simulator for a service that is paid.
AT_A_TERMINAL = """
import fcntl, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from oneauto_async._cli import main
from oneauto_async._cli.reaching import Settings
if "--as-if-paid" in sys.argv:
    sys.argv.remove("--as-if-paid")
    Settings.is_live = True
sys.exit(main())
"""


class Person:
    """Sits at a terminal that a process runs in."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: io.FileIO) -> None:
        self.process = process
        self._terminal = terminal
        self._descriptor = terminal.fileno()
        self.seen = ""

    def waits_for(self, text: str) -> None:
        """Read until a text appears."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            assert self._reads(), self.seen

    def types(self, keys: str) -> None:
        """Press keys."""
        os.write(self._descriptor, keys.encode())

    def answers(self, keys: str, question: str) -> None:
        """Press keys; Ctrl-C again if nothing comes of it: one that falls between question and reading is not heard."""
        self.types(keys)
        while keys == "\x03" and self.process.poll() is None and not self.seen.partition(question)[2].strip("^C\r\n"):
            if select.select([self._descriptor], [], [], AGAIN)[0]:
                self._reads()
            else:
                self.types(keys)

    def stays(self) -> int:
        """Read to the end, and return the exit code."""
        while self._reads():
            pass
        return self.process.wait(PATIENCE)

    def leaves(self) -> None:
        """Close the terminal."""
        self._terminal.close()

    def _reads(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], PATIENCE)
        assert ready, self.seen
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux ends a terminal's output this way
            data = b""
        self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode())
        return bool(data)


@contextlib.contextmanager
def at_a_terminal(*arguments: str, env: dict[str, str], columns: int = 100) -> Iterator[Person]:
    """Run the command line in a terminal of its own."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, *arguments],
        env=env | {"TERM": "xterm", "COLUMNS": str(columns)},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    terminal = io.FileIO(ours, "r+")
    try:
        yield Person(process, terminal)
    finally:
        process.kill()
        process.wait()
        terminal.close()


# The question.


@posix
@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ("y\n", 0, f"money: {COUNT} billed (£2.50 at £0.50 each)"),
        ("n\n", 2, "error: not agreed: nothing was sent"),
        pytest.param("\n", 2, "error: not agreed: nothing was sent", marks=pytest.mark.slow),
        pytest.param("\x04", 2, "error: not agreed: nothing was sent", marks=pytest.mark.slow),
        ("\x03", 130, "error: interrupted: nothing was sent"),
    ],
    ids=["yes", "no", "return", "end of input", "Ctrl-C"],
)
def test_a_person_is_asked_once_whether_to_spend(tmp_path: Path, keys: str, code: int, said: str) -> None:
    """With the estimate before the question; whatever is no yes sends nothing and leaves no file."""
    source, output = listed(tmp_path, *map(str, range(COUNT))), tmp_path / "out.csv"
    command = ("bulk", str(source), "-o", str(output), "--price", "0.50", "--as-if-paid")
    with serve(simulator := Simulator()) as base_url, at_a_terminal(*command, env=live(base_url)) as person:
        person.waits_for("Ask for them? [y/N] ")
        asked = (simulator.requests.total(), f"most it can cost: {COUNT} answers (£2.50" in person.seen)
        person.answers(keys, "[y/N] ")
        ended = person.stays()
        sent = simulator.requests.total()
    assert (asked, ended, sent) == ((0, True), code, COUNT if code == 0 else 0)
    assert (person.seen.count("[y/N]"), person.seen.count("Traceback")) == (1, 0)
    assert any(line.startswith(said) for line in person.seen.splitlines())
    files = {"ids.txt", "out.csv", "out.csv.ledger"} if code == 0 else {"ids.txt"}
    assert {file.name for file in tmp_path.iterdir()} == files


@posix
@pytest.mark.parametrize("cap", ["--max-calls", "--no-question-is-needed"])
def test_a_cap_or_what_costs_nothing_asks_nothing(tmp_path: Path, cap: str) -> None:
    """A cap is leave enough, and this machine's own address costs nothing."""
    source = listed(tmp_path, *map(str, range(COUNT)))
    options = ("--max-calls", str(COUNT), "--as-if-paid") if cap == "--max-calls" else ()
    command = ("bulk", str(source), "-o", str(tmp_path / "out.csv"), *options)
    with serve(Simulator()) as base_url, at_a_terminal(*command, env=live(base_url)) as person:
        assert (person.stays(), "[y/N]" in person.seen) == (0, False)


@posix
def test_two_ctrl_c_at_a_terminal_end_a_run(tmp_path: Path) -> None:
    """The first drains, the second does not wait; what was answered is in the output."""
    source, output = listed(tmp_path, "1", "SIM-SILENT"), tmp_path / "out.jsonl"
    command = ("bulk", str(source), "-o", str(output), "--drain", "1000")
    with serve(simulator := Simulator()) as base_url, at_a_terminal(*command, env=live(base_url)) as person:
        person.waits_for("1/2")
        person.types("\x03")
        person.waits_for("stopping: waiting at most 1000 s")
        person.types("\x03")
        assert (person.stays(), simulator.requests.total()) == (130, 2)
    assert "Traceback" not in person.seen
    assert '"found"' in output.read_text()


@posix
def test_a_terminal_that_is_closed_ends_a_run_like_ctrl_c(tmp_path: Path) -> None:
    """Though nobody sees the bar and the end any more, what was answered takes its name."""
    source, output = listed(tmp_path, "1", "SIM-SILENT"), tmp_path / "out.jsonl"
    command = ("bulk", str(source), "-o", str(output), "--drain", "0.1")
    with serve(Simulator()) as base_url, at_a_terminal(*command, env=live(base_url)) as person:
        person.waits_for("1/2")
        person.leaves()
        assert person.process.wait(PATIENCE) == 130
    assert [record["outcome"] for record in records(output.read_text())] == ["found", "in_doubt"]
    assert {file.name for file in tmp_path.iterdir()} == {"ids.txt", "out.jsonl", "out.jsonl.ledger"}


# The bar.


def statistics(**changes: Any) -> GovernorStatistics:
    """Return what a governor tells at first, but for some changes."""
    at_first: dict[str, Any] = {
        "phase": "ramp", "rate": None, "level": None, "learnt": None, "waiting": 0, "in_flight": 0, "gate": 0.0,
        "is_outage": False, "granted": 0, "accepted": 0, "throttled": 0, "unavailable": 0, "failed": 0,
    }  # fmt: skip
    return GovernorStatistics(**(at_first | changes))


@pytest.mark.parametrize(
    ("changes", "speed", "figures"),
    [
        ({}, None, "429s 0, billed 7"),
        ({}, 31.6, "32/s, 429s 0, billed 7"),
        ({"phase": "free", "rate": 50.0}, 31.6, "32/s, limit 50/s, 429s 0, billed 7"),
        ({"learnt": RateLimit(49.7, 10), "throttled": 12}, 48.2, "48/s, limit 50/s learnt, 429s 12, billed 7"),
        ({"learnt": RateLimit(0.52), "throttled": 2}, 0.4, "0/s, limit 0.52/s learnt, 429s 2, billed 7"),
        ({"gate": 3.2, "learnt": RateLimit(49.7), "throttled": 1}, 9.0, "paused 4 s: Retry-After, 429s 1, billed 7"),
        ({"is_outage": True, "unavailable": 3}, 9.0, "outage: one call at a time, 429s 0, 500s and 503s 3, billed 7"),
    ],
)
def test_the_figures_beside_the_bar(changes: dict[str, Any], speed: float | None, figures: str) -> None:
    """How fast it goes and what the key allows, as far as is known; or why nothing goes; and what it has cost."""
    assert Standing(done=1, billed=7, statistics=statistics(**changes)).figures(speed) == figures


@posix
def test_a_run_shows_pauses_and_the_limit_it_learnt(tmp_path: Path) -> None:
    """Against a key that allows 30 a second and asks for a rest at each 429."""
    source = listed(tmp_path, *map(str, range(75)))
    command = ("bulk", str(source), "-o", str(tmp_path / "out.csv"), "--no-ledger")
    simulator = Simulator(rate=30, burst=5, retry_after="1")
    with serve(simulator) as base_url, at_a_terminal(*command, env=live(base_url)) as person:
        assert person.stays() == 0
    assert "paused 1 s: Retry-After" in person.seen
    assert re.search(r"\d+/s, limit \d+/s learnt, 429s \d+, billed \d+", person.seen)
    assert f"429s {simulator.statuses[429]}, billed 75" in person.seen


@posix
@pytest.mark.parametrize("columns", [60, *(pytest.param(wide, marks=pytest.mark.slow) for wide in (80, 200))])
def test_the_bar_keeps_to_its_line(tmp_path: Path, columns: int) -> None:
    """However narrow the terminal is."""
    source = listed(tmp_path, *map(str, range(COUNT)))
    command = ("bulk", str(source), "-o", str(tmp_path / "out.csv"), "--simulate", "--rate", "50")
    with at_a_terminal(*command, env=live("http://127.0.0.1:1"), columns=columns) as person:
        assert person.stays() == 0
    bars = [line for line in re.split(r"[\r\n]+", person.seen) if "5/5" in line]
    assert 0 < max(len(line.rstrip()) for line in bars) <= columns


@posix
@pytest.mark.parametrize(("option", "is_table"), [("--no-ledger", False), ("--ledger=books", True)])
def test_what_no_ledger_keeps_is_shown_as_it_comes(tmp_path: Path, option: str, is_table: bool) -> None:
    """A table comes at the end, and a run that is killed before that would lose what was paid for."""
    command = ("bulk", str(listed(tmp_path, "1", "2", "3")), option.replace("books", str(tmp_path / "books")))
    with serve(Simulator()) as base_url, at_a_terminal(*command, env=live(base_url)) as person:
        assert person.stays() == 0
    assert ('{"evdb_vehicle_id": "1"' not in person.seen) is is_table

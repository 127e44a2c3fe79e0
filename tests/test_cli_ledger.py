"""The command line and money: ledgers that runs go on from, caps, leave to spend, and the ledger commands."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cli import (
    PATIENCE,
    VANS,
    Run,
    answered,
    environment,
    finish,
    inside,
    listed,
    live,
    oneauto,
    paid,
    posix,
    read_until,
    records,
    start,
    wait_until,
)

from oneauto_async import LedgerError
from oneauto_async._cli import estimating
from oneauto_async._cli.earlier import holds_answer, may_hold_more
from oneauto_async._cli.interrupts import ECHO
from oneauto_async._cli.reaching import Settings
from oneauto_async._cli.records import COLUMNS
from oneauto_async.ledger import SqliteLedger
from oneauto_async.testing import SIMULATOR_KEY, SimulatedAnswer, Simulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oneauto_async import Plan
    from oneauto_async._cli.job import Job

COUNT = 60

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    """A list of different ids."""
    return listed(tmp_path, *(str(10_000 + number) for number in range(COUNT)))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line inside this process."""
    return inside(monkeypatch, capsys)


def by_id(path: Path) -> dict[str, str]:
    """Return the outcome of each id in an output."""
    return {record["evdb_vehicle_id"]: record["outcome"] for record in records(path.read_text())}


# The ledger of a run.


def test_a_second_run_pays_for_nothing(tmp_path: Path, ids: Path) -> None:
    """The ledger stands beside the output; the second run sends nothing and says so."""
    output = tmp_path / "out.jsonl"
    with serve(simulator := Simulator()) as base_url:
        first = oneauto("bulk", str(ids), "-o", str(output), env=live(base_url))
        again = oneauto("bulk", str(ids), "-o", str(output), env=live(base_url))
    assert (first.returncode, again.returncode, simulator.requests.total()) == (0, 0, COUNT)
    assert f"money: {COUNT} billed, 0 not billed, 0 in doubt, 0 served by the ledger" in first.stderr
    assert f"money: 0 billed, 0 not billed, 0 in doubt, {COUNT} served by the ledger" in again.stderr
    assert set(by_id(output).values()) == {"found"}
    assert (tmp_path / "out.jsonl.ledger").exists()


@pytest.mark.parametrize("options", [["--no-ledger", "-o", "out.jsonl"], ["--simulate", "-o", "out.jsonl"], []])
def test_without_a_ledger_there_is_no_file(tmp_path: Path, ids: Path, options: list[str]) -> None:
    """When told so, when it is simulated, and when there is no output that it could stand beside."""
    with serve(Simulator()) as base_url:
        done = oneauto("bulk", str(ids), *options, env=live(base_url), cwd=tmp_path)
    assert done.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"ids.txt", "out.jsonl"}


def test_what_was_simulated_is_never_taken_for_real(tmp_path: Path, ids: Path) -> None:
    """One ledger for both: the simulator's own answers are served to the next simulation, and to nothing else."""
    options = ("--ledger", str(tmp_path / "books"), "--max-calls", "1000")
    simulated = [oneauto("bulk", str(ids), "--simulate", *options) for _ in range(2)]
    with serve(simulator := Simulator()) as base_url:
        real = oneauto("bulk", str(ids), *options, env=live(base_url))
    assert f"{COUNT} served by the ledger" in simulated[1].stderr
    assert (real.returncode, simulator.total_billed) == (0, COUNT)


@posix
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow), (signal.SIGKILL, -9)],
)
def test_a_run_that_was_ended_goes_on(tmp_path: Path, ids: Path, number: signal.Signals, code: int) -> None:
    """The same command pays only for the rest; only a kill leaves doubts, and each one is listed and held."""
    output = tmp_path / "out.jsonl"
    command = ("bulk", str(ids), "-o", str(output), "--concurrency", "5")
    with serve(simulator := Simulator(latency=0.1)) as base_url:
        process = start(*command, env=live(base_url))
        wait_until(lambda: simulator.total_billed > 10)
        process.send_signal(number)
        ended = finish(process)
        went_on = oneauto(*command, env=live(base_url))
    outcomes = Counter(by_id(output).values())
    assert (ended.returncode, len(by_id(output))) == (code, COUNT)
    assert (max(simulator.bills.values()), outcomes["found"] + outcomes["in_doubt"]) == (1, COUNT)
    if code == 130:
        assert (went_on.returncode, outcomes["in_doubt"]) == (0, 0)
        assert "run the same command again: only these are asked for" in ended.stderr
    else:
        assert outcomes["in_doubt"] <= 5


def test_two_runs_at_once_buy_nothing_twice(tmp_path: Path, ids: Path) -> None:
    """On one ledger each waits for what the other is buying, and both have every answer."""
    books = ("--ledger", str(tmp_path / "books"), "--concurrency", "5")
    with serve(simulator := Simulator(latency=0.05)) as base_url:
        outputs = [str(tmp_path / f"{number}.jsonl") for number in range(2)]
        both = [start("bulk", str(ids), "-o", output, *books, env=live(base_url)) for output in outputs]
        codes = [finish(process).returncode for process in both]
    assert (codes, simulator.total_billed, max(simulator.bills.values())) == ([0, 0], COUNT, 1)
    assert [set(by_id(Path(output)).values()) for output in outputs] == [{"found"}, {"found"}]


@posix
def test_a_second_interruption_leaves_what_was_under_way_in_doubt(tmp_path: Path) -> None:
    """What was answered stays recorded; what was not is held by the next run, which sends nothing."""
    source, output = listed(tmp_path, "1", "SIM-SILENT", "2"), tmp_path / "out.jsonl"
    command = ("bulk", str(source), "-o", str(output), "--drain", "1000")
    with serve(simulator := Simulator()) as base_url:
        process = start(*command, env=live(base_url))
        wait_until(lambda: simulator.total_billed == 3 and answered(tmp_path / "out.jsonl.ledger") == 2)
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, "stopping: waiting at most 1000 s")
        time.sleep(2 * ECHO)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        went_on = oneauto(*command, env=live(base_url))
    assert (ended.returncode, went_on.returncode, simulator.requests.total()) == (130, 5, 3)
    assert by_id(output) == {"1": "found", "SIM-SILENT": "in_doubt", "2": "found"}
    assert "1 in doubt (1 of them before this run), 2 served by the ledger" in went_on.stderr
    assert "ledger resolve" in went_on.stderr


@posix
def test_two_interruptions_at_once_lose_no_recorded_answer(tmp_path: Path, ids: Path) -> None:
    """In the middle of many calls: each id is answered or in doubt, in both sides' books, and none is paid twice."""
    output = tmp_path / "out.jsonl"
    command = ("bulk", str(ids), "-o", str(output), "--concurrency", "20", "--drain", "1000")
    with serve(simulator := Simulator(latency=0.3)) as base_url:
        process = start(*command, env=live(base_url))
        wait_until(lambda: simulator.total_billed > 25)
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, "stopping: waiting at most 1000 s")
        time.sleep(2 * ECHO)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        verified = oneauto("ledger", "verify", f"{output}.ledger")
        recorded = {
            entry["evdb_vehicle_id"] for entry in records(oneauto("ledger", "export", f"{output}.ledger").stdout)
        }
        went_on = oneauto(*command, env=live(base_url))
    outcomes = Counter(by_id(output).values())
    assert (ended.returncode, verified.returncode, went_on.returncode in {0, 5}) == (130, 0, True)
    assert set(simulator.bills) >= recorded
    assert (max(simulator.requests.values()), outcomes["found"] + outcomes["in_doubt"]) == (1, COUNT)
    assert outcomes["in_doubt"] <= 20


def test_doubts_are_sent_again_only_on_request(tmp_path: Path) -> None:
    """--retry-in-doubt asks once more, knowingly; the output is replaced each time, as it holds nothing more."""
    command = ("bulk", str(listed(tmp_path, "1", "SIM-502")), "-o", str(tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        codes = [oneauto(*command, *more, env=live(base_url)).returncode for more in ([], [], ["--retry-in-doubt"])]
    assert (codes, simulator.requests["SIM-502"], simulator.requests["1"]) == ([5, 5, 5], 2, 1)
    assert {file.name for file in tmp_path.iterdir()} == {"ids.txt", "out.csv", "out.csv.ledger"}


def test_every_request_in_doubt_is_told_in_money(tmp_path: Path) -> None:
    """Also two of one id, and one whose second request was answered."""
    source = str(listed(tmp_path, "SIM-502", "1"))
    command = ("bulk", source, "-o", str(tmp_path / "out.csv"), "--price", "0.50", "--retry-in-doubt", "--rate", "1")
    with serve(simulator := Simulator()) as base_url:
        simulator.fail_next(3, 504)
        done = oneauto(*command, env=live(base_url))
    assert "1 billed (£0.50 at £0.50 each), 0 not billed, 3 in doubt (at most £1.50 by this run)" in done.stderr


def test_two_runs_at_once_that_refresh_what_failed_buy_a_new_id_once(tmp_path: Path) -> None:
    """What the other run has bought a moment ago is not what was kept before."""
    command = ("bulk", str(listed(tmp_path, "SIM-FALSE")), "--refresh-failed", "--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator(latency=4.0)) as base_url:
        first = start(*command, "-o", str(tmp_path / "a.csv"), env=live(base_url))
        wait_until(lambda: simulator.requests.total() == 1)
        second = start(*command, "-o", str(tmp_path / "b.csv"), env=live(base_url))
        codes = [finish(run).returncode for run in (first, second)]
    assert (codes, dict(simulator.bills)) == ([1, 1], {"SIM-FALSE": 1})


@pytest.mark.parametrize("damage", ["settled_at = 'damaged'", "status = 'damaged'"])
def test_a_damaged_answer_is_bought_again_on_request(tmp_path: Path, damage: str) -> None:
    """Whatever its age would be; the older output, which has it, is left until then."""
    command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(output := tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        oneauto(*command, env=live(base_url))
        with closing(sqlite3.connect(tmp_path / "out.csv.ledger")) as hand, hand:
            hand.execute(f"UPDATE lookups SET {damage} WHERE vehicle_id = '1'")
        refused = oneauto(*command, env=live(base_url))
        bought = oneauto(*command, "--refresh-failed", env=live(base_url))
    assert (refused.returncode, bought.returncode, dict(simulator.bills)) == (7, 0, {"1": 2, "2": 1})
    assert f"{output} was left as it was: it has answers that this run lacks" in refused.stderr
    assert "--refresh-failed buys it again" in refused.stderr


def test_a_damaged_answer_keeps_no_output_from_its_name(tmp_path: Path) -> None:
    """What the others brought is there, run after run."""
    source = str(listed(tmp_path, "1", "2"))
    with serve(Simulator()) as base_url:
        oneauto("bulk", source, "-o", str(tmp_path / "first.csv"), "--ledger", str(tmp_path / "l"), env=live(base_url))
        with closing(sqlite3.connect(tmp_path / "l")) as hand, hand:
            hand.execute("UPDATE lookups SET status = 'damaged' WHERE vehicle_id = '1'")
        for _ in range(2):
            command = ("bulk", source, "-o", str(tmp_path / "second.csv"), "--ledger", str(tmp_path / "l"))
            done = oneauto(*command, env=live(base_url))
            assert (done.returncode, (tmp_path / "second.csv").exists()) == (7, True)
            assert "the ledger failed" not in done.stderr
    assert not (tmp_path / "second.csv.partial").exists()


def test_a_doubt_is_no_reason_to_replace_an_output_that_has_answers(tmp_path: Path) -> None:
    """Whatever page came with it; without a ledger, that output is the only place of what was paid for."""
    command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(output := tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        oneauto(*command, "--no-ledger", env=live(base_url))
        simulator.fail_next(2, 504)
        done = oneauto(*command, "--concurrency", "1", env=live(base_url))
    assert done.returncode == 5
    assert [row["outcome"] for row in csv.DictReader(output.read_text().splitlines())] == ["found", "found"]
    assert (tmp_path / "out.csv.partial").exists()


def test_an_odd_answer_that_may_be_charged_keeps_no_output_from_its_name(tmp_path: Path) -> None:
    """It is in both: its bytes come from the ledger as often as one likes."""
    command = ("bulk", str(listed(tmp_path, "SIM-201", "1", "2", "3")), "-o", str(output := tmp_path / "out.csv"))
    with serve(Simulator()) as base_url:
        first = oneauto(*command, "--max-calls", "2", "--concurrency", "1", env=live(base_url))
        second = oneauto(*command, "--max-calls", "20", env=live(base_url))
    assert (first.returncode, second.returncode) == (4, 5)
    assert not (tmp_path / "out.csv.partial").exists()
    assert [row["outcome"] for row in csv.DictReader(output.read_text().splitlines())][1:] == ["found"] * 3


def test_going_on_after_a_refresh_buys_nothing_a_third_time(tmp_path: Path) -> None:
    """The same command would: the ids that are left are to be named alone."""
    books = ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        oneauto("lookup", "1", "2", "3", "4", *books, env=live(base_url))
        done = oneauto("lookup", "1", "2", "3", "4", *books, "--refresh", "--max-calls", "6", env=live(base_url))
        told = done.stderr.partition("name ")[2].partition(" alone")[0].split()
        oneauto("lookup", *told, *books, "--refresh", "--max-calls", "8", env=live(base_url))
    assert len(told) == 2
    assert dict(simulator.bills) == {"1": 2, "2": 2, "3": 2, "4": 2}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--refresh-failed"], "the same command would buy once more what this run has bought and is of no use"),
        (["--refresh-failed", "--max-calls", "0"], "run the same command again: only these are asked for"),
        (["--max-age", "1000"], "only these are asked for, and what is too old for --max-age by then"),
    ],
)
def test_how_to_go_on_takes_heed_of_what_is_bought_again(tmp_path: Path, option: list[str], said: str) -> None:
    """What was bought a moment ago would be bought once more, or will be soon."""
    command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(tmp_path / "out.csv"), "--max-calls", "1", *option)
    with serve(Simulator()) as base_url:
        assert said in oneauto(*command, env=live(base_url)).stderr


@pytest.mark.parametrize(("cap", "left"), [("5", 5), ("7", 3)])
@pytest.mark.parametrize("output", [["-o", "out.csv"], []])
def test_going_on_after_refresh_failed_buys_all_that_is_left_and_nothing_a_third_time(
    tmp_path: Path, output: list[str], cap: str, left: int
) -> None:
    """The command that is told asks for those alone; until then the bytes that were paid for stay the record."""
    useless = ["SIM-FALSE", "SIM-MALFORMED", "SIM-NAN", "SIM-WRONG-TYPES"]
    books = ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        env = live(base_url)
        oneauto("bulk", str(listed(tmp_path, *useless)), *books, env=env)
        source, wishes = str(listed(tmp_path, *useless, "1", "2")), ("--refresh-failed", "--max-calls", cap)
        done = oneauto("bulk", source, *books, *output, *wishes, "--concurrency", "1", env=env, cwd=tmp_path)
        told = shlex.split(done.stderr.partition("run `oneauto-async ")[2].partition("` for them alone")[0])
        oneauto(*told, env=env, cwd=tmp_path)
    shown = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines())) if output else records(done.stdout)
    assert (done.returncode, f"{left} ids are left" in done.stderr, len(shown)) == (4, True, 6)
    assert all(record["raw"] for record in shown if record["evdb_vehicle_id"] in useless)
    assert dict(simulator.bills) == dict.fromkeys(useless, 2) | {"1": 1, "2": 1}


def test_going_on_after_retry_in_doubt_sends_no_doubt_a_third_time(tmp_path: Path) -> None:
    """The end of the run does not say that nothing is sent again by itself: with that option it would be."""
    command = ("bulk", str(listed(tmp_path, "SIM-502", "1", "2")), "-o", str(tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        oneauto("bulk", str(listed(tmp_path, "SIM-502")), "-o", str(tmp_path / "out.csv"), env=live(base_url))
        listed(tmp_path, "SIM-502", "1", "2")
        options = ("--retry-in-doubt", "--max-calls", "3", "--concurrency", "1")
        done = oneauto(*command, *options, env=live(base_url))
        again = oneauto(*command, "--max-calls", "9", env=live(base_url))
    assert "run the same command again without --retry-in-doubt" in done.stderr
    assert "nothing asks again" not in done.stderr
    assert "so nothing asks again by itself" in again.stderr
    assert (again.returncode, simulator.requests["SIM-502"], simulator.bills["2"]) == (5, 2, 1)


@pytest.mark.parametrize(("stop", "code"), [("budget", 4), ("refused key", 3)])
@pytest.mark.parametrize("option", [[], ["--retry-in-doubt"]])
def test_what_the_ledger_has_is_served_though_nothing_can_be_bought(
    tmp_path: Path, stop: str, code: int, option: list[str]
) -> None:
    """Answers and doubts behind the id that stopped the run are told; only what was never bought is left."""
    books = ("--ledger", str(tmp_path / "books"))
    kept = [str(number) for number in range(200)]
    with serve(simulator := Simulator()) as base_url:
        oneauto("bulk", str(listed(tmp_path, *kept, "SIM-502")), *books, env=live(base_url))
        bought = simulator.total_billed
        source = str(listed(tmp_path, "new-1", "new-2", *kept[:100], "new-3", *kept[100:], "SIM-502"))
        cap, key = ("201", SIMULATOR_KEY) if stop == "budget" else ("999", "not-the-key")
        command = ("bulk", source, *books, "--max-calls", cap, "--concurrency", "5", "-o", str(tmp_path / "out.jsonl"))
        done = oneauto(*command, *option, env=live(base_url, key))
    outcomes = by_id(tmp_path / "out.jsonl")
    left = {identifier for identifier, outcome in outcomes.items() if outcome not in {"found", "in_doubt"}}
    assert (done.returncode, left, outcomes["SIM-502"]) == (code, {"new-1", "new-2", "new-3"}, "in_doubt")
    assert "3 ids are left" in done.stderr
    assert "200 served by the ledger" in done.stderr
    assert simulator.total_billed == bought
    errors = {record["error"] for record in records((tmp_path / "out.jsonl").read_text())}
    assert ("BudgetExceededError" in errors) is (stop == "budget")


class Unusable(Simulator):
    """A simulator with an id whose answer is free, and no JSON."""

    def _special(self, call: Any) -> SimulatedAnswer | None:
        is_free = call.evdb_vehicle_id == "free"
        return SimulatedAnswer(status=206, body=b"no JSON") if is_free else super()._special(call)


def test_a_kept_answer_of_no_use_hides_none_behind_it_when_nothing_can_be_bought(tmp_path: Path) -> None:
    """A free one that does not fit would be asked for again: it is left, and the others are served."""
    source, books = listed(tmp_path, "free", "1", "2"), ("--ledger", str(tmp_path / "books"))
    with serve(Unusable()) as base_url:
        env = live(base_url)
        oneauto("bulk", str(source), *books, env=env)
        options = ("--max-calls", "2", "--concurrency", "1", "-o", str(tmp_path / "out.jsonl"))
        done = oneauto("bulk", str(listed(tmp_path, "new", "free", "1", "2")), *books, *options, env=env)
    assert done.returncode == 4
    assert list(by_id(tmp_path / "out.jsonl").values()) == ["not_sent", "not_sent", "found", "found"]


def test_an_older_output_with_a_very_large_cell_is_read_like_any_other(tmp_path: Path) -> None:
    """It may be the only place of what was paid for; a heading of ours and damage behind it may be, too."""
    record = dict.fromkeys(COLUMNS, "") | {"evdb_vehicle_id": "1", "outcome": "found", "billing": "billed"}
    big = record | {"evdb_vehicle_id": "2", "outcome": "failed", "raw": "x" * 200_000}
    older = tmp_path / "out.csv"
    with older.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([big, record])
    assert holds_answer(older, {"1"}.__contains__)
    assert not holds_answer(older, {"3"}.__contains__)

    older.write_bytes(older.read_bytes() + b'"')
    assert holds_answer(older, {"3"}.__contains__)


@pytest.mark.parametrize("both", [[], ["--billed", "--not-billed"]])
def test_a_doubt_is_settled_by_one_word_and_not_by_two(tmp_path: Path, both: list[str]) -> None:
    """Resolving without a verdict, or with both, exits with 2 and leaves the doubt as it is."""
    with serve(Simulator()) as base_url:
        oneauto("lookup", "SIM-502", "--ledger", str(tmp_path / "books"), env=live(base_url))
    wrong = oneauto("ledger", "resolve", str(tmp_path / "books"), "SIM-502", *both)
    assert (wrong.returncode, "either --billed or --not-billed" in wrong.stderr) == (2, True)
    assert "1 in doubt" in oneauto("ledger", "show", str(tmp_path / "books")).stdout


def test_useless_answers_are_bought_again_only_on_request(tmp_path: Path) -> None:
    """--refresh-failed buys those alone; without it they are served as they are."""
    command = ("bulk", str(listed(tmp_path, "1", "SIM-FALSE")), "-o", str(tmp_path / "out.jsonl"))
    with serve(simulator := Simulator()) as base_url:
        codes = [oneauto(*command, *more, env=live(base_url)).returncode for more in ([], [], ["--refresh-failed"])]
    assert (codes, dict(simulator.bills)) == ([1, 1, 1], {"1": 1, "SIM-FALSE": 2})
    assert len(records((tmp_path / "out.jsonl").read_text())) == 2


def test_a_useless_answer_is_shown_also_when_the_ledger_serves_it(tmp_path: Path) -> None:
    """The second run bills nothing, and its record still has the bytes that were paid for."""
    command = ("bulk", str(listed(tmp_path, "SIM-FALSE", "1")), "-o", str(tmp_path / "out.jsonl"))
    shown = []
    with serve(Simulator()) as base_url:
        for _ in range(2):
            oneauto(*command, env=live(base_url))
            shown.append(records((tmp_path / "out.jsonl").read_text())[0])
    assert [(record["source"], record["billing"]) for record in shown] == [
        ("simulator", "billed"),
        ("ledger", "not billed"),
    ]
    assert shown[0]["raw"]
    assert shown[1]["raw"] == shown[0]["raw"]


def test_old_answers_are_bought_again(tmp_path: Path) -> None:
    """--max-age says how old is too old."""
    command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        for age in ("3600", "3600", "0.001"):
            oneauto(*command, "--max-age", age, env=live(base_url))
    assert dict(simulator.bills) == {"1": 2, "2": 2}


@pytest.mark.parametrize("place", ["no/folder", "text", "."])
def test_a_ledger_that_cannot_be_is_7(tmp_path: Path, ids: Path, place: str) -> None:
    """Before the first request, in one line, and the output is as it was."""
    (tmp_path / "text").write_text("not a database, and longer than a header of one hundred bytes" * 10)
    with serve(simulator := Simulator()) as base_url:
        options = ("-o", str(tmp_path / "out.csv"), "--ledger", str(tmp_path / place))
        done = oneauto("bulk", str(ids), *options, env=live(base_url))
    assert (done.returncode, simulator.requests.total(), "Traceback" in done.stderr) == (7, 0, False)
    assert "error: the ledger" in done.stderr
    assert not (tmp_path / "out.csv").exists()


FULL_DISK = (
    # Bytecode that is cut short would be found by the tests that follow.
    "import resource, signal, sys; sys.dont_write_bytecode = True; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (70000, 70000));"
    "from oneauto_async._cli import main; sys.exit(main())"
)


@posix
def test_a_ledger_that_fails_stops_the_run_and_what_it_lacks_is_replaced_by_no_other(tmp_path: Path) -> None:
    """The disk fills: exit 7, sending stops, and going on as advised leaves every paid answer where it was told."""
    source = listed(tmp_path, *(str(number) for number in range(400)))
    output, kept = tmp_path / "out.jsonl", tmp_path / "out.jsonl.partial"
    command = ("bulk", str(source), "-o", str(output), "--concurrency", "5")
    with serve(simulator := Simulator()) as base_url:
        done = subprocess.run(
            [sys.executable, "-c", FULL_DISK, *command],
            env=live(base_url), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        billed = set(simulator.bills)
        oneauto(*command, env=live(base_url))
    assert (done.returncode, "Traceback" in done.stderr, len(billed) < 400) == (7, False, True)
    assert f"output: {kept} (partial:" in done.stderr
    assert f"the ledger failed: an answer that it lacks is in {kept} alone" in done.stderr
    paid = {record["evdb_vehicle_id"] for record in records(kept.read_text()) if record["billing"] == "billed"}
    stranded = {record["evdb_vehicle_id"] for record in records(done.stdout) if record["billing"] == "billed"}
    assert (paid | stranded, max(simulator.bills.values())) == (billed, 1)
    assert len(records(output.read_text())) == 400


@pytest.mark.parametrize("older", ["out.jsonl", "out.csv"])
def test_a_new_ledger_that_gets_through_less_replaces_no_older_output(tmp_path: Path, ids: Path, older: str) -> None:
    """What was bought without it may be in that file alone; a run that gets through replaces it as ever."""
    output = tmp_path / older
    command = ("bulk", str(ids), "-o", str(output))
    with serve(Simulator()) as base_url:
        oneauto(*command, "--no-ledger", env=live(base_url))
        before = output.read_bytes()
        capped = oneauto(*command, "--max-calls", "10", env=live(base_url))
        kept = output.read_bytes()
        whole = oneauto(*command, env=live(base_url))
    assert (capped.returncode, kept == before, whole.returncode, output.read_bytes() == before) == (4, True, 0, False)
    assert f"output: {output}.partial; {output} was left as it was" in capped.stderr


def test_a_run_that_fails_for_good_where_an_older_output_has_an_answer_does_not_replace_it(tmp_path: Path) -> None:
    """Though it got through. An output of other ids, or of another program, is replaced."""
    output = tmp_path / "out.jsonl"
    command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(output))
    with serve(simulator := Simulator()) as base_url:
        oneauto(*command, "--no-ledger", env=live(base_url))
        before = output.read_bytes()
        simulator.fail_next(1, 400)
        done = oneauto(*command, env=live(base_url))
        kept = output.read_bytes()
        listed(tmp_path, "3", "SIM-400")
        oneauto(*command, env=live(base_url))
    assert (done.returncode, kept == before, output.read_bytes() == before) == (1, True, False)
    assert f"output: {output}.partial; {output} was left as it was: it has answers that this run lacks" in done.stderr


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        ("", False),
        ('{"evdb_vehicle_id": "1", "outcome": "found", "billing": "billed", "raw": null}\n', False),
        ('{"evdb_vehicle_id": "2", "outcome": "found", "billing": "not billed", "raw": null}\n', True),
        ('{"evdb_vehicle_id": "2", "outcome": "not_sent", "billing": "not billed", "raw": null}\n', False),
        ('{"evdb_vehicle_id": "2", "outcome": "in_doubt", "billing": "unknown", "raw": "<html>"}\n', False),
        ('{"evdb_vehicle_id": "2", "outcome": "failed", "billing": "not billed", "raw": "{}"}\n', True),
        ("evdb_vehicle_id,outcome,billing,raw\n1,found,billed,\n2,in_doubt,unknown,\n", False),
        ("evdb_vehicle_id,outcome,billing,raw\n1,found,billed,\n2,no_data,not billed,\n", True),
        ("van,depot\n1,Leeds\n", True),
        ("{\n", True),
    ],
)
def test_what_an_older_output_is_worth(tmp_path: Path, content: str, holds: bool) -> None:
    """An answer that is not there now, or anything in a file that another program wrote."""
    (older := tmp_path / "older").write_text(content)
    assert may_hold_more(older, {"1"}.__contains__) is holds


@posix
def test_an_interruption_while_the_ledger_is_opened_is_heard(
    run: Run, tmp_path: Path, ids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line says at once what it waits for, nothing is sent, and the exit code is that of an interruption."""

    async def open_slowly(ledger: SqliteLedger) -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await asyncio.sleep(PATIENCE)
        raise LedgerError("locked")

    monkeypatch.setattr(SqliteLedger, "open", open_slowly)
    code, stdout, stderr = run("bulk", str(ids), "--simulate", "--ledger", str(tmp_path / "books"))
    assert (code, stdout) == (130, "")
    assert "stopping, with nothing sent, as soon as the ledger is open or gives up" in stderr
    assert f"interrupted: {COUNT} ids are left, and this run paid nothing for them" in stderr


# Caps, and leave to spend.


def test_a_cap_holds_over_runs_and_raising_it_goes_on(tmp_path: Path, ids: Path) -> None:
    """However often it runs: exit 4 at the cap, what was paid is kept, and more is bought only if more is allowed."""
    command = ("bulk", str(ids), "-o", str(tmp_path / "out.jsonl"), "--concurrency", "30")
    bills = []
    with serve(simulator := Simulator()) as base_url:
        for cap in (["--max-calls", "7"], ["--max-calls", "7"], ["--max-cost", "£12", "--price", "0.5"]):
            done = oneauto(*command, *cap, env=live(base_url))
            bills.append((done.returncode, simulator.total_billed))
    assert bills == [(4, 7), (4, 7), (4, 24)]
    assert "allow more with --max-calls or --max-cost" in done.stderr
    assert "money: 17 billed (£8.50 at £0.50 each)" in done.stderr


def test_the_price_may_stand_in_the_environment(tmp_path: Path, ids: Path) -> None:
    """ONEAUTO_PRICE is exact: no binary fraction takes part."""
    with serve(simulator := Simulator()) as base_url:
        env = live(base_url) | {"ONEAUTO_PRICE": "0.1"}
        done = oneauto("bulk", str(ids), "--max-cost", "0.3", env=env)
    assert (done.returncode, simulator.total_billed) == (4, 3)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--max-cost", "5"], "--max-cost needs --price"),
        (["--max-cost", "much"], "is no amount"),
        (["--max-cost", "nan", "--price", "1"], "is no amount"),
        (["--max-cost", "5", "--price", "0"], "from 0.000001 to 1,000,000,000,000"),
        (["--max-calls", "-1"], "--max-calls"),
        (["--ledger", "x", "--no-ledger"], "exclude each other"),
        (["--no-ledger", "--max-age", "5"], "give --ledger"),
        (["--refresh-failed"], "give --ledger"),
        (["--ledger", str(VANS)], "is the input or the output"),
    ],
)
def test_options_about_money_are_checked(run: Run, options: list[str], complaint: str) -> None:
    """Before anything is sent, with what to do."""
    code, stdout, stderr = run("bulk", str(VANS), "--simulate", *options)
    assert (code, stdout, complaint in stderr) == (2, "", True)


def test_a_live_run_without_a_cap_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where nobody can be asked: exit 2, and the line says what to add. No file is made."""
    monkeypatch.setenv("ONEAUTO_API_KEY", "a-key")
    code, stdout, stderr = run("bulk", str(VANS), "-o", str(tmp_path / "out.csv"))
    assert (code, stdout, stderr.count("\n"), list(tmp_path.iterdir())) == (2, "", 1, [])
    assert "--max-calls 592" in stderr
    assert stderr.count("tells more") == 1


@pytest.mark.parametrize(
    ("settings", "is_live"),
    [
        ({}, True),
        ({"base_url": "https://proxy.example"}, True),
        ({"base_url": "http://127.0.0.1:8080"}, False),
        ({"base_url": "http://[::1]:8080"}, False),
        ({"base_url": "https://127.0.0.1.example"}, True),
        ({"sandbox": True}, False),
        ({"simulate": True}, False),
    ],
)
def test_what_costs_money(monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], is_live: bool) -> None:
    """Everything but the sandbox, the simulator and this machine."""
    monkeypatch.delenv("ONEAUTO_BASE_URL", raising=False)
    monkeypatch.delenv("ONEAUTO_SANDBOX", raising=False)
    assert Settings(**settings).is_live is is_live  # type: ignore[arg-type]  # one of its arguments each


@pytest.fixture
def paid_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A simulator that the command line takes for a service that costs money, and a person who can be asked."""
    with paid(monkeypatch, is_somebody_there=True) as simulator:
        yield simulator


@pytest.mark.parametrize(("answer", "code", "billed"), [("y\n", 0, COUNT), ("n\n", 2, 0), ("", 2, 0)])
def test_a_person_is_asked_once(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    ids: Path,
    answer: str,
    code: int,
    billed: int,
) -> None:
    """With the estimate; whatever is no yes is a no."""
    simulator = request.getfixturevalue("paid_service")
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    done, _, stderr = run("bulk", str(ids), "-o", str(ids.with_name("out.csv")), "--price", "0.50")
    assert (done, simulator.total_billed, stderr.count("[y/N]")) == (code, billed, 1)
    assert f"most it can cost: {COUNT} answers (£30.00 at £0.50 each)" in stderr


def test_a_yes_is_leave_for_what_was_asked_and_for_no_more(
    run: Run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Kept answers that get too old while the question stands are not bought on top, also where nothing is asked."""
    simulator: Simulator = request.getfixturevalue("paid_service")
    books = ("--ledger", str(tmp_path / "books"), "--max-age", "2")
    run("bulk", str(listed(tmp_path, "1", "2", "3")), *books, "--max-calls", "3")

    class Slow:
        def readline(self) -> str:
            time.sleep(2.1)
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Slow())
    code, _, stderr = run("bulk", str(listed(tmp_path, "4", "1", "2", "3")), *books, "--concurrency", "1")
    assert "most it can cost: 1 answer" in stderr
    assert (code, dict(simulator.bills)) == (4, {"1": 1, "2": 1, "3": 1, "4": 1})
    assert "allow more by another yes, or with --max-calls or --max-cost" in stderr


def test_a_run_that_needs_no_leave_buys_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Whatever has become of the ledger since the estimate."""
    simulator: Simulator = request.getfixturevalue("paid_service")
    command = ("bulk", str(listed(tmp_path, "1", "2")), "--ledger", str(tmp_path / "books"), "--max-age", "3")
    run(*command, "--max-calls", "2")
    planned = estimating._plan

    def slowly(job: Job) -> Plan:
        plan = planned(job)
        time.sleep(3.1)
        return plan

    monkeypatch.setattr(estimating, "_plan", slowly)
    assert (run(*command)[0], simulator.total_billed) == (4, 2)


def test_nobody_is_asked_about_what_costs_nothing(run: Run, request: pytest.FixtureRequest, ids: Path) -> None:
    """A cap is leave enough, and so is a ledger that has every answer."""
    simulator = request.getfixturevalue("paid_service")
    output = str(ids.with_name("out.csv"))
    capped, served = run("bulk", str(ids), "-o", output, "--max-calls", str(COUNT)), run("bulk", str(ids), "-o", output)
    assert (capped[0], served[0], simulator.total_billed) == (0, 0, COUNT)
    assert "[y/N]" not in capped[2] + served[2]


def test_a_dry_run_sends_nothing_and_needs_no_key(tmp_path: Path) -> None:
    """It counts what is new, answered, in doubt and there twice, and leaves no file behind."""
    output = tmp_path / "out.csv"
    command = ("bulk", str(listed(tmp_path, "1", "2", "SIM-502")), "-o", str(output))
    with serve(simulator := Simulator()) as base_url:
        before = oneauto(*command, "--dry-run", env=environment(ONEAUTO_BASE_URL=base_url))
        files = {path.name for path in tmp_path.iterdir()}
        oneauto(*command, env=live(base_url))
        listed(tmp_path, "1", "2", "SIM-502", "3", "4", "4")
        options = ("--dry-run", "--price", "2", "--max-calls", "4")
        after = oneauto(*command, *options, env=environment(ONEAUTO_BASE_URL=base_url))
        requests = simulator.requests.total()
    assert (before.returncode, after.returncode, requests, files) == (0, 0, 3, {"ids.txt"})
    assert "new: 3\n" in before.stdout
    for line in (
        "new: 2",
        "answered: 2 in",
        "in doubt: 1, held",
        "duplicates: 1,",
        "invalid: 0",
        "most it can cost: 1 answer (£2.00 at £2.00 each)",
    ):
        assert line in after.stdout


# The ledger commands.


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A ledger with answers and a doubt."""
    path = tmp_path / "books"
    source = listed(tmp_path, "1", "é", "SIM-502", "SIM-204")
    assert oneauto("bulk", str(source), "--simulate", "--ledger", str(path)).returncode == 5
    return path


def test_show_tells_what_is_there_and_what_is_in_doubt(ledger: Path) -> None:
    """With what the vendor needs to find it."""
    shown = oneauto("ledger", "show", str(ledger))
    assert shown.returncode == 0
    assert "4 entries" in shown.stdout
    assert "2 billed, 1 in doubt, 0 under way" in shown.stdout
    assert "in doubt: SIM-502 (entry" in shown.stdout
    assert "request id" in shown.stdout


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_export_writes_every_entry_and_no_key(ledger: Path, form: str) -> None:
    """With the bytes that came, so that nothing paid for is locked in."""
    exported = oneauto("ledger", "export", str(ledger), "--format", form)
    entries = records(exported.stdout) if form == "jsonl" else list(csv.DictReader(io.StringIO(exported.stdout)))
    assert {entry["evdb_vehicle_id"] for entry in entries} == {"1", "é", "SIM-502", "SIM-204"}
    answers = {entry["evdb_vehicle_id"]: entry["raw"] for entry in entries}
    assert json.loads(answers["1"])["success"] is True
    assert SIMULATOR_KEY not in exported.stdout


def test_verify_finds_one_changed_bit(ledger: Path) -> None:
    """0 while all is well; 7, and which entry, when it is not. The next run does not serve it."""
    sound = oneauto("ledger", "verify", str(ledger))
    assert (sound.returncode, "4 entries: answers and checksums agree" in sound.stdout) == (0, True)
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE answers SET raw = CAST(replace(raw, 'success', 'succesS') AS BLOB) WHERE seq = 1")
    connection.close()
    verified = oneauto("ledger", "verify", str(ledger))
    assert (verified.returncode, "entry 1" in verified.stdout) == (7, True)
    run = oneauto("bulk", str(ledger.with_name("ids.txt")), "--simulate", "--ledger", str(ledger))
    assert run.returncode == 7


@pytest.mark.parametrize("damage", ["claimed_at = -1e20", "sent_at = 1e300", "settled_at = 'x'", "note = x'ff'"])
def test_damage_hides_nothing(run: Run, tmp_path: Path, damage: str) -> None:
    """Each doubt is listed, and each entry exported, whatever a damaged one among them holds."""
    path = tmp_path / "books"
    run("bulk", str(listed(tmp_path, "1", "SIM-502")), "--simulate", "--ledger", str(path))
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE lookups SET {damage}")
    connection.close()
    (showed, shown, _), (exported, lines, _) = (run("ledger", what, str(path)) for what in ("show", "export"))
    assert (showed, "in doubt: SIM-502" in shown) == (0, True)
    assert (exported, {entry["evdb_vehicle_id"] for entry in records(lines)}) == (0, {"1", "SIM-502"})
    assert run("ledger", "verify", str(path))[0] in {0, 7}


def test_resolving_a_doubt_lets_the_next_run_ask(ledger: Path) -> None:
    """By id; what is not in doubt is refused, and then nothing is settled."""
    wrong = oneauto("ledger", "resolve", str(ledger), "--not-billed", "SIM-502", "1")
    right = oneauto("ledger", "resolve", str(ledger), "--not-billed", "SIM-502")
    again = oneauto("ledger", "resolve", str(ledger), "--billed", "SIM-502")
    shown = oneauto("ledger", "show", str(ledger))
    assert (wrong.returncode, right.returncode, again.returncode) == (2, 0, 2)
    assert "1 is not in doubt" in wrong.stderr
    assert "2 billed, 0 in doubt" in shown.stdout


def test_an_id_in_doubt_twice_is_resolved_by_entry(ledger: Path) -> None:
    """The refusal names the entries to choose from."""
    ids = str(ledger.with_name("ids.txt"))
    oneauto("bulk", ids, "--simulate", "--ledger", str(ledger), "--retry-in-doubt")
    refused = oneauto("ledger", "resolve", str(ledger), "--billed", "SIM-502")
    number = refused.stderr.partition("one of ")[2].partition(",")[0]
    resolved = oneauto("ledger", "resolve", str(ledger), "--billed", "--entries", number)
    other = refused.stderr.partition("one of ")[2].partition(", ")[2].partition(";")[0]
    assert (refused.returncode, resolved.returncode) == (2, 0)
    assert f"charged; it is in doubt still, as entry {other}" in resolved.stdout
    assert "it may be asked for again" in oneauto("ledger", "resolve", str(ledger), "--billed", "SIM-502").stdout


def test_resolving_the_doubt_before_an_answer_says_that_this_is_kept(tmp_path: Path) -> None:
    """Nothing asks for such an id again, whatever became of the first request."""
    source, books = str(listed(tmp_path, "1")), str(tmp_path / "books")
    with serve(simulator := Simulator()) as base_url:
        simulator.fail_next(1, 504)
        oneauto("bulk", source, "--ledger", books, "--retry-in-doubt", "--max-calls", "9", env=live(base_url))
    resolved = oneauto("ledger", "resolve", books, "--not-billed", "1")
    assert (resolved.returncode, "not charged; its answer is kept, as entry 2" in resolved.stdout) == (0, True)


@posix
@pytest.mark.parametrize("redirection", [pytest.param("> /dev/full", marks=full), ">&-"])
@pytest.mark.parametrize(
    "command",
    [
        "ledger show books",
        pytest.param("ledger export books", marks=pytest.mark.slow),
        pytest.param("ledger verify books", marks=pytest.mark.slow),
        pytest.param(f"estimate {VANS} -o out.csv", marks=pytest.mark.slow),
        "simulate --port 0",
        pytest.param("--help", marks=pytest.mark.slow),
        pytest.param("--version", marks=pytest.mark.slow),
        pytest.param("ledger show --help", marks=pytest.mark.slow),
    ],
)
def test_a_standard_output_that_takes_nothing_is_told(ledger: Path, command: str, redirection: str) -> None:
    """One line on standard error and an exit code of failure, whatever was to be printed."""
    line = f"{shlex.quote(sys.executable)} -m oneauto_async._cli {command} {redirection}"
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=ledger.parent, env=environment(), stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode > 0, done.stderr.count("\n")) == (True, 1)
    assert done.stderr.startswith("error: standard output")


def test_a_name_that_is_no_file_is_refused_in_a_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though an older version may have made a file of that name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ":memory:").write_text("from another time")
    code, stdout, stderr = run("ledger", "show", ":memory:")
    assert (code, stdout, stderr.count("\n"), "MemoryLedger" in stderr) == (7, "", 1, True)


@pytest.mark.parametrize("path", ["/", ".", ""])
@pytest.mark.parametrize("command", ["ledger show {}", "ledger verify {}", "lookup 1 --simulate --ledger {}"])
def test_a_folder_is_no_ledger(run: Run, command: str, path: str) -> None:
    """Said in a line, and not blamed on the disk."""
    code, _, stderr = run(*(path if word == "{}" else word for word in command.split()))
    assert (code, stderr.startswith("error:"), "the path of the file" in stderr) == (7, True, True)


@pytest.mark.parametrize("command", ["bulk", "estimate"])
@pytest.mark.parametrize("path", ["/", ".", "./", ""])
def test_a_folder_is_no_output(run: Run, command: str, path: str) -> None:
    """Nor has a ledger a place beside it."""
    code, _, stderr = run(command, str(VANS), "-o", path, "--base-url", "http://127.0.0.1:9")
    assert (code, "is a directory: give the name of a file in it" in stderr) == (2, True)


@pytest.mark.parametrize("command", [["show"], ["export"], ["verify"], ["resolve", "--billed", "1"]])
def test_a_ledger_that_is_not_there_is_7(run: Run, tmp_path: Path, command: list[str]) -> None:
    """Commands that read a ledger exit with 7 if there is none, and do not make one."""
    name, *others = command
    code, stdout, stderr = run("ledger", name, str(tmp_path / "none"), *others)
    assert (code, stdout, "there is no ledger" in stderr) == (7, "", True)
    assert list(tmp_path.iterdir()) == []


def test_resolving_needs_a_verdict(run: Run, tmp_path: Path) -> None:
    """Billed or not is never guessed."""
    code, _, stderr = run("ledger", "resolve", str(tmp_path), "1")
    assert (code, "either --billed or --not-billed" in stderr) == (2, True)


@pytest.mark.parametrize(("status", "cap", "code"), [(403, "9", 3), (None, "1", 4)], ids=["refused key", "budget"])
def test_a_doubt_that_was_not_sent_again_does_not_hide_why(
    tmp_path: Path, status: int | None, cap: str, code: int
) -> None:
    """The exit code is that of what stopped the run, and not 5 for the doubt."""
    command = ("bulk", str(listed(tmp_path, "1")), "-o", str(tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        simulator.fail_next(1, 504)
        assert oneauto(*command, env=live(base_url)).returncode == 5
        if status is not None:
            simulator.fail_next(1, status)
        done = oneauto(*command, "--retry-in-doubt", "--max-calls", cap, env=live(base_url))
    assert done.returncode == code

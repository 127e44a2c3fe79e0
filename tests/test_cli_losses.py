"""What a run that goes wrong leaves behind: nothing that was paid for is lost, and the advice to go on is good."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import (
    A_LOCALE_OF_ASCII,
    Run,
    environment,
    finish,
    inside,
    listed,
    live,
    oneauto,
    paid,
    posix,
    program,
    records,
    start,
    wait_until,
)

from oneauto_async import OneAutoClient
from oneauto_async._cli import outputs, running
from oneauto_async._cli.interrupts import ECHO, Interrupts, as_ctrl_c
from oneauto_async.ledger import SqliteLedger
from oneauto_async.testing import Simulator, serve
from oneauto_async.testing._gateway import SimulatedAnswer

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
no_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="whoever is root may read everything")


def advised(stderr: str) -> list[str]:
    """Return the arguments of the command that is told for the ids that are left."""
    return shlex.split(stderr.partition("run `oneauto-async ")[2].partition("` for ")[0])


@posix
def test_after_the_ledger_was_lost_the_advice_buys_only_what_is_left(tmp_path: Path) -> None:
    """The same command would begin a new ledger, and buy everything in it."""
    identifiers = [str(number) for number in range(200, 260)]
    output, ledger = tmp_path / "out.csv", tmp_path / "out.csv.ledger"
    command = ("bulk", str(listed(tmp_path, *identifiers)), "-o", str(output), "--concurrency", "3")
    with serve(simulator := Simulator(latency=0.05)) as base_url:
        process = start(*command, env=live(base_url))
        wait_until(lambda: simulator.total_billed > 10)
        ledger.unlink()
        done = finish(process)
        again = oneauto(*advised(done.stderr), env=live(base_url), cwd=tmp_path)
    assert (done.returncode, again.returncode) == (7, 0)
    assert "the same command would buy once more whatever the ledger lacks" in done.stderr
    assert dict(simulator.bills) == dict.fromkeys(identifiers, 1)
    files = [tmp_path / "out.csv.partial", tmp_path / "out.rest.csv"]
    both = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
    assert sorted(row["evdb_vehicle_id"] for row in both) == identifiers


def test_a_ledger_does_not_bear_the_name_of_the_ids_that_are_left(tmp_path: Path) -> None:
    """They would be written over it."""
    command = ("bulk", str(listed(tmp_path, "1")), "-o", str(tmp_path / "out.csv"))
    for name in ("out.csv.rest.txt", "out.csv.rest.jsonl"):
        done = oneauto(*command, "--simulate", "--ledger", str(tmp_path / name))
        assert done.returncode == 2
        assert "choose another name for --ledger" in done.stderr


def test_the_ids_that_are_left_are_never_written_over_a_ledger(tmp_path: Path) -> None:
    """Whatever put one there: they go beside it."""
    books, taken = tmp_path / "books", tmp_path / "out.csv.rest.txt"
    with serve(Simulator()) as base_url:
        oneauto("lookup", "SIM-NAN", "--ledger", str(books), env=live(base_url))
        books.replace(taken)
        before = taken.read_bytes()
        source = str(listed(tmp_path, "1", "2"))
        done = oneauto(
            "bulk", source, "-o", str(tmp_path / "out.csv"), "--no-ledger", "--max-calls", "1", env=live(base_url)
        )
    assert done.returncode == 4
    assert taken.read_bytes() == before
    assert "out.csv.rest-2.txt" in advised(done.stderr)[1]


@pytest.mark.parametrize(("status", "said", "is_left"), [(401, "check the API key", True), (400, "refuses", False)])
def test_why_something_was_not_bought_again_is_told(tmp_path: Path, status: int, said: str, is_left: bool) -> None:
    """Its record is what is kept of it, which does not say; what will never be bought is not left, either."""
    command = ("bulk", str(listed(tmp_path, "SIM-FALSE")), "-o", str(tmp_path / "out.csv"))
    with serve(simulator := Simulator()) as base_url:
        oneauto(*command, env=live(base_url))
        simulator.fail_next(1, status)
        done = oneauto(*command, "--refresh-failed", env=live(base_url))
    (told,) = (line for line in done.stderr.splitlines() if line.startswith("not bought again: SIM-FALSE: "))
    assert said in told
    assert ("1 id is left" in done.stderr) is is_left


def test_nothing_is_bought_again_once_a_refused_key_has_stopped_the_run(tmp_path: Path) -> None:
    """It would only be refused again; what is kept stays the record."""
    books = ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        oneauto("bulk", str(listed(tmp_path, "SIM-FALSE")), *books, env=live(base_url))
        simulator.fail_next(1, 401)
        source = str(listed(tmp_path, "new", "SIM-FALSE"))
        done = oneauto("bulk", source, *books, "--refresh-failed", "--concurrency", "1", env=live(base_url))
    assert (done.returncode, simulator.requests["SIM-FALSE"]) == (3, 1)
    assert "2 ids are left" in done.stderr
    kept = {record["evdb_vehicle_id"]: record["outcome"] for record in records(done.stdout)}
    assert kept == {"new": "failed", "SIM-FALSE": "failed"}


@full
@pytest.mark.parametrize("command", ["lookup", "bulk"])
def test_what_was_paid_for_and_nobody_keeps_finds_another_place(tmp_path: Path, command: str) -> None:
    """Standard output is full, and there is no ledger."""
    given = ["1", "2"] if command == "lookup" else [str(listed(tmp_path, "1", "2")), "--no-ledger"]
    with serve(simulator := Simulator()) as base_url, Path("/dev/full").open("wb") as device:
        env = live(base_url) | {"TMPDIR": str(tmp_path)}
        done = program(command, *given, "--concurrency", "2", env=env, stdout=device)
    (kept,) = tmp_path.glob("oneauto-*.jsonl")
    assert (done.returncode, str(kept) in done.stderr) == (1, True)
    assert {record["evdb_vehicle_id"] for record in records(kept.read_text())} == set(simulator.bills)


def test_what_an_earlier_run_has_bought_is_not_bought_again_by_the_advice(tmp_path: Path) -> None:
    """The ledger was away for a while; of what this run did not come to it has half.

    A call that was under way just then may be in doubt, and is held.
    """
    half, all_of_them = ([str(number) for number in range(300, end)] for end in (320, 340))
    ledger = tmp_path / "books"
    with serve(simulator := Simulator(latency=0.05)) as base_url:
        oneauto("bulk", str(listed(tmp_path, *half)), "--ledger", str(ledger), env=live(base_url))
        source = str(listed(tmp_path, *all_of_them[::-1]))
        process = start("bulk", source, "--ledger", str(ledger), "--concurrency", "2", env=live(base_url))
        wait_until(lambda: simulator.total_billed > 24)
        ledger.rename(tmp_path / "away")
        done = finish(process)
        (tmp_path / "away").rename(ledger)
        again = oneauto(*advised(done.stderr), env=live(base_url))
    held = {record["evdb_vehicle_id"] for record in records(again.stdout) if record["outcome"] == "in_doubt"}
    assert (done.returncode, again.returncode) == (7, 5 if held else 0)
    assert len(held) <= 2
    assert simulator.bills | dict.fromkeys(held, 1) == dict.fromkeys(all_of_them, 1)


@posix
def test_of_what_is_left_only_what_is_of_no_use_is_bought_again(tmp_path: Path) -> None:
    """Some are kept and of no use, others were not come to, and may be kept: no one lookup is right for all of them."""
    kept = [str(number) for number in range(400, 440)]
    books = ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator(latency=0.05)) as base_url:
        oneauto("bulk", str(listed(tmp_path, "SIM-FALSE", *kept)), *books, env=live(base_url))
        new = [str(number) for number in range(500, 540)]
        source = str(listed(tmp_path, "SIM-FALSE", *new, *kept))
        process = start("bulk", source, *books, "--refresh-failed", "--concurrency", "2", env=live(base_url))
        wait_until(lambda: simulator.total_billed > 50)
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.returncode == 130
    assert "run bulk with --refresh-failed for them alone" in done.stderr
    assert "lookup --refresh" not in done.stderr


def test_without_a_ledger_the_advice_for_standard_output_can_be_followed(tmp_path: Path) -> None:
    """A lookup has no option to keep none."""
    source = str(listed(tmp_path, "1", "2", "3"))
    with serve(simulator := Simulator()) as base_url:
        done = oneauto("bulk", source, "--no-ledger", "--max-calls", "2", "--concurrency", "1", env=live(base_url))
        again = oneauto(*advised(done.stderr), env=live(base_url))
    assert (done.returncode, again.returncode) == (4, 0)
    assert dict(simulator.bills) == {"1": 1, "2": 1, "3": 1}


def test_what_a_cap_leaves_of_a_lookup_can_be_asked_for_alone() -> None:
    """Without a ledger the same command would pay for the first ones again, and never reach the last."""
    with serve(simulator := Simulator()) as base_url:
        done = oneauto("lookup", "1", "2", "3", "--max-calls", "2", "--concurrency", "1", env=live(base_url))
        again = oneauto(*advised(done.stderr), env=live(base_url))
    assert (done.returncode, again.returncode) == (4, 0)
    assert dict(simulator.bills) == {"1": 1, "2": 1, "3": 1}


def test_an_output_with_a_dash_in_front_stays_a_file_in_what_is_advised(tmp_path: Path) -> None:
    """In a command it would be an option."""
    source = str(listed(tmp_path, "1", "SIM-502", "2"))
    command = ("bulk", source, "--output=-x.csv", "--no-ledger", "--max-calls", "2", "--concurrency", "1")
    with serve(simulator := Simulator()) as base_url:
        done = oneauto(*command, env=live(base_url), cwd=tmp_path)
        again = oneauto(*advised(done.stderr), env=live(base_url), cwd=tmp_path)
    assert (again.returncode, dict(simulator.bills)["2"]) == (0, 1)


@no_root
def test_what_may_not_be_read_has_the_exit_code_of_what_it_is(tmp_path: Path) -> None:
    """A ledger has 7 and a key 3, as when they are not there."""
    for name in ("books", "key"):
        (tmp_path / name).touch(mode=0o000)
    assert oneauto("ledger", "show", str(tmp_path / "books")).returncode == 7
    assert oneauto("lookup", "1", "--key-file", str(tmp_path / "key")).returncode == 3


def test_a_comment_over_a_list_is_no_column_of_csv(tmp_path: Path) -> None:
    """What stands behind the ids would be bought with them."""
    source = tmp_path / "vans.csv"
    source.write_text("# my vans\n101 # old\n#102\n103\n")
    refused = oneauto("bulk", str(source), "--simulate")
    done = oneauto("bulk", str(source), "--simulate", "--input-format", "lines")
    assert (refused.returncode, "--input-format lines" in refused.stderr) == (2, True)
    assert {record["evdb_vehicle_id"] for record in records(done.stdout)} == {"101", "103"}


# Files that are standard input or output as well.


@posix
def test_standard_input_is_not_written_over(tmp_path: Path) -> None:
    """Whatever name leads to it."""
    source = listed(tmp_path, "1", "2")
    with source.open() as stream:
        done = program("bulk", "-", "--simulate", "-o", str(source), "--format", "csv", stdin=stream)
    assert (done.returncode, "is standard input: choose another name for -o" in done.stderr) == (2, True)
    assert source.read_text() == "1\n2\n"


@posix
@pytest.mark.parametrize("command", [("lookup", "1"), ("bulk", "ids.txt")])
def test_standard_output_is_no_ledger(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The records would be written over what it keeps."""
    listed(tmp_path, "1", "2")
    books = tmp_path / "books"
    with books.open("w") as stream:
        done = program(*command, "--simulate", "--ledger", str(books), cwd=tmp_path, stdout=stream)
    assert (done.returncode, "is standard output: choose another name for --ledger" in done.stderr) == (2, True)
    assert books.read_bytes() == b""


@posix
def test_a_folder_that_is_gone_holds_no_ledger(tmp_path: Path) -> None:
    """A name that begins in it leads nowhere; nothing is asked."""
    (gone := tmp_path / "gone").mkdir()
    code = "import os, sys; os.rmdir(os.getcwd()); from oneauto_async._cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, "lookup", "1", "--simulate", "--ledger", "books"]
    done = subprocess.run(command, cwd=gone, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, "error: " in done.stderr, "Traceback" in done.stderr) == (2, "", True, False)


# Commands that cannot be copied.

CAPPED = ("--max-calls", "1", "--concurrency", "1")


def is_a_command_told(stderr: str) -> bool:
    """Tell whether there is anything to copy."""
    return "`oneauto-async " in stderr


def test_an_id_that_cannot_be_shown_as_it_is_stands_in_no_command(tmp_path: Path) -> None:
    """An escape would be four letters to the shell, and so another id that is paid for."""
    (source := tmp_path / "ids.csv").write_text("id\nA\xa01\nB\xa02\n", encoding="utf-8")
    with serve(Simulator()) as base_url:
        done = oneauto("bulk", str(source), "--no-ledger", *CAPPED, env=live(base_url))
    told = (
        "; the cap is reached: to pay for more, run bulk for it alone (without a record, or with one that is not_sent"
    )
    assert told in done.stderr
    assert not is_a_command_told(done.stderr)


@posix
def test_what_standard_error_has_no_letters_for_stands_in_no_command(tmp_path: Path) -> None:
    """The escape is made after the line is."""
    ids = ("lookup", "ü1", "日本")
    with serve(Simulator()) as base_url:
        done = program(*ids, *CAPPED, env=live(base_url) | A_LOCALE_OF_ASCII)
        legible = oneauto(*ids, *CAPPED, env=live(base_url))
    assert "; the cap is reached: to pay for more, run lookup for it alone (without a record, or " in done.stderr
    assert (is_a_command_told(done.stderr), advised(legible.stderr)[-1]) == (False, "日本")


@posix
@pytest.mark.parametrize("name", [b"o\xc2\xa0.csv", b"o\xff.csv"], ids=["space", "bytes"])
def test_a_file_that_cannot_be_named_is_told_and_stands_in_no_command(tmp_path: Path, name: bytes) -> None:
    """The ids that are left are beside it all the same."""
    source = str(listed(tmp_path, "1", "2"))
    with serve(Simulator()) as base_url:
        done = oneauto(
            "bulk", source, "-o", os.fsdecode(name), "--no-ledger", *CAPPED, env=live(base_url), cwd=tmp_path
        )
    assert (tmp_path / os.fsdecode(name + b".rest.txt")).read_text() == "2\n"
    assert re.search(r"run bulk for it alone, with o\\\w+\.csv\.rest\.txt as INPUT, another OUTPUT and ", done.stderr)
    assert not is_a_command_told(done.stderr)


def test_a_lookup_that_buys_again_names_no_id_that_cannot_be_shown(tmp_path: Path) -> None:
    """What it names is typed in the place of what was."""
    command = ("lookup", "A\xa01", "B\xa02", "--refresh", "--ledger", str(tmp_path / "books"))
    with serve(Simulator()) as base_url:
        done = oneauto(*command, *CAPPED, env=live(base_url))
    assert "name the ids that are left (without a record, or with one that is not_sent, " in done.stderr


def test_a_ledger_that_cannot_be_named_stands_in_no_command(tmp_path: Path) -> None:
    """Neither where doubts are settled, nor where ids are left."""
    command = ("lookup", "SIM-502", "1", "--ledger", str(tmp_path / "my\xa0books"))
    with serve(Simulator()) as base_url:
        done = oneauto(*command, *CAPPED, env=live(base_url))
    assert "my\\xa0books with the vendor's log, and say with `ledger resolve` what became of each" in done.stderr
    assert not is_a_command_told(done.stderr)


@posix
def test_a_program_that_is_not_on_the_path_is_told_as_it_was_typed(tmp_path: Path) -> None:
    """As that of an environment which was not activated; one that is found by its name has just that."""
    (folder := tmp_path / "bin").mkdir()
    script = folder / "oneauto-async"
    script.write_text(f"#!{sys.executable}\nimport sys; from oneauto_async._cli import main; sys.exit(main())\n")
    script.chmod(0o755)
    for path, typed, told in (
        (os.defpath, str(script), str(script)),
        (os.defpath, "./oneauto-async", "./oneauto-async"),
        (f"{folder}:{os.defpath}", str(script), "oneauto-async"),
    ):
        command = [typed, "lookup", "1", "2", "--simulate", *CAPPED]
        done = subprocess.run(
            command, cwd=folder, env=environment(PATH=path), capture_output=True, text=True, check=False
        )
        assert f"run `{told} lookup " in done.stderr


def test_a_signal_long_after_the_first_ends_a_report_that_got_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose reader takes nothing; those that come soon after it cut nothing off."""
    with as_ctrl_c():
        interrupts = Interrupts()
        interrupts.outlive()
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr("oneauto_async._cli.interrupts.LONGEST_REPORT", 0.0)
        time.sleep(0.05)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert interrupts.count == 4


@posix
@pytest.mark.parametrize("books", [("--ledger", "books"), ("--no-ledger",)], ids=["ledger", "none"])
def test_a_reader_that_takes_nothing_is_not_waited_for_after_the_second_signal(
    tmp_path: Path, books: tuple[str, ...]
) -> None:
    """What it has not taken is in the ledger, or gets a file."""
    source = listed(tmp_path, *map(str, range(1000)))
    reader, writer = os.pipe()
    with serve(simulator := Simulator()) as base_url:
        env = live(base_url) | {"TMPDIR": str(tmp_path)}
        process = start("bulk", str(source), "--max-calls", "1000", *books, env=env, cwd=tmp_path, stdout=writer)
        os.close(writer)
        wait_until(lambda: has_come_to_a_stop(simulator))
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(2 * ECHO)
        done = finish(process)
    with os.fdopen(reader, "rb") as pipe:
        texts = [line for line in pipe.read().decode().splitlines() if line.endswith("}")]
    assert "standard output: its reader takes nothing: the run was stopped" in done.stderr
    if books == ("--no-ledger",):
        (refuge,) = tmp_path.glob("oneauto-*.jsonl")
        texts += refuge.read_text().splitlines()
    else:
        texts = oneauto("ledger", "export", "books", cwd=tmp_path).stdout.splitlines()
    kept = {record["evdb_vehicle_id"] for record in map(json.loads, texts) if record["billing"] == "billed"}
    assert (done.returncode, kept) == (130, set(simulator.bills))


def has_come_to_a_stop(simulator: Simulator) -> bool:
    """Tell whether it has answered, and answers no more."""
    before = simulator.total_billed
    time.sleep(0.5)
    return 0 < before == simulator.total_billed


# The question.


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return inside(monkeypatch, capsys)


@pytest.fixture
def paid_service(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[Simulator]:
    """A simulator that the command line takes for a service that costs money, and a person who can be asked."""
    with paid(monkeypatch, is_somebody_there=True) as simulator:
        yield simulator


def test_what_is_no_text_is_no_yes(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paid_service: Simulator
) -> None:
    """A byte that the terminal's encoding does not have is told as any other answer that is none."""
    noise = tmp_path / "noise"
    noise.write_bytes(b"\xe9\n")
    with noise.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        code, _, stderr = run("bulk", str(listed(tmp_path, "1")), "-o", str(tmp_path / "out.csv"))
    assert (code, "error: not agreed: nothing was sent" in stderr, paid_service.total_billed) == (2, True, 0)


def test_a_yes_holds_whatever_others_buy_meanwhile(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paid_service: Simulator
) -> None:
    """It is about this run; what another one pays for on the same ledger takes nothing from it."""
    ledger = tmp_path / "books"

    class Busy:
        """Says yes, when another run has bought more than this one was agreed to."""

        def readline(self) -> str:
            async def buy() -> None:
                async with OneAutoClient(ledger=SqliteLedger(ledger)) as client:
                    await client.lookup_many(["11", "12", "13"])

            asyncio.run(buy())
            return "y\n"

    monkeypatch.setattr(sys, "stdin", Busy())
    code, _, stderr = run("bulk", str(listed(tmp_path, "1", "2")), "--ledger", str(ledger))
    assert "most it can cost: 2 answers" in stderr
    assert (code, paid_service.total_billed) == (0, 5)


@posix
def test_what_was_typed_before_the_estimate_is_no_yes_to_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, paid_service: Simulator
) -> None:
    """It waits in the terminal, and is dropped; what is typed then counts."""
    master, slave = os.openpty()
    os.write(master, b"y\n")
    with open(slave, encoding="utf-8") as terminal:  # noqa: PTH123  # a descriptor, and no path

        class Person:
            """Says no once it is asked."""

            def fileno(self) -> int:
                return slave

            def readline(self) -> str:
                os.write(master, b"n\n")
                return terminal.readline()

        monkeypatch.setattr(sys, "stdin", Person())
        code, _, stderr = run("bulk", str(listed(tmp_path, "1")), "-o", str(tmp_path / "out.csv"))
    os.close(master)
    assert (code, "not agreed" in stderr, paid_service.total_billed) == (2, True, 0)


class Unusable(Simulator):
    """A simulator whose answers are free, and no JSON."""

    def _special(self, call: Any) -> SimulatedAnswer | None:
        return SimulatedAnswer(status=206, body=b"no JSON")


def test_nobody_is_told_of_a_yes_who_was_never_asked(
    run: Run, tmp_path: Path, paid_service: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the plan the ledger has all; a kept answer that cost nothing and does not fit is asked for again all the same.

    That needs leave, which nobody was asked for, and so a cap is what to add.
    """
    command = ("bulk", str(listed(tmp_path, "1")), "-o", str(tmp_path / "out.csv"))
    with serve(Unusable()) as base_url:
        monkeypatch.setenv("ONEAUTO_BASE_URL", base_url)
        run(*command, "--max-calls", "1")
        code, _, stderr = run(*command)
    assert (code, "[y/N]" in stderr) == (4, False)
    assert "allow more with --max-calls or --max-cost, and " in stderr


# Signals.


@posix
@full
def test_a_signal_before_the_run_ends_it_with_130_though_nobody_can_be_told(tmp_path: Path) -> None:
    """Standard error takes nothing, and no half-made file is left."""
    reader, writer = os.pipe()
    with Path("/dev/full").open("wb") as device:
        process = start("bulk", "-", "-o", str(tmp_path / "out.csv"), "--simulate", stdin=reader, stderr=device)
        os.write(writer, b"1\n" * 100_000)  # more than a pipe holds: it has been loaded, and reads
        process.send_signal(signal.SIGTERM)
        assert finish(process).returncode == 130
    for end in (reader, writer):
        os.close(end)
    assert not list(tmp_path.iterdir())


@posix
def test_a_signal_during_the_report_cuts_nothing_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids that are left are saved, how to go on is told, and the exit code is that of the run."""

    def interrupted(job: Any) -> list[str]:
        signal.raise_signal(signal.SIGINT)
        return ["the report"]

    monkeypatch.setattr(running, "report_lines", interrupted)
    output = tmp_path / "out.csv"
    command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(output), "--no-ledger", *CAPPED)
    with serve(Simulator()) as base_url:
        done = oneauto(*command, env=live(base_url))
    assert (done.returncode, output.exists()) == (4, True)
    assert (tmp_path / "out.csv.rest.txt").read_text() == "2\n"
    assert "out.csv.rest.txt" in advised(done.stderr)[1]


@posix
def test_a_signal_while_the_hidden_file_is_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then nobody knows of it who could remove it."""
    begin = outputs.FileSink._begin

    def interrupted(sink: outputs.FileSink) -> None:
        signal.raise_signal(signal.SIGTERM)
        begin(sink)

    monkeypatch.setattr(outputs.FileSink, "_begin", interrupted)
    (folder := tmp_path / "out").mkdir()
    done = oneauto("bulk", str(listed(tmp_path, "1")), "-o", str(folder / "out.csv"), "--simulate")
    assert (done.returncode, list(folder.iterdir())) == (130, [])

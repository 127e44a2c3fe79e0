"""The command line from end to end: real processes and sockets, and a simulator whose books are compared."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cli import (
    CANARY,
    PATIENCE,
    VANS,
    answered,
    environment,
    finish,
    listed,
    live,
    oneauto,
    posix,
    program,
    read_until,
    records,
    start,
    wait_until,
)

from oneauto_async._cli import interrupts, main, running
from oneauto_async._cli.interrupts import Interrupts, handled
from oneauto_async._cli.refuge import hand_over
from oneauto_async.testing import SIMULATOR_KEY, Simulator, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    """A list of 200 ids, the last of them a duplicate."""
    path = tmp_path / "ids.txt"
    path.write_text("".join(f"{10_000 + number % 199}\n" for number in range(200)))
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line inside this process, for what ends before anything is sent."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["oneauto-async", *arguments])
        code = main()
        return (code, *capsys.readouterr())

    return run


# The job of the README.


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run the example of the README once, at full speed."""
    output = tmp_path_factory.mktemp("example") / "results.csv"
    return oneauto("bulk", str(VANS), "--simulate", "-o", str(output)), output


def test_the_example_file_is_looked_up_whole(example: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """Every row of the example has its record, in order, with no key and nothing else prepared."""
    done, output = example
    with VANS.open(newline="") as asked, output.open(newline="") as answered:
        rows = list(csv.DictReader(answered))
        assert [row["evdb_vehicle_id"] for row in rows] == [row["evdb_vehicle_id"] for row in csv.DictReader(asked)]
    assert {row["outcome"] for row in rows} == {"found"}
    assert (done.returncode, done.stdout) == (0, "")


def test_the_summary_tells_counts_money_and_that_it_was_simulated(
    example: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    """All that a person must know stands on standard error, in plain lines without colour."""
    done, output = example
    for line in (
        "column 'evdb_vehicle_id'",
        "592 different ids",
        "outcomes: 600 found",
        "money: 592 billed, 0 not billed, 0 in doubt",
        "calls: 592, 0 of them turned away",
        f"output: {output}",
        "simulated: the data are made up and nothing was paid",
    ):
        assert line in done.stderr
    assert "\x1b" not in done.stderr


def test_a_given_limit_is_kept(ids: Path) -> None:
    """--rate and --burst pace the calls: a key with that limit turns hardly any away."""
    simulator = Simulator(rate=100, burst=10)
    with serve(simulator) as base_url:
        done = oneauto("bulk", str(ids), "--rate", "100", "--burst", "10", env=live(base_url))
    assert (done.returncode, simulator.total_billed) == (0, 199)
    assert simulator.statuses[429] <= 10


def test_only_data_go_to_standard_output(ids: Path) -> None:
    """A pipe gets JSON Lines, one per input row, and nothing else."""
    done = oneauto("bulk", str(ids), "--simulate")
    assert sorted(record["evdb_vehicle_id"] for record in records(done.stdout)) == sorted(ids.read_text().split())


def test_ids_come_from_standard_input(ids: Path) -> None:
    """The input named - is standard input."""
    with ids.open() as stream:
        done = program("bulk", "-", "--simulate", stdin=stream)
    assert (done.returncode, len(records(done.stdout))) == (0, 200)


def test_lookup_prints_the_records_in_the_order_typed() -> None:
    """Several ids, some twice, with their failures among them."""
    done = oneauto("lookup", "SIM-500-ONCE", "2", "SIM-204", "2", "--simulate", "--concurrency", "3")
    assert [(record["evdb_vehicle_id"], record["outcome"]) for record in records(done.stdout)] == [
        ("SIM-500-ONCE", "found"),
        ("2", "found"),
        ("SIM-204", "no_data"),
        ("2", "found"),
    ]


@pytest.mark.parametrize("form", ["table", *(pytest.param(form, marks=pytest.mark.slow) for form in ("jsonl", "csv"))])
def test_a_poor_terminal_loses_no_answer(form: str) -> None:
    """An ASCII locale shows every letter it lacks as an escape, or gets bytes of UTF-8."""
    env = environment(LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    done = program("lookup", "é", "日本", "3", "4", "--simulate", "--format", form, env=env)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert any(shown in done.stdout for shown in ("é", "\\xe9", "\\u00e9"))


def test_the_car_twin_is_asked_when_told() -> None:
    """--endpoint car goes to the other route, which the simulator knows too."""
    assert oneauto("lookup", "1", "--simulate", "--endpoint", "car").returncode == 0


def test_simulating_ignores_a_real_key(tmp_path: Path) -> None:
    """Whatever stands in the environment, --simulate talks to its own simulator."""
    env = environment(ONEAUTO_API_KEY=CANARY, ONEAUTO_BASE_URL="http://127.0.0.1:1", ONEAUTO_SANDBOX="true")
    assert oneauto("lookup", "1", "--simulate", env=env).returncode == 0


# Exit codes.


@pytest.mark.parametrize(
    ("identifier", "code"),
    [
        ("SIM-204", 0),
        ("SIM-206", 0),
        ("SIM-FALSE", 1),
        ("SIM-400", 1),
        ("SIM-403", 3),
        ("SIM-QUOTA", 4),
        ("SIM-502", 5),
    ],
)
def test_the_exit_code_says_what_happened(identifier: str, code: int) -> None:
    """Found, partial and no data are answers; the rest has its code, and the record is printed all the same."""
    done = oneauto("lookup", identifier, "--simulate")
    assert (done.returncode, len(records(done.stdout))) == (code, 1)


@pytest.mark.slow
def test_an_unreachable_service_is_6() -> None:
    """A closed port, after the tries that cost nothing."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        done = oneauto("lookup", "1", env=live(f"http://127.0.0.1:{held.getsockname()[1]}"))
    assert (done.returncode, records(done.stdout)[0]["error"]) == (6, "ConnectionFailedError")


def test_a_used_up_quota_keeps_what_was_paid(tmp_path: Path, ids: Path) -> None:
    """The answers are in the output, and the ids that are left stand beside it, ready to be an input."""
    with serve(simulator := Simulator(quota=50)) as base_url:
        options = ("-o", str(tmp_path / "out.jsonl"), "--no-ledger", "--concurrency", "5")
        done = oneauto("bulk", str(ids), *options, env=live(base_url))
    billed = [record for record in records((tmp_path / "out.jsonl").read_text()) if record["billing"] == "billed"]
    left = (tmp_path / "out.jsonl.rest.txt").read_text().split()
    assert (done.returncode, len(billed), len(left)) == (4, simulator.total_billed, 199 - 50)


# The key.


@pytest.mark.parametrize("command", [["lookup", "1"], ["bulk", str(VANS)]])
def test_without_a_key_a_line_says_what_to_do(run: Callable[..., tuple[int, str, str]], command: list[str]) -> None:
    """Nothing is sent, and the line names the ways to give a key and the way to do without."""
    code, stdout, stderr = run(*command)
    assert (code, stdout, stderr.count("\n")) == (3, "", 1)
    assert all(way in stderr for way in ("error: no API key", "ONEAUTO_API_KEY", "--key-file", "--simulate"))


def test_a_wrong_key_is_shown_nowhere_and_destroys_nothing(tmp_path: Path) -> None:
    """403 for every id: exit 3, an older output stands as it was, and the key is in no text."""
    output = tmp_path / "out.csv"
    output.write_text("older answers")
    with serve(Simulator()) as base_url:
        done = oneauto("bulk", str(VANS), "-o", str(output), env=live(base_url, CANARY))
    assert (done.returncode, output.read_text()) == (3, "older answers")
    assert CANARY not in done.stdout + done.stderr
    assert "check the API key" in done.stderr


@pytest.mark.parametrize("named", ["option", "variable"])
def test_the_file_of_the_key_is_no_output(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str
) -> None:
    """Whoever mixes up two names keeps the key."""
    (key_file := tmp_path / "key.csv").write_text(SIMULATOR_KEY)
    key_file.chmod(0o600)
    option = ["--key-file", str(key_file)] if named == "option" else []
    if named == "variable":
        monkeypatch.setenv("ONEAUTO_API_KEY_FILE", str(key_file))
    code, _, stderr = run("bulk", str(VANS), "-o", str(key_file), "--max-calls", "1", *option)
    assert (code, "is the file of the key" in stderr, key_file.read_text()) == (2, True, SIMULATOR_KEY)


def test_the_key_may_come_from_a_file(tmp_path: Path) -> None:
    """With the line ends and the byte-order mark that files have; a file open to others is remarked upon."""
    key_file = tmp_path / "key"
    key_file.write_text(f"\ufeff{SIMULATOR_KEY}\r\n", encoding="utf-8")
    key_file.chmod(0o644)
    with serve(Simulator()) as base_url:
        done = oneauto("lookup", "1", "--key-file", str(key_file), "--base-url", base_url)
    assert done.returncode == 0
    assert os.name != "posix" or "warning: the key file" in done.stderr


@pytest.mark.parametrize("option", ["--key", "--api-key", "-k"])
def test_the_key_is_no_option(run: Callable[..., tuple[int, str, str]], option: str) -> None:
    """Others can read a command line; the attempt is refused without repeating the key."""
    code, _, stderr = run("lookup", "1", option, CANARY)
    assert (code, CANARY in stderr) == (2, False)


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["bulk", "VANS", "--simulate", "--column", "van"], "there are: 'fleet_number', 'evdb_vehicle_id', 'depot'"),
        (["bulk", "EMPTY", "--simulate"], "holds no ids"),
        (["bulk", "MISSING", "--simulate"], "there is no such file"),
        (["bulk", "FOLDER", "--simulate"], "is a directory"),
        (["bulk", "VANS", "--simulate", "-o", "FOLDER"], "is a directory"),
        (["bulk", "VANS", "--simulate", "-o", "MISSING/out.csv"], "there is no folder"),
        (["bulk", "VANS", "--simulate", "-o", "VANS"], "is the input"),
        pytest.param(["bulk", "CIRCLE", "--simulate", "--ledger", "x"], "leads nowhere", marks=posix),
        pytest.param(["bulk", "VANS", "--simulate", "-o", "x.csv", "--ledger", "CIRCLE"], "leads nowhere", marks=posix),
        pytest.param(["bulk", "VANS", "--simulate", "-o", "CIRCLE"], "leads nowhere", marks=posix),
        (["bulk", "VANS", "--simulate", "-o", "out.xlsx"], "CSV or JSON Lines"),
        (["bulk", "VANS", "--burst", "5"], "--burst needs --rate"),
        (["bulk", "VANS", "--rate", "0"], "--rate"),
        (["bulk", "VANS", "--rate", "nan", "--simulate"], "rate must be a number"),
        (["bulk", "VANS", "--rate", "1e300", "--simulate"], "1e+300 is not in the range 0<x<=1000000000"),
        (["bulk", "VANS", "--drain", "inf", "--simulate"], "inf is not in the range 0<=x<=1000000000"),
        (["bulk", "VANS", "--max-age", "inf", "--ledger", "x"], "inf is not in the range 0<x<=1000000000"),
        (["bulk", "VANS", "--concurrency", "0"], "--concurrency"),
        (["bulk", "VANS", "--simulate", "--sandbox"], "leave --base-url, --sandbox and --key-file out"),
        (["bulk"], "INPUT"),
        (["lookup"], "ID"),
        (["lookup", "", "--simulate"], "must not be empty"),
        (["look"], "No such command"),
        (["simulate", "--host", "0.0.0.0"], "serves this machine alone"),
        (["simulate", "--outage", "now"], "START:LENGTH"),
        ([], "Usage"),
    ],
)
def test_a_mistake_is_met_with_what_to_do(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    """Exit 2, nothing on standard output, and a message that helps."""
    (tmp_path / "empty.csv").touch()
    (circle := tmp_path / "CIRCLE").symlink_to(circle)
    names = {"VANS": VANS, "EMPTY": tmp_path / "empty.csv", "MISSING": tmp_path / "no", "FOLDER": tmp_path}
    names |= {"CIRCLE": circle}
    told = [str(names.get(argument, argument)).replace("MISSING", str(tmp_path / "no")) for argument in arguments]
    code, stdout, stderr = run(*told)
    assert (code, stdout, complaint in stderr) == (2, "", True)


@pytest.mark.parametrize(
    "options",
    [["--base-url", "http://example.com"], ["--base-url", "ftp:x"], ["--sandbox", "--base-url", "https://a.example"]],
)
def test_a_wrong_address_is_a_matter_of_usage(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """The key is not sent to it, and is not in the message."""
    monkeypatch.setenv("ONEAUTO_API_KEY", CANARY)
    code, _, stderr = run("lookup", "1", *options)
    assert (code, stderr.startswith("error: "), CANARY in stderr) == (2, True, False)


def test_what_cannot_be_used_is_found_before_anything_is_sent(tmp_path: Path, ids: Path) -> None:
    """A bad line at the end, or a bad output, stops the run before the first call."""
    ids.write_text(ids.read_text() + "two words\n")
    with serve(simulator := Simulator()) as base_url:
        bad_line = oneauto("bulk", str(ids), env=live(base_url))
        bad_output = oneauto("bulk", str(VANS), "-o", str(tmp_path), env=live(base_url))
    assert (bad_line.returncode, bad_output.returncode, simulator.requests.total()) == (2, 2, 0)
    assert "line 201" in bad_line.stderr


def test_without_the_extra_a_line_says_what_to_install() -> None:
    """The script is there even if click is not."""
    code = "import sys; sys.modules['click'] = None; from oneauto_async._cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (2, 'the command line needs its extra: pip install "oneauto-async[cli]"\n')


def test_ctrl_c_while_it_is_loaded_is_told_in_a_line() -> None:
    """However little there is yet."""
    code = (
        "import sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "from oneauto_async._cli import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_needs_no_key_and_loads_little(option: str) -> None:
    """Neither a key, nor a client, nor what draws and serves is needed to read the help."""
    unneeded = ("uvicorn", "oneauto_async._cli.terminal", "httpx", "cattrs", "tenacity", "rich")
    code = (
        f"import sys; sys.argv[1:] = ['{option}']; from oneauto_async._cli import main; code = main();"
        f"sys.exit(code or any(name in sys.modules for name in {unneeded}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, "oneauto-async" in done.stdout) == (0, True)


# Interruptions.


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_job_loses_nothing_that_was_paid(tmp_path: Path, ids: Path, number: signal.Signals) -> None:
    """The books of both sides agree, the rest is ready to be asked, and together they are all there was."""
    output = tmp_path / "our vans.jsonl"
    with serve(simulator := Simulator(latency=0.2)) as base_url:
        options = ("-o", str(output), "--no-ledger", "--concurrency", "10")
        process = start("bulk", str(ids), *options, env=live(base_url))
        wait_until(lambda: simulator.total_billed > 30)
        process.send_signal(number)
        done = finish(process)
    billed = {record["evdb_vehicle_id"] for record in records(output.read_text()) if record["billing"] == "billed"}
    left = set((tmp_path / "our vans.jsonl.rest.txt").read_text().split())
    assert (done.returncode, billed) == (130, set(simulator.bills))
    assert (billed | left, billed & left) == (set(ids.read_text().split()), set())
    assert f"bulk '{output}.rest.txt' -o '{tmp_path / 'our vans.rest.jsonl'}'" in done.stderr
    assert "Traceback" not in done.stderr


@posix
def test_a_killed_run_leaves_its_answers_and_the_next_names_them(tmp_path: Path) -> None:
    """They may be the only place of what was paid for, and nothing removes them."""
    source, output = listed(tmp_path, "1", "SIM-SILENT", "2"), tmp_path / "out[1].jsonl"
    with serve(Simulator()) as base_url:
        command = ("bulk", str(source), "-o", str(output), "--no-ledger")
        process = start(*command, env=live(base_url))
        wait_until(lambda: sum(part.read_bytes().count(b"\n") for part in tmp_path.glob(".out*.part")) == 2)
        process.kill()
        finish(process)
        (part,) = tmp_path.glob(".out*.part")
        listed(tmp_path, "3")
        again = oneauto(*command, env=live(base_url))
    assert {record["evdb_vehicle_id"] for record in records(part.read_text())} == {"1", "2"}
    assert f"{part} is of another run with this output" in again.stderr


@posix
def test_a_second_interruption_does_not_wait(tmp_path: Path) -> None:
    """What was under way is in doubt then: it is in the output as such, and not among what is left."""
    (tmp_path / "ids.txt").write_text("1\nSIM-SILENT\n2\n")
    output = tmp_path / "out.jsonl"
    with serve(simulator := Simulator()) as base_url:
        process = start("bulk", str(tmp_path / "ids.txt"), "-o", str(output), "--drain", "1000", env=live(base_url))
        wait_until(lambda: simulator.total_billed == 3 and answered(tmp_path / "out.jsonl.ledger") == 2)
        process.send_signal(signal.SIGINT)
        read_until(process.stderr, "stopping: waiting at most 1000 s")
        time.sleep(2 * interrupts.ECHO)
        process.send_signal(signal.SIGINT)
        done = finish(process)
    outcomes = {record["evdb_vehicle_id"]: record for record in records(output.read_text())}
    assert {identifier: record["outcome"] for identifier, record in outcomes.items()} == {
        "1": "found",
        "SIM-SILENT": "in_doubt",
        "2": "found",
    }
    assert (done.returncode, "client was closed" in outcomes["SIM-SILENT"]["message"]) == (130, True)
    assert not (tmp_path / "out.jsonl.rest.txt").exists()


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_before_the_first_step_leaves_no_file(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The hidden output is there by then; nothing is asked for, and the handlers are as they were afterwards."""
    number = getattr(signal, name)
    monkeypatch.setattr(running, "require_leave", lambda job: signal.raise_signal(number))
    with handled([number], signal.SIG_DFL):
        code, _, stderr = run("bulk", str(VANS), "--simulate", "-o", str(tmp_path / "out.csv"))
        after = signal.getsignal(number)
    assert (code, stderr.strip(), list(tmp_path.iterdir())) == (130, "error: interrupted", [])
    assert after is signal.SIG_DFL


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_that_is_to_be_ignored_is(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As ``nohup`` and a script's ``&`` ask for: the run goes on."""
    number = getattr(signal, name)
    ask_for = running._ask_for

    async def raising(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(number)
        await ask_for(*arguments, **options)

    monkeypatch.setattr(running, "_ask_for", raising)
    with handled([number], signal.SIG_IGN):
        code, _, stderr = run("bulk", str(VANS), "--simulate")
    assert (code, "600 found" in stderr) == (0, True)


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_whatever_ends_a_run_is_counted(name: str) -> None:
    """Ctrl-C, a polite kill, and a terminal that is closed."""

    number = getattr(signal, name)

    async def interrupted() -> int:
        one = Interrupts()
        with handled([number], signal.SIG_DFL), one.caught():
            asyncio.get_running_loop().call_soon(signal.raise_signal, number)
            await one.step(asyncio.sleep(PATIENCE))
        return one.count

    assert asyncio.run(interrupted()) == 1


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_after_the_last_line_changes_nothing(name: str) -> None:
    """The interpreter takes a while to end, and a run that is finished is."""
    code = (
        "import signal, sys; from oneauto_async._cli import main; code = main();"
        f"signal.raise_signal(signal.{name}); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, "lookup", "1", "--simulate"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, "1 found" in done.stderr, "Traceback" in done.stderr) == (0, True, False)


@posix
def test_an_interruption_between_two_steps_ends_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C counts at whatever moment it comes, and the step it ends has begun, so that it can clean up."""
    monkeypatch.setattr(interrupts, "ECHO", 0.0)
    begun: list[str] = []

    async def endless(name: str) -> None:
        begun.append(name)
        await asyncio.Event().wait()

    async def interrupted() -> int:
        both = Interrupts()
        with both.caught():
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await both.step(endless("asking"))
            signal.raise_signal(signal.SIGINT)
            await both.step(endless("closing"))
        return both.count

    assert (asyncio.run(interrupted()), begun) == (2, ["asking", "closing"])


@posix
def test_a_signal_that_is_handed_on_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever starts the program may pass on a Ctrl-C that has come by itself as well, and often as another signal."""
    monkeypatch.setattr(interrupts, "ECHO", PATIENCE)

    async def interrupted() -> int:
        both = Interrupts()
        with both.caught():
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await both.step(asyncio.sleep(PATIENCE))
            signal.raise_signal(signal.SIGTERM)
            await both.step(asyncio.sleep(0.01))
        return both.count

    assert asyncio.run(interrupted()) == 1


@pytest.mark.parametrize("stop", [pytest.param("SIGINT", marks=posix), "quota"])
def test_a_run_without_a_ledger_that_is_stopped_replaces_no_older_output(tmp_path: Path, ids: Path, stop: str) -> None:
    """What was paid for before stays, what this run has stands beside it under a free name, and a line says where."""
    output, taken, kept = (tmp_path / name for name in ("out.jsonl", "out.jsonl.partial", "out.jsonl-2.partial"))
    output.write_text("older answers")
    taken.write_text("of another run")
    with serve(simulator := Simulator(latency=0.05, quota=30 if stop == "quota" else None)) as base_url:
        options = ("-o", str(output), "--no-ledger", "--concurrency", "10")
        process = start("bulk", str(ids), *options, env=live(base_url))
        if stop == "SIGINT":
            wait_until(lambda: simulator.total_billed > 20)
            process.send_signal(signal.SIGINT)
        done = finish(process)
    billed = {record["evdb_vehicle_id"] for record in records(kept.read_text()) if record["billing"] == "billed"}
    assert (output.read_text(), taken.read_text(), billed) == ("older answers", "of another run", set(simulator.bills))
    assert done.returncode == {"SIGINT": 130, "quota": 4}[stop]
    assert f"output: {kept}" in done.stderr
    assert f"{output} was left as it was" in done.stderr
    assert f"bulk {kept}.rest.txt -o {tmp_path / 'out.rest.jsonl'}" in done.stderr


def test_the_command_for_the_rest_asks_the_same_of_the_same(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """With every option about whom to ask, for what, how fast and for whose money, ready for a shell."""
    output, key_file = tmp_path / "our cars.txt", tmp_path / "the key"
    key_file.write_text(SIMULATOR_KEY)
    with serve(simulator := Simulator(quota=1)) as base_url:
        about = ("--endpoint=car", f"--base-url={base_url}", f"--key-file={key_file}", "--account=north & south")
        pace = ("--rate=100.5", "--burst=3", "--concurrency=5", "--no-ledger")
        command = ("bulk", str(listed(tmp_path, "1", "2")), "-o", str(output), "--format=csv", *about, *pace)
        code, _, stderr = run(*command)
    told = shlex.split(stderr.partition("run `oneauto-async ")[2].partition("` for it alone")[0])
    rest = [f"{output}.rest.txt", "-o", str(tmp_path / "our cars.rest.txt")]
    assert (code, simulator.total_billed, told) == (4, 1, ["bulk", *rest, "--format=csv", *about, *pace])
    assert run("bulk", str(VANS), "--simulate", "--max-calls=1", "-o", str(tmp_path / "a.csv"))[2].count("--simulate`")


@pytest.mark.parametrize("name", ["out.csv.rest.txt", "out.csv.rest.jsonl"])
def test_the_rest_is_not_written_over_the_answers_it_belongs_to(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str
) -> None:
    """The obvious slip after an interruption would replace paid answers."""
    (tmp_path / name).write_text("1\n")
    code, _, stderr = run("bulk", str(tmp_path / name), "-o", str(tmp_path / "out.csv"), "--simulate")
    assert (code, "holds the answers" in stderr) == (2, True)


@pytest.mark.parametrize("output", [".", "/", ""])
def test_a_directory_as_output_is_refused(ids: Path, output: str) -> None:
    """With one line that says what to do, before anything is asked for."""
    done = oneauto("bulk", str(ids), "--simulate", "-o", output)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "is a directory" in done.stderr


@posix
def test_a_reader_that_has_seen_enough_is_no_drama(ids: Path) -> None:
    """As with ``| head``: no traceback, no further calls, and a word about what could not be handed over."""
    with serve(simulator := Simulator(latency=0.05)) as base_url:
        process = start("bulk", str(ids), "--concurrency", "5", env=live(base_url))
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        done = finish(process)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "standard output was closed" in done.stderr
    assert simulator.requests.total() < 199


@posix
@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_lookups_that_nobody_reads_are_told_as_lost(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """All of them, and with what they would have been kept."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", stream := io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True))
    code, _, stderr = run("lookup", "1", "2", "3", "--simulate", "--format", form)
    stream.close()
    assert (code, "3 billed" in stderr) == (1, True)
    assert "3 records could not be handed over (--ledger keeps what is paid for)" in stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_told(ids: Path) -> None:
    """The run stops with an error line instead of buying answers for nobody."""
    with Path("/dev/full").open("wb") as full:
        done = program("bulk", str(ids), "--simulate", stdout=full)
    assert (done.returncode, "error: standard output: No space left" in done.stderr) == (1, True)


FULL_DISK = (
    # Bytecode that is cut short would be found by the tests that follow.
    "import resource, signal, sys; sys.dont_write_bytecode = True; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
    "from oneauto_async._cli import main; sys.exit(main())"
)


@posix
def test_a_full_disk_under_the_output_loses_no_answer(tmp_path: Path, ids: Path) -> None:
    """What does not fit into the file is printed: both together hold every answer that was paid for."""
    limited = FULL_DISK.format(size=20_000)
    output = tmp_path / "out.jsonl"
    with serve(simulator := Simulator()) as base_url:
        done = subprocess.run(
            [sys.executable, "-c", limited, "bulk", str(ids), "-o", str(output), "--no-ledger", "--concurrency", "5"],
            env=live(base_url), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    kept = records(output.read_text()) + records(done.stdout)
    assert (done.returncode, "on standard output as JSON Lines" in done.stderr) == (1, True)
    assert {record["evdb_vehicle_id"] for record in kept if record["billing"] == "billed"} == set(simulator.bills)


@posix
def test_a_full_disk_and_no_standard_output_lose_no_answer(tmp_path: Path) -> None:
    """What /dev/null would throw away goes to a file that the report names, and that its owner alone can read."""
    (temporary := tmp_path / "temporary").mkdir()
    source, output = listed(tmp_path, *map(str, range(20))), tmp_path / "out.jsonl"
    command = ("bulk", str(source), "-o", str(output), "--no-ledger", "--concurrency", "5")
    with serve(simulator := Simulator(latency=0.05)) as base_url:
        done = subprocess.run(
            [sys.executable, "-c", FULL_DISK.format(size=5000), *command],
            env=live(base_url) | {"TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    (refuge,) = temporary.iterdir()
    kept = records(output.read_text()) + records(refuge.read_text())
    assert (done.returncode, f"did not fit are in {refuge} as JSON Lines" in done.stderr) == (1, True)
    assert "standard output" not in done.stderr
    assert (refuge.suffix, refuge.stat().st_mode & 0o777) == (".jsonl", 0o600)
    assert {record["evdb_vehicle_id"] for record in kept if record["billing"] == "billed"} == set(simulator.bills)


def test_what_has_no_other_way_out_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is closed and no file can be made."""

    def refuse(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert hand_over(b"{}\n", suffix=".jsonl") == "on standard error"
    assert capsys.readouterr().err == "{}\n"


@posix
def test_a_disk_without_room_for_a_heading_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """Exit 2 in one line, and no hidden file is left behind."""
    command = ("bulk", str(VANS), "--simulate", "-o", str(tmp_path / "out.csv"))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK.format(size=10), *command],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])
    assert "out.csv cannot be written" in done.stderr


@posix
def test_a_fault_that_nobody_expects_is_reported_with_what_was_paid(tmp_path: Path) -> None:
    """As when no more files can be opened: there is a summary, one error line, and a file of the ids that are left."""
    source, output = listed(tmp_path, *map(str, range(40))), tmp_path / "out.jsonl"
    crippled = (
        "import itertools, sys; from oneauto_async import Batch; from oneauto_async._cli import main\n"
        "take, calls = Batch.__anext__, itertools.count()\n"
        "async def fail(batch):\n"
        "    if next(calls) == 10: raise LookupError('nobody expects this')\n"
        "    return await take(batch)\n"
        "Batch.__anext__ = fail; sys.exit(main())"
    )
    with serve(simulator := Simulator()) as base_url:
        command = ("bulk", str(source), "-o", str(output), "--no-ledger", "--concurrency", "5")
        done = subprocess.run(
            [sys.executable, "-c", crippled, *command],
            env=live(base_url), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    billed = {record["evdb_vehicle_id"] for record in records(output.read_text()) if record["billing"] == "billed"}
    assert (done.returncode, "Traceback" in done.stderr, len(billed) < 40) == (1, False, True)
    assert "error: the run was stopped: LookupError: nobody expects this\n" in done.stderr
    assert f"output: {output} (partial: " in done.stderr
    left = set((tmp_path / "out.jsonl.rest.txt").read_text().split())
    assert (billed | left, billed & left) == (set(map(str, range(40))), set())
    assert billed == simulator.bills.keys()


def test_an_output_that_cannot_take_its_name_hides_nothing_of_the_report(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money and doubts are told, the hidden file is named, and the gravest exit code wins."""

    def refuse(part: Path, target: Path) -> Path:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    monkeypatch.setattr(Path, "replace", refuse)
    code, _, stderr = run("bulk", str(listed(tmp_path, "1", "SIM-502")), "--simulate", "-o", str(tmp_path / "out.csv"))
    (part,) = tmp_path.glob(".out.csv.*.part")
    assert (code, "money: 1 billed, 0 not billed, 1 in doubt" in stderr, "in doubt: sent" in stderr) == (5, True, True)
    assert f"error: {tmp_path / 'out.csv'} cannot be written: Is a directory; what was answered is in {part}" in stderr


# The terminal.


@posix
def test_a_terminal_shows_progress(tmp_path: Path, ids: Path) -> None:
    """The bar counts rows, calls turned away and bills, on standard error only."""
    import pty

    ours, theirs = pty.openpty()
    output = str(tmp_path / "out.csv")
    process = start("bulk", str(ids), "--simulate", "--rate", "200", "--burst", "5", "-o", output, stderr=theirs)
    os.close(theirs)
    shown = b"".join(_terminal_output(ours))
    done = finish(process)
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, "")
    assert all(text in shown for text in (b"/200", b"429s", b"billed", b"\x1b["))


def _terminal_output(descriptor: int) -> Iterator[bytes]:
    try:
        while data := os.read(descriptor, 65536):
            yield data
    except OSError:  # Linux ends a terminal's output this way
        return


# The simulator in the foreground.


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_simulate_serves_until_it_is_interrupted(number: signal.Signals) -> None:
    """It prints what to export, answers as the real service would, and ends with 0 and no traceback."""
    process = start("simulate", "--port", "0", "--latency", "0", "--quota", "3")
    assert process.stdout is not None
    process.stdout.readline()
    exports = [process.stdout.readline().removeprefix("export ").strip().split("=", 1) for _ in range(2)]
    looked_up = oneauto("lookup", "1", "2", "3", "4", env=environment(**dict(exports)))
    process.send_signal(number)
    done = finish(process)
    assert (looked_up.returncode, done.returncode) == (4, 0)
    assert done.stderr == "served 4 calls, 3 of them billed (in the simulation only)\n"


def test_simulate_says_when_its_port_is_taken() -> None:
    """A line, exit 2, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = oneauto("simulate", "--port", str(taken.getsockname()[1]))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "choose another --port" in done.stderr


@posix
def test_simulate_lists_the_special_ids() -> None:
    """Each with what it does, as comments, so that the output can still be sourced by a shell."""
    process = start("simulate", "--port", "0", "--list-ids")
    read_until(process.stdout, "# SIM-204")
    process.send_signal(signal.SIGINT)
    assert finish(process).returncode == 0


@posix
@pytest.mark.parametrize(("arguments", "code"), [(["lookup", "1"], 0), (["lookup", "SIM-504"], 5), (["--bogus"], 2)])
def test_a_standard_error_that_takes_nothing_changes_no_exit_code(arguments: list[str], code: int) -> None:
    """What is left in Python's buffer would end the program with a code of its own."""
    simulated = [*arguments, "--simulate"] if code != 2 else arguments
    with Path("/dev/full").open("w") as full:
        assert program(*simulated, stderr=full, env=environment(PYTHONWARNINGS="")).returncode == code


def test_a_ledger_command_without_a_word_what_to_do_says_which_there_are() -> None:
    """In one line, as any other mistake."""
    done = oneauto("ledger")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "show, export, verify or resolve" in done.stderr

"""What a person says about money on the command line: estimates, accounts, caps since a day, and ledgers for a few."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.cli import (
    VANS,
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

from oneauto_async.testing import Simulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line inside this process."""
    return inside(monkeypatch, capsys)


@pytest.fixture
def paid_service(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[Simulator]:
    """A simulator that the command line takes for a service that costs money, with nobody there to be asked."""
    with paid(monkeypatch, is_somebody_there=False) as simulator:
        yield simulator


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the files of a folder with their bytes and times."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_the_cap_that_a_refusal_names_is_enough(run: Run, tmp_path: Path, paid_service: Simulator) -> None:
    """What the ledger holds already counts against it."""
    command = ("bulk", str(listed(tmp_path, *map(str, range(20)))), "-o", str(tmp_path / "out.csv"))
    run(*command, "--max-calls", "8")
    code, _, stderr = run(*command)
    named = stderr.partition("add --max-calls ")[2].split()[0]
    assert (code, named, "with 8 that the ledger holds" in stderr) == (2, "20", True)
    assert run(*command, "--max-calls", named)[0] == 0
    assert paid_service.total_billed == 20


# Estimates.


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--price", "0.50", "--max-calls", "2"],
        ["--max-age", "0.001", "--retry-in-doubt", "--refresh-failed"],
        ["--account", "other", "--rate", "50", "--burst", "10", "--concurrency", "5", "--format", "csv"],
    ],
)
def test_estimate_tells_what_a_dry_run_tells(tmp_path: Path, options: list[str]) -> None:
    """Word for word, with every option that the run itself takes, and without a key."""
    output = ("-o", str(tmp_path / "out.jsonl"))
    with serve(simulator := Simulator()) as base_url:
        oneauto("bulk", str(listed(tmp_path, "1", "SIM-502")), *output, env=live(base_url))
        source = str(listed(tmp_path, "1", "SIM-502", "2", "3", "3"))
        env, before, asked = environment(ONEAUTO_BASE_URL=base_url), contents(tmp_path), simulator.requests.total()
        estimate = oneauto("estimate", source, *output, *options, env=env)
        dry_run = oneauto("bulk", source, *output, *options, "--dry-run", env=env)
        assert simulator.requests.total() == asked
    assert (estimate.returncode, estimate.stdout, estimate.stderr) == (0, dry_run.stdout, dry_run.stderr)
    assert "duplicates: 1, asked once" in estimate.stdout
    assert contents(tmp_path) == before


@posix
def test_an_estimate_after_a_crash_settles_nothing_and_tells_the_doubts(tmp_path: Path) -> None:
    """What was under way when the process was killed is in doubt, not bought by another run; the file is as it was."""
    source = listed(tmp_path, *(f"SIM-SILENT-{number}" for number in range(3)), "SIM-SILENT")
    command = (str(source), "-o", str(tmp_path / "out.jsonl"))
    with serve(simulator := Simulator(latency=30)) as base_url:
        process = start("bulk", *command, env=live(base_url))
        wait_until(lambda: simulator.requests.total() == 4)
        process.kill()
        finish(process)
        before = contents(tmp_path)
        estimate = oneauto("estimate", *command, env=environment(ONEAUTO_BASE_URL=base_url))
    assert contents(tmp_path) == before
    assert "in doubt: 4, held" in estimate.stdout
    assert "under way" not in estimate.stdout
    assert "most it can cost: 0 answers" in estimate.stdout


def test_the_help_of_estimate_promises_no_records(run: Run) -> None:
    """It takes the options about the output, and says that it writes none."""
    code, stdout, _ = run("estimate", "--help")
    assert (code, "Write the records" in stdout, "of no effect" in " ".join(stdout.split())) == (0, False, True)


def test_an_estimate_is_readable_on_a_poor_terminal(tmp_path: Path) -> None:
    """A pound sign that the encoding lacks is understood, and shown as an escape."""
    env = environment(LANG="C", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = program("estimate", str(listed(tmp_path, "1")), "--simulate", "--price", "£0.5", env=env)
    assert (done.returncode, "1 answer (\\xa30.50 at" in done.stdout) == (0, True)


def test_an_estimate_tells_what_the_run_will_want(run: Run, paid_service: Simulator) -> None:
    """Without a ledger the run would be refused: the estimate says so, and is not."""
    bare, declined = run("estimate", str(VANS)), run("estimate", str(VANS), "--no-ledger")
    assert (bare[0], declined[0], paid_service.requests.total()) == (0, 0, 0)
    assert "ledger: none; for the run, add -o OUTPUT or --ledger PATH, or say --no-ledger" in bare[1]
    assert "ledger: none, as you say" in declined[1]


# A run that costs money keeps a ledger.


@pytest.mark.parametrize("source", [str(VANS), "-"])
def test_a_run_that_costs_money_wants_a_ledger(run: Run, paid_service: Simulator, source: str) -> None:
    """Without an output that it could stand beside: exit 2 and one line, before the input is read."""
    code, stdout, stderr = run("bulk", source, "--max-calls", "5")
    assert (code, stdout, stderr.count("\n"), paid_service.requests.total()) == (2, "", 1, 0)
    assert all(way in stderr for way in ("-o OUTPUT", "--ledger PATH", "--no-ledger"))


@pytest.mark.parametrize("option", [["--ledger", "books"], ["--no-ledger"], ["-o", "out.jsonl"]])
def test_each_of_the_three_ways_is_enough(
    run: Run, paid_service: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    """A ledger, an output, or a word that there is to be none."""
    monkeypatch.chdir(tmp_path)
    code, _, _ = run("bulk", str(listed(tmp_path, "1", "2")), "--max-calls", "5", *option)
    assert (code, paid_service.total_billed) == (0, 2)


def test_a_lookup_is_leave_and_wish_enough(run: Run, paid_service: Simulator) -> None:
    """Whoever types ids has counted them: no cap, no ledger and no question."""
    code, _, _ = run("lookup", "1", "2")
    assert (code, paid_service.total_billed) == (0, 2)


# Accounts.


def test_accounts_are_kept_apart(tmp_path: Path) -> None:
    """One ledger for two accounts: each buys its own, each cap counts its own, and `show` tells them apart."""
    source, books = str(listed(tmp_path, "1", "2")), ("--ledger", str(tmp_path / "books"), "--max-calls", "2")
    with serve(simulator := Simulator()) as base_url:
        codes = [
            oneauto("bulk", source, *books, "--account", account, env=live(base_url)).returncode
            for account in ("north", "south", "north")
        ]
        looked_up = oneauto("lookup", "1", "2", *books[:2], "--account", "south", env=live(base_url))
    shown, exported = (oneauto("ledger", command, str(tmp_path / "books")) for command in ("show", "export"))
    assert (codes, dict(simulator.bills), looked_up.returncode) == ([0, 0, 0], {"1": 2, "2": 2}, 0)
    for account in ("north", "south"):
        assert f"account {account}: 2 answered" in shown.stdout
        assert f"spent by account {account} at" in shown.stdout
    assert {entry["account"] for entry in records(exported.stdout)} == {"north", "south"}


@pytest.mark.parametrize("name", ["", " ", "two\nlines"])
def test_an_account_has_a_name(run: Run, name: str) -> None:
    """One that can be read on a line."""
    code, _, stderr = run("lookup", "1", "--simulate", "--account", name)
    assert (code, "account must be" in stderr) == (2, True)


# Caps since a day.


def test_a_cap_may_count_from_a_day_on(tmp_path: Path) -> None:
    """What was spent before that moment leaves the cap as it is; what was spent after it counts."""
    source, books = tmp_path / "ids.txt", ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        today = datetime.now(UTC).date().isoformat()
        oneauto("bulk", str(listed(tmp_path, "1", "2", "3", "4")), *books, env=live(base_url))
        later = datetime.now(UTC).isoformat()
        listed(tmp_path, *map(str, range(20)))
        bills = []
        for since in (today, later, later):
            options = ("--max-cost", "1.50", "--price", "0.50", "--since", since)
            estimate = oneauto("estimate", str(source), *books, *options, env=live(base_url))
            done = oneauto("bulk", str(source), *books, *options, env=live(base_url))
            bills.append((done.returncode, simulator.total_billed, estimate.stdout.partition("cost: ")[2][:1]))
    assert bills == [(4, 4, "0"), (4, 7, "3"), (4, 7, "0")]


def test_a_cap_since_a_day_may_stand_before_there_is_a_ledger(
    run: Run, paid_service: Simulator, tmp_path: Path
) -> None:
    """The first run of the month is capped like the others, and so is its estimate."""
    options = ("-o", str(tmp_path / "out.csv"), "--max-calls", "2", "--since", "2020-01-01")
    source = str(listed(tmp_path, "1", "2", "3"))
    estimate, done = run("estimate", source, *options), run("bulk", source, *options)
    assert (estimate[0], done[0], paid_service.total_billed) == (0, 4, 2)
    assert "most it can cost: 2 answers" in estimate[1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--since", "soon", "--max-calls", "1"], "is no date such as 2026-11-01"),
        (["--since", "2999-01-01", "--max-calls", "1"], "still to come"),
        (["--since", "2020-01-01T00:00", "--max-calls", "1"], "without a zone"),
        (["--since", "2020-01-01"], "give --max-calls or --max-cost"),
        (["--since", "2020-01-01", "--max-calls", "1", "--no-ledger"], "give --ledger"),
        (["--max-cost", "€5", "--price", "£1"], "different currencies"),
        (["--max-cost", "€5", "--price", "1"], "an amount without a sign is in £"),
        (["--max-cost", "5", "--price", "$1"], "an amount without a sign is in £"),
        (["--price", "£"], "is no amount"),
        (["--price", "0"], "an amount here is from 0.000001 to 1,000,000,000,000"),
        (["--price", "1e999999"], "an amount here is from 0.000001 to"),
        (["--max-cost", "1e13", "--price", "1"], "an amount here is from 0 to"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, options: list[str], complaint: str) -> None:
    """Before anything is read or sent; a day to come above all, from which on no cap would hold."""
    code, stdout, stderr = run("bulk", str(VANS), "--simulate", *options)
    assert (code, stdout, complaint in stderr) == (2, "", True)


def test_a_price_of_the_environment_has_its_bounds_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told before anything is bought, and not when the bill is made."""
    monkeypatch.setenv("ONEAUTO_PRICE", "1e999999999")
    code, _, stderr = run("bulk", str(VANS), "--simulate")
    assert (code, "'--price': an amount here is from 0.000001 to" in stderr) == (2, True)


# Lookups with a ledger.


def test_a_lookup_may_keep_a_ledger(tmp_path: Path) -> None:
    """Then it pays once; an old answer, or any on request, is bought again, and without the option there is no file."""
    books = ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        bills, said = [], []
        more = ((), ("--max-age", "3600"), ("--max-age", "0.001"), ("--refresh",))
        for options in ((), books, *((*books, *others) for others in more)):
            done = oneauto("lookup", "1", "2", *options, env=live(base_url), cwd=tmp_path)
            bills.append(simulator.total_billed)
            said.append(done.stderr)
    assert bills == [2, 4, 4, 4, 6, 8]
    assert "0 billed, 0 not billed, 0 in doubt, 2 served by the ledger" in said[2]
    assert {file.name for file in tmp_path.iterdir()} == {"books"}


def test_a_lookup_may_be_capped(tmp_path: Path) -> None:
    """With the ledger's spending counted; exit 4, and the end says how to go on."""
    options = ("--ledger", str(tmp_path / "books"), "--max-cost", "1", "--price", "0.50")
    with serve(simulator := Simulator()) as base_url:
        done = [oneauto("lookup", "1", "2", "3", *options, env=live(base_url)) for _ in range(2)]
        uncapped = oneauto("lookup", "1", "--max-calls", "0", env=live(base_url))
    assert ([run.returncode for run in done], uncapped.returncode, simulator.total_billed) == ([4, 4], 4, 2)
    assert "2 billed (£1.00 at £0.50 each)" in done[0].stderr
    assert "2 served by the ledger (£1.00 saved)" in done[1].stderr
    assert "1 id is left, and this run paid nothing for it; to go on, allow more with --max-calls" in done[1].stderr
    assert "1 id is left, and this run paid nothing for it" in uncapped.stderr


def test_a_lookup_holds_what_is_in_doubt(tmp_path: Path) -> None:
    """And sends it again only when told; the end says how to settle it."""
    books = ("--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        for options in ([], [], ["--retry-in-doubt"]):
            done = oneauto("lookup", "SIM-502", *books, *options, env=live(base_url))
    assert (done.returncode, simulator.requests["SIM-502"]) == (5, 2)
    assert "ledger resolve" in done.stderr


def test_a_lookup_on_what_is_no_ledger_is_7(tmp_path: Path) -> None:
    """Before the first request, in one line."""
    (tmp_path / "text").write_text("not a database, and longer than a header of one hundred bytes" * 10)
    with serve(simulator := Simulator()) as base_url:
        done = oneauto("lookup", "1", "--ledger", str(tmp_path / "text"), env=live(base_url))
    assert (done.returncode, done.stdout, simulator.requests.total()) == (7, "", 0)
    assert "nothing was sent" in done.stderr


@pytest.mark.parametrize("options", [["--refresh"], ["--max-age", "5"]])
def test_options_about_a_ledger_need_one(run: Run, options: list[str]) -> None:
    """Without ``--ledger``, ``--refresh`` and ``--max-age`` exit with 2 and say what to give."""
    code, _, stderr = run("lookup", "1", "--simulate", *options)
    assert (code, "give --ledger PATH" in stderr) == (2, True)


# The end of a run.


@pytest.mark.parametrize(("price", "sign"), [("0.50", "£"), ("£0.50", "£"), ("€0.50", "€")])
def test_the_end_tells_what_was_paid_saved_and_is_in_doubt(tmp_path: Path, price: str, sign: str) -> None:
    """In money, with its currency; an answer that was free saves nothing."""
    command = ("bulk", str(listed(tmp_path, "1", "2", "SIM-502", "SIM-204")), "--simulate")
    options = ("--ledger", str(tmp_path / "books"), "--price", price)
    first, second = oneauto(*command, *options), oneauto(*command, *options)
    money = f"2 billed ({sign}1.00 at {sign}0.50 each), 1 not billed, 1 in doubt (at most {sign}0.50)"
    assert f"money: {money}, 0 served by the ledger\n" in first.stderr
    money = f"0 billed ({sign}0.00 at {sign}0.50 each), 0 not billed, 1 in doubt (1 of them before this run)"
    assert f"money: {money}, 3 served by the ledger ({sign}1.00 saved)\n" in second.stderr


def test_a_price_below_a_penny_is_shown_exactly(tmp_path: Path) -> None:
    """The summary shows price and total with all their decimal places."""
    done = oneauto("bulk", str(listed(tmp_path, "1", "2", "3")), "--simulate", "--price", "0.125")
    assert "3 billed (£0.375 at £0.125 each)" in done.stderr


@posix
def test_an_interruption_with_nothing_left_says_so(tmp_path: Path) -> None:
    """Everything was asked for: there is nothing to go on with but the doubt."""
    source, books = listed(tmp_path, "1", "SIM-SILENT"), tmp_path / "books"
    with serve(simulator := Simulator()) as base_url:
        process = start("bulk", str(source), "--ledger", str(books), "--drain", "0.1", env=live(base_url))
        wait_until(lambda: simulator.total_billed == 2)
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert (done.returncode, "interrupted: no ids are left" in done.stderr) == (130, True)
    assert "ledger resolve" in done.stderr

"""What the command line writes: records, files that appear whole or not at all, and the books of a run."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.cli import posix

from oneauto_async import (
    AccessDeniedError,
    ApiFailureError,
    BidirectionalCharging,
    Billing,
    ConnectionFailedError,
    Failed,
    Found,
    InDoubt,
    InDoubtError,
    NoData,
    NotSent,
    NotSentReason,
    PendingError,
    QuotaExceededError,
    RateLimitedError,
    Receipt,
    UnexpectedStatusError,
)
from oneauto_async._cli import report
from oneauto_async._cli.book import Book
from oneauto_async._cli.exits import Exit, RefusedError, worst
from oneauto_async._cli.inputs import read_ids
from oneauto_async._cli.job import Job
from oneauto_async._cli.outputs import FileSink, file_sink
from oneauto_async._cli.progress import printable
from oneauto_async._cli.reaching import Settings
from oneauto_async._cli.records import COLUMNS, FIELDS, FORMATS, exit_of, record_of
from oneauto_async._cli.rest import rest_paths, write_rest
from oneauto_async._cli.stdout import HeldSink, StreamSink, stdout_sink
from oneauto_async._cli.terminal import print_table

if TYPE_CHECKING:
    from oneauto_async._cli.records import Record, VanOutcome

BILLED = Receipt(billing=Billing.BILLED, status=200, request_id="r-1", attempts=2)
VAN = BidirectionalCharging(
    vehicle_to_load_support_status="Announced", vehicle_to_load_power_output_kw=3.6, extra={"ports": ["é"]}
)


def found(identifier: str = "1", **particulars: Any) -> Found[BidirectionalCharging]:
    """Make an outcome with a record."""
    return Found(evdb_vehicle_id=identifier, value=VAN, receipt=BILLED, **particulars)


def failed(error: Exception, identifier: str = "1", **particulars: Any) -> Failed:
    """Make a failure that was not billed."""
    return Failed(evdb_vehicle_id=identifier, error=error, **particulars)  # type: ignore[arg-type]  # one of ours


def not_sent(reason: NotSentReason, identifier: str = "1") -> NotSent:
    """Make an outcome nothing was sent for."""
    return NotSent(evdb_vehicle_id=identifier, reason=reason, error=QuotaExceededError("used up"))


IN_DOUBT = InDoubt(
    evdb_vehicle_id="1", error=InDoubtError("lost"), receipt=Receipt(billing=Billing.UNKNOWN, attempts=1)
)
FALSE = failed(ApiFailureError("says no"), raw=b'{"success": false}\xff', receipt=BILLED)


class BrokenSink:
    """A sink on a full disk."""

    def write(self, row: int, record: Record) -> None:
        """Take the first row only."""
        if row:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def commit(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""


def read_csv(data: bytes) -> list[dict[str, str]]:
    """Read CSV as a spreadsheet would."""
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


# Records.


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (found(), "found"),
        (found(partial=True), "partial"),
        (NoData(evdb_vehicle_id="1"), "no_data"),
        (FALSE, "failed"),
        (IN_DOUBT, "in_doubt"),
        (not_sent(NotSentReason.QUOTA), "not_sent"),
    ],
)
def test_every_record_has_the_same_members(outcome: VanOutcome, kind: str) -> None:
    """Whatever became of an id, its record has all the columns in their order, and says what it was."""
    record = record_of(outcome)
    assert (tuple(record), record["outcome"]) == (COLUMNS, kind)


def test_a_found_record_has_the_fields_and_what_they_cost() -> None:
    """The twelve fields stand flat, unknown ones under extra, and the receipt beside them."""
    record = record_of(found(message="by the way"))
    assert {name: record[name] for name in FIELDS} == {name: getattr(VAN, name) for name in FIELDS}
    assert [record[name] for name in ("extra", "message", "billing", "status", "request_id", "attempts", "source")] == [
        {"ports": ["é"]},
        "by the way",
        "billed",
        200,
        "r-1",
        2,
        "network",
    ]


def test_a_failure_says_why_and_keeps_what_was_paid_for() -> None:
    """An answer that was billed but cannot be used is in the record as it came."""
    record = record_of(FALSE)
    assert [record[name] for name in ("error", "message", "raw")] == [
        "ApiFailureError",
        "says no",
        '{"success": false}\\xff',
    ]


def test_an_id_that_was_not_asked_for_has_a_reason() -> None:
    """The reason of a stopped batch stands in a column of its own."""
    assert record_of(not_sent(NotSentReason.QUOTA))["reason"] == "quota used up"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text(st.characters(codec=None)), st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_both_formats_are_read_back(text: str, extra: dict[str, Any]) -> None:
    """Quotes, line ends, NUL, lone surrogates and any JSON survive; JSON Lines is plain ASCII on one line."""
    van = BidirectionalCharging(vehicle_to_load_support_status=text, extra=extra)
    record = record_of(Found(evdb_vehicle_id="1", value=van))
    line = FORMATS["jsonl"].line(record)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line) == record
    [row] = read_csv(FORMATS["csv"].heading + FORMATS["csv"].line(record))
    assert row["vehicle_to_load_support_status"].encode() == text.encode(errors="backslashreplace")
    assert json.loads(row["extra"] or "null") == (extra or None)


def test_json_is_legal_or_not_written() -> None:
    """A number that JSON has no text for is refused rather than written as NaN."""
    with pytest.raises(ValueError, match="Out of range float"):
        FORMATS["jsonl"].line({"extra": {"x": math.nan}})


# Exit codes.


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (found(partial=True), Exit.OK),
        (NoData(evdb_vehicle_id="1"), Exit.OK),
        (FALSE, Exit.FAILED),
        (failed(RateLimitedError("slow down")), Exit.FAILED),
        (failed(AccessDeniedError("no")), Exit.KEY),
        (not_sent(NotSentReason.ACCESS_DENIED), Exit.KEY),
        (failed(QuotaExceededError("used up")), Exit.QUOTA),
        (not_sent(NotSentReason.QUOTA), Exit.QUOTA),
        (IN_DOUBT, Exit.IN_DOUBT),
        (failed(UnexpectedStatusError("HTTP 201"), receipt=Receipt(billing=Billing.UNKNOWN)), Exit.IN_DOUBT),
        (failed(ConnectionFailedError("refused")), Exit.UNREACHABLE),
        (not_sent(NotSentReason.WRONG_ROUTE), Exit.FAILED),
    ],
)
def test_every_outcome_asks_for_its_exit_code(outcome: VanOutcome, code: Exit) -> None:
    """The codes are those of the documentation."""
    assert exit_of(outcome) is code


def test_the_gravest_exit_code_wins() -> None:
    """130, 3, 4, 6, 5, 1, in that order; none of them is 0."""
    order = [Exit.INTERRUPTED, Exit.KEY, Exit.QUOTA, Exit.UNREACHABLE, Exit.IN_DOUBT, Exit.FAILED, Exit.OK]
    assert [worst(order[place:]) for place in range(len(order))] == order


# Files.


def test_a_file_takes_its_name_only_at_the_end(tmp_path: Path) -> None:
    """Until then the old one stands, and afterwards nothing else is left in the folder."""
    target = tmp_path / "out.jsonl"
    target.write_text("old")
    sink = file_sink(target, None, 1)
    sink.write(0, record_of(found()))
    before = target.read_text()
    sink.commit()
    assert (before, json.loads(target.read_text())["outcome"]) == ("old", "found")
    assert list(tmp_path.iterdir()) == [target]


def test_paid_answers_are_in_the_hidden_file_meanwhile(tmp_path: Path) -> None:
    """A machine that dies half way leaves what was answered on the disk."""
    sink = file_sink(tmp_path / "out.jsonl", None, 2)
    sink.write(1, record_of(found("7")))
    [part] = tmp_path.iterdir()
    assert (part.name.startswith(".out.jsonl."), json.loads(part.read_bytes())["evdb_vehicle_id"]) == (True, "7")
    sink.discard()


def test_a_file_is_in_input_order(tmp_path: Path) -> None:
    """Records come as they finish and stand as they were asked for; rows that are missing leave no gap."""
    sink = file_sink(tmp_path / "out.csv", None, 5)
    for row in (3, 0, 4, 1):
        sink.write(row, record_of(found(str(row))))
    sink.commit()
    assert [row["evdb_vehicle_id"] for row in read_csv((tmp_path / "out.csv").read_bytes())] == ["0", "1", "3", "4"]


def test_a_file_that_could_not_be_sorted_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for a sorted copy the records stand as they came, and the end of the run tells it."""

    def fail(sink: FileSink) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileSink, "_sorted_pieces", fail)
    output = tmp_path / "out.csv"
    job = Job(settings=Settings(), book=Book(["1", "2"], sink := file_sink(output, None, 2)), sink=sink, output=output)
    for row in (1, 0):
        job.book.take(found(str(row + 1)))
    sink.commit()
    job.kept = output
    assert [row["evdb_vehicle_id"] for row in read_csv(output.read_bytes())] == ["2", "1"]
    assert f"output: {output}; not in input order: there was no room to sort it" in report.lines(job)


def test_a_discarded_file_leaves_no_trace(tmp_path: Path) -> None:
    """The old file stands as it was; discarding after the end does nothing."""
    target = tmp_path / "out.csv"
    target.write_text("old")
    file_sink(target, None, 1).discard()
    assert (target.read_text(), list(tmp_path.iterdir())) == ("old", [target])
    sink = file_sink(target, None, 1)
    sink.commit()
    sink.discard()
    assert target.read_bytes() == FORMATS["csv"].heading


def test_a_file_that_cannot_take_its_name_keeps_what_was_answered(tmp_path: Path) -> None:
    """The refusal names the hidden file, and discarding afterwards does not remove it."""
    target = tmp_path / "out.jsonl"
    sink = file_sink(target, None, 1)
    sink.write(0, record_of(found("7")))
    target.mkdir()
    with pytest.raises(RefusedError) as refusal:
        sink.commit()
    sink.discard()
    [part] = [path for path in tmp_path.iterdir() if path != target]
    assert str(part) in str(refusal.value)
    assert json.loads(part.read_bytes())["evdb_vehicle_id"] == "7"


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_a_link_stays_a_link_and_modes_are_ordinary(tmp_path: Path) -> None:
    """The file behind a link is replaced, with the modes any new file gets."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    file_sink(tmp_path / "link.csv", None, 1).commit()
    assert (tmp_path / "link.csv").is_symlink()
    assert stat.S_IMODE((tmp_path / "real.csv").stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is a directory"),
        ("missing/out.csv", "there is no folder"),
        ("out.xlsx", "a file is written as CSV or JSON Lines"),
        ("out", "a file is written as CSV or JSON Lines"),
        (f"{'x' * 300}.csv", "cannot be written"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str, reason: str) -> None:
    """Before anything is sent, with what is wrong."""
    with pytest.raises(RefusedError, match=reason):
        file_sink(tmp_path / name, None, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_no_output() -> None:
    """Nothing is renamed over /dev/null."""
    with pytest.raises(RefusedError, match="not an ordinary file"):
        file_sink(Path(os.devnull), "csv", 1)


def test_a_ledger_is_no_output(tmp_path: Path) -> None:
    """A slip that names the ledger after -o replaces nothing that was paid for, whatever the file is called."""
    ledger = tmp_path / "books.csv"
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("CREATE TABLE answers (seq)")
    before = ledger.read_bytes()
    with pytest.raises(RefusedError, match="is a ledger"):
        file_sink(ledger, "csv", 1)
    assert (ledger.read_bytes(), list(tmp_path.iterdir())) == (before, [ledger])


def test_a_table_is_not_written_to_a_file(tmp_path: Path) -> None:
    """Opening a file for ``--format table`` is refused, since a table is for a terminal."""
    with pytest.raises(RefusedError, match="a table is for a terminal"):
        file_sink(tmp_path / "out.csv", "table", 1)


def test_the_rest_is_an_input_of_plain_lines(tmp_path: Path) -> None:
    """It stands next to the output under a telling name."""
    path = write_rest(tmp_path / "out.csv", ["007", "é"])
    assert (path, path.read_text(encoding="utf-8")) == (rest_paths(tmp_path / "out.csv")[0], "007\né\n")
    assert path.name == "out.csv.rest.txt"


TEXTS = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=9).map(str.strip)
OF_A_SPREADSHEET = re.compile(r"\d+[.,eE]|#[A-Z]|=|\d{1,3}[ '\u00a0\u2009\u202f]\d{3}")
IDS = TEXTS.filter(lambda text: text != "" and OF_A_SPREADSHEET.match(text) is None)


@given(st.lists(IDS, min_size=1))
@example(["1", "AB 12"])
@example(["a,b", "#5"])
@example(["id", "5"])
@example(['"5"'])
def test_the_rest_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    """Whatever an id looks like that a file can hold."""
    rest = write_rest(tmp_path_factory.getbasetemp() / "out.csv", ids)
    assert read_ids(str(rest)).rows == ids


def test_a_stream_gets_each_record_at_once() -> None:
    """The heading comes with the first record, and every record is flushed."""
    stream = io.BytesIO()
    sink = StreamSink(stream, FORMATS["csv"])
    sink.write(5, record_of(found("5")))
    assert [row["evdb_vehicle_id"] for row in read_csv(stream.getvalue())] == ["5"]


def test_held_records_are_shown_in_input_order() -> None:
    """A handful of lookups is printed as it was typed."""
    shown: list[Record] = []
    sink = HeldSink(shown.extend)
    for row in (1, 0):
        sink.write(row, {"row": row})
    sink.commit()
    assert shown == [{"row": 0}, {"row": 1}]


def test_a_closed_standard_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no place for the answers, so none are bought."""
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(RefusedError, match="standard output is closed"):
        stdout_sink(None, held=False)


@posix
def test_an_output_whose_folder_is_gone_still_has_its_contents(tmp_path: Path) -> None:
    """They are all there is of what was answered."""
    (folder := tmp_path / "gone").mkdir()
    sink = file_sink(folder / "out.jsonl", None, 1)
    sink.write(0, record_of(found()))
    shutil.rmtree(folder)
    with pytest.raises(RefusedError, match="its folder is gone"):
        sink.commit()
    assert sink.is_homeless
    assert json.loads(sink.contents())["evdb_vehicle_id"] == "1"


@posix
@pytest.mark.parametrize("is_made_again", [False, True])
def test_an_output_whose_folder_was_renamed_still_has_its_contents(tmp_path: Path, is_made_again: bool) -> None:
    """The file is where nobody would look for it."""
    (folder := tmp_path / "old").mkdir()
    sink = file_sink(folder / "out.jsonl", None, 1)
    sink.write(0, record_of(found()))
    (hidden,) = folder.iterdir()
    folder.rename(tmp_path / "new")
    if is_made_again:
        folder.mkdir()
    with pytest.raises(RefusedError, match="its folder is gone, or was renamed"):
        sink.commit()
    assert json.loads(sink.contents())["evdb_vehicle_id"] == "1"
    assert not hidden.exists()


@posix
def test_standard_output_by_another_name_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell goes on writing into what the name led to before."""
    with (tmp_path / "all.txt").open("w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(RefusedError, match="leave -o out to write to standard output"):
            file_sink(tmp_path / "all.txt", "csv", 1)


def test_a_rest_that_could_not_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, the half-written file of remaining ids is removed."""

    def fail(path: Path, *_: object, **__: object) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        write_rest(tmp_path / "out.csv", ["1"])
    assert not list(tmp_path.iterdir())


# The table.


@pytest.mark.parametrize("columns", [20, 40, 56, 65, 80])
@pytest.mark.parametrize("count", [1, 5])
def test_no_terminal_is_too_narrow_for_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, count: int
) -> None:
    """Lines wrap there; a figure that is cut off would be another figure."""
    monkeypatch.setenv("COLUMNS", str(columns))
    van = BidirectionalCharging(
        vehicle_to_load_support_status="Unavailable", vehicle_to_grid_dc_power_output_kw=12345.5
    )
    print_table([record_of(Found(evdb_vehicle_id=f"van{n}", value=van, receipt=BILLED)) for n in range(count)])
    shown = capsys.readouterr().out
    assert shown.count("Unavailable") == shown.count("12345.5") == count
    assert f"van{count - 1}" in shown


def test_a_few_records_are_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """Every member that says something has its line."""
    print_table([record_of(found())])
    assert {"vehicle_to_load_power_output_kw", "3.6", "billed", "r-1"} <= set(capsys.readouterr().out.split())


def test_many_records_are_shown_one_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Their errors stand below, with what was paid for and could not be used."""
    print_table([record_of(found(str(number))) for number in range(5)] + [record_of(FALSE)])
    shown = capsys.readouterr().out
    assert "1: ApiFailureError: says no\n" in shown
    assert '{"success": false}' in shown


def test_nothing_in_a_record_can_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences and markup of a server come out as text."""
    van = BidirectionalCharging(vehicle_to_load_support_status="\x1b[2J\x07[red]x[/red]")
    print_table([record_of(Found(evdb_vehicle_id="1", value=van, message="\x1b]0;title\x07"))])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]x[/red]" in shown


@posix
def test_a_table_whose_reader_has_left_is_told_like_any_other_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that draws it would end the program, and nothing would be said about what was paid."""
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("sys.stdout", stream := io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True))
    with pytest.raises(BrokenPipeError):
        print_table([record_of(found())])
    stream.detach().close()


def test_printable_escapes_what_cannot_be_seen() -> None:
    """Letters of any script stay; control characters, bidi marks and lone surrogates are shown as escapes."""
    assert printable("é日\x1b\n\u202e\ud800") == "é日\\x1b\\n\\u202e\\ud800"


# The books.


def test_a_book_asks_each_id_once_and_answers_every_row() -> None:
    """The second row of an id has the same answer, which cost nothing more."""
    shown: list[Record] = []
    book = Book(["1", "2", "1"], sink := HeldSink(shown.extend))
    for identifier in book.ids:
        book.take(found(identifier))
    sink.commit()
    assert [(record["evdb_vehicle_id"], record["billing"], record["attempts"]) for record in shown] == [
        ("1", "billed", 2),
        ("2", "billed", 2),
        ("1", "not billed", 0),
    ]
    assert (book.done, book.duplicates, book.billing[Billing.BILLED]) == (3, 1, 2)


def test_an_outcome_is_booked_once() -> None:
    """What is taken from a closing client may have come already."""
    book = Book(["1"], HeldSink(print))
    book.take(found())
    book.take(found())
    assert (book.done, book.attempts) == (1, 2)


def test_what_is_left_is_what_cost_nothing_and_may_still_come() -> None:
    """An id in doubt is not left, because asking again may pay twice; a final failure is not left either."""
    book = Book(["never", "throttled", "denied", "route", "stopped", "doubt", "false", "found"], HeldSink(print))
    book.take(failed(RateLimitedError("slow down"), "throttled"))
    book.take(failed(AccessDeniedError("no"), "denied"))
    book.take(failed(UnexpectedStatusError("no such route", status=404), "route"))
    book.take(not_sent(NotSentReason.QUOTA, "stopped"))
    book.take(InDoubt(evdb_vehicle_id="doubt", error=InDoubtError("lost")))
    book.take(failed(ApiFailureError("says no"), "false"))
    book.take(found("found"))
    assert book.left() == ["never", "throttled", "denied", "route", "stopped"]


@pytest.mark.parametrize(
    ("outcome", "answered"),
    [
        (found(), True),
        (NoData(evdb_vehicle_id="1"), True),
        (IN_DOUBT, True),
        (FALSE, True),
        (failed(AccessDeniedError("no")), False),
        (not_sent(NotSentReason.ACCESS_DENIED), False),
    ],
)
def test_a_book_knows_whether_anything_was_answered(outcome: VanOutcome, answered: bool) -> None:
    """Only then is an older file worth replacing."""
    book = Book(["1"], HeldSink(print))
    book.take(outcome)
    assert book.has_answers is answered


def test_a_full_disk_strands_the_records_that_follow() -> None:
    """They are kept, so that they can still be printed."""
    book = Book(["1", "2", "3"], BrokenSink())
    for identifier in book.ids:
        book.take(found(identifier))
    assert [record["evdb_vehicle_id"] for record in book.stranded] == ["2", "3"]
    assert book.trouble is not None


def test_what_is_accepted_and_not_ready_is_no_answer() -> None:
    """Behind a doubt it is no reason to replace an older output."""
    receipt = Receipt(billing=Billing.UNKNOWN, status=202, attempts=2)
    book = Book(["1"], HeldSink(print))
    book.take(InDoubt(evdb_vehicle_id="1", raw=b"{}", receipt=receipt, error=PendingError("not ready")))
    assert not book.has_answer("1")

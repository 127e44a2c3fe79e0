"""What the command line takes for ids, and what it refuses before anything is sent."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import A_LOCALE_OF_ASCII, environment, live, oneauto, posix, program

from oneauto_async._cli.exits import Exit, RefusedError
from oneauto_async._cli.inputs import checked_arguments, read_ids
from oneauto_async._cli.source import MAX_LINE
from oneauto_async.testing import Simulator, serve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from oneauto_async._cli.inputs import Ids

    Reader = Callable[..., Ids]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Read the given content as a file of the given name."""

    def read(name: str, content: str | bytes, *, column: str | None = None, form: str | None = None) -> Ids:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_ids(str(path), column=column, form=form)

    return read


def test_takes_the_best_known_column_of_a_csv(read: Reader) -> None:
    """The vendor's own name wins over a column that is merely called id."""
    ids = read("vans.csv", "id,depot,evdb_vehicle_id\n1,London,00123\n2,Leeds,00123\n")
    assert (ids.rows, ids.origin) == (["00123", "00123"], "column 'evdb_vehicle_id'")


@pytest.mark.parametrize("heading", ["EVDB Vehicle ID", "evdb-vehicle-id", "vehicleId", "EVDB_ID", " Id "])
def test_knows_the_id_column_by_many_spellings(read: Reader, heading: str) -> None:
    """Case, spaces and punctuation of a heading do not matter."""
    assert read("vans.csv", f"depot,{heading}\nLondon,7\n").rows == ["7"]


def test_takes_the_named_column(read: Reader) -> None:
    """The column given by ``--column`` is read although another one is called ``id``."""
    assert read("vans.csv", "id,van\n1,2\n", column="van").rows == ["2"]


@pytest.mark.parametrize("column", ["wagon", None])
def test_lists_the_columns_when_none_fits(read: Reader, column: str | None) -> None:
    """A wrong --column and a hopeless guess both tell which columns there are."""
    with pytest.raises(
        RefusedError, match=r"there are: 'a', 'b' \(the separator is taken to be a semicolon\)"
    ) as caught:
        read("vans.csv", "a;b\n1;2\n", column=column)
    assert caught.value.code is Exit.USAGE


def test_refuses_two_columns_of_the_chosen_name(read: Reader) -> None:
    """Which of two equal headings holds the id cannot be known."""
    with pytest.raises(RefusedError, match="2 columns are called 'id'"):
        read("vans.csv", "id,id\n1,2\n")


def test_refuses_two_columns_that_look_like_the_id(read: Reader) -> None:
    """One of them may be a row number; a name given with --column is exact."""
    with pytest.raises(RefusedError, match=r"any of \['ID', 'id'\]: say which with --column"):
        read("vans.csv", "ID,id\n1,2\n")
    assert read("vans.csv", "ID,id\n1,2\n", column="id").rows == ["2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vans.csv", "depot,van id\nLeeds,7\ndepot,van id\nLondon,8\n"),
        ("vans.csv", "\ufeffvan id,depot\n7,Leeds\n\ufeffvan id,depot\n8,London\n"),
        ("vans.txt", "van_id\n7\nvan_id\n8\n"),
    ],
)
def test_the_heading_again_is_no_id(read: Reader, name: str, content: str) -> None:
    """As in two files that were joined: it would be sent, and might be paid for."""
    content = content.replace("van_id", "evdb_vehicle_id")
    with pytest.raises(RefusedError, match="line 3: the heading again"):
        read(name, content, column="van id" if name == "vans.csv" else None)
    assert read("vans.jsonl", '{"id": "id"}\n{"id": "7"}\n').rows == ["id", "7"]


def test_a_lone_heading_that_may_be_an_id_is_refused(read: Reader) -> None:
    """Taken for a heading, the first id would never be asked for."""
    with pytest.raises(RefusedError, match="'EV-204' may be the heading or the first id"):
        read("vans.csv", "EV-204\n12345\n")
    assert read("vans.csv", "EV-204\n12345\n", form="lines").rows == ["EV-204", "12345"]
    assert read("vans.csv", "EV-204\n12345\n", column="EV-204").rows == ["12345"]
    assert read("vans.csv", "van\n12345\n").rows == ["12345"]
    assert read("vans.jsonl", '{"van1": "12345"}\n').rows == ["12345"]


@pytest.mark.parametrize("cell", ['"=""00123"""', '"1,234,567"', "1 234 567", "1'234"])
def test_what_a_spreadsheet_made_for_a_person_to_read_is_no_id(read: Reader, cell: str) -> None:
    """Sent as it stands, it would be paid for as something else."""
    with pytest.raises(RefusedError, match=r"(?s)line 2.*(grouped|formula)"):
        read("vans.csv", f"id\n{cell}\n")


def test_reads_a_csv_as_spreadsheets_write_it(read: Reader) -> None:
    """A byte-order mark, CRLF, semicolons, quotes, blank lines and trailing separators are no obstacle."""
    content = '\ufeffdepot;evdb_vehicle_id\r\n"London; East";" 12 "\r\n\r\n;;;\r\nLeeds;13;;\r\n'
    assert read("vans.csv", content).rows == ["12", "13"]


def test_a_lone_column_of_numbers_has_no_heading(read: Reader) -> None:
    """The first id of a bare list is not lost as if it were a heading."""
    assert read("vans.csv", "101\n102\n").rows == ["101", "102"]


def test_a_row_of_another_width_is_refused(read: Reader) -> None:
    """A row that may have slipped sideways would put another cell in the place of the id."""
    with pytest.raises(RefusedError, match="line 3: the heading has 3 cells and this line has 2"):
        read("vans.csv", "van,id,depot\na,1,London\n2,London\n")


def test_a_quote_left_open_is_refused_with_its_line(read: Reader) -> None:
    """An open quote would swallow the rest of the file."""
    with pytest.raises(RefusedError, match="line 3 is not legal CSV"):
        read("vans.csv", 'van,id\n"a,1\nb,2\n')


@pytest.mark.parametrize("damaged", ["12345.0", "1.2345E+04", "1E+05"])
def test_ids_that_a_spreadsheet_rounded_are_refused(read: Reader, damaged: str) -> None:
    """A decimal number in the id column is not the id that once stood there."""
    with pytest.raises(RefusedError, match="spreadsheet"):
        read("vans.csv", f"id\n{damaged}\n")


def test_the_mark_of_a_formula_that_failed_is_no_id(read: Reader) -> None:
    """Its line is named, and nothing is asked."""
    with pytest.raises(RefusedError, match=r"(?s)line 3.*#N/A is what a spreadsheet shows"):
        read("vans.csv", "id\n12345\n#N/A\n")


def test_reads_plain_lines(read: Reader) -> None:
    """Blank lines, comments and a heading are skipped; leading zeros and duplicates are kept."""
    ids = read("vans.txt", "\ufeff# ours\r\n\r\nevdb_vehicle_id\r\n 007 \r\n8 # Leeds\r\n007\r\n")
    assert ids.rows == ["007", "8", "007"]


@pytest.mark.parametrize("line", ["1 2", "1,2", '{"id": 1}', "1;2"])
def test_a_plain_line_of_more_than_one_id_is_refused(read: Reader, line: str) -> None:
    """It would be sent as one id as it stands."""
    with pytest.raises(RefusedError, match=r"line 2: .*not one plain id"):
        read("vans.txt", f"1\n{line}\n")


def test_plain_lines_have_no_columns(read: Reader) -> None:
    """--column beside a plain list is a mistake worth telling."""
    with pytest.raises(RefusedError, match="leave --column out"):
        read("vans.txt", "1\n", column="id")


def test_reads_json_lines(read: Reader) -> None:
    """Objects, strings and whole numbers of any length are ids, digit for digit."""
    content = '{"id": 1, "vehicle_id": "007", "kw": 1.5}\n\n{"vehicle_id": 12345678901234567890}\n"é"\n9\n'
    assert read("vans.jsonl", content).rows == ["007", "12345678901234567890", "é", "9"]


@pytest.mark.parametrize(
    "value", ["1.0", "1e3", "true", "null", "-0", "-5", "[1]", "NaN", "{", "{}", '{"id": null}', "[" * 9999]
)
def test_other_json_values_are_refused_with_their_line(read: Reader, value: str) -> None:
    """A float, a bool, a list or broken JSON is no id, and nothing is guessed from it."""
    with pytest.raises(RefusedError, match=r"1 line holds no usable id.*\n  line 2: "):
        read("vans.jsonl", f'{{"id": 1}}\n{value}\n')


def test_a_json_member_may_be_named(read: Reader) -> None:
    """--column names the member, and a wrong one lists those there are."""
    assert read("vans.jsonl", '{"van": "5", "id": 6}\n', column="van").rows == ["5"]
    with pytest.raises(RefusedError, match="no column 'wagon'; there are: 'van'"):
        read("vans.jsonl", '{"van": "5"}\n', column="wagon")


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("depot,id\nLondon,5\n", ["5"]),
        ("depot\tid\nLondon\t5\n", ["5"]),
        ('"id"\n5\n', ["5"]),
        ('{"id": 5}\n', ["5"]),
        ('"5"\n', ["5"]),
        ("# list, of ours\n5\n", ["5"]),
        ("5\n6\n", ["5", "6"]),
    ],
)
def test_an_unknown_suffix_is_told_by_the_first_line(read: Reader, content: str, rows: list[str]) -> None:
    """Without a telling suffix the first line that is not blank shows the format."""
    assert read("vans", content).rows == rows


def test_the_given_format_beats_the_suffix(read: Reader) -> None:
    """With ``--input-format`` lines a file called ``.csv`` is read as one id per line."""
    assert read("vans.csv", "1\n2\n", form="lines").origin == "one id per line"


@pytest.mark.parametrize("content", ["", "\n \n", "# nothing\n", "id\n", "\ufeff"])
def test_an_input_without_ids_is_refused(read: Reader, content: str) -> None:
    """There is nothing to ask for, and that is said rather than done."""
    with pytest.raises(RefusedError, match="holds no ids"):
        read("vans.txt", content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1\n\xff\n", "line 2 is not UTF-8"),
        (b"1\n2\0\n", "line 2 holds a NUL byte"),
        ("id\n1\n".encode("utf-16"), "line 1 is UTF-16"),
        (b"1" * (MAX_LINE + 1), "longer than"),
    ],
)
def test_what_is_no_text_is_refused(read: Reader, content: bytes, reason: str) -> None:
    """Binary files and other encodings are named for what they are."""
    with pytest.raises(RefusedError, match=reason):
        read("vans.txt", content)


def test_shows_the_first_problems_and_counts_the_rest(read: Reader) -> None:
    """A person sees five lines and how many more there are."""
    with pytest.raises(RefusedError, match="12 lines hold no usable id") as caught:
        read("vans.txt", "1\n" + "a b\n" * 12)
    assert re.findall(r"line (\d+):|and (\d+) more", str(caught.value))[-2:] == [("6", ""), ("", "7")]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    """Both are told apart, in a line."""
    with pytest.raises(RefusedError, match="there is no such file"):
        read_ids(str(tmp_path / "nothing.csv"))
    with pytest.raises(RefusedError, match="is a directory"):
        read_ids(str(tmp_path))


def test_typed_ids_are_made_canonical() -> None:
    """Spaces around a typed id do not count, and an empty one is refused."""
    assert checked_arguments([" 12 ", "é"]) == ["12", "é"]
    with pytest.raises(RefusedError, match="must not be empty"):
        checked_arguments(["12", ""])


@posix
def test_names_of_any_language_are_the_same_in_a_locale_of_ascii(tmp_path: Path) -> None:
    """A column is found, and what is kept for an account is served, whatever the locale of the next run is."""
    (source := tmp_path / "ids.csv").write_text("größe,id\n11,12\n", encoding="utf-8")
    command = ("bulk", str(source), "--column", "größe", "--account", "süd", "--ledger", str(tmp_path / "books"))
    with serve(simulator := Simulator()) as base_url:
        done = [program(*command, env=live(base_url) | variables) for variables in (A_LOCALE_OF_ASCII, {})]
    assert ([run.returncode for run in done], dict(simulator.bills)) == ([0, 0], {"11": 1})


@posix
def test_a_doubt_of_any_language_is_settled_in_a_locale_of_ascii(tmp_path: Path) -> None:
    """It is named as it was when it was looked up."""
    books = str(tmp_path / "books")
    with serve(simulator := Simulator()) as base_url:
        simulator.fail_next(1, 502)
        looked_up = oneauto("lookup", "日本", "--ledger", books, env=live(base_url))
    settled = program("ledger", "resolve", books, "日本", "--billed", env=environment(**A_LOCALE_OF_ASCII))
    assert (looked_up.returncode, settled.returncode, "(entry 1): charged" in settled.stdout) == (5, 0, True)


_IDS = st.text(st.characters(codec="ascii", categories=("Lu", "Ll", "Nd")), min_size=1, max_size=20).filter(
    lambda identifier: identifier != "id"  # the heading, which is refused further down
)


@given(st.lists(_IDS, min_size=1, max_size=30))
def test_every_format_gives_the_ids_back(tmp_path_factory: pytest.TempPathFactory, ids: list[str]) -> None:
    """Whatever the ids, each format brings them back in order and unchanged."""
    folder = tmp_path_factory.mktemp("ids", numbered=True)
    (folder / "a.jsonl").write_text("".join(f"{json.dumps({'id': identifier})}\n" for identifier in ids))
    (folder / "a.csv").write_text("".join(f"x,{identifier}\n" for identifier in ["id", *ids]))
    assert read_ids(str(folder / "a.jsonl")).rows == read_ids(str(folder / "a.csv")).rows == ids


@given(st.binary(max_size=300), st.sampled_from(["csv", "tsv", "lines", "jsonl", None]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, form: str | None
) -> None:
    """No content makes anything but ids or a refusal."""
    path = tmp_path_factory.mktemp("bytes", numbered=True) / "input"
    path.write_bytes(content)
    with contextlib.suppress(RefusedError):
        assert read_ids(str(path), form=form).rows

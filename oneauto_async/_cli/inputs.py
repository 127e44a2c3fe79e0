"""The ids of a job: read from a file or standard input, and checked to the last line before anything is sent."""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from .._ids import canonical_id
from ..errors import InvalidVehicleIdError
from .exits import RefusedError
from .shell import as_typed
from .source import numbered_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .source import Line

__all__ = ["Ids", "are_plain", "checked_arguments", "read_ids"]


SHOWN_PROBLEMS = 5
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".txt": "lines", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_ID_NAMES = ("evdbvehicleid", "evdbid", "vehicleid", "id")
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_DAMAGED = re.compile(r"\d+[.,]\d*([eE][+-]?\d+)?|\d+[eE]\+\d+")
_GROUPED = re.compile(r"\d{1,3}([ .,'\u00a0\u2009\u202f]\d{3})+")
_FAILED_FORMULAS = frozenset({"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"})

Cell: TypeAlias = tuple[int, object]


@attrs.frozen(kw_only=True)
class Ids:
    """What a person asked for.

    Attributes:
        rows: the canonical id of every input row, duplicates included, in input order.
        origin: where in the input the ids were taken from, to tell the person.
    """

    rows: list[str]
    origin: str


def read_ids(source: str, *, column: str | None = None, form: str | None = None) -> Ids:
    """Read and check every id of a file, or of standard input when the source is ``-``.

    Arguments:
        source: a path or ``-``.
        column: the CSV column or JSON member that holds the id; ``None`` guesses, and ``origin`` tells what was taken.
        form: ``csv``, ``tsv``, ``lines`` or ``jsonl``; ``None`` goes by the suffix, else by the first line that is not
            blank.

    Raises:
        RefusedError: the input cannot be read, is empty, or some of its lines hold no id; the line numbers are named.
    """
    name = "standard input" if source == "-" else source
    with numbered_lines(source, name) as lines:
        reader = _Reader(name=name, column=column)
        rows = _checked(name, reader.cells(lines, form or _SUFFIXES.get(Path(source).suffix.lower())))
    if not rows:
        raise RefusedError(f"{name} holds no ids: nothing to ask for")
    return Ids(rows=rows, origin=reader.origin)


def checked_arguments(ids: Iterable[str]) -> list[str]:
    """Return the canonical form of ids that were typed on the command line.

    Raises:
        RefusedError: one of them is no id.
    """
    return [_checked_argument(text) for text in ids]


def are_plain(ids: Iterable[str]) -> bool:
    """Tell whether the ids, written one per line, are read back as they are: not as a heading, a comment or a flaw."""
    ids = list(ids)
    reader = _Reader(name="", column=None)
    return [cell for _, cell in reader.cells(enumerate(ids, 1), "lines")] == ids


def _checked_argument(text: str) -> str:
    try:
        return canonical_id(as_typed(text))
    except InvalidVehicleIdError as error:
        raise RefusedError(f"{ascii(text)[:80]} cannot be asked for: {error}") from None


def _checked(name: str, cells: Iterable[Cell]) -> list[str]:
    """Return the canonical ids, or refuse them all with the first few lines that hold none."""
    rows: list[str] = []
    problems = _Problems()
    for line, value in cells:
        try:
            rows.append(_canonical(value))
        except InvalidVehicleIdError as error:
            problems.add(line, str(error))
    problems.refuse_any(name)
    return rows


def _canonical(value: object) -> str:
    if isinstance(value, _NoId):
        raise InvalidVehicleIdError(value.why)
    identifier = canonical_id(value)  # type: ignore[arg-type]  # it refuses every other type itself
    if _DAMAGED.fullmatch(identifier):
        raise InvalidVehicleIdError(f"{identifier} looks like an id that a spreadsheet turned into a decimal number")
    if _GROUPED.fullmatch(identifier):
        raise InvalidVehicleIdError(f"{identifier} looks like a number whose digits were grouped for a person")
    if identifier.startswith("="):
        raise InvalidVehicleIdError(f"{identifier!a} is a spreadsheet's formula, and not what it shows")
    if identifier in _FAILED_FORMULAS:
        raise InvalidVehicleIdError(f"{identifier} is what a spreadsheet shows for a formula that failed")
    return identifier


@attrs.frozen
class _NoId:
    """Stands in the place of an id that is not there.

    Attributes:
        why: what is wrong with the line.
    """

    why: str


_AGAIN = _NoId("the heading again: is this two files in one?")


@attrs.define
class _Problems:
    """Counts the lines that cannot be used and remembers the first few."""

    count: int = 0
    shown: list[str] = attrs.field(factory=list)

    def add(self, line: int, why: str) -> None:
        self.count += 1
        if self.count <= SHOWN_PROBLEMS:
            self.shown.append(f"  line {line}: {why}")

    def refuse_any(self, name: str) -> None:
        """Raise `RefusedError` if there was a problem."""
        if not self.count:
            return
        lines = f"{self.count} lines hold" if self.count > 1 else "1 line holds"
        more = [f"  and {self.count - SHOWN_PROBLEMS} more"] if self.count > SHOWN_PROBLEMS else []
        listed = "\n".join([*self.shown, *more])
        raise RefusedError(f"{name}: {lines} no usable id, so nothing was sent; mend the input and run again\n{listed}")


@attrs.define(kw_only=True)
class _Reader:
    """Turns one source into cells: the line number beside what stands where an id should be.

    Attributes:
        name: the source's name, for messages.
        column: the column a person named, if any.
        origin: where the ids were taken from; known once the cells are read.
    """

    name: str
    column: str | None
    origin: str = ""

    def cells(self, lines: Iterator[Line], form: str | None) -> Iterator[Cell]:
        """Read the lines in the given format, or in the one that the first of them looks like."""
        first, lines = _peek(lines)
        form = form or self._sniffed(first)
        if form == "jsonl":
            return self._json_cells(lines)
        if form == "lines":
            return self._line_cells(lines)
        return self._csv_cells(lines, "\t" if form == "tsv" else _delimiter(first))

    def _sniffed(self, first: str) -> str:
        form = _sniffed(first)
        # Whoever names a column has a table, though it may be of that one column.
        return "csv" if form == "lines" and self.column is not None else form

    def _line_cells(self, lines: Iterable[Line]) -> Iterator[Cell]:
        if self.column is not None:
            raise RefusedError(f"{self.name} is read as one id per line and has no columns: leave --column out")
        self.origin = "one id per line"
        content, heading = _without_comments(lines), None
        for number, text in itertools.islice(content, 1):
            if _squashed(text) in _ID_NAMES:
                heading = text
                self.origin = f"one id per line below the heading {text!r}"
            else:
                yield number, _single(text)
        for number, text in content:
            yield number, _AGAIN if _is_again(text, heading) else _single(text)

    def _csv_cells(self, lines: Iterable[Line], delimiter: str) -> Iterator[Cell]:
        reader = csv.reader((text for _, text in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
        rows = self._csv_rows(reader)
        first, header = next(rows, (0, []))
        place, heading = 0, None
        if self.column is None and _is_headless(header):
            self.origin = "the only column; its first line is an id, not a heading"
            yield first, header[0]
        elif header:
            place = self._chosen(header, f"the separator is taken to be a {_DELIMITERS[delimiter]}")
            heading = header[place]
        for number, row in rows:
            cell = _cell_of(row, place, len(header))
            yield number, _AGAIN if _is_again(cell, heading) else cell

    def _csv_rows(self, reader: Any) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows that hold anything, each with the number of its last line."""
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise RefusedError(f"{self.name}: line {reader.line_num} is not legal CSV: {error}") from None

    def _json_cells(self, lines: Iterable[Line]) -> Iterator[Cell]:
        self.origin = "one JSON value per line"
        member: str | None = None
        for number, text in lines:
            if not text.strip():
                continue
            value = _json_value(text)
            if isinstance(value, dict):
                member = member or self._chosen_name(list(value), "members of a JSON object", is_heading=False)
                value = value.get(member, _NoId(f"the object has no member {member!r}"))
            yield number, _NoId("a list: give one id or one object per line") if isinstance(value, list) else value

    def _chosen(self, header: list[str], hint: str) -> int:
        """Return the place of the id column."""
        names = [name.strip() for name in header]
        chosen = self._chosen_name(names, hint)
        if names.count(chosen) > 1:
            raise RefusedError(f"{self.name}: {names.count(chosen)} columns are called {chosen!r}: rename all but one")
        return names.index(chosen)

    def _chosen_name(self, names: list[str], hint: str, *, is_heading: bool = True) -> str:
        """Return the name of the id column or member, and remember it as the origin."""
        there = f"there are: {', '.join(map(repr, names))} ({hint})"
        if self.column is not None:
            chosen = _named(names, self.column)
            if chosen is None:
                raise RefusedError(f"{self.name} has no column {self.column!r}; {there}")
        else:
            chosen = self._guessed(names, is_heading=is_heading)
            if chosen is None:
                raise RefusedError(f"{self.name}: no column looks like the vehicle id: name it with --column; {there}")
        self.origin = f"column {chosen!r}"
        return chosen

    def _guessed(self, names: list[str], *, is_heading: bool) -> str | None:
        """Return the name that is best known for a vehicle id, or the only name there is if it can be no id itself."""
        for known in _ID_NAMES:
            alike = [name for name in names if _squashed(name) == known]
            if len(set(alike)) > 1:
                raise RefusedError(f"{self.name}: the id may be in any of {alike}: say which with --column")
            if alike:
                return alike[0]
        if is_heading and len(names) == 1 and names[0].startswith("#"):
            hint = "remove it, or add --input-format lines; if it is a heading, name it with --column"
            raise RefusedError(f"{self.name}: {names[0]!r} is no comment in CSV: {hint}")
        if is_heading and len(names) == 1 and any(map(str.isdigit, names[0])):
            hint = "if it is an id, add --input-format lines; if it is a heading, name it with --column"
            raise RefusedError(f"{self.name}: {names[0]!r} may be the heading or the first id: {hint}")
        return names[0] if len(names) == 1 else None


def _peek(lines: Iterator[Line]) -> tuple[str, Iterator[Line]]:
    """Return the first line that is not blank, and all lines again."""
    seen: list[Line] = []
    for number, text in lines:
        seen.append((number, text))
        if text.strip():
            return text.strip("\r\n"), itertools.chain(seen, lines)
    return "", iter(seen)


def _sniffed(first: str) -> str:
    """Tell the format from a first line."""
    if _squashed(first) in _ID_NAMES:
        return "csv"
    if first.startswith(("{", "[")) or isinstance(_json_value(first), str):
        return "jsonl"
    return "csv" if _delimiter(first) in first and not first.startswith("#") else "lines"


def _delimiter(header: str) -> str:
    """Return the separator that stands most often in a heading, outside its quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


def _without_comments(lines: Iterable[Line]) -> Iterator[Line]:
    for number, text in lines:
        content = re.sub(r"(^|\s)#.*", "", text.strip()).strip()
        if content:
            yield number, content


def _single(text: str) -> object:
    """Refuse a plain line that is more than one id: it would be sent, and perhaps paid for, as it stands."""
    if any(character in ",;\"'{}[]" or character.isspace() for character in text):
        return _NoId(f"{ascii(text)[:60]} is not one plain id; for CSV or JSON Lines say so with --input-format")
    return text


def _cell_of(row: list[str], place: int, width: int) -> object:
    """Return the id's cell; a row of another width than the heading may have slipped sideways, so it is no id."""
    surplus = any(cell.strip() for cell in row[width:])
    if len(row) < width or surplus:
        return _NoId(f"the heading has {width} cells and this line has {len(row)}")
    return row[place]


def _is_again(cell: object, heading: str | None) -> bool:
    """Tell whether a cell repeats the heading of its column, as where files were joined with all that begins them."""
    return isinstance(cell, str) and heading is not None and cell.strip().lstrip("\ufeff") == heading.strip()


def _is_headless(row: list[str]) -> bool:
    """Tell whether a first row is a lone number rather than a heading."""
    return len(row) == 1 and row[0].strip().isdecimal()


def _named(names: list[str], column: str) -> str | None:
    """Return the name a person meant: exactly, or else the only one that differs in case and punctuation alone."""
    if column.strip() in names:
        return column.strip()
    alike = [name for name in names if _squashed(name) == _squashed(column)]
    return alike[0] if len(alike) == 1 else None


def _squashed(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _json_value(text: str) -> object:
    """Parse one line; what is no JSON comes back as `_NoId`."""
    try:
        return json.loads(text, parse_int=_digits, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _NoId("not a JSON value")


def _digits(text: str) -> object:
    """Keep a whole number exactly; the lengths Python itself refuses, and minus zero, are no ids."""
    return int(text) if len(text) <= 100 and not text.startswith("-") else _NoId(f"{text[:20]} is no vehicle id")


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")

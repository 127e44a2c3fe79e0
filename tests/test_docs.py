"""The README and docs/: Python blocks and examples run, commands and names exist, links lead somewhere."""

from __future__ import annotations

import ast
import asyncio
import csv
import doctest
import inspect
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import click
import httpx
import pytest
import uvicorn

import oneauto_async
from oneauto_async import (
    OneAutoClient,
    RetryPolicy,
    Timeouts,
    endpoints,
    errors,
    events,
    ledger,
    models,
    outcomes,
    settings,
    transport,
)
from oneauto_async import clock as clock_module
from oneauto_async import testing as oneauto_testing
from oneauto_async._classify import classify
from oneauto_async._cli.app import _cli as cli
from oneauto_async._cli.exits import Exit
from oneauto_async.testing import SPECIAL_IDS, Simulator, VirtualClock, serve

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
PACKAGE = Path(oneauto_async.__file__).parent

RUN_THE_JOB = (
    "python3 -m venv .venv && .venv/bin/pip install -q '.[cli]' && "
    ".venv/bin/oneauto-async bulk docs/examples/vans.csv --simulate --rate 100 --burst 10 -o results.csv"
)
RUN_THE_TESTS = "python3 -m venv .venv && .venv/bin/pip install -q '.[test]' && .venv/bin/pytest -n 2"


# What a page holds.


@attrs.frozen
class Block:
    """A fenced block: its language, its text, the line it starts on, and the text block right behind it, if any."""

    language: str
    text: str
    line: int
    output: str | None = None


_FENCE = re.compile(r"^```(\{?[\w-]+\}?)[^\n]*\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_OUTPUT = re.compile(r"\n```text\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page that are in one of the languages."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        output = _OUTPUT.match(text, fence.end())
        line = text.count("\n", 0, fence.start(2))
        found.append(Block(fence[1], fence[2], line, None if output is None else output[1]))
    return [block for block in found if block.language in languages]


def with_blocks(*languages: str) -> list[Path]:
    """Return the pages that have a block in one of the languages."""
    return [page for page in PAGES if blocks(page, *languages)]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def tables(page: Path) -> Iterator[list[list[str]]]:
    """Yield the tables of a page as rows of cells, the heading first."""
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        yield [rows[0], *rows[2:]]


def table(page: Path, *heading: str) -> list[list[str]]:
    """Return the rows of the one table with this heading."""
    (found,) = [rows[1:] for rows in tables(page) if rows[0] == list(heading)]
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def is_test(block: Block) -> bool:
    return re.search(r"^(async )?def test_", block.text, re.MULTILINE) is not None


@pytest.mark.parametrize("page", with_blocks("python"), ids=name_of)
def test_the_simulators_ids_are_asked_of_the_simulator_alone(page: Path) -> None:
    """Whoever has a key and tries a page pays for no nonsense."""
    for block in blocks(page, "python"):
        assert "SIM-" not in block.text or "simulat" in block.text.lower() or "oneauto_" in block.text, block.line


# Running it.


@pytest.fixture(scope="module")
def simulator_url() -> Iterator[str]:
    """A simulator on a socket, as unhurried as a reader who tries the pages in turn."""
    with serve(Simulator()) as base_url:
        yield base_url


@pytest.fixture
def with_key(simulator_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a person who has a key: here the simulator's."""
    monkeypatch.setenv("ONEAUTO_API_KEY", oneauto_testing.SIMULATOR_KEY)
    monkeypatch.setenv("ONEAUTO_BASE_URL", simulator_url)


@pytest.fixture
def example_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples can be imported, and are forgotten afterwards."""
    monkeypatch.syspath_prepend(EXAMPLES)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) == str(EXAMPLES / f"{name}.py"):
            del sys.modules[name]


def execute(block: Block, page: Path, namespace: dict[str, Any], runner: asyncio.Runner) -> None:
    """Run a block, which may await at the top."""
    code = compile(
        "\n" * block.line + block.text,
        str(page),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    if code.co_flags & inspect.CO_COROUTINE:
        runner.run(eval(code, namespace))
    else:
        exec(code, namespace)


@pytest.mark.usefixtures("with_key", "example_modules")
@pytest.mark.parametrize("page", with_blocks("python"), ids=name_of)
def test_python_blocks_run_and_print_what_they_say(
    page: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page, in order and sharing their names; a text block right behind one is what it prints."""
    monkeypatch.chdir(tmp_path)  # for the files that they make
    namespace: dict[str, Any] = {"__name__": "page"}
    with asyncio.Runner() as runner:
        for block in blocks(page, "python"):
            execute(block, page, namespace, runner)
            printed = capsys.readouterr().out
            assert block.output in (None, printed)


@pytest.fixture
def shell(tmp_path: Path, with_key: None) -> Callable[[str], str]:
    """A shell in a folder like a clone of the project, with the command line installed."""
    shutil.copytree(EXAMPLES, tmp_path / "docs" / "examples")
    program = tmp_path / "bin" / "oneauto-async"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m oneauto_async._cli "$@"\n')
    program.chmod(0o755)
    env = os.environ | {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PACKAGE.parent),
        "PYTHONWARNINGS": "error",
        "PYTHONUTF8": "1",
        "COLUMNS": "80",
    }

    def run(command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return run


@pytest.mark.skipif(os.name != "posix", reason="the pages show a POSIX shell")
@pytest.mark.parametrize("page", with_blocks("console"), ids=name_of)
def test_console_blocks_show_what_comes(page: Path, shell: Callable[[str], str]) -> None:
    """Each line behind a dollar sign is run, and prints what stands below it; three dots stand for anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for block in blocks(page, "console"):
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
        assert commands, block.text
        for command, expected in commands:
            printed = shell(command)
            assert doctest.OutputChecker().check_output(expected, printed, flags), printed


@pytest.mark.parametrize("name", ["first_lookup", "batch", "own_endpoint"])
def test_programs_among_the_examples_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of them runs as a program without a key and prints something."""
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out


def test_tests_among_the_examples_pass(tmp_path: Path) -> None:
    """In a pytest of their own, as a reader runs them, and with them the tests that stand in the pages."""
    shown = [block.text for page in PAGES for block in blocks(page, "python") if is_test(block)]
    for number, text in enumerate(shown):
        (tmp_path / f"test_shown_{number}.py").write_text(text, encoding="utf-8")
    plugin = "oneauto_async.testing.pytest_plugin"
    # An installed library is found by its entry point; naming the plugin as well would register it twice.
    named = [] if any(entry.value == plugin for entry in entry_points(group="pytest11")) else ["-p", plugin]
    options = ["-q", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}", *named]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(EXAMPLES / "testing_your_code.py"), str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown


# The service among the examples.


@asynccontextmanager
async def visitor_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A visitor of the service while it runs."""
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as visitor,
    ):
        yield visitor


@pytest.fixture
def service() -> dict[str, Any]:
    """What the module of the service defines."""
    return runpy.run_path(str(EXAMPLES / "service.py"))


@pytest.mark.parametrize(
    ("evdb_vehicle_id", "status"),
    [
        ("12345", 200),
        ("SIM-206", 200),
        ("SIM-204", 404),
        ("%20", 422),
        ("SIM-503", 503),
        ("SIM-202-FOREVER", 503),
        ("SIM-504", 502),
        ("SIM-FALSE", 502),
        ("SIM-403", 502),
    ],
)
def test_the_service_answers_every_outcome(
    service: dict[str, Any], clock: VirtualClock, evdb_vehicle_id: str, status: int
) -> None:
    """With the status that its visitors can act on."""

    async def visit() -> httpx.Response:
        async with visitor_of(service["make_app"](lambda: OneAutoClient.simulated(clock=clock))) as visitor:
            return await visitor.get(f"/vans/{evdb_vehicle_id}/charging")

    assert clock.run(visit()).status_code == status


def test_a_visitor_of_the_service_does_not_wait_for_ever(service: dict[str, Any], clock: VirtualClock) -> None:
    """Whoever asks again has the answer that came meanwhile, for one charge."""
    simulator = Simulator(latency=25)

    async def main() -> list[int]:
        async with visitor_of(service["make_app"](lambda: OneAutoClient.simulated(simulator, clock=clock))) as visitor:
            statuses = [(await visitor.get("/vans/1/charging")).status_code]
            await asyncio.sleep(10)
            return [*statuses, (await visitor.get("/vans/1/charging")).status_code]

    assert clock.run(main()) == [503, 200]
    assert simulator.bills == {"1": 1}


@pytest.mark.asyncio
@pytest.mark.usefixtures("with_key")
async def test_the_service_with_a_key(service: dict[str, Any]) -> None:
    """The app that a server of the reader's finds in the module takes the key from the environment."""
    async with visitor_of(service["app"]) as visitor:
        answer = await visitor.get("/vans/12345/charging")
    assert (answer.json()["vehicle_to_grid_dc_power_output_kw"], answer.json()["partial"]) == (11, False)


@pytest.mark.asyncio
async def test_the_service_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a program it is simulated."""
    served: list[Any] = []
    monkeypatch.setattr(uvicorn, "run", served.append)
    runpy.run_path(str(EXAMPLES / "service.py"), run_name="__main__")
    async with visitor_of(served[0]) as visitor:
        assert (await visitor.get("/vans/12345/charging")).status_code == 200


# What the pages say against what the code has.


def test_the_readme_quotes_the_examples_as_they_are() -> None:
    """A quotation that drifts from its file would be tested in neither place."""
    text = README.read_text(encoding="utf-8")
    quotations = re.findall(r"<!-- quoted from (\S+) -->\n```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert quotations
    for path, quotation in quotations:
        assert quotation in (ROOT / path).read_text(encoding="utf-8")


def test_the_two_commands_of_the_readme() -> None:
    """They are there word for word, and what they install and read exists."""
    shown = [block.text.strip() for block in blocks(README, "sh")]
    assert shown == [RUN_THE_JOB, RUN_THE_TESTS]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cli", "test"} <= project["optional-dependencies"].keys()
    assert "oneauto-async" in project["scripts"]
    with (EXAMPLES / "vans.csv").open(encoding="utf-8", newline="") as vans:
        assert len({row["evdb_vehicle_id"] for row in csv.DictReader(vans)}) >= 500


def shown_commands() -> list[str]:
    """Return every use of the command line on the pages."""
    fenced = [block.text for page in PAGES for block in blocks(page, "sh", "console")]
    inline = [text for page in PAGES for text in re.findall(r"`([^`\n]+)`", prose(page))]
    lines = re.findall(r"oneauto-async +([a-z]+ [^|>&;\n]*)", "\n".join([*fenced, *inline]))
    return sorted({line.strip() for line in lines})


@pytest.mark.parametrize("line", shown_commands())
def test_shown_commands_can_be_typed(line: str) -> None:
    """The command line accepts every shown command with its options and their values."""
    command, *arguments = shlex.split(line)
    if isinstance(cli.commands[command], click.Group):
        command = f"{command} {arguments.pop(0)}"
    COMMANDS[command].make_context(command, arguments).close()


def options_of(command: str) -> set[str]:
    """Return the options of a command, but for the help that all have."""
    options = (option for option in COMMANDS[command].params if isinstance(option, click.Option))
    return {name for option in options for name in (*option.opts, *option.secondary_opts)} - {"-h", "--help"}


def commands_of(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, those of groups too."""
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{prefix}{name} ")


COMMANDS = dict(commands_of(cli))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_reference_has_every_option(command: str) -> None:
    """The tables of a command name exactly the options that the command takes."""
    told: set[str] = set()
    for (heading, *_), *rows in tables(DOCS / "reference" / "command-line.md"):
        if f"`{command}`" in heading:
            told.update(name for row in rows for name in re.findall(r"`(--?[a-z-]+)`", row[0]))
    assert told == options_of(command)


def test_the_reference_has_every_exit_code() -> None:
    """The table of exit codes lists the members of `Exit`, in their order and no others."""
    codes = table(DOCS / "reference" / "command-line.md", "code", "meaning")
    assert [int(code) for code, _ in codes] == [int(code) for code in Exit]


def test_the_pages_have_every_variable() -> None:
    """The environment variables that the code reads are those that the README and the reference name."""
    pattern = re.compile(r"\bONE_?AUTO_[A-Z_]+\b")
    read = {name for file in PACKAGE.rglob("*.py") for name in pattern.findall(file.read_text(encoding="utf-8"))}
    told = {name for (name, _) in table(DOCS / "reference" / "settings.md", "variable", "meaning")}
    (brief,) = [rows for rows in tables(README) if rows[0][0] == "environment"]
    assert {f"`{name}`" for name in read} == told
    assert {name for row in brief for name in pattern.findall(row[0])} == read


def test_the_reference_has_every_special_id() -> None:
    """In the words of the simulator."""
    told = table(DOCS / "reference" / "testing.md", "id", "answer")
    assert told == [[f"`{name}`", about] for name, about in SPECIAL_IDS.items()]


def test_the_pages_know_every_special_id_they_name() -> None:
    """A special id that does not exist would be an ordinary van."""
    named = {name for page in PAGES for name in re.findall(r"\bSIM-[A-Z0-9-]+\b", page.read_text(encoding="utf-8"))}
    assert named <= SPECIAL_IDS.keys()


PUBLIC_MODULES = [
    oneauto_async,
    clock_module,
    endpoints,
    errors,
    events,
    ledger,
    models,
    oneauto_testing,
    outcomes,
    settings,
    transport,
]


@pytest.mark.parametrize("module", PUBLIC_MODULES, ids=lambda module: module.__name__)
def test_the_reference_has_every_public_name(module: Any) -> None:
    """What can be imported is documented."""
    reference = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    assert [name for name in module.__all__ if not re.search(rf"\b{name}\b", reference)] == []


def attribute_docstrings(cls: type) -> Iterator[str]:
    """Yield the docstrings of the properties of a class, and those that stand behind its attributes."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for node, following in pairwise([*tree.body, ast.Pass()]):
        match node, following:
            case ast.FunctionDef(decorator_list=[ast.Name(id="property")]), _:
                yield ast.get_docstring(node) or ""
            case ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text))):
                yield text


def test_no_docstring_of_an_attribute_begins_like_a_type() -> None:
    """Sphinx takes what stands before a colon in its first line for the attribute's type."""
    public = [getattr(module, name) for module in PUBLIC_MODULES for name in module.__all__]
    texts = [text for thing in public if inspect.isclass(thing) for text in attribute_docstrings(thing)]
    assert texts
    assert [text for text in texts if re.match(r"[^:\n]+: ", text)] == []


def test_docstrings_call_their_arguments_so() -> None:
    """One name for one thing: none says ``Args``."""
    assert [file for file in PACKAGE.rglob("*.py") if "    Args:\n" in file.read_text(encoding="utf-8")] == []


def test_the_guide_to_failures_has_every_error() -> None:
    """Someone who meets an error finds what to do."""
    told = table(DOCS / "howto" / "failures.md", "error", "what it tells", "what to do")
    names = {name for row in told for name in re.findall(r"`(\w+Error)`", row[0])}
    assert names == set(errors.__all__) - {"Billing", "OneAutoError", "ResponseError"}


def test_the_readme_has_the_defaults() -> None:
    """Numbers that a reader plans with are those of the code."""
    text, policy, timeouts = prose(README), RetryPolicy(), Timeouts()
    limits = f"{policy.attempts} attempts and {policy.total:g} s for one lookup; a `Retry-After` of more than"
    assert f"{limits} {policy.max_retry_after:g} s" in text
    assert f"every {policy.poll_interval:g} s, for {policy.poll_total:g} s" in text
    durations = (f"{name} {seconds:g} s" for name, seconds in attrs.asdict(timeouts).items())
    assert f"`Timeouts`: {', '.join(durations)}" in text


def test_the_readme_has_the_money_right() -> None:
    """Each status that its table names is billed as the code counts it."""
    words = {"billed": "yes", "not billed": "no", "unknown": "unknown"}
    told = [
        (int(status), billed)
        for happening, billed, _ in table(README, "what happens", "billed?", "what the client does")
        for status in re.findall(r"\b\d{3}\b", happening)
    ]
    assert {200, 206, 403, 429, 504} <= {status for status, _ in told}
    for status, billed in told:
        assert billed.endswith(words[classify(status, (), b"").billing]), status


def test_the_changelog_begins_with_this_version() -> None:
    """The changelog's first heading, the package and its metadata name one version."""
    changelog = (DOCS / "changelog.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert re.findall(r"^## (.*)$", changelog, re.MULTILINE)[0] == oneauto_async.__version__ == project["version"]


# Links.


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file of the project, and an anchor to one of its headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_relative_to(ROOT), target
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_in_a_table_of_contents() -> None:
    """The tables of contents list each page of the documentation, and nothing that is not a page."""
    listed = {
        (page.parent / f"{entry}.md").resolve()
        for page in PAGES
        for block in blocks(page, "{toctree}")
        for entry in re.findall(r"^[\w/-]+$", block.text, re.MULTILINE)
    }
    assert listed == {page.resolve() for page in PAGES} - {README.resolve(), (DOCS / "index.md").resolve()}


def test_every_example_is_shown() -> None:
    """Each example is included by a page, so that readers find it."""
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [file.name for file in EXAMPLES.glob("*.py") if f"examples/{file.name}\n" not in text] == []

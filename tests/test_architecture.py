"""The shape of the package: its public names, its rooms and the one-way arrows between them, its doors to libraries."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import oneauto_async

PACKAGE = "oneauto_async"
ROOT = Path(oneauto_async.__file__).parent

PUBLIC = {
    # the client and what it hands out
    *("OneAutoClient", "Batch", "BatchSummary", "Plan", "Governor", "GovernorStatistics"),
    *("Outcome", "Found", "NoData", "Failed", "InDoubt", "NotSent", "NotSentReason", "Receipt", "Source", "Billing"),
    # records and endpoints
    *("BidirectionalCharging", "Capability", "SupportStatus", "VehicleToLoad"),
    *("Endpoint", "CAR_BIDIRECTIONAL_CHARGING", "VAN_BIDIRECTIONAL_CHARGING", "make_converter"),
    # settings
    *("Clock", "SystemClock", "Budget", "RateLimit", "RetryPolicy", "Timeouts"),
    # errors
    *("OneAutoError", "ConfigurationError", "InvalidVehicleIdError", "ClientClosedError", "ConnectionFailedError"),
    *(
        "ProxyError",
        "InDoubtError",
        "DeadlineExceededError",
        "BudgetExceededError",
        "LedgerError",
        "ResponseError",
        "BadRequestError",
        "AccessDeniedError",
    ),
    *("NoDataError", "PartialDataError", "PendingError", "RateLimitedError", "QuotaExceededError"),
    *("ServiceUnavailableError", "UnexpectedStatusError", "ApiFailureError", "MalformedAnswerError"),
    *("AnswerTooLargeError", "TruncatedAnswerError", "SchemaMismatchError"),
}
"""The names users rely on: adding one is a decision, removing one breaks them."""

LAYERS = [
    {"errors", "models", "clock", "_waiting", "_recent"},
    {"_checks"},
    {"_address", "_key", "outcomes", "settings", "events", "endpoints", "_ids", "_json", "_retry_after"},
    {"_classify", "_structure", "ledger"},
    {"_wire"},
    {"_arguments", "_flow", "transport"},
    {"_report"},
    {"_lookup", "_batch", "_boarding"},
    {"_bookkeeping"},
    {"_booked", "_plan"},
    {"_client"},
    {"__init__"},
    {"_cli"},
]
"""Rooms from the ground up. A module imports from lower layers and from its own room, never upward or sideways."""

RANKS = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
TESTING = "testing"
TESTING_MAY_IMPORT = {room for rooms in LAYERS[:3] for room in rooms}

DOORS = {
    "httpx": {"_wire", "_client", TESTING},
    "httptools": {"_wire.reading"},
    "certifi": {"_wire.http11"},
    "tenacity": {"_flow.retry"},
    "cattrs": {"_structure"},
    "sqlite3": {"ledger._sqlite"},
    "click": {"_cli"},
    "rich": {"_cli"},
    "uvicorn": {TESTING},
    "pytest": {"testing.pytest_plugin"},
}
"""Which rooms or modules may import a library; ``attrs`` is at home everywhere, any other nowhere."""


@attrs.frozen
class Import:
    """One imported module: by whom, and whether the import runs when the importer is loaded."""

    importer: str
    target: str
    at_load: bool

    def __str__(self) -> str:
        return f"{self.importer} imports {self.target}"


def module_name(path: Path) -> str:
    """Name a module within the package: ``_flow.retry``; a package by its ``__init__``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")}


def room_of(module: str) -> str:
    return module.partition(".")[0]


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


def imports_of(module: str) -> Iterator[Import]:
    """Yield all imports of a module: at its head, for typing only, and inside functions."""
    late = {
        node for function in walk(MODULES[module], ast.FunctionDef, ast.AsyncFunctionDef) for node in ast.walk(function)
    }
    typing_only = {
        node
        for condition in walk(MODULES[module], ast.If)
        if isinstance(condition, ast.If) and ast.unparse(condition.test) == "TYPE_CHECKING"
        for node in ast.walk(condition)
    }
    for node in walk(MODULES[module], ast.Import, ast.ImportFrom):
        for target in targets_of(module, node):
            yield Import(module, target, at_load=node not in late | typing_only)


def walk(tree: ast.AST, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if isinstance(node, kinds))


def targets_of(module: str, node: ast.AST) -> Iterator[str]:
    """Yield what one statement imports, as full names, down to the module where a name is one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        source = absolute(module, node)
        names = [f"{source}.{alias.name}" for alias in node.names]
        yield from dict.fromkeys(name if is_module(name) else source for name in names)


def absolute(module: str, node: ast.ImportFrom) -> str:
    """Resolve a relative import against the module it stands in."""
    if not node.level:
        return node.module or ""
    here = [PACKAGE, *module.split(".")][: -node.level]
    return ".".join([*here, *([node.module] if node.module else [])])


def is_module(name: str) -> bool:
    inside = name.removeprefix(f"{PACKAGE}.")
    return name.startswith(f"{PACKAGE}.") and (inside in MODULES or f"{inside}.__init__" in MODULES)


def inside(target: str) -> str | None:
    """Return the module of this package that a full name stands for, if it does."""
    if target != PACKAGE and not target.startswith(f"{PACKAGE}."):
        return None
    name = target.removeprefix(PACKAGE).removeprefix(".") or "__init__"
    return name if name in MODULES else f"{name}.__init__"


IMPORTS = [found for module in MODULES for found in imports_of(module)]
INTERNAL = [(found, target) for found in IMPORTS if (target := inside(found.target)) is not None]
FOREIGN = [found for found in IMPORTS if inside(found.target) is None]


# Names.


def test_the_public_names_are_the_documented_ones() -> None:
    """No more and no less than users were promised, in order."""
    assert oneauto_async.__all__ == sorted(PUBLIC, key=by_kind)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_each_public_name_is_there(name: str) -> None:
    """``from oneauto_async import …`` works for it."""
    assert getattr(oneauto_async, name) is not None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_all_is_sorted_and_true(module: str) -> None:
    """Where a module declares ``__all__``, it is sorted and every name is there."""
    for names in declared_names(module):
        assert names == sorted(names, key=by_kind)
        assert [name for name in names if not hasattr(imported(module), name)] == []


@pytest.mark.parametrize(
    "module", ["clock", "endpoints", "errors", "ledger.__init__", "models", "outcomes", "settings", "testing.__init__"]
)
def test_each_public_module_declares_its_names(module: str) -> None:
    """Whoever imports from it knows what is promised."""
    assert any(declared_names(module))


def by_kind(name: str) -> tuple[bool, bool, str]:
    """Sort as the linter does: constants, then classes, then functions."""
    return (not name.isupper(), not name[0].isupper(), name)


def declared_names(module: str) -> Iterator[list[str]]:
    for node in MODULES[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            yield ast.literal_eval(node.value)


def imported(module: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{module}".removesuffix(".__init__"))


# Arrows.


def test_every_module_has_its_place() -> None:
    """A new room is put into a layer on purpose."""
    assert {room_of(module) for module in MODULES} == RANKS.keys() | {TESTING}


def test_arrows_point_down() -> None:
    """Errors and models, then classify and structure, wire, flow, batch, client, command line: no import goes up."""
    wrong = [
        str(found)
        for found, target in INTERNAL
        if room_of(found.importer) in RANKS and room_of(target) in RANKS
        if room_of(found.importer) != room_of(target) and RANKS[room_of(found.importer)] <= RANKS[room_of(target)]
    ]
    assert wrong == []


def test_the_testing_room_imports_no_inside_of_the_client() -> None:
    """The simulator shares the public records and settings with the client, so that no mistake is made twice."""
    wrong = [
        str(found)
        for found, target in INTERNAL
        if room_of(found.importer) == TESTING and room_of(target) not in TESTING_MAY_IMPORT | {TESTING}
    ]
    assert wrong == []


def test_testing_is_imported_only_when_it_is_called_for() -> None:
    """By ``OneAutoClient.simulated()`` and the command line; a service never loads it."""
    importers = {found.importer for found, target in INTERNAL if room_of(target) == TESTING}
    assert {room_of(importer) for importer in importers} <= {"_client", "_cli", TESTING}
    assert not [
        str(found)
        for found, target in INTERNAL
        if found.importer == "_client" and found.at_load and room_of(target) == TESTING
    ]


def test_only_the_command_line_and_the_pytest_plugin_may_import_the_package_root() -> None:
    """Inside, everyone names the module that defines what they use."""
    wrong = {found.importer for found, target in INTERNAL if target == "__init__"}
    assert {importer for importer in wrong if room_of(importer) != "_cli"} <= {"testing.pytest_plugin"}


def test_the_core_of_the_governor_knows_no_waiting() -> None:
    """Time is passed in: what decides can be tried without a clock or an event loop."""
    waiting = {found.importer for found in FOREIGN if found.target == "asyncio"}
    waiting |= {found.importer for found, target in INTERNAL if target in ("clock", "_waiting")}
    assert {module for module in waiting if room_of(module) == "_flow"} == {
        f"_flow.{part}" for part in ("flights", "governor", "queue", "retry")
    }


def test_the_guide_to_the_governor_names_every_part() -> None:
    """Whoever reads the code for the first time begins there."""
    guide = ast.get_docstring(MODULES["_flow.__init__"]) or ""
    parts = {module.removeprefix("_flow.") for module in MODULES if room_of(module) == "_flow"} - {"__init__"}
    assert {part for part in parts if f"`{part}`" not in guide} == set()


def test_there_are_no_cycles() -> None:
    """Imports at load time can be put in an order, module by module."""
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found, target in INTERNAL:
        if found.at_load and found.importer != target:
            graph[found.importer].add(target)
    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(MODULES)


# Doors.


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_its_door(library: str) -> None:
    """A foreign library is known to one room, which translates it for the rest."""
    importers = {found.importer for found in FOREIGN if found.target.partition(".")[0] == library}
    doors = {importer for importer in importers if {importer, room_of(importer), folder_of(importer)} & DOORS[library]}
    assert importers == doors


def test_no_other_library_is_imported() -> None:
    """Beyond the standard library, attrs, and those with a door."""
    roots = {found.target.partition(".")[0] for found in FOREIGN}
    assert roots - sys.stdlib_module_names <= DOORS.keys() | {"attrs"}


def test_attrs_is_imported_by_its_new_name() -> None:
    """No module of the package imports ``attr``, the old name of attrs."""
    assert "attr" not in {found.target for found in FOREIGN}


# What an import does.


def in_a_fresh_interpreter(code: str) -> Any:
    """Run code in a process of its own, warnings as errors, and return what it prints as JSON."""
    command = [sys.executable, "-B", "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT.parent, timeout=60)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_loads_only_core_dependencies() -> None:
    """What the libraries it is built on bring along is theirs; on top of them comes nothing but this package (C23).

    httpx loads click and rich by itself where it finds them, for a command line of its own.
    """
    loaded = in_a_fresh_interpreter(
        "import json, sys\n"
        "import attrs, cattrs, cattrs.gen, certifi, httptools, httpx, tenacity\n"
        "before = set(sys.modules)\n"
        "from oneauto_async import *\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    assert set(loaded) - sys.stdlib_module_names == {PACKAGE}


def test_importing_needs_no_extra() -> None:
    """With every extra missing, the package and a simulated client are there all the same."""
    extras = ["click", "rich", "uvicorn", "pytest", "respx", "hypothesis", "fastapi"]
    loaded = in_a_fresh_interpreter(
        "import json, sys\n"
        f"sys.modules.update(dict.fromkeys({extras!r}))\n"
        "import oneauto_async, oneauto_async.testing\n"
        "oneauto_async.OneAutoClient.simulated()\n"
        f"print(json.dumps([name for name in {extras!r} if sys.modules[name] is not None]))"
    )
    assert loaded == []


def test_importing_does_not_load_the_rooms_of_other_users() -> None:
    """A service loads neither the simulator, nor the command line, nor a ledger it does not use."""
    loaded = in_a_fresh_interpreter(
        "import json, sys; from oneauto_async import *; print(json.dumps(list(sys.modules)))"
    )
    others = {f"{PACKAGE}.testing", f"{PACKAGE}._cli", f"{PACKAGE}.ledger", "sqlite3"}
    assert (others | {"uvicorn", "pytest", "respx", "hypothesis"}) & set(loaded) == set()


def test_names_are_loaded_when_they_are_used() -> None:
    """A record needs no HTTP client, and `dir` tells of all there is before any of it is loaded."""
    loaded = in_a_fresh_interpreter(
        "import json, sys, oneauto_async\n"
        "assert set(oneauto_async.__all__) <= set(dir(oneauto_async))\n"
        "oneauto_async.Found, oneauto_async.RateLimit, oneauto_async.errors.LedgerError\n"
        "print(json.dumps(list(sys.modules)))"
    )
    assert {f"{PACKAGE}.outcomes", f"{PACKAGE}.settings"} <= set(loaded)
    assert {"httpx", "cattrs", "tenacity", f"{PACKAGE}._client"}.isdisjoint(loaded)


def test_a_misspelt_name_is_an_error() -> None:
    """Asking the package for a name it does not have raises `AttributeError`, which gives the name."""
    with pytest.raises(AttributeError, match="module 'oneauto_async' has no attribute 'OnAutoClient'"):
        _ = oneauto_async.OnAutoClient  # type: ignore[attr-defined]  # misspelt


def test_importing_touches_nothing() -> None:
    """No network, no process, no file written, no log handler, no event loop and no policy for one (C23)."""
    events = in_a_fresh_interpreter(
        "import asyncio, json, logging, sys\n"
        "import httpx\n"
        "seen = []\n"
        "def watch(event, args):\n"
        "    writes = event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+')\n"
        "    if writes or event.partition('.')[0] in {'socket', 'subprocess', 'os', 'shutil', 'tempfile', 'sqlite3'}:\n"
        "        seen.append([event, repr(args)])\n"
        "sys.addaudithook(watch)\n"
        "policy = asyncio.events._event_loop_policy\n"
        "from oneauto_async import *\n"
        "seen += [['policy']] if asyncio.events._event_loop_policy is not policy else []\n"
        "loggers = [logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)]\n"
        "seen += [['handler', logger.name] for logger in loggers if logger.handlers]\n"
        "print(json.dumps([event for event in seen if event[0] not in {'os.listdir', 'os.scandir'}]))"
    )
    assert events == []

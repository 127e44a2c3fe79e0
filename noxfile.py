"""Everything that is checked, one session each; ``nox`` runs what CI runs."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"
nox.options.error_on_external_run = True
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "types", "tests", "floors", "slow", "docs", "dist"]

PEERS = ["aiolimiter>=1.2", "aiometer>=1.0", "httpx-retries>=0.4", "stamina>=25.1"]
"""Libraries that ours is compared with; nothing else needs them."""

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [
    line.rsplit(" ", 1)[-1]
    for line in PROJECT["classifiers"]
    if line.startswith("Programming Language :: Python :: 3.")
]
"""The versions the package says it supports."""

OLDEST = PYTHONS[0]

PYTEST = ("pytest", "-n", "2", "--dist", "worksteal")
"""Two at a time: half the tests wait for a process or a socket, and what measures time allows for a busy machine."""


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    session.install("ruff>=0.9")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=OLDEST)
def types(session: nox.Session) -> None:
    """Check types strictly, the tests' and examples' too: they are how users call the library."""
    session.install("-e", ".[test]", "mypy>=1.14", "nox", "aiohttp>=3.10", "uvloop>=0.20")
    session.run("mypy", "oneauto_async", "tests", "docs/examples", "noxfile.py")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the fast tests."""
    session.install("-e", ".[test]")
    session.run(*PYTEST, *session.posargs)


@nox.session(python=OLDEST)
def floors(session: nox.Session) -> None:
    """Run the fast tests with the oldest libraries that the package says it works with."""
    needed = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cli"]]
    session.install("-e", ".[test]", *(line.split(",")[0].replace(">=", "==") for line in needed))
    session.run(*PYTEST, *session.posargs)


@nox.session(python=OLDEST)
def slow(session: nox.Session) -> None:
    """Run what takes minutes: a million ids, killed processes, power cuts, uvloop, all examples of properties."""
    session.install("-e", ".[test]", "uvloop>=0.20")
    session.run(*PYTEST, "-m", "slow or hypothesis", "--hypothesis-profile=full", *session.posargs)


@nox.session(python=OLDEST)
def scenarios(session: nox.Session) -> None:
    """Run the governor's scenarios in virtual time: each with ten seeds, its variations, and the grid."""
    session.install("-e", ".[test]")
    session.run(*PYTEST, "-m", "scenarios", *session.posargs)


@nox.session(python=OLDEST)
def sockets(session: nox.Session) -> None:
    """Run each scenario once in real time, against a server in another process."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "sockets", *session.posargs)


@nox.session(python=OLDEST)
def peers(session: nox.Session) -> None:
    """Run other libraries on the same virtual gateway and print the table."""
    session.install("-e", ".", *PEERS)
    session.chdir("tests")
    session.run("python", "-m", "scenarios.peers", *session.posargs)


@nox.session(python=OLDEST)
def plots(session: nox.Session) -> None:
    """Make the pictures and tables of docs/explanation/rate.md anew."""
    session.install("-e", ".", *PEERS)
    session.chdir("tests")
    session.run("python", "-m", "scenarios.plots", *session.posargs)


@nox.session(python=OLDEST)
def week(session: nox.Session) -> None:
    """Run a virtual week at 5/s, three million lookups twice; ``-- --hours 6`` for less."""
    session.install("-e", ".[test]")
    session.chdir("tests")
    session.run("python", "-m", "scenarios.week", *session.posargs)


@nox.session(python=OLDEST)
def benchmark(session: nox.Session) -> None:
    """Measure lookups beside httpx and aiohttp; ``-- --quick`` for a first look."""
    session.install("-e", ".", "aiohttp>=3.11", "trustme>=1.1", "uvloop>=0.21")
    session.chdir("tests")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error. Its examples are run by the tests."""
    session.install("-e", ".[docs]")
    shutil.rmtree("docs/_build", ignore_errors=True)
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session(python=OLDEST)
def dist(session: nox.Session) -> None:
    """Build the wheel and test it, not the working tree, in a fresh environment."""
    session.install("build")
    folder = Path(session.create_tmp()) / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(folder))
    (wheel,) = folder.glob("*.whl")
    session.install("--force-reinstall", f"oneauto-async[test] @ {wheel.resolve().as_uri()}")
    trial = Path(session.create_tmp()) / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    for name in ("tests", "docs"):
        shutil.copytree(name, trial / name, ignore=shutil.ignore_patterns("_build", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "noxfile.py", "LICENSE"):
        shutil.copy(name, trial)
    session.chdir(trial)
    session.run(*PYTEST, *session.posargs)

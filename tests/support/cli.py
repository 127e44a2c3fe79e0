"""The command line as a person with or without a key runs it: in a process of its own, or inside the test's."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, TypeAlias

import pytest

import oneauto_async
from oneauto_async._cli import commands, main
from oneauto_async._cli.reaching import Settings
from oneauto_async.testing import SIMULATOR_KEY, Simulator, serve

VANS = Path(__file__).parents[2] / "docs" / "examples" / "vans.csv"
CANARY = "canary-key-3f9a"
PATIENCE = 60
"""Seconds before a hanging process fails a test; none of them needs more than a few."""

A_LOCALE_OF_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Variables of an environment that has no other letters."""

Run: TypeAlias = Callable[..., tuple[int, str, str]]
"""The command line as a function of its arguments."""

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def environment(**variables: str) -> dict[str, str]:
    """Return an environment without a key, in which this very package is found."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ONEAUTO", "ONE_AUTO", "PYTHONUNBUFFERED"))
    }
    package_folder = str(Path(oneauto_async.__file__).parents[1])
    return inherited | {"PYTHONPATH": package_folder, "PYTHONWARNINGS": "error", "COLUMNS": "100"} | variables


def start(*arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "oneauto_async._cli", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, env=environment() if env is None else env, text=True, encoding="utf-8", **(pipes | options)
    )


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a process and return what it said and how it ended."""
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, where its streams, its environment or its end matter."""
    return finish(start(*arguments, **options))


def oneauto(
    *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line inside this process: what it says and how it ends is the same, and nothing is loaded."""
    with (
        Path(os.devnull).open() as nothing,
        TemporaryFile("w+", encoding="utf-8") as stdout,
        TemporaryFile("w+", encoding="utf-8") as stderr,
        pytest.MonkeyPatch.context() as patch,
    ):
        if cwd is not None:
            patch.chdir(cwd)
        variables = environment() if env is None else env
        for name in set(os.environ) - set(variables):
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        for name, replaced in {"stdin": nothing, "stdout": stdout, "stderr": stderr}.items():
            patch.setattr(sys, name, replaced)
        patch.setattr(sys, "argv", ["oneauto-async", *arguments])
        code = main()
        return subprocess.CompletedProcess(arguments, code, _read_again(stdout), _read_again(stderr))


def _read_again(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command line inside this process, without a key: exit code, output and errors."""
    for name in os.environ:
        if name.startswith(("ONEAUTO", "ONE_AUTO")):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["oneauto-async", *arguments])
        code = main()
        return (code, *capsys.readouterr())

    return run


@contextmanager
def paid(monkeypatch: pytest.MonkeyPatch, *, is_somebody_there: bool) -> Iterator[Simulator]:
    """Serve a simulator that the command line takes for a service that costs money, whose key is in the environment."""
    monkeypatch.setattr(Settings, "is_live", True)
    monkeypatch.setattr(commands, "_somebody_is_there", lambda: is_somebody_there)
    monkeypatch.setenv("ONEAUTO_API_KEY", SIMULATOR_KEY)
    with serve(simulator := Simulator()) as base_url:
        monkeypatch.setenv("ONEAUTO_BASE_URL", base_url)
        yield simulator


def listed(folder: Path, *identifiers: str) -> Path:
    """Write a list of ids."""
    path = folder / "ids.txt"
    path.write_text("".join(f"{identifier}\n" for identifier in identifiers))
    return path


def records(text: str) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in text.splitlines()]


def answered(path: Path) -> int:
    """Count the answers in a ledger that a run is using."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        count: int = file.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count


def live(base_url: str, key: str = SIMULATOR_KEY) -> dict[str, str]:
    """Return the environment of a person who has a key."""
    return environment(ONEAUTO_API_KEY=key, ONEAUTO_BASE_URL=base_url)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process or thread does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def read_until(stream: IO[str] | None, text: str) -> None:
    """Read lines up to the one that holds the text."""
    assert stream is not None
    assert any(text in line for line in iter(stream.readline, ""))

"""Real processes on one ledger, killed and doubled, against a server that counts what it charges."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest
from support import buyer
from support.ledgers import bought, entries_of, key

from oneauto_async.ledger import Entry, SqliteLedger, State
from oneauto_async.ledger._sqlite import owners
from oneauto_async.testing import Simulator, serve

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed as POSIX does it")

SLOWLY = pytest.mark.slow
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has ended and was not reaped")
CONCURRENCY = 8


@attrs.frozen
class Told:
    """One line of a buyer."""

    vehicle_id: str
    outcome: str
    source: str
    billing: str
    raw: str
    reason: str


@attrs.define
class Shop:
    """A service, a ledger, and those who buy."""

    simulator: Simulator
    base_url: str
    path: Path

    def buyer(self, ids: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start one."""
        order = {"base_url": self.base_url, "ledger": str(self.path), "ids": ids, "concurrency": CONCURRENCY} | options
        command = [sys.executable, buyer.__file__, json.dumps(order)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def entries(self) -> list[Entry]:
        """Read the ledger; what the dead had sent is in doubt then."""
        return asyncio.run(self._entries())

    async def _entries(self) -> list[Entry]:
        async with SqliteLedger(self.path) as ledger:
            verification = await ledger.verify()
            assert verification.problems == ()
            return [entry async for entry in ledger.entries()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    simulator = Simulator(latency=(0.0, 0.03))
    with serve(simulator) as base_url:
        yield Shop(simulator, base_url, tmp_path / "test.ledger")


def told_by(process: subprocess.Popen[str]) -> list[Told]:
    """Wait for the end, and return what reached it."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return [Told(*json.loads(line)) for line in out.splitlines() if line.endswith("]")]


def told_by_each(processes: list[subprocess.Popen[str]]) -> list[list[Told]]:
    """Read them side by side: one whose pipe is full stands still, with ids claimed that the others wait for."""
    with ThreadPoolExecutor(len(processes)) as readers:
        return list(readers.map(told_by, processes))


def check(shop: Shop, told: list[Told], *, doubts: int) -> None:
    """Compare both sides' books.

    Every answer that was acknowledged is kept once, under its id and bit for bit; nothing was charged twice; what was
    charged and is not kept is in doubt.
    """
    entries = shop.entries()
    kept = [entry for entry in entries if entry.state is State.ANSWERED]
    in_doubt = {entry.key.vehicle_id for entry in entries if entry.state is State.IN_DOUBT}
    raw = {entry.key.vehicle_id: hashlib.sha256(entry.raw or b"").hexdigest() for entry in kept}
    assert len(raw) == len(kept)
    assert {line.vehicle_id: line.raw for line in told if line.outcome == "Found"}.items() <= raw.items()
    assert set(shop.simulator.bills.values()) <= {1}
    assert shop.simulator.bills.keys() <= raw.keys() | in_doubt
    assert raw.keys() <= shop.simulator.bills.keys()
    assert len(in_doubt) <= doubts
    assert not [entry for entry in entries if entry.state in (State.CLAIMED, State.SENT)]


# One that is killed.


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=SLOWLY if step in ("claimed", "left", "came", "ordered", "told") else ())
        for step in buyer.STEPS
    ],
)
def test_a_process_that_dies_between_two_steps(shop: Shop, step: str) -> None:
    """Between each pair of states; the next run completes, and pays only for the rest."""
    ids = [str(number) for number in range(30)]
    dying = shop.buyer(ids, step=step, count=10, concurrency=3)
    told = told_by(dying)
    assert dying.returncode == -signal.SIGKILL
    check(shop, told, doubts=3)
    paid = shop.simulator.total_billed

    again = told_by(shop.buyer(ids))
    check(shop, told + again, doubts=3)
    assert {line.vehicle_id for line in again} == set(ids)
    assert {line.outcome for line in again} <= {"Found", "InDoubt"}
    doubts = sum(line.outcome == "InDoubt" for line in again)
    assert doubts <= 3
    assert shop.simulator.total_billed - paid == sum(line.source == "simulator" for line in again)


@linux_only
def test_a_killed_process_that_nobody_reaps_is_gone(shop: Shop) -> None:
    """As in a container without an init: what it had sent is in doubt at once, and not when its lease ends."""
    dying = shop.buyer(["1"], step="marked", concurrency=1)
    os.waitid(os.P_PID, dying.pid, os.WEXITED | os.WNOWAIT)

    doubts = asyncio.run(_looked_up(shop.path, State.IN_DOUBT))

    dying.communicate(timeout=60)
    assert [entry.key.vehicle_id for entry in doubts] == ["1"]


async def _looked_up(path: Path, state: State) -> list[Entry]:
    async with SqliteLedger(path, read_only=True) as ledger:
        return await entries_of(ledger, state)


WITHOUT_ITS_FIRST_THREAD = """
import ctypes, threading, time
def speak():
    while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    print("here", flush=True)
    time.sleep(60)
threading.Thread(target=speak).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@linux_only
def test_a_process_lives_on_in_its_other_threads() -> None:
    """Linux shows it as if it had ended once its first thread has."""
    with subprocess.Popen([sys.executable, "-c", WITHOUT_ITS_FIRST_THREAD], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        assert owners.is_running(process.pid)
        process.kill()


@pytest.mark.parametrize("kills", [2, pytest.param(40, marks=SLOWLY)])
def test_a_process_that_is_killed_at_random(shop: Shop, kills: int) -> None:
    """Again and again on one ledger: at most what was in flight at each kill is in doubt (D02)."""
    draw = random.Random(kills)
    ids = [str(number) for number in range(80 * kills)]
    told: list[Told] = []
    for _ in range(kills):
        process = shop.buyer(ids)
        assert process.stdout is not None
        told.append(Told(*json.loads(process.stdout.readline())))  # it has begun
        time.sleep(draw.uniform(0.0, 0.2))
        process.kill()
        told += told_by(process)
    check(shop, told, doubts=kills * CONCURRENCY)
    told += told_by(shop.buyer(ids))
    check(shop, told, doubts=kills * CONCURRENCY)
    assert {line.vehicle_id for line in told} == set(ids)


@pytest.mark.parametrize("interruptions", [1, pytest.param(20, marks=SLOWLY)])
def test_a_process_that_is_interrupted_loses_nothing(shop: Shop, interruptions: int) -> None:
    """Ctrl-C: what is under way is seen through, and nothing is in doubt."""
    draw = random.Random(interruptions)
    ids = [str(number) for number in range(100 * interruptions)]
    for _ in range(interruptions):
        process = shop.buyer(ids)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.uniform(0.0, 0.2))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        check(shop, [], doubts=0)


# Two at once.


@pytest.mark.parametrize("ids", [120, pytest.param(3000, marks=SLOWLY)])
def test_two_processes_never_buy_an_id_twice(shop: Shop, ids: int) -> None:
    """Both go through the same ids, and each ends with all of them (D05)."""
    names = [str(number) for number in range(ids)]
    both = [shop.buyer(names), shop.buyer(names)]
    told = told_by_each(both)

    assert [process.returncode for process in both] == [0, 0]
    for lines in told:
        assert {line.vehicle_id for line in lines if line.outcome == "Found"} == set(names)
    check(shop, told[0] + told[1], doubts=0)
    assert shop.simulator.total_billed == shop.simulator.requests.total() == ids


@pytest.mark.parametrize("rounds", [1, pytest.param(15, marks=SLOWLY)])
def test_processes_that_are_doubled_and_killed(shop: Shop, rounds: int) -> None:
    """One of two is killed at random; the other takes over what it had not sent, and spends no more than the budget."""
    draw = random.Random(rounds)
    ids = [str(number) for number in range(400 * rounds)]
    for number in range(1, rounds + 1):
        both = [shop.buyer(ids, budget=150 * number), shop.buyer(ids, budget=150 * number)]
        assert both[0].stdout is not None
        both[0].stdout.readline()
        time.sleep(draw.uniform(0.0, 0.1))
        both[0].kill()
        told = [line for lines in told_by_each(both) for line in lines]
        check(shop, told, doubts=number * CONCURRENCY)
        assert shop.simulator.total_billed <= 150 * number
        assert both[1].returncode == 0
    assert any(line.reason == "budget spent" for line in told)


@SLOWLY
def test_four_writers(tmp_path: Path) -> None:
    """Nobody is told that the database is locked, and all that they wrote is there (D07)."""
    path = tmp_path / "test.ledger"
    code = (
        "import asyncio, sys\n"
        "from test_ledger_processes import write\n"
        "asyncio.run(write(sys.argv[1], int(sys.argv[2]), 1500))\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(number)], env=env, stderr=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    errors = [writer.communicate(timeout=300)[1] for writer in writers]
    assert errors == [""] * 4
    assert asyncio.run(_count(path)) == 6000


async def write(path: str, writer: int, count: int) -> None:
    """Buy so many answers, ten at once."""
    async with SqliteLedger(path) as ledger:
        for start in range(0, count, 10):
            await asyncio.gather(*(bought(ledger, key(f"{writer}-{start + number}")) for number in range(10)))


async def _count(path: Path) -> int:
    async with SqliteLedger(path) as ledger:
        assert (await ledger.verify()).problems == ()
        return (await ledger.spending("default", "api.example")).billed

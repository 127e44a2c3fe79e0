"""Two costs that no server is needed for: the retry machinery when nothing fails, and the import."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from statistics import median

import attrs
import tenacity

from oneauto_async import RetryPolicy, SystemClock
from oneauto_async._classify import Answer
from oneauto_async._flow.retry import RETRIABLE, Ended, pursue

CALLS = 20_000


@attrs.frozen
class Trail:
    """A lookup on which nothing happens."""

    abandoned: bool = False
    began: float = 0.0
    progress: int = 0
    key_works: bool = True
    was_canary: bool = False
    is_one_of_several: bool = False
    waits_alone: bool = False

    def may_retry(self) -> bool:
        """There is always one more."""
        return True


@attrs.frozen
class RetryCost:
    """Microseconds added to a call that succeeds at once."""

    ours: float
    tenacity: float


@attrs.frozen
class ImportCost:
    """Milliseconds of CPU added to the start of Python."""

    ours: float
    httpx: float


def retry_cost(rounds: int) -> RetryCost:
    """Measure the retry rules of a lookup, and ``tenacity.retry`` with the same policy."""
    return asyncio.run(_retry_cost(rounds))


async def _retry_cost(rounds: int) -> RetryCost:
    answer = Answer(result={}, partial=False, message=None)
    policy, clock, trail = RetryPolicy(), SystemClock(), Trail()

    async def attempt() -> Ended:
        return answer

    async def with_ours() -> Ended:
        first = await attempt()
        if isinstance(first, RETRIABLE):
            return await pursue(attempt, first, policy, clock, trail, progress=0)
        return first

    async def with_nothing() -> Ended:
        return await attempt()

    with_tenacity = tenacity.retry(
        stop=tenacity.stop_after_attempt(policy.attempts) | tenacity.stop_after_delay(policy.total),
        wait=tenacity.wait_random_exponential(multiplier=0.25, max=8),
        retry=tenacity.retry_if_exception_type(OSError),
    )(attempt)
    ways = (with_nothing, with_ours, with_tenacity)
    costs = [[await _cost(way) for way in ways] for _ in range(rounds)]
    return RetryCost(
        ours=median(ours - nothing for nothing, ours, _ in costs),
        tenacity=median(other - nothing for nothing, _, other in costs),
    )


async def _cost(call: Callable[[], Awaitable[object]]) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        await call()
    return (time.process_time() - began) / CALLS * 1e6


def import_cost(rounds: int) -> ImportCost:
    """Measure ``import oneauto_async`` and ``import httpx``, each in new processes, both compiled before."""
    statements = ("pass", "import oneauto_async", "import httpx")
    with tempfile.TemporaryDirectory() as compiled:
        environment = _keeping_bytecode(compiled)
        _ = [_start(statement, environment) for statement in statements]
        costs = [[_start(statement, environment) for statement in statements] for _ in range(rounds)]
    return ImportCost(
        ours=median(ours - bare for bare, ours, _ in costs),
        httpx=median(httpx - bare for bare, _, httpx in costs),
    )


def _keeping_bytecode(folder: str) -> dict[str, str]:
    """Return an environment in which whatever is imported is compiled once, as an installation does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return environment | {"PYTHONPYCACHEPREFIX": folder}


def _start(statement: str, environment: dict[str, str]) -> float:
    before = _children()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return (_children() - before) * 1e3


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

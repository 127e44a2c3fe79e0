"""Other libraries in ordinary, competent use on the same gateway: ``python -m scenarios.peers``, or ``nox -s peers``.

Each does the lookups of a scenario with as many workers as ours has slots: those that retry do so up to ten times, with
exponential back-off, jitter and the ``Retry-After`` they are told; those that pace are told the limit, and retry with
tenacity. Whether an answer can be used is not looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from fnmatch import fnmatch
from functools import partial
from importlib import import_module, metadata
from statistics import median
from typing import Any, TypeAlias

import attrs
import httpx

from oneauto_async.testing.clock import VirtualEventLoop

from .gateway import Gateway
from .ideal import within_quotas
from .named import NAMED
from .scenario import BASE_URL, PATIENCE, Result, Scenario, arrange_stalls, run
from .table import line
from .world import Limit

ATTEMPTS = 10
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0
"""Seconds; those of this library's own back-off."""

Ask: TypeAlias = Callable[[int], Awaitable[None]]
"""Looks one id up, and raises if that failed."""


@attrs.frozen
class Task:
    """What one process is asked to do.

    Attributes:
        ids: the ids.
        slots: lookups under way at once.
        limit: the key's limit, for those that are told.
        transport: the way to the gateway.
    """

    ids: range
    slots: int
    limit: Limit
    transport: httpx.AsyncBaseTransport


Peer: TypeAlias = Callable[[Task], AbstractAsyncContextManager[Ask]]


class _RefusedError(Exception):
    """A call that may be made again, and the seconds it was told to wait."""

    def __init__(self, told: float) -> None:
        super().__init__(told)
        self.told = told


@asynccontextmanager
async def with_tenacity(task: Task) -> AsyncIterator[Ask]:
    """``AsyncRetrying`` with exponential back-off and jitter, and not before the time it is told."""
    tenacity: Any = import_module("tenacity")
    backing_off = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)
    async with _client(task.transport) as client:

        async def ask(vehicle_id: int) -> None:
            await tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(ATTEMPTS),
                wait=lambda state: max(backing_off(state), _told(state.outcome.exception())),
                retry=tenacity.retry_if_exception_type((_RefusedError, httpx.TransportError)),
            )(_ask, client, vehicle_id)

        yield ask


@asynccontextmanager
async def with_stamina(task: Task) -> AsyncIterator[Ask]:
    """``stamina.retry_context``, whose defaults are meant to be used, but for its time limit: it is in real time."""
    stamina: Any = import_module("stamina")
    import_module("stamina.instrumentation").set_on_retry_hooks([])

    def on(error: Exception) -> bool | float:
        told = _told(error)
        return told or isinstance(error, _RefusedError | httpx.TransportError)

    async with _client(task.transport) as client:

        async def ask(vehicle_id: int) -> None:
            async for attempt in stamina.retry_context(on=on, attempts=ATTEMPTS, timeout=None):
                with attempt:
                    await _ask(client, vehicle_id)

        yield ask


@asynccontextmanager
async def with_httpx_retries(task: Task) -> AsyncIterator[Ask]:
    """``RetryTransport`` around the transport; it knows ``Retry-After`` by itself."""
    library: Any = import_module("httpx_retries")
    retry = library.Retry(total=ATTEMPTS - 1, backoff_factor=FIRST_WAIT, status_forcelist=[429, 500, 503])
    async with _client(library.RetryTransport(transport=task.transport, retry=retry)) as client:
        yield partial(_ask, client)


@asynccontextmanager
async def with_aiolimiter(task: Task) -> AsyncIterator[Ask]:
    """``AsyncLimiter`` in the shape of the key's bucket, asked before each attempt, under tenacity."""
    library: Any = import_module("aiolimiter")
    limiter = library.AsyncLimiter(task.limit.burst, task.limit.burst / task.limit.rate)
    async with with_tenacity(attrs.evolve(task, transport=_Paced(task.transport, limiter))) as ask:
        yield ask


class _Paced(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport, limiter: AbstractAsyncContextManager[None]) -> None:
        self._transport, self._limiter = transport, limiter

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with self._limiter:
            pass
        return await self._transport.handle_async_request(request)


RETRYING: dict[str, Peer] = {
    "tenacity": with_tenacity,
    "stamina": with_stamina,
    "httpx-retries": with_httpx_retries,
}
"""What can be used without knowing the limit."""

PEERS: dict[str, Peer] = RETRYING | {"aiolimiter": with_aiolimiter, "aiometer": with_tenacity}
"""All; aiometer starts the calls of another one."""


def _client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, trust_env=False)


async def _ask(client: httpx.AsyncClient, vehicle_id: int) -> None:
    response = await client.get("/", params={"evdb_vehicle_id": vehicle_id})
    if response.status_code in {429, 500, 503}:
        raise _RefusedError(float(response.headers.get("retry-after", 0)))
    response.raise_for_status()


def _told(error: BaseException | None) -> float:
    return error.told if isinstance(error, _RefusedError) else 0.0


# Running them.


class _LateLoop(VirtualEventLoop):
    """Timers are a little late, as real ones are: aiolimiter waits again and again for what is left by rounding."""

    def jump(self, seconds: float) -> None:
        """Let a microsecond more pass."""
        super().jump(seconds + 1e-6)


@attrs.define
class _Tally:
    answered: int = 0


def run_peer(name: str, scenario: Scenario, seed: int = 0) -> Result:
    """Run a scenario once with another library."""
    random.seed(seed)  # their jitter comes from the module's own generator
    gateway, tally = Gateway(scenario.world, seed=seed), _Tally()
    with asyncio.Runner(loop_factory=_LateLoop) as runner:
        took = runner.run(_run(name, scenario, gateway, tally))
    books = gateway.books
    return Result(
        took=took,
        ideal=scenario.ideal,
        expected=within_quotas(scenario.world, scenario.count),
        answered=tally.answered,
        accepted=books.fates["accepted"],
        turned_away=books.wasted,
        double_bills=books.billed_again,
        after_quota=gateway.after_quota,
        books=books,
    )


async def _run(name: str, scenario: Scenario, gateway: Gateway, tally: _Tally) -> float:
    arrange_stalls(scenario.world)
    tasks = [
        Task(
            ids=range(number, scenario.count, scenario.processes),
            slots=scenario.slots,
            limit=scenario.world.highest,
            transport=gateway.transport(),
        )
        for number in range(scenario.processes)
    ]
    try:
        async with asyncio.timeout(PATIENCE * scenario.ideal):
            await asyncio.gather(*(_look_up(name, task, tally) for task in tasks))
    except TimeoutError:
        pass
    return asyncio.get_running_loop().time()


async def _look_up(name: str, task: Task, tally: _Tally) -> None:
    async with PEERS[name](task) as ask:

        async def count(vehicle_id: int) -> None:
            try:
                await ask(vehicle_id)
            except Exception:  # noqa: BLE001  # whatever a library raises when it gives up
                return
            tally.answered += 1

        await (_metered(count, task) if name == "aiometer" else _with_workers(count, task))


async def _metered(count: Ask, task: Task) -> None:
    """Start the calls at the limit's rate; retries come in between, and nothing is known of a burst."""
    aiometer: Any = import_module("aiometer")
    await aiometer.run_on_each(count, task.ids, max_at_once=task.slots, max_per_second=task.limit.rate)


async def _with_workers(count: Ask, task: Task) -> None:
    ids = iter(task.ids)

    async def work() -> None:
        for vehicle_id in ids:
            await count(vehicle_id)

    await asyncio.gather(*(work() for _ in range(task.slots)))


# The table.


def table(scenarios: Iterable[Scenario], seeds: range) -> Iterator[str]:
    """Yield the lines of a Markdown table: this library with the limit given and learnt, and those that are there."""
    names = [name for name in PEERS if version(name)]
    titles = ["scenario", "given", "learnt", *names]
    yield line(titles)
    yield line(["---"] * len(titles))
    for scenario in scenarios:
        ours = [[run(scenario, seed, given=given) for seed in seeds] for given in (True, False)]
        theirs = [[run_peer(name, scenario, seed) for seed in seeds] for name in names]
        yield line([scenario.name, *map(_cell, [*ours, *theirs])])


def _cell(results: list[Result]) -> str:
    """Return the median ratio and waste, and the worst of what must not happen at all."""
    lost = max(result.expected - result.answered for result in results)
    after = max(result.after_quota for result in results)
    return ", ".join(
        [
            f"{median(result.ratio for result in results):.2f} / {median(result.wasted for result in results):.1%}",
            *([f"**{lost} lost**"] if lost else []),
            *([f"**{after} after the end**"] if after else []),
        ]
    )


def version(name: str) -> str | None:
    """Return the version of a library, or ``None`` if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def provenance(seeds: range) -> str:
    """Say when, how and with what a table was made."""
    there = ", ".join(f"{name} {version(name)}" for name in PEERS if version(name))
    missing = " ".join(name for name in PEERS if not version(name))
    left_out = f" Left out, for lack of `pip install {missing}`." if missing else ""
    return f"Run on {time.strftime('%Y-%m-%d')} with {there}; medians of {len(seeds)} runs.{left_out}"


def main() -> None:
    """Print the table and what it was made with."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.peers", description="Other libraries, side by side.")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each; default 3")
    parser.add_argument("--only", metavar="NAME", default="*", help="a scenario, or a pattern such as '5 s*'")
    options = parser.parse_args()
    seeds = range(options.seeds)
    for row in table([scenario for scenario in NAMED if fnmatch(scenario.name, options.only)], seeds):
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
    sys.stdout.write(f"\n{provenance(seeds)}\n")


if __name__ == "__main__":
    main()

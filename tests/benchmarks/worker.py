"""One client, in a process of its own: what its lookups cost once everything is set up."""

from __future__ import annotations

import asyncio
import resource
import ssl
import sys
import time
from collections.abc import Callable

import attrs
import uvloop
from cattrs.preconf.json import make_converter

from .clients import CLIENTS, LookUp, Task

CONVERTER = make_converter()

FEWEST, WAVES = 5_000, 40
"""Lookups timed: so many, and so many for each that is under way at once, for the last ones leave the server idle."""


@attrs.frozen(kw_only=True)
class Order:
    """One run.

    Attributes:
        client: its name.
        loop: ``asyncio`` or ``uvloop``.
        url: the server.
        trusted: the file of the authority that vouches for it.
        concurrency: lookups under way at once.
        seconds: how long the timed part may take, about; a slow client makes fewer lookups.
    """

    client: str
    loop: str
    url: str
    trusted: str
    concurrency: int
    seconds: float


@attrs.frozen(kw_only=True)
class Cost:
    """What the timed part of a run took.

    Attributes:
        lookups: how many it was.
        cpu: seconds of this process, user and system.
        wall: seconds.
        warm_up: lookups made before.
    """

    lookups: int
    cpu: float
    wall: float
    warm_up: int = 0


async def run(order: Order) -> Cost:
    """Open the connections, see how fast it is, and time as many lookups as there is time for."""
    context = ssl.create_default_context(cafile=order.trusted)
    opening, warm_up = 4 * order.concurrency, 6 * order.concurrency
    async with CLIENTS[order.client](Task(order.url, context, order.concurrency)) as look_up:
        await _measure(look_up, range(opening))  # some clients take a few round trips to use all they may
        trial = await _measure(look_up, range(opening, warm_up))
        count = _affordable(order, trial.wall / trial.lookups)
        cost = await _measure(look_up, range(warm_up, warm_up + count))
    return attrs.evolve(cost, warm_up=warm_up)


def _affordable(order: Order, seconds_each: float) -> int:
    wanted = max(FEWEST, WAVES * order.concurrency)
    return max(order.concurrency, min(wanted, int(order.seconds / seconds_each)))


async def _measure(look_up: LookUp, ids: range) -> Cost:
    cpu, wall = _cpu(), time.perf_counter()
    records = await look_up(ids)
    cost = Cost(lookups=len(ids), cpu=_cpu() - cpu, wall=time.perf_counter() - wall)
    if len(records) != len(ids):
        raise RuntimeError(f"{len(ids)} lookups gave {len(records)} records")
    return cost


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop of this name."""
    return uvloop.new_event_loop if name == "uvloop" else asyncio.new_event_loop


def main(text: str) -> None:
    """Carry out an order, and print the cost."""
    order = CONVERTER.loads(text, Order)
    with asyncio.Runner(loop_factory=loop_factory(order.loop)) as runner:
        sys.stdout.write(CONVERTER.dumps(runner.run(run(order))))


if __name__ == "__main__":
    main(sys.argv[1])

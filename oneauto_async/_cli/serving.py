"""What the ledger has of the ids that a batch did not come to before it stopped: handed out, with nothing bought."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import attrs

from ..errors import Billing, InDoubtError
from ..outcomes import InDoubt, NotSent, NotSentReason
from ..settings import Budget

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from .. import OneAutoClient
    from .job import Job
    from .records import VanOutcome

__all__ = ["kept_outcomes"]

NOTHING = Budget(max_billed=0)

IDS_AT_ONCE = 1_000
"""Ids whose outcomes are in memory together."""


async def kept_outcomes(client: OneAutoClient, job: Job) -> AsyncGenerator[VanOutcome, None]:
    """Yield the outcomes that the ledger has, or holds in doubt, of the ids that were not sent."""
    unsent = iter(list(job.unsent))
    while ids := list(itertools.islice(unsent, IDS_AT_ONCE)):
        for outcome in await _known(client, job, ids):
            if not isinstance(outcome, NotSent):
                yield _with_true_reason(outcome, job.unsent[outcome.evdb_vehicle_id])


async def _known(client: OneAutoClient, job: Job, ids: list[str]) -> list[VanOutcome]:
    """Look ids up with leave to buy nothing: together if all are kept, since one that is not would stop the others."""
    plan = await client.plan(ids, endpoint=job.settings.endpoint, max_age=job.settings.purse.max_age)
    count = plan.answered + plan.in_doubt
    if not count:
        return []
    outcomes = await _looked_up(client, job, ids) if count == len(ids) else []
    served = [outcome for outcome in outcomes if not isinstance(outcome, NotSent)]
    return served + await _each_alone(client, job, _others(ids, served))


async def _each_alone(client: OneAutoClient, job: Job, ids: list[str]) -> list[VanOutcome]:
    outcomes: list[VanOutcome] = []
    for few in batched(ids, job.settings.concurrency):
        for (outcome,) in await asyncio.gather(*(_looked_up(client, job, [identifier]) for identifier in few)):
            outcomes.append(outcome)
    return outcomes


async def _looked_up(client: OneAutoClient, job: Job, ids: list[str]) -> list[VanOutcome]:
    settings = job.settings
    return await client.lookup_many(
        ids,
        endpoint=settings.endpoint,
        concurrency=settings.concurrency,
        budget=NOTHING,
        max_age=settings.purse.max_age,
    )


def batched(ids: list[str], size: int) -> Iterator[list[str]]:
    """Yield so many at a time."""
    for begin in range(0, len(ids), size):
        yield ids[begin : begin + size]


def _others(ids: Iterable[str], served: Iterable[VanOutcome]) -> list[str]:
    done = {outcome.evdb_vehicle_id for outcome in served}
    return [identifier for identifier in ids if identifier not in done]


def _with_true_reason(outcome: VanOutcome, unsent: NotSent) -> VanOutcome:
    """Tell of a doubt why it was not sent again: what stopped the run, rather than that nothing was to be bought."""
    if unsent.reason is NotSentReason.BUDGET or not isinstance(outcome, InDoubt):
        return outcome
    what, _, _ = str(outcome.error).partition("; not sent again")
    receipt = outcome.receipt
    error = InDoubtError(
        f"{what}; not sent again: {unsent.reason} (evdb_vehicle_id {outcome.evdb_vehicle_id}, billing unknown)",
        billing=Billing.UNKNOWN,
        status=receipt.status,
        request_id=receipt.request_id,
        attempts=receipt.attempts,
    )
    return attrs.evolve(outcome, error=error)

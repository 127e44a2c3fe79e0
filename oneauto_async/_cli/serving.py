"""What the ledger has of the ids that a batch did not come to before it stopped: handed out, with nothing bought."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import attrs

from ..errors import BudgetExceededError
from ..outcomes import InDoubt, NotSent, NotSentReason
from ..settings import Budget

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from .. import OneAutoClient
    from .job import Job
    from .records import VanOutcome

__all__ = ["kept_outcomes"]

NOTHING = Budget(max_billed=0)

IDS_AT_ONCE = 1_000
"""Ids that are served in one batch, whose outcomes are in memory together."""


async def kept_outcomes(client: OneAutoClient, job: Job) -> AsyncGenerator[VanOutcome, None]:
    """Yield the outcomes that the ledger has, or holds in doubt, of the ids that were not sent."""
    kept = iter(await _known(client, job, list(job.unsent)))
    while chunk := list(itertools.islice(kept, IDS_AT_ONCE)):
        for outcome in await _served(client, job, chunk):
            yield _with_true_reason(outcome, job.unsent[outcome.evdb_vehicle_id])


async def _known(client: OneAutoClient, job: Job, ids: list[str]) -> list[str]:
    """Return the ids that the ledger has something for: a plan counts them, in halves until none is mixed."""
    plan = await client.plan(ids, endpoint=job.settings.endpoint, max_age=job.settings.purse.max_age)
    count = plan.answered + plan.in_doubt
    if count in {0, len(ids)}:
        return ids if count else []
    middle = len(ids) // 2
    return [*await _known(client, job, ids[:middle]), *await _known(client, job, ids[middle:])]


async def _served(client: OneAutoClient, job: Job, ids: list[str]) -> list[VanOutcome]:
    """Look ids up with leave to buy nothing, and return what came of it."""
    outcomes = await _looked_up(client, job, ids)
    served: list[VanOutcome] = [outcome for outcome in outcomes if not isinstance(outcome, NotSent)]
    if len(ids) > 1 and len(served) < len(ids):  # one that is of no use, and was free, has stopped the batch
        for identifier in _others(ids, served):
            served += await _served(client, job, [identifier])
    return served


async def _looked_up(client: OneAutoClient, job: Job, ids: list[str]) -> list[VanOutcome]:
    settings = job.settings
    return await client.lookup_many(
        ids,
        endpoint=settings.endpoint,
        concurrency=settings.concurrency,
        budget=NOTHING,
        max_age=settings.purse.max_age,
    )


def _others(ids: Iterable[str], served: Iterable[VanOutcome]) -> list[str]:
    done = {outcome.evdb_vehicle_id for outcome in served}
    return [identifier for identifier in ids if identifier not in done]


def _with_true_reason(outcome: VanOutcome, unsent: NotSent) -> VanOutcome:
    """Tell of a doubt why it was not sent again: what stopped the run, rather than that nothing was to be bought."""
    if unsent.reason is NotSentReason.BUDGET or not isinstance(outcome, InDoubt):
        return outcome
    is_ours = isinstance(outcome.error, BudgetExceededError)
    return attrs.evolve(outcome, error=unsent.error) if is_ours else outcome

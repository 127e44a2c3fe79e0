"""A program that looks ids up with a ledger and says what it was told; it can be killed at a given step.

Run as ``python buyer.py '{"base_url": …}'``; each outcome that reached it is a line on standard output.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from oneauto_async import Budget, OneAutoClient, Outcome, RateLimit
from oneauto_async._booked import BookedLookup
from oneauto_async.ledger import SqliteLedger
from oneauto_async.testing import SIMULATOR_KEY

STEPS = ("claimed", "marked", "left", "came", "ordered", "settled", "told")
"""Where it can die: after the claim, after the mark, after the request left, before the answer is given to the ledger,
before the disk has it, before anyone is told, and after."""


class DyingLedger(SqliteLedger):
    """A ledger whose process dies at the n-th time it comes to a step."""

    def __init__(self, path: str, step: str | None, count: int) -> None:
        super().__init__(path)
        self._step, self._left_to_live = step, count

    def reached(self, step: str) -> None:
        """Die here, if it is the time."""
        self._left_to_live -= step == self._step
        if step == self._step and self._left_to_live <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    async def claim(self, *args: Any, **options: Any) -> Any:
        separately = {} if self._step is None else {"sending": False}  # in two steps, so that it can die in between
        decision = await super().claim(*args, **(options | separately))
        self.reached("claimed")
        return decision

    async def mark_sent(self, *args: Any) -> bool:
        marked = await super().mark_sent(*args)
        self.reached("marked")
        return marked

    def settle(self, *args: Any) -> Any:
        self.reached("came")
        settled = super().settle(*args)
        self.reached("ordered")
        if isinstance(settled, asyncio.Future):
            settled.add_done_callback(lambda _: self.reached("settled"))
        return settled


def _dying_when_it_left(reached: Callable[[str], None]) -> None:
    original = BookedLookup._left

    def left(self: BookedLookup[Any], moment: float) -> None:
        original(self, moment)
        asyncio.get_running_loop().call_soon(reached, "left")

    setattr(BookedLookup, "_left", left)  # noqa: B010  # a method is replaced, which types do not allow


def _tell(outcome: Outcome[Any]) -> None:
    raw = "" if outcome.raw is None else hashlib.sha256(outcome.raw).hexdigest()
    reason = str(getattr(outcome, "reason", ""))
    told = [
        outcome.evdb_vehicle_id,
        type(outcome).__name__,
        outcome.receipt.source,
        outcome.receipt.billing,
        raw,
        reason,
    ]
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def main(
    base_url: str,
    ledger: str,
    ids: list[str],
    concurrency: int,
    step: str | None = None,
    count: int = 1,
    budget: int | None = None,
) -> None:
    """Look all ids up."""
    books = DyingLedger(ledger, step, count)
    _dying_when_it_left(books.reached)
    client = OneAutoClient(
        SIMULATOR_KEY,
        base_url=base_url,
        ledger=books,
        budget=None if budget is None else Budget(max_billed=budget),
        rate_limit=RateLimit(rate=1000, burst=100),
    )
    async with client, client.batch(ids, concurrency=concurrency) as batch:
        async for outcome in batch:
            _tell(outcome)
            books.reached("told")


if __name__ == "__main__":
    try:
        asyncio.run(main(**json.loads(sys.argv[1])))
    except KeyboardInterrupt:
        sys.exit(130)

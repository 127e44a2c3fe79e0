"""Random runs against a model: calls, answers, crashes, cancellations, refusals, refreshes, restarts, a second process.

Whatever happens in whatever order: no id is charged more often than once, and once for each refresh and each doubt;
what surely was answered is kept and served; and no budget is exceeded.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.raw import ANSWER, CANARY_KEY

from oneauto_async import Billing, Budget, Found, NotSent, OneAutoClient, Outcome, RetryPolicy, Source, Timeouts
from oneauto_async.ledger import Entry, SqliteLedger, State
from oneauto_async.ledger._sqlite import connecting
from oneauto_async.testing.clock import VirtualEventLoop

IDS = st.sampled_from(["1", "2", "3", "4"])
WHO = st.sampled_from(["here", "there"])
BUDGET = 5
HOST = "service.invalid"


class Service(httpx.AsyncBaseTransport):
    """Answers as it is told, and counts what it charges: the other side's books."""

    def __init__(self) -> None:
        self.bills: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.mood = "answer"
        self.arrived = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        vehicle_id = request.url.params["evdb_vehicle_id"]
        self.requests[vehicle_id] += 1
        mood = self.mood
        self.bills[vehicle_id] += mood in ("answer", "break", "hang", "garbage")
        self.arrived.set()
        if mood in ("hang", "hang unbilled"):
            await asyncio.Event().wait()
        if mood in ("break", "break unbilled"):
            raise httpx.ReadError("reset")
        if mood == "unsent":
            raise httpx.ConnectError("refused")
        return {
            "answer": httpx.Response(200, content=ANSWER),
            "garbage": httpx.Response(200, content=b"garbage"),
            "nothing": httpx.Response(204),
            "throttle": httpx.Response(429, json={"message": "Too Many Requests"}),
            "unavailable": httpx.Response(503),
            "gateway": httpx.Response(504),
            "refuse": httpx.Response(400),
        }[mood]


MOODS = st.sampled_from(
    [
        *["answer"] * 6,
        *("garbage", "nothing", "throttle", "unavailable", "gateway", "refuse"),
        *("break", "break unbilled", "unsent"),
    ]
)


class Books(RuleBasedStateMachine):
    """Two processes on one ledger, and a person who refreshes and resends now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ledger-model-"))
        self.path = self.folder / "test.ledger"
        self.runner = asyncio.Runner(loop_factory=VirtualEventLoop)
        self.service = self.run(self._make_service())
        self.clients: dict[str, OneAutoClient] = {}
        self.refreshes: Counter[str] = Counter()
        self.answered: set[str] = set()

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _make_service(self) -> Service:
        return Service()

    def teardown(self) -> None:
        for who in list(self.clients):
            self.run(self._close(who))
        self.runner.close()
        shutil.rmtree(self.folder)

    # What happens.

    @initialize()
    def both_start(self) -> None:
        for who in ("here", "there"):
            self.run(self._open(who))

    async def _open(self, who: str) -> None:
        client = OneAutoClient(
            CANARY_KEY,
            base_url=f"https://{HOST}",
            transport=self.service,
            ledger=SqliteLedger(self.path),
            budget=Budget(max_billed=BUDGET),
            retry=RetryPolicy(attempts=1, total=0.05),
            timeouts=Timeouts(drain=0),
        )
        self.clients[who] = await client.__aenter__()

    async def _close(self, who: str) -> None:
        await self.clients.pop(who).aclose()

    @rule(who=WHO, id_=IDS, mood=MOODS, refresh=st.booleans())
    def look_up(self, who: str, id_: str, mood: str, refresh: bool) -> None:
        """One lookup, whatever the service makes of it."""
        self.service.mood = mood
        before = self.service.requests[id_]
        self._expect_refresh(id_, refresh=refresh)
        outcome = self.run(self.clients[who].lookup(id_, refresh=refresh))
        self._check(id_, outcome, self.service.requests[id_] - before)

    def _expect_refresh(self, id_: str, *, refresh: bool) -> None:
        """A refresh may cost once more only what was paid for before."""
        self.refreshes[id_] += refresh and self.service.bills[id_] > 0

    @rule(ids=st.lists(IDS, min_size=1, max_size=8), mood=MOODS)
    def both_look_up(self, ids: list[str], mood: str) -> None:
        """The same ids in both processes at once."""
        self.service.mood = mood
        for outcomes in self.run(self._both(ids)):
            for outcome in outcomes:
                self._note(outcome.evdb_vehicle_id, outcome)

    async def _both(self, ids: list[str]) -> list[list[Outcome[Any]]]:
        return await asyncio.gather(*(client.lookup_many(ids) for client in self.clients.values()))

    @rule(who=WHO, id_=IDS, mood=st.sampled_from(["hang", "hang unbilled"]))
    def close_under_way(self, who: str, id_: str, mood: str) -> None:
        """The client is closed while a request is under way, and another is opened."""
        self.service.mood = mood
        self.run(self._interrupt(who, id_))
        self.run(self._open(who))

    async def _interrupt(self, who: str, id_: str) -> None:
        self.service.arrived.clear()
        waiting = asyncio.ensure_future(self.clients[who].lookup(id_))
        arriving = asyncio.ensure_future(self.service.arrived.wait())
        await asyncio.wait([waiting, arriving], return_when=asyncio.FIRST_COMPLETED)
        arriving.cancel()
        await self._close(who)
        self._note(id_, await waiting)

    @rule(who=WHO, id_=IDS, turns=st.integers(0, 40), refresh=st.booleans())
    def cancel(self, who: str, id_: str, turns: int, refresh: bool) -> None:
        """A lookup is cancelled at any moment; a request under way is seen through."""
        self.service.mood = "answer"
        self._expect_refresh(id_, refresh=refresh)
        self.run(self._cancel(who, id_, turns, refresh=refresh))

    async def _cancel(self, who: str, id_: str, turns: int, *, refresh: bool) -> None:
        waiting = asyncio.ensure_future(self.clients[who].lookup(id_, refresh=refresh))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await self._close(who)
        await self._open(who)

    @rule(who=WHO, id_=IDS, mood=st.sampled_from(["hang", "hang unbilled", "answer"]), turns=st.integers(0, 60))
    def crash(self, who: str, id_: str, mood: str, turns: int) -> None:
        """The process is gone from one moment to the next, and nothing of it is written any more."""
        self.service.mood = mood
        self.run(self._crash(who, id_, turns))
        self.run(self._open(who))

    async def _crash(self, who: str, id_: str, turns: int) -> None:
        client = self.clients.pop(who)
        waiting = asyncio.ensure_future(client.lookup(id_))
        for _ in range(turns):
            await asyncio.sleep(0)
        if waiting.done():
            self._note(id_, waiting.result())
        owner = await _kill(client)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.to_thread(_bury, self.path, owner)

    @rule(id_=IDS)
    def resolve(self, id_: str) -> None:
        """A person settles the doubts of an id, to be on the safe side as charged."""
        self.run(self._resolve(id_))

    async def _resolve(self, id_: str) -> None:
        ledger = self._ledger("here")
        async for entry in ledger.entries(State.IN_DOUBT):
            if entry.key.vehicle_id == id_:
                await ledger.resolve(entry.seq, billed=True)

    @rule(who=WHO)
    def restart(self, who: str) -> None:
        """An orderly end and a new beginning."""
        self.run(self._close(who))
        self.run(self._open(who))

    # What must hold.

    def _ledger(self, who: str) -> Any:
        return self.clients[who]._ledger

    def _note(self, id_: str, outcome: Outcome[Any]) -> None:
        if isinstance(outcome, Found):
            self.answered.add(id_)

    def _check(self, id_: str, outcome: Outcome[Any], requests: int) -> None:
        self._note(id_, outcome)
        if outcome.receipt.source is Source.LEDGER or isinstance(outcome, NotSent):
            assert requests == 0
            assert outcome.receipt.billing is not Billing.BILLED
        if id_ in self.answered and not self.refreshes[id_]:
            assert isinstance(outcome, Found)

    @invariant()
    @precondition(lambda self: len(self.clients) == 2)
    def the_books_agree(self) -> None:
        """Both sides' books, at every moment between two events."""
        entries = self.run(self._entries())
        by_id = {id_: [entry for entry in entries if entry.key.vehicle_id == id_] for id_ in ("1", "2", "3", "4")}
        for id_, own in by_id.items():
            self._one_id_agrees(id_, own)
        spending = self.run(self._ledger("here").spending("default", HOST))
        assert spending.committed <= BUDGET
        assert self.service.bills.total() <= spending.committed
        assert self.run(self._ledger("there").verify()).problems == ()

    def _one_id_agrees(self, id_: str, entries: list[Entry]) -> None:
        billed = sum(entry.billing is Billing.BILLED for entry in entries)
        doubts = sum(entry.billing is Billing.UNKNOWN for entry in entries)
        resolved = sum("by hand" in (entry.note or "") for entry in entries)
        assert billed <= self.service.bills[id_] + resolved
        assert self.service.bills[id_] <= billed + doubts
        assert billed + doubts <= 1 + self.refreshes[id_] + resolved  # nothing is sent again after a doubt by itself
        assert all(entry.is_intact for entry in entries)
        if id_ in self.answered:
            assert any(entry.raw == ANSWER for entry in entries)

    async def _entries(self) -> list[Entry]:
        return [entry async for entry in self._ledger("here").entries()]


async def _kill(client: OneAutoClient) -> int:
    """Stop everything where it is, as a kill would: what was not yet given to the disk never will be.

    Returns:
        the number the ledger knew the process by.
    """
    ledger: Any = client._ledger
    groups, threads = ledger._groups, ledger._threads
    groups._waiting.clear()
    groups._owed.clear()
    while groups._is_at_work:  # noqa: ASYNC110  # the system finishes a call of the disk, whoever made it
        await asyncio.sleep(0)
    groups._begin = lambda: None
    owner: int = threads._writer._books.owner
    ledger._groups = ledger._threads = None
    threads._end.set()
    await asyncio.to_thread(threads._writing.submit(threads._writer._connection.close).result)
    await asyncio.to_thread(threads._reading.submit(threads._close_reader).result)
    threads._writing.shutdown()
    threads._reading.shutdown()
    threads._heartbeat.join()
    client._ledger = None
    assert client._books is not None
    client._books.ledger = None
    client._flights.cut_short()
    await client.aclose()
    return owner


def _bury(path: Path, owner: int) -> None:
    """Let the dead process have another pid than the one that runs this test."""
    with closing(connecting.connect(path)) as connection:
        gone = "UPDATE owners SET pid = 2147483646 WHERE owner = ?"
        connecting.patiently(lambda: connection.execute(gone, (owner,)))


@pytest.mark.parametrize(
    ("examples", "steps"), [(8, 25), pytest.param(120, 60, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_both_sides_books_agree(examples: int, steps: int) -> None:
    """After each of many random events the service's bills and the ledger's entries agree."""
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(Books, settings=chosen)

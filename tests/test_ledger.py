"""What every ledger does: the same for one in memory and one in a file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.ledgers import (
    ANYTHING,
    SERVICE,
    answer,
    bought,
    claimed,
    doubt,
    entries_of,
    failure,
    key,
    nothing_known,
    sent,
)

from oneauto_async import Billing, ConfigurationError
from oneauto_async.errors import LedgerError
from oneauto_async.ledger import (
    Busy,
    Claim,
    HeldInDoubt,
    Kept,
    Ledger,
    Limit,
    MemoryLedger,
    OverBudget,
    Service,
    Spending,
    SqliteLedger,
    Standing,
    State,
    Terms,
)

asynchronous = pytest.mark.asyncio
REFRESH = Terms(refresh=True)
RESEND = Terms(resend=True)


class TimeOfDay:
    """A clock that stands where the test puts it."""

    def __init__(self) -> None:
        self.now = 1_780_000_000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def random(self) -> float:
        return 0.5

    async def sleep(self, seconds: float, *, exact: bool = False) -> None:
        self.now += seconds


@pytest.fixture
def time_of_day() -> TimeOfDay:
    return TimeOfDay()


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path, time_of_day: TimeOfDay) -> AsyncIterator[Ledger]:
    """One of each kind, in turn."""
    kinds: dict[str, Callable[[], Any]] = {
        "memory": lambda: MemoryLedger(clock=time_of_day),
        "sqlite": lambda: SqliteLedger(tmp_path / "test.ledger", clock=time_of_day),
    }
    async with kinds[request.param]() as opened:
        yield opened


# Buying once.


@asynchronous
async def test_what_was_bought_is_kept_as_it_came(ledger: Ledger) -> None:
    """Bytes, status, headers, request id and cost."""
    await bought(ledger, key(), answer(b"\x00\xffraw"))

    decision = await ledger.claim(key(), ANYTHING)

    assert isinstance(decision, Kept)
    entry = decision.entry
    assert (entry.raw, entry.status, entry.request_id, entry.billing) == (b"\x00\xffraw", 200, "request-1", "billed")
    assert entry.headers == (("content-type", "application/json"), ("x-amzn-RequestId", "request-1"))
    assert (entry.state, entry.attempts, entry.key) == (State.ANSWERED, 1, key())
    assert entry.is_intact


@asynchronous
async def test_of_many_who_ask_one_gets_the_claim(ledger: Ledger) -> None:
    """The others are told who has it."""
    decisions = await asyncio.gather(*(ledger.claim(key(), ANYTHING) for _ in range(50)))

    (claim,) = [decision for decision in decisions if isinstance(decision, Claim)]
    assert [decision for decision in decisions if decision is not claim] == [Busy(claim.seq)] * 49


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Switch between threads as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_a_ledger_in_memory_is_shared_by_threads() -> None:
    """Each id is bought once, and the books agree."""
    ledger, ids = MemoryLedger(), 2_000

    async def buy() -> int:
        count = 0
        for number in range(ids):
            decision = await ledger.claim(key(number), ANYTHING, sending=True)
            if isinstance(decision, Claim):
                count += 1
                await ledger.settle(decision, answer())
        return count

    with ThreadPoolExecutor(4) as pool:
        counts = [bought.result() for bought in [pool.submit(asyncio.run, buy()) for _ in range(4)]]
    assert sum(counts) == ids
    assert asyncio.run(ledger.spending("default", "api.example")) == Spending(billed=ids)


@asynchronous
async def test_a_claim_is_held_while_it_is_sent(ledger: Ledger) -> None:
    """Until it is settled, nobody else may ask."""
    claim = await sent(ledger, key())
    assert await ledger.claim(key(), ANYTHING) == Busy(claim.seq)
    assert await ledger.claim(key(), REFRESH) == Busy(claim.seq)
    await ledger.settle(claim, answer())
    assert isinstance(await ledger.claim(key(), ANYTHING), Kept)


@asynchronous
async def test_a_claim_can_be_marked_as_sent_at_once(ledger: Ledger) -> None:
    """One step instead of two, for what leaves as soon as it is claimed."""
    decision = await ledger.claim(key(), ANYTHING, sending=True)
    assert isinstance(decision, Claim)
    assert decision.is_sent
    (entry,) = await entries_of(ledger)
    assert (entry.state, entry.billing, entry.attempts, entry.sent_at) == (State.SENT, "unknown", 1, entry.claimed_at)
    await ledger.settle(decision, answer())
    assert (await ledger.verify()).problems == ()


@asynchronous
async def test_an_unbilled_failure_is_asked_again(ledger: Ledger) -> None:
    """It is remembered, and stands in nobody's way."""
    first = await bought(ledger, key(), failure())
    second = await claimed(ledger, key())

    assert second.seq > first.seq
    assert [entry.status for entry in await entries_of(ledger, State.FAILED)] == [400]
    assert await ledger.find(key(2)) is None


@asynchronous
async def test_an_attempt_that_was_not_charged_can_be_taken_back(ledger: Ledger) -> None:
    """The claim stays, and the next attempt counts on."""
    claim = await sent(ledger, key())
    ledger.retract(claim, failure(status=503))
    await ledger.flush()

    (entry,) = await entries_of(ledger)
    assert (entry.state, entry.billing, entry.attempts, entry.status) == (State.CLAIMED, "not billed", 1, 503)
    assert await ledger.mark_sent(claim)
    await ledger.settle(claim, answer(attempts=2))
    assert [entry.attempts for entry in await entries_of(ledger)] == [2]


@asynchronous
async def test_what_came_of_an_attempt_says_nothing_of_the_next(ledger: Ledger) -> None:
    """Should the process die, a refusal's status and request id would tell the next one's doubt to be none."""
    claim = await sent(ledger, key())
    ledger.retract(claim, failure(status=429, request_id="refused", note="too fast"))
    assert await ledger.mark_sent(claim)

    (entry,) = await entries_of(ledger)
    assert (entry.state, entry.attempts) == (State.SENT, 2)
    assert (entry.status, entry.request_id, entry.note) == (None, None, None)


@asynchronous
async def test_services_are_never_mixed(ledger: Ledger) -> None:
    """Another account, host or endpoint is another entry (D13)."""
    others = [
        Service("other", SERVICE.host, SERVICE.endpoint),
        Service(SERVICE.account, "sandbox.example", SERVICE.endpoint),
        Service(SERVICE.account, SERVICE.host, "/evdatabase/uk/car/bidirectionalcharging/?evdb_vehicle_id"),
        Service(SERVICE.account, SERVICE.host, SERVICE.endpoint.replace("evdb_", "")),
    ]
    await bought(ledger, key())

    for other in others:
        assert await ledger.find(key(service=other)) is None
        await bought(ledger, key(service=other))
    assert len(await entries_of(ledger)) == 5


@asynchronous
async def test_secrets_in_headers_are_left_out(ledger: Ledger) -> None:
    """Cookies and keys are not kept with an answer, whatever the case of the header's name."""
    headers = (("Set-Cookie", "secret"), ("X-API-Key", "secret"), ("date", "today"))
    await bought(ledger, key(), answer(headers=headers))

    (entry,) = await entries_of(ledger)
    assert entry.headers == (("date", "today"),)
    assert entry.is_intact


# Reuse, age and refresh.


@asynchronous
async def test_a_refresh_buys_once_more_and_keeps_the_old_answer(ledger: Ledger) -> None:
    """Both are there, and the newer one is served from then on (D21)."""
    await bought(ledger, key(), answer(b"old"))
    await bought(ledger, key(), answer(b"new"), REFRESH)

    decision = await ledger.claim(key(), ANYTHING)
    assert isinstance(decision, Kept)
    assert decision.entry.raw == b"new"
    assert [entry.raw for entry in await entries_of(ledger)] == [b"old", b"new"]


@asynchronous
async def test_a_refresh_that_fails_leaves_the_old_answer_in_use(ledger: Ledger) -> None:
    """After a failed refresh the ledger goes on serving the answer it had."""
    await bought(ledger, key(), answer(b"old"))
    await bought(ledger, key(), failure(), REFRESH)

    decision = await ledger.claim(key(), ANYTHING)
    assert isinstance(decision, Kept)
    assert decision.entry.raw == b"old"


@asynchronous
async def test_the_old_answer_is_served_while_someone_refreshes_it(ledger: Ledger) -> None:
    """Whoever is content with it need not wait."""
    await bought(ledger, key(), answer(b"old"))
    await sent(ledger, key(), REFRESH)

    assert isinstance(await ledger.claim(key(), ANYTHING), Kept)
    assert isinstance(await ledger.claim(key(), REFRESH), Busy)


@asynchronous
async def test_a_refresh_takes_the_answer_of_a_purchase_it_had_to_wait_for(ledger: Ledger) -> None:
    """It is newer than the wish for it."""
    under_way = await sent(ledger, key())
    decision = await ledger.claim(key(), REFRESH)
    assert decision == Busy(under_way.seq)
    await ledger.settle(under_way, answer())

    assert isinstance(await ledger.claim(key(), Terms(refresh=True, accept_from=under_way.seq)), Kept)


@asynchronous
async def test_an_answer_older_than_wished_is_bought_again(ledger: Ledger, time_of_day: TimeOfDay) -> None:
    """``max_age`` is in seconds, its bound included."""
    await bought(ledger, key())
    time_of_day.now += 60

    assert isinstance(await ledger.claim(key(), Terms(max_age=60)), Kept)
    time_of_day.now += 1
    assert isinstance(await ledger.claim(key(), Terms(max_age=60)), Claim)


@asynchronous
async def test_what_cost_nothing_is_kept_for_a_day(ledger: Ledger, time_of_day: TimeOfDay) -> None:
    """A 204 may have become a record; what was paid for has no such bound."""
    await bought(ledger, key(1), nothing_known())
    await bought(ledger, key(2))
    time_of_day.now += 86_400

    assert isinstance(await ledger.claim(key(1), ANYTHING), Kept)
    time_of_day.now += 1
    assert isinstance(await ledger.claim(key(1), ANYTHING), Claim)
    assert isinstance(await ledger.claim(key(2), ANYTHING), Kept)


@asynchronous
async def test_a_clock_that_is_set_back_makes_no_answer_old(ledger: Ledger, time_of_day: TimeOfDay) -> None:
    """Ages are never negative, and order is by sequence (D20)."""
    await bought(ledger, key(), answer(b"old"))
    time_of_day.now -= 1_000_000
    await bought(ledger, key(), answer(b"new"), REFRESH)

    decision = await ledger.claim(key(), Terms(max_age=1))
    assert isinstance(decision, Kept)
    assert decision.entry.raw == b"new"
    assert [entry.age(time_of_day.now) for entry in await entries_of(ledger)] == [0.0, 0.0]


# In doubt.


@asynchronous
async def test_what_is_in_doubt_is_held(ledger: Ledger) -> None:
    """Also against a refresh; only who says so sends it again."""
    await bought(ledger, key(), doubt())

    for terms in (ANYTHING, REFRESH):
        decision = await ledger.claim(key(), terms)
        assert isinstance(decision, HeldInDoubt)
        assert decision.entry.note == "the connection broke"
    assert isinstance(await ledger.claim(key(), RESEND), Claim)


@asynchronous
async def test_a_doubt_that_was_sent_again_still_counts(ledger: Ledger) -> None:
    """The id is answered, but the first request may have been charged and stays in the sum."""
    await bought(ledger, key(), doubt())
    await bought(ledger, key(), answer(), RESEND)

    assert isinstance(await ledger.claim(key(), ANYTHING), Kept)
    assert await ledger.spending("default", "api.example") == Spending(billed=1, in_doubt=1)


@asynchronous
async def test_a_refresh_that_ends_in_doubt_leaves_the_old_answer_in_use(ledger: Ledger) -> None:
    """But it is not refreshed again by itself."""
    await bought(ledger, key(), answer(b"old"))
    await bought(ledger, key(), doubt(), REFRESH)

    assert isinstance(await ledger.claim(key(), ANYTHING), Kept)
    assert isinstance(await ledger.claim(key(), REFRESH), HeldInDoubt)


@pytest.mark.parametrize(("billed", "spending"), [(True, Spending(billed=1)), (False, Spending())])
@asynchronous
async def test_a_doubt_is_resolved_by_hand(ledger: Ledger, billed: bool, spending: Spending) -> None:
    """Then the id may be asked for again, and the money is as the person said."""
    claim = await bought(ledger, key(), doubt(raw=b"gateway", status=504))

    entry = await ledger.resolve(claim.seq, billed=billed)

    assert (entry.state, entry.billing is Billing.BILLED) == (State.FAILED, billed)
    assert (entry.raw, entry.status, entry.is_intact) == (b"gateway", 504, True)
    assert await ledger.spending("default", "api.example") == spending
    assert isinstance(await ledger.claim(key(), ANYTHING), Claim)


@asynchronous
async def test_only_a_doubt_can_be_resolved(ledger: Ledger) -> None:
    """A wrong number changes nothing."""
    claim = await bought(ledger, key())
    with pytest.raises(LedgerError, match="not in doubt"):
        await ledger.resolve(claim.seq, billed=True)
    with pytest.raises(LedgerError, match="no entry 99"):
        await ledger.resolve(99, billed=True)
    assert (await ledger.verify()).problems == ()


# Budgets.


@asynchronous
async def test_a_limit_holds_to_the_unit(ledger: Ledger) -> None:
    """What is claimed counts, whatever may become of it (X17)."""
    decisions = await asyncio.gather(*(ledger.claim(key(id_), ANYTHING, Limit(most=25)) for id_ in range(100)))

    assert sum(isinstance(decision, Claim) for decision in decisions) == 25
    assert decisions[-1] == OverBudget(Spending(under_way=25))


@asynchronous
async def test_what_was_not_charged_is_free_again(ledger: Ledger) -> None:
    """Billed and in doubt are spent; a failure and a 204 are not."""
    for id_, end in enumerate([answer(), doubt(), failure(), nothing_known()]):
        await bought(ledger, key(id_), end)

    assert await ledger.spending("default", "api.example") == Spending(billed=1, in_doubt=1)
    assert isinstance(await ledger.claim(key(9), ANYTHING, Limit(most=3)), Claim)
    decision = await ledger.claim(key(10), ANYTHING, Limit(most=3))
    assert decision == OverBudget(Spending(billed=1, in_doubt=1, under_way=1))


@asynchronous
async def test_what_is_kept_is_served_over_any_budget(ledger: Ledger) -> None:
    """A kept answer costs nothing, so it is served where nothing may be bought."""
    await bought(ledger, key())
    assert isinstance(await ledger.claim(key(), ANYTHING, Limit(most=0)), Kept)
    assert isinstance(await ledger.claim(key(), Terms(may_buy=False)), Kept)
    assert isinstance(await ledger.claim(key(2), Terms(may_buy=False)), OverBudget)


@asynchronous
async def test_budgets_count_by_account_and_host(ledger: Ledger) -> None:
    """All endpoints of it together."""
    car = Service(SERVICE.account, SERVICE.host, "/evdatabase/uk/car/bidirectionalcharging/?evdb_vehicle_id")
    await bought(ledger, key())
    await bought(ledger, key(service=car))
    await bought(ledger, key(service=Service("other", SERVICE.host, SERVICE.endpoint)))

    assert await ledger.spending(SERVICE.account, SERVICE.host) == Spending(billed=2)
    assert await ledger.spending("nobody", SERVICE.host) == Spending()


@pytest.mark.parametrize("back", [0.0, 1.0, 3_600.0, 86_399.0, 86_400.0, 86_401.0, 200_000.0])
@asynchronous
async def test_spending_since_a_moment(ledger: Ledger, time_of_day: TimeOfDay, back: float) -> None:
    """Any moment, in the middle of a day or at its start, and what comes at it counts."""
    end = time_of_day.now = 1_780_012_800.0 + 1  # a second past a midnight (UTC)
    moments = [end - seconds for seconds in (0.0, 0.5, 1.0, 3_600.0, 86_400.0, 86_401.0, 172_801.0)]
    for number, moment in enumerate(sorted(moments)):
        time_of_day.now = moment
        await bought(ledger, key(number), [answer(), doubt(), failure()][number % 3])

    since = end - back
    counted = [end for number, end in enumerate(sorted(moments)) if number % 3 != 2 and end >= since]
    assert (await ledger.spending("default", "api.example", since)).spent == len(counted)
    decision = await ledger.claim(key("new"), ANYTHING, Limit(most=len(counted), since=since))
    assert isinstance(decision, OverBudget)


@asynchronous
async def test_a_limit_since_a_moment_holds_though_the_clock_is_set_back(
    ledger: Ledger, time_of_day: TimeOfDay
) -> None:
    """To before that moment: what is bought then counts all the same."""
    limit = Limit(most=3, since=time_of_day.now - 60.0)
    assert isinstance(await ledger.claim(key(1), ANYTHING, limit), Claim)
    time_of_day.now -= 3_600.0

    decisions = [await ledger.claim(key(number), ANYTHING, limit, sending=True) for number in range(2, 6)]
    assert [type(decision) for decision in decisions] == [Claim, Claim, OverBudget, OverBudget]
    assert {entry.sent_at for entry in await entries_of(ledger)} == {None, time_of_day.now}


# Looking.


@asynchronous
async def test_where_many_ids_stand(ledger: Ledger) -> None:
    """Ids that would be bought are left out, and every other has its standing."""
    await bought(ledger, key(1))
    await bought(ledger, key(2), doubt())
    await bought(ledger, key(3), failure())
    await sent(ledger, key(4))
    await bought(ledger, key(5), answer(b"old"))
    await bought(ledger, key(5), doubt(), REFRESH)
    await bought(ledger, key(6), doubt())
    await bought(ledger, key(6), answer(), RESEND)

    standings = await ledger.standings(SERVICE, map(str, range(10)), ANYTHING)

    assert standings == {
        "1": Standing.ANSWERED,
        "2": Standing.IN_DOUBT,
        "4": Standing.UNDER_WAY,
        "5": Standing.ANSWERED,
        "6": Standing.ANSWERED,
    }
    assert (await ledger.standings(SERVICE, ["1", "2", "5"], REFRESH)).keys() == {"2", "5"}
    assert await ledger.standings(Service("other", "h", "e"), ["1"], ANYTHING) == {}


@asynchronous
async def test_entries_come_in_order(ledger: Ledger) -> None:
    """All of them, or those in one state, more than are read at once."""
    for number in range(20):
        await bought(ledger, key(number), doubt() if number % 2 else answer())
    await asyncio.gather(*(bought(ledger, key(number)) for number in range(100, 1200)))

    found = await entries_of(ledger)
    assert [entry.seq for entry in found] == list(range(1, 1121))
    assert [entry.key.vehicle_id for entry in await entries_of(ledger, State.IN_DOUBT)] == [*map(str, range(1, 20, 2))]


@asynchronous
async def test_a_sound_ledger_verifies(ledger: Ledger) -> None:
    """Entries of every kind, one with a flawed answer among them, give no problem and no damage."""
    for number, end in enumerate([answer(), doubt(), failure(), nothing_known(), answer(raw=b"", flaw="TRUNCATED")]):
        await bought(ledger, key(number), end)

    verification = await ledger.verify()
    assert (verification.entries, verification.problems, verification.damaged) == (5, (), ())


@pytest.mark.parametrize("age", [0, -1, float("nan"), "1", True])
@pytest.mark.parametrize("kind", [MemoryLedger, lambda **options: SqliteLedger("x", **options)])
def test_an_age_that_makes_no_sense_is_refused(kind: Callable[..., Any], age: Any) -> None:
    """Neither kind of ledger can be made with a ``free_max_age`` that is no number above 0."""
    with pytest.raises(ConfigurationError, match="free_max_age"):
        kind(free_max_age=age)

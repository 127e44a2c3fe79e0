"""Orders that share a transaction: whatever the groups, they leave what they leave one at a time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.examples import examples
from support.ledgers import answer, doubt, entries_of, failure, key, nothing_known

from oneauto_async import LedgerError, SystemClock
from oneauto_async.ledger import Busy, Claim, Entry, HeldInDoubt, Kept, Ledger, MemoryLedger, SqliteLedger, Terms
from oneauto_async.ledger._groups import Done, Groups
from oneauto_async.ledger._pace import FEW, Pace, Timing
from oneauto_async.ledger._sqlite.portions import LARGEST, portions
from oneauto_async.ledger.records import Limit, OverBudget

asynchronous = pytest.mark.asyncio

ENDS = (answer(), nothing_known(), doubt(), failure())


class Noon(SystemClock):
    """It is always the same time of day."""

    def wall(self) -> float:
        return 1_800_000_000.0


@attrs.frozen
class Order:
    """One thing asked of a ledger: of an id, an entry, or one of the claims that an earlier group handed out."""

    what: str
    number: int
    refresh: bool = False
    most: int | None = None


Group: TypeAlias = list[Order]

orders = st.one_of(
    st.builds(Order, st.sampled_from(["claim", "claim as sent"]), st.integers(0, 3), st.booleans()),
    st.builds(Order, st.just("claim as sent"), st.integers(0, 3), st.just(True), st.integers(1, 6)),
    st.builds(Order, st.sampled_from(["resolve", "mark", "retract", *map(str, range(len(ENDS)))]), st.integers(0, 20)),
)


class Customer:
    """Gives a ledger its orders, and notes what each brought."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.claims: list[Claim] = []
        self.ended: set[int] = set()
        self.brought: list[Any] = []

    async def give(self, group: Group, *, together: bool) -> None:
        """Give a group of orders, all at once or each after the one before."""
        works = [self.carry_out(order, list(self.claims)) for order in group]
        results = await asyncio.gather(*works) if together else [await work for work in works]
        self.claims += [result for result in results if isinstance(result, Claim)]
        self.brought += map(brief, results)

    async def carry_out(self, order: Order, claims: list[Claim]) -> Any:
        if order.what.startswith("claim"):
            limit = None if order.most is None else Limit(most=order.most)
            sending = order.what == "claim as sent"
            return await self.ledger.claim(key(order.number), Terms(refresh=order.refresh), limit, sending=sending)
        if order.what == "resolve":
            try:
                return (await self.ledger.resolve(1 + order.number % 4, billed=order.number % 2 == 0)).seq
            except LedgerError as refused:
                return str(refused)
        left = [claim for claim in claims if claim.seq not in self.ended]
        if not left:
            return None
        return await self.carry_on(order.what, left[order.number % len(left)])

    async def carry_on(self, what: str, claim: Claim) -> Any:
        if what == "mark":
            return await self.ledger.mark_sent(claim)
        if what == "retract":
            return self.ledger.retract(claim, failure())
        self.ended.add(claim.seq)
        return await self.ledger.settle(claim, ENDS[int(what)])


def brief(result: Any) -> Any:
    """Return what must be the same whichever ledger it is."""
    match result:
        case Claim(seq=seq, is_sent=is_sent):
            return seq, is_sent
        case Kept(entry=Entry(seq=seq)) | HeldInDoubt(entry=Entry(seq=seq)) | Busy(seq=seq):
            return type(result), seq
        case OverBudget(spending=spending):
            return spending
    return result


async def outcome_of(ledger: Any, groups: list[Group], *, together: bool) -> tuple[list[Any], list[Entry], Any]:
    async with ledger:
        customer = Customer(ledger)
        for group in groups:
            await customer.give(group, together=together)
        await ledger.flush()
        spending = await ledger.spending("default", "api.example")
        return customer.brought, await entries_of(ledger), spending


@given(st.lists(st.lists(orders, min_size=1, max_size=12), max_size=6))
@example([[Order("claim as sent", 0)], [Order("2", 0)], [Order("resolve", 0), Order("claim as sent", 0)]])
@examples(300)
def test_groups_leave_what_orders_leave_one_at_a_time(groups: list[Group]) -> None:
    """Orders carried out in groups give the same results, entries and spending as one by one."""

    async def main(folder: str) -> None:
        in_memory = await outcome_of(MemoryLedger(clock=Noon()), groups, together=False)
        in_file = await outcome_of(SqliteLedger(Path(folder, "a.ledger"), clock=Noon()), groups, together=True)
        assert in_file == in_memory

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
def test_portions_are_all_rows_in_order_and_of_few_sizes(count: int) -> None:
    """So that a statement for each size is made ready once."""
    cut = list(portions(range(count)))
    assert [row for portion in cut for row in portion] == list(range(count))
    assert {len(portion) for portion in cut} <= {2**power for power in range(7)}
    assert sum(len(portion) < LARGEST for portion in cut) <= 6


@given(st.integers(0, 500))
@examples(20)
def test_a_large_group_is_as_good_as_many_small_ones(count: int) -> None:
    """Every id is claimed, and settled, once."""

    async def main(folder: str) -> None:
        async with SqliteLedger(Path(folder, "a.ledger")) as ledger:
            claims = await asyncio.gather(*(ledger.claim(key(n), Terms(), sending=True) for n in range(count)))
            assert len({claim.seq for claim in claims if isinstance(claim, Claim)}) == count
            await asyncio.gather(*(ledger.settle(claim, answer()) for claim in claims if isinstance(claim, Claim)))
            assert (await ledger.spending("default", "api.example")).billed == count
            assert (await ledger.verify()).problems == ()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(folder))


class Disk:
    """Carries out groups, at once or when it is told to, and says that each took as long as it is told."""

    def __init__(self, fixed: float, *, slow: bool = False) -> None:
        self.fixed = fixed
        self.slow = slow
        self.groups: list[list[Any]] = []
        self.at_work: list[tuple[asyncio.Future[Done], Done]] = []

    def run(self, works: Sequence[Any]) -> asyncio.Future[Done]:
        """Carry out a group; each of its orders takes 0.1 ms."""
        self.groups.append([work(None) for work in works])
        group: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self.at_work.append((group, Done(self.groups[-1], Timing(self.fixed, 1e-4 * len(works)))))
        if not self.slow:
            self.go_on()
        return group

    def go_on(self, error: LedgerError | None = None) -> None:
        """End the group that is at work."""
        group, done = self.at_work.pop()
        if error is None:
            group.set_result(done)
        else:
            group.set_exception(error)


def _told(number: int, _: Any) -> int:
    return number


async def groups_made_of(disk: Disk, musts: Sequence[bool]) -> list[list[int]]:
    """Order so many things at once, after one by which the groups learn how fast the disk is."""
    groups = Groups(disk, on_untaken=print)
    await groups.order(lambda _: "known")
    disk.groups.clear()
    done = [groups.order(partial(_told, number), must=must) for number, must in enumerate(musts)]
    await asyncio.gather(*done)
    return disk.groups


@given(st.lists(st.booleans(), min_size=1, max_size=120))
@examples(100)
def test_a_long_line_goes_in_several_groups_and_in_its_turn(musts: list[bool]) -> None:
    """None is left out or overtaken, and the end of a claim goes with the claims it came with."""
    groups = asyncio.run(groups_made_of(Disk(1e-3), musts))
    assert [number for group in groups for number in group] == list(range(len(musts)))
    waiters = [sum(not musts[number] for number in group) for group in groups]
    assert all(count == FEW for count in waiters[:-1])
    assert waiters[-1] <= FEW
    assert not any(musts[group[0]] for group in groups[1:])


@pytest.mark.parametrize(("fixed", "groups"), [(1e-3, 7), (3e-3, 4), (12e-3, 1)])
def test_where_a_group_takes_long_a_line_goes_in_fewer(fixed: float, groups: int) -> None:
    """A slow disk is asked as seldom as can be: a hundred orders take 10 ms, and a group so much more."""
    assert len(asyncio.run(groups_made_of(Disk(fixed), [False] * 100))) == groups


@asynchronous
async def test_what_is_given_back_goes_ahead_of_those_who_have_its_place() -> None:
    """Else a line of claims that were cancelled and replaced would have more entries sent than there are slots."""
    disk = Disk(1e-3, slow=True)
    groups = Groups(disk, on_untaken=lambda claim: groups.order(partial(_told, -claim), must=True))
    untaken = groups.order(partial(_told, 1))
    await until_at_work(disk)
    untaken.cancel()
    taken = [groups.order(partial(_told, number)) for number in range(2, 40)]
    disk.go_on()
    await until_at_work(disk)
    disk.go_on()
    await asyncio.sleep(0.01)
    assert disk.groups[1][0] == -1
    for order in taken:
        order.cancel()


@asynchronous
async def test_after_a_failed_group_a_line_is_not_divided() -> None:
    """A lock that is not let go would hold up each part of it for half a minute."""
    disk = Disk(1e-3, slow=True)
    groups = Groups(disk, on_untaken=print)
    first = groups.order(partial(_told, 0))
    await until_at_work(disk)
    line = [groups.order(partial(_told, number)) for number in range(1, 101)]
    disk.go_on(LedgerError("locked"))
    await until_at_work(disk)
    disk.go_on(LedgerError("locked"))
    results = await asyncio.gather(first, *line, return_exceptions=True)
    assert [type(result) for result in results] == [LedgerError] * 101
    assert len(disk.groups) == 2


@asynchronous
async def test_whoever_is_in_line_when_the_file_is_closed_is_told() -> None:
    """At once, and not when the loop ends."""
    disk = Disk(1e-3, slow=True)
    groups = Groups(disk, on_untaken=print)
    first = groups.order(partial(_told, 0))
    await until_at_work(disk)
    line = [groups.order(partial(_told, number)) for number in range(1, 101)]
    groups.close()
    disk.go_on(LedgerError("locked"))
    async with asyncio.timeout(10):
        results = await asyncio.gather(first, *line, return_exceptions=True)
    assert all(isinstance(result, LedgerError) for result in results)


async def until_at_work(disk: Disk) -> None:
    """Wait for the next group."""
    for _ in range(100):
        if not disk.at_work:
            await asyncio.sleep(0)
    assert disk.at_work


def test_one_group_that_had_to_wait_says_little_of_the_disk() -> None:
    """Another program had the file for a minute: the lines after it are divided as before."""
    pace = Pace()
    for _ in range(20):
        pace.learn(Timing(fixed=0.001, orders=0.004), FEW)
    before = pace.together(1000)
    pace.learn(Timing(fixed=60.0, orders=0.004), FEW)

    assert pace.together(1000) == before == FEW

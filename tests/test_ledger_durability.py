"""A power cut at any moment: what was promised is on the disk, and what is on the disk makes a whole ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import attrs
import pytest
from support.disk import Cut, Recorder, load_sqlite, power_cuts, recording
from support.ledgers import ANYTHING, answer, claimed, doubt, entries_of, key

from oneauto_async.ledger import Claim, Entry, SqliteLedger, State
from oneauto_async.ledger._sqlite import connecting, owners

pytestmark = pytest.mark.skipif(load_sqlite() is None, reason="Python's SQLite cannot be reached by ctypes here")

NAME = "test.ledger"


@pytest.fixture(params=["PERSIST", "WAL"], autouse=True)
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing."""
    monkeypatch.setattr(connecting, "journal_mode", lambda: request.param)
    return str(request.param)


def test_the_disk_has_it_before_anyone_is_told(tmp_path: Path) -> None:
    """Each step that is awaited was synced when it returns, and took no more than a few syncs (D03)."""

    async def main(recorder: Recorder) -> None:
        async with SqliteLedger(tmp_path / NAME) as ledger:
            for number in range(5):
                before = len(recorder.events)
                claim = await claimed(ledger, key(number))
                assert recorder.unsynced() == set()
                assert await ledger.mark_sent(claim)
                assert recorder.unsynced() == set()
                await ledger.settle(claim, answer(b"%d" % number))
                assert recorder.unsynced() == set()
                steps = Counter(type(event).__name__ for event in recorder.events[before:])
                assert 3 <= steps["Synced"] <= 12

    with recording() as recorder:
        asyncio.run(main(recorder))


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_a_power_cut_at_any_moment(every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the disk had time for: no promise is broken, and what is there is a ledger that verifies."""
    with recording() as recorder:
        asyncio.run(_some_lookups(tmp_path / "before" / NAME, recorder))

    started_again = attrs.evolve(owners.here(), boot="the next")
    monkeypatch.setattr(owners, "here", lambda: started_again)
    begun = next(number for number, event in enumerate(recorder.events) if "claimed" in str(event))
    cuts = [cut for cut in power_cuts(recorder.events, seed=1) if cut.moment > begun]
    assert len(cuts) > 150
    for number, cut in enumerate(_distinct(cuts)[::every]):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, content in cut.files.items():
            (folder / name).write_bytes(content)
        asyncio.run(_check(folder / NAME, cut))


async def _some_lookups(path: Path, recorder: Recorder) -> None:
    path.parent.mkdir()
    async with SqliteLedger(path) as ledger:
        await asyncio.gather(*(_look_up(ledger, number, recorder) for number in range(4)))
        await _look_up(ledger, 4, recorder)


async def _look_up(ledger: SqliteLedger, number: int, recorder: Recorder) -> None:
    claim = await claimed(ledger, key(number))
    recorder.note(("claimed", number))
    await ledger.mark_sent(claim)
    recorder.note(("sent", number))
    if number == 2:
        await ledger.settle(claim, doubt())
    else:
        await ledger.settle(claim, answer(b"%d" % number * 3000))
        recorder.note(("answered", number))


def _distinct(cuts: list[Cut]) -> list[Cut]:
    """Leave out what looks like the moment before."""
    seen: list[Cut] = []
    for cut in cuts:
        if not any(cut.files == one.files and len(cut.promises) == len(one.promises) for one in seen[-6:]):
            seen.append(cut)
    return seen


async def _check(path: Path, cut: Cut) -> None:
    async with SqliteLedger(path) as ledger:
        assert (await ledger.verify()).problems == (), cut.moment
        entries = {entry.key.vehicle_id: entry for entry in await entries_of(ledger)}
        for step, number in cut.promises:
            assert _is_kept(step, number, entries[str(number)]), (cut.moment, step, number)
        doubts = sum(entry.state is State.IN_DOUBT for entry in entries.values())
        assert (await ledger.spending("default", "api.example")).in_doubt == doubts
        assert isinstance(await ledger.claim(key("new"), ANYTHING), Claim)


def _is_kept(step: str, number: int, entry: Entry) -> bool:
    if step == "answered":
        return entry.state is State.ANSWERED and entry.raw == b"%d" % number * 3000 and entry.is_intact
    if step == "sent":
        return entry.state in (State.ANSWERED, State.IN_DOUBT)
    return True

"""What observers are told, and that they can disturb nothing."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from oneauto_async import Billing, Found, OneAutoClient, RateLimit
from oneauto_async.events import (
    AttemptEnded,
    CircuitChanged,
    Event,
    GateShut,
    LookupEnded,
    QuotaUsedUp,
    Throttled,
    Waited,
    log_events,
)
from oneauto_async.ledger import MemoryLedger
from oneauto_async.testing import SIMULATOR_KEY, Simulator, VirtualClock


def events_of(simulator: Simulator, clock: VirtualClock, *ids: str, limit: RateLimit | None = None) -> list[Event]:
    """Look ids up one after the other and return all that was told."""
    told: list[Event] = []

    async def main() -> None:
        rate_limit = RateLimit.adaptive() if limit is None else limit
        async with OneAutoClient.simulated(
            simulator, clock=clock, observers=[told.append], rate_limit=rate_limit
        ) as client:
            for vehicle_id in ids:
                await client.lookup(vehicle_id)

    clock.run(main())
    return told


def test_an_attempt_and_its_lookup_are_told(clock: VirtualClock) -> None:
    """One event for each, with what it cost."""
    attempt, lookup = events_of(Simulator(), clock, "1")

    assert isinstance(attempt, AttemptEnded)
    assert (attempt.evdb_vehicle_id, attempt.attempt, attempt.status, attempt.verdict) == ("1", 1, 200, "Answer")
    assert isinstance(lookup, LookupEnded)
    assert (lookup.outcome, lookup.billing.value) == ("Found", "billed")


@pytest.mark.parametrize("ledger", [None, MemoryLedger()])
def test_a_request_that_is_cut_short_is_told(clock: VirtualClock, ledger: MemoryLedger | None) -> None:
    """Closing the client ends it, in doubt; a lookup that only waits for its turn ends without a request."""
    told: list[Event] = []

    async def main() -> None:
        simulator = Simulator(latency=60)
        options: dict[str, Any] = {"clock": clock, "observers": [told.append], "ledger": ledger}
        async with OneAutoClient.simulated(simulator, rate_limit=RateLimit(0.01), **options) as client:
            lookups = [asyncio.create_task(client.lookup(vehicle_id)) for vehicle_id in ("1", "2")]
            await clock.sleep(1)
        await asyncio.gather(*lookups)

    clock.run(main())

    (attempt,) = [event for event in told if isinstance(event, AttemptEnded)]
    assert (attempt.verdict, attempt.status, attempt.billing) == ("CutShort", None, Billing.UNKNOWN)
    ends = {event.evdb_vehicle_id: event for event in told if isinstance(event, LookupEnded)}
    assert {name: (end.outcome, end.attempts) for name, end in ends.items()} == {
        "1": ("InDoubt", 1),
        "2": ("NotSent", 0),
    }


def test_a_refusal_and_the_gate_are_told(clock: VirtualClock) -> None:
    """A 429 with a ``Retry-After`` is a refusal and a pause, and the next attempt has waited."""
    told = events_of(Simulator(), clock, "SIM-429-RETRY-AFTER")

    kinds = [type(event) for event in told]
    assert kinds.count(Throttled) == 1
    assert kinds.count(GateShut) == 1
    assert kinds.count(AttemptEnded) == 2


def test_pacing_is_told_as_waiting(clock: VirtualClock) -> None:
    """The second call of a key of one per second has waited for a second."""
    told = events_of(Simulator(), clock, "1", "2", limit=RateLimit(1))

    waits = [event.seconds for event in told if isinstance(event, Waited)]
    assert waits == [pytest.approx(1, rel=0.05)]


def test_an_outage_is_told_when_it_begins_and_ends(clock: VirtualClock) -> None:
    """Once each, however many calls fail in it."""
    simulator = Simulator()
    told: list[Event] = []

    async def main() -> None:
        async with OneAutoClient.simulated(simulator, clock=clock, observers=[told.append]) as client:
            await client.lookup("0")
            simulator.fail_next(12, 503)
            await client.lookup_many(range(1, 20))

    clock.run(main())

    assert [event.is_open for event in told if isinstance(event, CircuitChanged)] == [True, False]


def test_a_used_up_quota_is_told(clock: VirtualClock) -> None:
    """So that somebody can be called."""
    assert any(isinstance(event, QuotaUsedUp) for event in events_of(Simulator(), clock, "SIM-QUOTA"))


def test_an_observer_that_fails_disturbs_nothing(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The lookup succeeds, the other observers hear of it, and the log says what happened."""
    told: list[Event] = []

    def broken(event: Event) -> None:
        raise RuntimeError("no")

    async def main() -> object:
        async with OneAutoClient.simulated(Simulator(), clock=clock, observers=[broken, told.append]) as client:
            return await client.lookup("1")

    assert isinstance(clock.run(main()), Found)
    assert len(told) == 2
    assert "an observer failed on AttemptEnded" in caplog.text


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (GateShut(seconds=1.0, status=503), logging.WARNING),
        (CircuitChanged(is_open=True), logging.WARNING),
        (QuotaUsedUp(), logging.ERROR),
    ],
)
def test_pauses_and_outages_are_logged_so_that_somebody_sees_them(
    event: Event, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Pauses and outages give one warning each, a used-up quota one error."""
    with caplog.at_level(logging.DEBUG):
        log_events(event)

    assert [record.levelno for record in caplog.records] == [level]


@pytest.mark.asyncio
async def test_by_a_real_clock_nothing_is_told_of_waits_that_were_none() -> None:
    """Each look at it is a little later than the one before."""
    told: list[Event] = []
    limit = RateLimit(1000, 1000)
    async with OneAutoClient.simulated(Simulator(), observers=[told.append], rate_limit=limit) as client:
        for number in range(20):
            await client.lookup(number)

    assert sum(isinstance(event, AttemptEnded) for event in told) == 20
    assert not any(isinstance(event, Waited) for event in told)


def test_logged_events_do_not_hold_the_key(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is told can be written to a log."""
    with caplog.at_level(logging.DEBUG):
        for event in events_of(Simulator(), clock, "1", "SIM-429-RETRY-AFTER", "SIM-QUOTA"):
            log_events(event)

    assert "Throttled" in caplog.text
    assert SIMULATOR_KEY not in caplog.text

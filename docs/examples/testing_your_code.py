"""Tests of code that uses the library: ``pytest testing_your_code.py``. The fixtures come with the installation."""

from collections.abc import Iterable

import pytest

from oneauto_async import Found, InDoubt, OneAutoClient, RetryPolicy, Timeouts
from oneauto_async.testing import Simulator, SimulatorServer, VirtualClock


async def total_home_power(client: OneAutoClient, ids: Iterable[str]) -> float:
    """Stand for your code: sum up the kilowatts that some vans can give a home."""
    outcomes = await client.lookup_many(ids)
    return sum(o.value.vehicle_to_home_ac.power_output_kw or 0 for o in outcomes if isinstance(o, Found))


@pytest.mark.asyncio
async def test_in_process(oneauto_simulator: Simulator) -> None:
    """The quickest way: no socket, and the simulator's books tell what your code would have paid."""
    async with OneAutoClient.simulated(oneauto_simulator) as client:
        assert await total_home_power(client, ["12345", "12345", "SIM-204"]) == 14.0
    assert oneauto_simulator.bills == {"12345": 1}  # wanted twice, paid once; SIM-204 is free


@pytest.mark.asyncio
async def test_on_a_socket(oneauto_server: SimulatorServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """For code that makes its own client: point the environment at a real server on this machine."""
    monkeypatch.setenv("ONEAUTO_API_KEY", oneauto_server.api_key)
    monkeypatch.setenv("ONEAUTO_BASE_URL", oneauto_server.base_url)
    async with OneAutoClient() as client:
        assert await total_home_power(client, ["12345"]) == 7.0
    assert oneauto_server.bills.total() == 1


@pytest.mark.asyncio
async def test_a_failure_that_passes(oneauto_simulator: Simulator) -> None:
    """Script failures; the ids of SPECIAL_IDS give every other answer."""
    oneauto_simulator.fail_next(1, 503)
    async with OneAutoClient.simulated(oneauto_simulator) as client:
        outcome = await client.lookup("12345")
    assert isinstance(outcome, Found)
    assert (outcome.receipt.attempts, oneauto_simulator.bills["12345"]) == (2, 1)


def test_an_hour_of_waiting() -> None:
    """In virtual time an hour takes milliseconds, and every run is the same."""
    clock = VirtualClock()
    simulator = Simulator()
    simulator.fail_next(1, 503, retry_after="3600")

    async def main() -> None:
        patient = RetryPolicy(max_retry_after=7200, total=7200)
        async with OneAutoClient.simulated(simulator, clock=clock, retry=patient) as client:
            assert isinstance(await client.lookup("12345"), Found)

    clock.run(main())
    assert clock.monotonic() == pytest.approx(3600, abs=1)


def test_an_answer_that_never_comes() -> None:
    """A lost answer is in doubt: it may have been paid for, and nothing asks again by itself."""
    clock = VirtualClock()
    simulator = Simulator()

    async def main() -> None:
        async with OneAutoClient.simulated(simulator, clock=clock, timeouts=Timeouts(attempt=45)) as client:
            assert isinstance(await client.lookup("SIM-SILENT"), InDoubt)

    clock.run(main())
    assert simulator.requests["SIM-SILENT"] == 1

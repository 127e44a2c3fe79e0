"""Each scenario once against a server in another process, in real time: half an hour, so with ``-m sockets``."""

from __future__ import annotations

import pytest
from scenarios.named import NAMED
from scenarios.on_sockets import loosened, run_on_sockets
from scenarios.scenario import Scenario

TRIES = 2
"""A machine that was busy with other things gets a second chance; the library does not need one."""


@pytest.mark.sockets
@pytest.mark.parametrize("given", [True, False], ids=["given", "learnt"])
@pytest.mark.parametrize("scenario", NAMED, ids=str)
def test_each_scenario_reaches_its_goal_in_real_time(scenario: Scenario, given: bool) -> None:
    """As in virtual time, with 0.05 more of completion time and one point more of waste."""
    goal = loosened(scenario.goal(given=given))
    seen = []
    for _ in range(TRIES):
        seen.append(run_on_sockets(scenario, given=given))
        if not seen[-1].faults(goal):
            return
    pytest.fail(f"goal {goal}: {[(result.faults(goal), result) for result in seen]}")

"""The scenarios by name, and what is to be reached in each.

The goals leave room for what cannot be known beforehand: with a given limit a hundredth, with a limit to be learnt what
it takes to be refused a few times. Where something happens on the way, for what it takes to notice it.
"""

from __future__ import annotations

from .scenario import Goal, Scenario
from .world import Change, Latency, Limit, Outage, Quota, World

FIFTY = Limit(50, 10)
STEADY = World(limit=FIFTY)

NAMED = [
    Scenario(
        name="50/s",
        world=STEADY,
        count=3000,
        given=Goal(1.01, 0.001),
        learnt=Goal(1.02, 0.01),
    ),
    Scenario(
        name="50/s, 429s tell to wait, all wait",
        world=World(limit=FIFTY, retry_after=1),
        count=3000,
        given=Goal(1.01, 0.001),
        learnt=Goal(1.15, 0.005),
    ),
    Scenario(
        name="50/s, 429s tell to wait, one waits",
        world=World(limit=FIFTY, retry_after=1),
        count=3000,
        given=Goal(1.01, 0.001),
        learnt=Goal(1.02, 0.005),
        retry_after_scope="call",
    ),
    Scenario(
        name="200/s, 80 to 250 ms",
        world=World(limit=Limit(200, 50), latency=Latency(0.08, 0.25)),
        count=12_000,
        given=Goal(1.01, 0.001),
        learnt=Goal(1.03, 0.01),
    ),
    Scenario(
        name="5 s of 503 that tells to wait",
        world=World(limit=FIFTY, outages=(Outage(20, 5, retry_after=5),)),
        count=3000,
        given=Goal(1.02, 0.005),
        learnt=Goal(1.02, 0.007),
    ),
    Scenario(
        name="5 s of 503",
        world=World(limit=FIFTY, outages=(Outage(20, 5),)),
        count=3000,
        given=Goal(1.04, 0.012),
        learnt=Goal(1.05, 0.015),
    ),
    Scenario(
        name="quota used up midway",
        world=World(limit=FIFTY, quotas=(Quota(1500),)),
        count=3000,
        given=Goal(),
        learnt=Goal(),
    ),
    Scenario(
        name="the limit falls midway",
        world=World(limit=FIFTY, changes=(Change(30, Limit(20, 10)),)),
        count=2400,
        given=Goal(1.1, 0.005),
        learnt=Goal(1.1, 0.01),
    ),
    Scenario(
        name="the limit rises midway",
        world=World(limit=Limit(20, 10), changes=(Change(30, FIFTY),)),
        count=2400,
        given=Goal(1.1, 0.005),
        learnt=Goal(1.1, 0.01),
    ),
    Scenario(
        name="two processes share the key",
        world=STEADY,
        count=3000,
        given=Goal(1.05, 0.025),
        learnt=Goal(1.08, 0.015),
        processes=2,
    ),
]

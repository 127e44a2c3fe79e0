"""What a governor is doing and has counted, as plain data."""

from __future__ import annotations

import attrs

from ..settings import RateLimit


@attrs.frozen(kw_only=True)
class GovernorStatistics:
    """What the governor is doing and has counted, for a person to read.

    Attributes:
        phase: ``"free"`` (a given limit, or none needed), ``"ramp"`` (no 429 yet, growing) or ``"track"`` (pacing to
            what the key turned out to allow, or, with ``initial``, is taken to).
        rate: calls per second the key is taken to allow. The pace is that, or higher to see whether it allows more.
            ``None`` in the ramp.
        level: calls that may go out now as far as the pace is concerned, or ``None``; below 0 while what was sent is
            still to be made up for.
        learnt: the limit the key turned out to have, for ``RateLimit.adaptive(initial=…)`` of the next run; until it
            has refused a call what was given as ``initial``, or ``None``. Of a key whose burst is too small for how
            unevenly calls arrive, its rate is the pace that was found best, which is lower. Of a key that others use
            too it is this client's share, at first a guess.
        waiting: calls in its queue.
        in_flight: calls that have a grant and have not ended.
        gate: seconds until the gate opens; 0 when it is open.
        is_outage: whether the circuit is open: a single call at a time asks whether the service is back.
        granted: grants given so far, but for those given back.
        accepted: replies that refused nothing: neither 429 nor 5xx, but for 501.
        throttled: 429 replies, used-up quotas among them.
        unavailable: 500 and 503 replies.
        failed: calls that ended without an answer, or with one that says nothing of the key.
    """

    phase: str
    rate: float | None
    level: float | None
    learnt: RateLimit | None
    waiting: int
    in_flight: int
    gate: float
    is_outage: bool
    granted: int
    accepted: int
    throttled: int
    unavailable: int
    failed: int

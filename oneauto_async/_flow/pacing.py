"""Pacing to a limit nobody has told: start small, grow until the first 429, then run a little above what is measured.

The pacer keeps its own copy of the gateway's bucket. Every 429 empties it, and says what the rate can be; the copy then
starts a *cushion* below the gateway's, and fills a little faster, so that after a *cycle* of calls the two meet, one
call is refused, and the measurement is fresh. Pure: time is passed in.
"""

from __future__ import annotations

import math
from enum import Enum

from .calls import NOISE, Fate, Grant, History
from .measuring import Interval, measure

WINDOW = 10
"""Calls that may be unanswered at the start. Every second answer allows one more, so that they grow by half with every
round trip, much as those of a new TCP connection do: a service that does not answer collects no herd, and of a key that
allows little a few calls are refused, not hundreds."""

LOWEST_RATE = 0.5
"""Calls per second, however little the key seems to allow: so long it takes at most to notice that it allows more."""

HIGHEST_RATE = 1e5
"""Calls per second beyond which nothing is paced any more."""

CUSHION = 2.0
"""Tokens the copy starts below the gateway's bucket: one for the 429 that was not quite empty, one for rounding, and
what arrives early on a way of uneven length comes on top."""

FIRST_CYCLE = 50.0
CYCLE_GROWTH = 1.5
SHORTEST_CYCLE = 100.0
SHORTEST_CYCLE_SECONDS = 4.0
SLOW_CYCLE_GROWTH = 1.1
PROBE_SHARE = 0.004
"""Calls from one 429 to the next: few while little is known, then the larger of the shortest two for each call that is
usually refused, so that a change is noticed soon; and on a steady key slowly more, until the refused ones are no more
than this share of all."""

STOP_SHARE = 0.1
"""The share of its time that a key may stand still where every 429 tells all calls to wait."""

SLOW_DOWN = 0.75
EASE = 0.95
"""How much slower a key is asked after such a 429: far slower if it came early in its cycle, else a little."""

PEAK_DECAY = 0.95
"""How much of the highest recent rate is remembered from one 429 to the next: a minute or so."""

PATIENCE = 1.25
"""Cycles without any 429 after which the limit must have risen: the cushion should have been used up after one."""

FIRST_EXCESS = 0.04
SURE_EXCESS = 0.1
LARGEST_EXCESS = 0.3
"""Shares by which the copy then fills faster, doubling; from the second on it is no error of measurement any more."""

CALLS_PER_STEP = 8
STEPS_PER_CYCLE = 4
LARGEST_BURST = 200.0
"""Calls between two such steps at least, once it is sure; and before, at most this part of a cycle."""

SMALLEST_EXCESS = 0.008
"""The least by which the copy fills faster: with less, the error of a measurement would keep the two from meeting."""

NARROW_BURST = 3.0
"""A burst smaller than this leaves no room for a cushion: see `_Steps`."""

IDLE = 0.02
"""Seconds by which a call may go out late without the bucket having run over."""


class Phase(Enum):
    """What the pacer is doing.

    ``FREE``: not limited by it. ``RAMP``: growing, no 429 yet. ``TRACK``: running a little above what is measured.
    """

    FREE = "free"
    RAMP = "ramp"
    TRACK = "track"


class _Steps:
    """The rate of a key with hardly any burst, where a call that is early by anything is refused.

    There is no room for a cushion, and whatever is not used at once is lost, so that counting says too little. Each
    refusal lowers the rate by a step and each accepted call raises it by a small part of one: it settles where one
    call in `BALANCE` is refused. The step shrinks while that holds, and grows when refusals follow each other, or none.
    """

    BALANCE = 125
    SMALLEST = 0.005
    LARGEST = 0.3
    LARGEST_UP = 0.04

    def __init__(self) -> None:
        self._step = 0.04
        self._accepted = 0

    def up(self) -> float:
        """Return the factor for an accepted call."""
        self._accepted += 1
        if self._accepted > 2 * self.BALANCE:
            self._step = min(self.LARGEST, self._step * 1.02)
        return 1.0 + min(self._step, self.LARGEST_UP) / self.BALANCE

    def down(self) -> float:
        """Return the factor for a refused call."""
        often = self._accepted < self.BALANCE / 6
        self._step = min(self.LARGEST, self._step * 2.0) if often else max(self.SMALLEST, self._step / 2.0)
        self._accepted = 0
        return 1.0 - self._step


class Pacer:
    """Lets calls out at the rate the key allows, as far as it is known.

    Arguments:
        ceiling: calls per second never to be exceeded: a limit that was given. The pacer then is free until the key
            turns out to allow less.
        rate: a first guess from an earlier run, in calls per second.
        burst: the burst that was given, or is guessed.
    """

    def __init__(self, *, ceiling: float = math.inf, rate: float | None = None, burst: float = math.inf) -> None:
        self._ceiling = min(ceiling, HIGHEST_RATE)
        self._history = History()
        self._phase = Phase.FREE if math.isfinite(ceiling) else Phase.RAMP if rate is None else Phase.TRACK
        self._rate = min(self._ceiling, HIGHEST_RATE if rate is None else rate)
        self._burst = burst
        self._first_run: list[Grant] = []  # the calls up to the first 429, newest first, until the burst is known
        self._excess = 0.0
        self._level = 0.0 if rate is None else max(1.0, burst / 2.0)
        self._filled_at = 0.0
        self._steps = _Steps()
        self._is_shared = False  # the key has turned out to allow less than the limit that was given
        self._lasting = 0.0  # the highest rate that brought no refusal for more than a cycle
        self._peak = ceiling if math.isfinite(ceiling) else rate or 0.0
        self._granted = self._answered = 0
        self._stepped_at = 0  # grants given when the rate last grew
        self._is_binding = False  # someone had to wait for the pacer since then
        self._cycle = FIRST_CYCLE if rate is None else SHORTEST_CYCLE
        self._refused_at = 0  # grants given at the newest 429
        self._last_refusal = 0.0
        self._episode_end = 0  # calls granted before this belong to the same run of refusals
        self._lowest = 0.0  # how far the rate may fall within it
        self._episode_refusals = 0
        self._episode_is_probe = False
        self._usual_refusals = 1.0

    def __repr__(self) -> str:
        return f"<Pacer {self._phase.value}, {self.pace:.3g}/s>"

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        return self._phase

    @property
    def pace(self) -> float:
        """Calls per second that are let out."""
        return self._rate * (1.0 + self._excess)

    @property
    def rate(self) -> float | None:
        """Calls per second the key allows, as measured; ``None`` before it has refused any."""
        return self._rate if self._phase is Phase.TRACK else None

    @property
    def burst(self) -> int | None:
        """Calls the key allows at once, at most, as far as the first 429 told; ``None`` if it did not."""
        return int(self._burst) if math.isfinite(self._burst) else None

    @property
    def in_flight(self) -> int:
        """Calls that were let out and have not ended."""
        return self._granted - self._answered

    def level(self, now: float) -> float:
        """Return the calls that may go out now."""
        return min(self._depth, self._level + (now - self._filled_at) * self.pace)

    def delay(self, now: float) -> float:
        """Return the seconds until the next call may go out; infinity if an answer must come first."""
        if self._phase is Phase.FREE:
            return 0.0
        if self._phase is Phase.RAMP:
            return 0.0 if self.in_flight < WINDOW + self._answered // 2 else math.inf
        missing = 1.0 - self.level(now)
        if missing <= 1e-9:
            return 0.0
        self._is_binding = True
        return missing / self.pace

    def take(self, grant: Grant) -> None:
        """Let a call out."""
        now, self._granted, grant.pace = grant.at, self._granted + 1, self.pace
        if self._phase is Phase.TRACK:
            self._note_idling(now)
        self._level, self._filled_at = self.level(now) - 1.0, now
        self._history.add(grant)

    def put_back(self) -> None:
        """Learn that a call that was let out will never be sent."""
        self._level = min(self._depth, self._level + 1.0)

    def pause(self, now: float, seconds: float) -> None:
        """Learn that no call goes out for so long, whatever the key allows."""
        self._history.pause(now, now + seconds)

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted."""
        grant.fate = Fate.ACCEPTED
        self._answered += 1
        if self._phase is Phase.TRACK and self._is_narrow:
            self._change_rate(now, self._steps.up())
            self._free_at_ceiling()
        elif grant.number > self._stepped_at and self._is_binding:  # one round trip since the last growth
            self._grow(now)

    def forget(self, grant: Grant) -> None:
        """Learn that a call took no token, or that it is not known."""
        grant.fate = Fate.VOID
        self._answered += 1

    def throttle(self, grant: Grant, now: float, stop: float = 0.0) -> None:
        """Learn that the gateway's bucket was empty when a call arrived, and that all then stop for so many seconds."""
        grant.fate = Fate.REFUSED
        self._answered += 1
        since_last = self._granted - self._refused_at
        self._history.heard(now - grant.left)
        if self._phase is Phase.RAMP:
            self._first_run = self._history.until(grant)
        if self._first_run:
            self._burst = max(1.0, float(sum(call.took_a_token for call in self._first_run)))
        is_new = grant.number > self._episode_end
        if is_new:
            self._begin_episode(grant, now)
        self._episode_refusals += 1
        interval = measure(self._history, grant, self._burst / self._rate if self._is_narrow else math.inf)
        if self._phase is Phase.FREE and not self._is_shared and interval.high >= self._ceiling * (1.0 - FIRST_EXCESS):
            return  # a call that was early, and no lower limit
        self._is_shared = True
        self._adopt(interval, grant.pace, is_new=is_new)
        if stop and is_new:
            self._avoid_stops(stop, since_last)
        self._refill(grant, now)

    # What is known of the key.

    @property
    def _is_narrow(self) -> bool:
        return self._burst < NARROW_BURST

    @property
    def _depth(self) -> float:
        """The most calls that may go out at once: after a rest, what is known to be allowed."""
        if self._is_narrow or self._first_run or math.isinf(self._burst):
            return 1.5
        return max(1.5, self._burst - self._cushion)

    @property
    def _cushion(self) -> float:
        if self._is_narrow:
            return 0.0
        return min(CUSHION + max(NOISE, self._history.noise) * self._rate, (self._burst - 1.0) / 2.0)

    def _begin_episode(self, grant: Grant, now: float) -> None:
        """Begin a run of refusals; those of calls that left before the first was heard belong to it."""
        if self._episode_refusals and self._episode_is_probe:
            self._usual_refusals += 0.5 * (self._episode_refusals - self._usual_refusals)
        self._episode_refusals = 0
        self._episode_is_probe = self._phase is Phase.TRACK and self._excess < SURE_EXCESS
        self._episode_end = self._granted
        if self._phase is Phase.RAMP:  # nothing is known: begin with half of what was sent
            self._rate = self._history.sending_rate(grant, now) / 2.0
        # What is known does not fall by more than half at once; as long as nothing is, it may.
        self._lowest = 0.0 if self._first_run else self._rate / 2.0

    def _adopt(self, interval: Interval, pace: float, *, is_new: bool) -> None:
        """Set the rate by what a refusal says."""
        if self._is_narrow and self._phase is Phase.TRACK and is_new:
            self._rate *= self._steps.down()
        known = interval.is_narrow and not self._is_narrow
        rate = interval.middle if known else min(interval.clamp(self._rate), max(self._rate, pace))
        self._rate = min(self._ceiling, max(rate, self._lowest, LOWEST_RATE))
        if known:
            self._settle_burst()
        if is_new:
            self._lengthen_cycle()
        self._phase = Phase.TRACK

    def _avoid_stops(self, stop: float, calls: int) -> None:
        """Run below the measured rate where every 429 stops all calls, and come near the limit rarely.

        Whatever is accepted after a stop comes from a bucket that has filled again, so that counting says too much.
        """
        slower = self._rate * (SLOW_DOWN if calls < self._cycle / 2.0 else EASE)
        if self._lasting:  # it was raised until this refusal, and further than need be
            slower = min(slower, self._lasting * (1.0 + SURE_EXCESS))
        self._rate, self._lasting = slower, 0.0
        self._cycle = max(self._cycle, stop * self._rate / STOP_SHARE)

    def _settle_burst(self) -> None:
        """The key began with a full bucket: what it took before the first 429 beyond what came in was its burst."""
        taken = [call.left for call in self._first_run if call.took_a_token]
        if taken:
            counted = enumerate(taken, start=1)
            self._burst = max(1.0, *(number - (taken[0] - moment) * self._rate for number, moment in counted))
        self._first_run = []

    def _lengthen_cycle(self) -> None:
        self._peak = max(self._rate, PEAK_DECAY * self._peak)
        if self._rate < self._peak / 3.0:  # another may be using the key as well, and stop at any moment
            self._cycle = max(CALLS_PER_STEP, SHORTEST_CYCLE_SECONDS * self._rate)
            return
        soon = self._usual_refusals * max(SHORTEST_CYCLE, SHORTEST_CYCLE_SECONDS * self._rate)
        longest = min(max(soon, self._usual_refusals / PROBE_SHARE), self._cushion / SMALLEST_EXCESS)
        growth = CYCLE_GROWTH if self._cycle < soon else SLOW_CYCLE_GROWTH
        self._cycle = max(SHORTEST_CYCLE, min(self._cycle * growth, longest))

    def _refill(self, grant: Grant, now: float) -> None:
        """Start the copy of the bucket anew, from the moment at which the gateway's was empty."""
        since = (now - self._history.arrival(grant)) * self._rate
        self._level, self._filled_at = since - self._history.accepted_after(grant) - self._cushion, now
        self._excess = self._cushion / self._cycle
        self._refused_at = self._stepped_at = self._granted
        self._last_refusal = now

    def _note_idling(self, now: float) -> None:
        """Remember for how long nobody asked: what the bucket gained beyond its depth was lost."""
        unused = self._level + (now - self._filled_at) * self.pace - self._depth
        if unused > IDLE * self.pace:
            self._history.pause(now - unused / self.pace, now)

    # Growing.

    def _grow(self, now: float) -> None:
        if self._phase is Phase.TRACK and self._granted - self._refused_at > PATIENCE * self._cycle:
            self._surge(now)

    def _surge(self, now: float) -> None:
        """Fill the copy faster: the refusal that was due has not come."""
        is_sure = self._excess >= SURE_EXCESS
        if self._granted - self._stepped_at < self._calls_per_step(is_sure=is_sure):
            return
        self._lasting = max(self._lasting, self._rate if self._excess < FIRST_EXCESS else 0.0)
        self._level, self._filled_at = self.level(now), now
        self._excess = min(max(self._excess * 2.0, FIRST_EXCESS), LARGEST_EXCESS)
        if self._excess >= SURE_EXCESS:
            # What was counted until now says nothing: the bucket has been running over, nobody knows since when.
            self._history.pause(self._last_refusal, now)
            self._last_refusal = now
            self._change_rate(now, 1.0 + self._excess)
            self._free_at_ceiling()
        self._step()

    def _calls_per_step(self, *, is_sure: bool) -> float:
        """Return the calls it takes to be refused if the rate is near: a full bucket has to be emptied first."""
        burst = min(self._burst, LARGEST_BURST)
        if is_sure:
            return max(min(CALLS_PER_STEP, self._cycle / STEPS_PER_CYCLE), burst / (8.0 * self._excess))
        return min(self._cycle / STEPS_PER_CYCLE, burst / (4.0 * max(self._excess, SMALLEST_EXCESS)))

    def _step(self) -> None:
        self._stepped_at, self._is_binding = self._granted, False

    def _change_rate(self, now: float, factor: float) -> None:
        self._level, self._filled_at = self.level(now), now
        self._rate = min(self._ceiling, self._rate * factor)

    def _free_at_ceiling(self) -> None:
        """Leave the pacing to the given limit again once the key seems to allow it."""
        if self._rate >= self._ceiling < HIGHEST_RATE:
            self._phase = Phase.FREE

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
from .sharing import Sharing
from .stepping import NARROW_BURST, Steps
from .stops import Moment, Stop

WINDOW = 10
"""Calls that may be unanswered at the start, and from then on as many as were answered: they double with every round
trip but the first, much as those of a new TCP connection do. A service that does not answer collects no herd, and of a
key that allows little a few calls are refused, not hundreds."""

LOWEST_RATE = 0.5
"""Calls per second, however little the key seems to allow: so long it takes at most to notice that it allows more."""

HIGHEST_RATE = 1e5
"""Calls per second beyond which nothing is paced any more."""

CUSHION = 2.0
"""Tokens the copy starts below the gateway's bucket: one for the 429 that was not quite empty, one for rounding, and
what arrives early on a way of uneven length comes on top."""

FIRST_CYCLE = 50.0
SHORTEST_CYCLE = 100.0
SHORTEST_CYCLE_SECONDS = 4.0
SHORTEST_CYCLE_TRIPS = 4.0
FIRST_CYCLE_TRIPS = 3.0
CYCLE_GROWTH = 1.1
PROBE_SHARE = 0.004
"""Calls from one 429 to the next: few while little is known; then the longest of the shortest three for each call that
is usually refused, so that a change is noticed soon, but not before what happened is heard; and on a steady key slowly
more, until the refused ones are no more than this share of all."""

STOP_SHARE = 0.05
"""The share of its time that a key may stand still where every 429 tells all calls to wait."""

EASE = 0.97
"""How much slower than measured such a key is asked: counting the calls since a stop errs by as much."""

PATIENCE = 1.25
"""Cycles without any 429 after which the limit may have risen: the cushion should have been used up after one."""

FIRST_EXCESS = 0.08
LARGEST_EXCESS = 0.3
SUREST_EXCESS = 1.0
"""Shares by which the copy then fills faster, doubling: a few times the error of a measurement; until it is sure that
the limit has risen; and from then on."""

FIRST_GUESS_EXCESS = 0.25
FIRST_STEPS = 2
"""The share by which the copy fills faster than the first guess of the rate, which may be far too low: at least, and up
to twice that where hardly a call is on its way behind one that is refused. It doubles after so many raises."""

STEPS_PER_CYCLE = 8
STEPS_PER_BURST = 4
"""Parts of a cycle, or of a full bucket if that is less, that are used up by each such step."""

OVERFLOW = 0.75
"""The part of a full bucket that was used up if it had run over before."""

TOLERANCE = 0.04
"""How far below a given limit a measurement may be and not contradict it."""

SELDOM = 200
"""Calls between two that come early, at least, if nobody else uses a key whose limit is given."""

SMALLEST_EXCESS = 0.008
"""The least by which the copy fills faster: with less, the error of a measurement would keep the two from meeting."""

IDLE = 0.02
"""Seconds by which a call may go out late without the bucket having run over."""


class Phase(Enum):
    """What the pacer is doing.

    ``FREE``: not limited by it. ``RAMP``: growing, no 429 yet. ``TRACK``: running a little above what is measured.
    """

    FREE = "free"
    RAMP = "ramp"
    TRACK = "track"


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
        self._steps = Steps()
        self._is_lower = False  # the key has turned out to allow less than the limit that was given
        is_given = math.isfinite(ceiling)
        self._sharing = Sharing(ceiling if is_given else rate or 0.0, is_given=is_given)
        self._granted = self._answered = 0
        self._stepped_at = 0  # grants given when the rate last grew
        self._is_binding = False  # someone had to wait for the pacer since then
        self._cycle = FIRST_CYCLE if rate is None else SHORTEST_CYCLE
        self._refused_at = 0  # grants given at the newest 429
        self._last_refusal = 0.0
        self._last_refused: Grant | None = None  # the call that left last of all that were refused
        self._episode_end = 0  # calls granted before this belong to the same run of refusals
        self._lowest = 0.0  # how far the rate may fall within it
        self._episode_refusals = 0
        self._episode_is_probe = False
        self._got = 0.0  # calls per second that were accepted between the two newest 429s
        self._usual_refusals = 1.0
        self._early = -math.inf  # the newest call that was refused although the given limit was kept
        self._is_first_episode = False  # the only refusals so far are those that ended the ramp
        self._stops: Stop | None = None  # the newest 429 told all calls to wait
        self._saved = 0.0  # tokens that came in since the last refused call arrived until that was known
        self._surge_began = Moment(0.0, 0)
        self._surplus = 0.0  # calls beyond what the rate allows since it was last sure
        self._raises = 0  # how often it was sure since the last 429 that the rate is higher

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
            return 0.0 if self.in_flight < max(WINDOW, self._answered) else math.inf
        missing = 1.0 - self.level(now)
        if missing <= 1e-9:
            return 0.0
        self._is_binding = True
        if missing > 1.0:  # calls were refused, and others may be: what comes back in the next round trip tells
            return min(missing / self.pace, self._history.trip)
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
        self._sharing.forget()

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted."""
        grant.fate = Fate.ACCEPTED
        self._answered += 1
        if self._phase is Phase.TRACK and self._is_narrow:
            self._change_rate(now, self._steps.up())
            self._free_at_ceiling()
            return
        if self._phase is Phase.TRACK and not self._stops and self._sharing.is_likely(self._rate):
            self._climb(now)
        if grant.number > self._stepped_at and self._is_binding:  # one round trip since the last growth
            self._grow(now)

    def forget(self, grant: Grant) -> None:
        """Learn that a call took no token, or that it is not known."""
        grant.fate = Fate.VOID
        self._answered += 1
        self._sharing.forget()

    def throttle(self, grant: Grant, now: float, stop: float = 0.0) -> None:
        """Learn that the gateway's bucket was empty when a call arrived, and that all then stop for so many seconds."""
        grant.fate = Fate.REFUSED
        self._answered += 1
        self._history.heard(now - grant.left)
        is_new = grant.number > self._episode_end
        if is_new:
            self._begin_episode(grant)
        if self._first_run:
            self._burst = max(1.0, float(sum(call.took_a_token for call in self._first_run)))
        if self._last_refused is None or grant.left >= self._last_refused.left:
            self._last_refused = grant
        self._episode_refusals += 1
        if self._is_first_episode:
            self._rate = self._first_guess(grant, now)
        interval = self._measure(grant, now, is_new=is_new)
        if self._phase is Phase.FREE and not self._is_lower and interval.high >= self._ceiling * (1.0 - TOLERANCE):
            if self._is_narrow or not (is_new and self._is_often(grant)):
                return  # a call that was early, and no lower limit
            self._sharing.suspect()
        self._is_lower = True
        self._adopt(interval, grant.pace, is_new=is_new, gives_way=not stop)
        if stop:
            self._avoid_stops(grant, now, stop, is_new=is_new)
        self._refill(self._last_refused, now)

    def _first_guess(self, grant: Grant, now: float) -> float:
        if self._is_narrow:  # from above: each refusal lowers it
            return self._history.sending_rate(grant, now) / 2.0
        return self._history.first_guess(now - grant.left)

    def _is_often(self, grant: Grant) -> bool:
        """Tell whether calls are refused more often than by coming early, and others must use the key."""
        before, self._early = self._early, grant.number
        return grant.number - before < SELDOM

    def _measure(self, grant: Grant, now: float, *, is_new: bool) -> Interval:
        interval = measure(self._history, grant, self._burst / self._rate if self._is_narrow else math.inf)
        if is_new and self._has_overflown(interval, grant):
            self._history.pause(self._last_refusal, now)
            interval = measure(self._history, grant)
        return interval

    def _has_overflown(self, interval: Interval, grant: Grant) -> bool:
        """Tell whether the bucket had run over when the surge began that has just ended, if this is the key's rate."""
        if not interval.is_narrow or self._is_first_episode or self._excess < FIRST_EXCESS:
            return False
        began = self._surge_began
        used = grant.number - began.granted - interval.middle * (grant.left - began.at)
        return used > OVERFLOW * self._hidden

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

    def _begin_episode(self, grant: Grant) -> None:
        """Begin a run of refusals; those of calls that left before the first was heard belong to it."""
        if self._episode_refusals and self._episode_is_probe:
            self._usual_refusals += 0.5 * (self._episode_refusals - self._usual_refusals)
        self._episode_refusals = 0
        self._is_first_episode = self._phase is Phase.RAMP
        self._got = 0.0 if self._last_refused is None else self._history.accepted_rate(self._last_refused, grant)
        if self._is_first_episode:
            self._first_run = self._history.until(grant)
        elif self._first_run or self._raises:
            self._sharing.forget()
        elif self._last_refused is not None:
            self._sharing.compare(self._got, self._history.error(self._got, self._last_refused, grant), self._rate)
        self._episode_is_probe = not self._first_run and self._phase is Phase.TRACK and not self._raises
        self._episode_end = self._granted
        # What is known does not fall by more than half at once; as long as nothing is, it may.
        self._lowest = 0.0 if self._first_run else self._rate / 2.0

    def _adopt(self, interval: Interval, pace: float, *, is_new: bool, gives_way: bool) -> None:
        """Set the rate by what a refusal says."""
        if self._is_narrow and self._phase is Phase.TRACK and is_new:
            self._rate *= self._steps.down()
        before, known = self._rate, interval.is_narrow and not self._is_narrow
        rate = interval.middle if known else min(interval.clamp(self._rate), max(self._rate, pace))
        self._rate = min(self._ceiling, max(rate, self._lowest, LOWEST_RATE))
        if known:
            self._settle_burst()
        if is_new:
            # What is not measured may be far too high: only what was accepted counts then.
            is_guess = bool(self._raises or self._first_run) and not self._is_first_episode
            self._sharing.remember(min(self._rate, self._got) if is_guess else self._rate)
            self._lengthen_cycle()
            if gives_way and not self._is_narrow and self._sharing.is_likely(self._rate):
                self._rate = max(LOWEST_RATE, self._sharing.give_way(min(self._rate, before)))
        self._phase = Phase.TRACK

    def _avoid_stops(self, grant: Grant, now: float, stop: float, *, is_new: bool) -> None:
        """Run below the measured rate where every 429 stops all calls, and come near the limit rarely."""
        if is_new and self._stops is not None:
            if not self._raises:
                known = self._rate if self._excess >= FIRST_EXCESS else 0.0
                self._rate = min(self._ceiling, max(known, self._stops.rate(grant, self._burst)))
            self._rate = max(LOWEST_RATE, EASE * self._rate)
            self._cycle = max(self._cycle, stop * self._rate / STOP_SHARE)
        self._stops = Stop(Moment(now + stop, self._granted), stop)

    def _settle_burst(self) -> None:
        """The key began with a full bucket: what it took before the first 429 beyond what came in was its burst."""
        taken = [call.left for call in self._first_run if call.took_a_token]
        if taken:
            counted = enumerate(taken, start=1)
            self._burst = max(1.0, *(number - (taken[0] - moment) * self._rate for number, moment in counted))
        self._first_run = []

    def _lengthen_cycle(self) -> None:
        trip = self._history.trip * self._rate
        if self._sharing.is_likely(self._rate):
            self._cycle = self._sharing.cycle(self._rate)
        elif self._first_run or self._raises:
            self._cycle = max(FIRST_CYCLE, FIRST_CYCLE_TRIPS * trip)
        else:
            soon = max(SHORTEST_CYCLE, SHORTEST_CYCLE_SECONDS * self._rate, SHORTEST_CYCLE_TRIPS * trip)
            soon *= self._usual_refusals
            longest = min(max(soon, self._usual_refusals / PROBE_SHARE), self._cushion / SMALLEST_EXCESS)
            self._cycle = max(SHORTEST_CYCLE, soon, min(self._cycle * CYCLE_GROWTH, longest))

    def _refill(self, refused: Grant, now: float) -> None:
        """Start the copy of the bucket anew, from the moment at which the gateway's was empty."""
        self._saved = (now - self._history.arrival(refused)) * self._rate
        self._level, self._filled_at = self._saved - self._history.accepted_after(refused) - self._cushion, now
        self._excess = self._first_excess if self._is_first_episode else self._cushion / self._cycle
        self._surplus, self._raises = 0.0, 0
        self._refused_at = self._stepped_at = self._granted
        self._last_refusal = now

    def _note_idling(self, now: float) -> None:
        """Remember for how long nobody asked: what the bucket gained beyond its depth was lost."""
        unused = self._level + (now - self._filled_at) * self.pace - self._depth
        if unused > IDLE * self.pace:
            self._history.pause(now - unused / self.pace, now)

    # Growing.

    def _climb(self, now: float) -> None:
        """Take a little more all the time while others use the key too."""
        rate = self._sharing.climb(self._rate, now)
        if self._is_binding:
            self._change_rate(now, rate / self._rate)
            self._free_at_ceiling()

    def _grow(self, now: float) -> None:
        is_due = self._is_first_episode or self._granted - self._refused_at > PATIENCE * self._cycle
        if self._phase is Phase.TRACK and is_due:
            self._surge(now)

    def _surge(self, now: float) -> None:
        """Fill the copy faster: the refusal that was due has not come.

        A limit that is a little higher leaves a full bucket, which has to be emptied first: only when more was sent
        than that can hold, beyond the rate, is it sure that the limit is higher.
        """
        sent, hidden = self._granted - self._stepped_at, self._hidden
        part = hidden / (STEPS_PER_BURST * max(self._excess, FIRST_EXCESS))
        if sent < max(min(part, self._cycle / STEPS_PER_CYCLE), self._history.trip * self._rate):
            return
        if self._excess < FIRST_EXCESS:
            self._surge_began = Moment(now, self._granted)
        self._surplus += sent * self._excess / (1.0 + self._excess)
        self._change_rate(now, 1.0)
        if self._surplus > hidden:
            self._raise(now)
        elif not self._is_first_episode and not self._raises:
            most = FIRST_EXCESS if self._stops else min(SUREST_EXCESS, max(LARGEST_EXCESS, 0.5 / self._behind))
            self._excess = min(max(self._excess * 2.0, FIRST_EXCESS), most)
        self._step()

    def _raise(self, now: float) -> None:
        """Take the pace that has proved to be allowed for the rate, and go on from there."""
        self._surplus, self._raises = 0.0, self._raises + 1
        self._change_rate(now, 1.0 + self._excess)
        self._free_at_ceiling()
        if self._is_first_episode and self._last_refused is not None:
            self._saved = (now - self._history.arrival(self._last_refused)) * self._rate
            self._saved -= self._history.accepted_after(self._last_refused)
            if self._saved > self._burst:  # at this rate the bucket has run over
                self._history.pause(self._last_refusal, now)
            if self._raises > FIRST_STEPS:
                self._excess = min(self._excess * 2.0, SUREST_EXCESS)
        else:
            self._history.forget()  # the limit was another then
            self._excess = min(self._excess * 2.0, LARGEST_EXCESS if self._stops else SUREST_EXCESS)

    @property
    def _first_excess(self) -> float:
        """How much faster than the first guess to go."""
        if self._stops:
            return SUREST_EXCESS
        return min(2.0 * FIRST_GUESS_EXCESS, max(FIRST_GUESS_EXCESS, 1.0 / self._behind))

    @property
    def _behind(self) -> float:
        """Calls that are on their way behind one that is refused until that is heard."""
        return max(self._rate * self._history.trip, 1e-3)

    @property
    def _hidden(self) -> float:
        """The tokens there may be in the gateway's bucket: so many calls more than come in go unnoticed.

        A burst that lasts for longer than the shortest cycle is rather a rate that is too low.
        """
        most = min(self._burst, SHORTEST_CYCLE_SECONDS * self._rate)
        return 1.0 + (min(most, self._saved) if self._is_first_episode and not self._stops else most)

    def _step(self) -> None:
        self._stepped_at, self._is_binding = self._granted, False

    def _change_rate(self, now: float, factor: float) -> None:
        self._level, self._filled_at = self.level(now), now
        self._rate = min(self._ceiling, self._rate * factor)

    def _free_at_ceiling(self) -> None:
        """Leave the pacing to the given limit again once the key seems to allow it."""
        if self._rate >= self._ceiling < HIGHEST_RATE:
            self._phase = Phase.FREE

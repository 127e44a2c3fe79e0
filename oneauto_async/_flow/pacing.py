"""Pacing to a limit nobody has told: start small, grow until the first 429, then run a little above what is measured.

The pacer keeps its own copy of the gateway's bucket. Every 429 empties it, and says what the rate can be; the copy then
starts a *cushion* below the gateway's, and fills a little faster, so that after a *cycle* of calls the two meet, one
call is refused, and the measurement is fresh. If none is refused then, a *surge* looks how much more the key allows.
Pure: time is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import attrs

from ..settings import LOWEST_RATE as LOWEST_GIVEN
from . import given, surge
from .bucket import ROUNDING
from .burst import Burst
from .calls import NOISE, REMEMBERED, Fate, Grant, History, Moment
from .cycle import FEWEST_AGAIN, SHORTEST, UNNOTICED, Cycle
from .measuring import Interval, measure, sustained
from .ramp import Ramp
from .share import Share
from .sharing import Sharing
from .stepping import NARROW_BURST, Steps
from .stops import UNKNOWN, Stops
from .surge import Surge

DROPPED = 0.8
"""Lower than this share of the rate before: others may have gone faster for a moment, and left room since."""

TOO_LOW = 0.7
"""Lower than this share of the first guess, which is low itself: others have come, or came at the same time."""

LOWEST_RATE = 0.5
"""Calls per second, however little the key seems to allow, or an eighth of a given rate that is low itself: so long it
takes at most to notice that it allows more."""

HIGHEST_RATE = 1e5
"""Calls per second beyond which nothing is paced any more."""

CUSHION = 2.0
"""Tokens the copy starts below the gateway's bucket: one for the 429 that was not quite empty, one for rounding, and
what arrives early on a way of uneven length comes on top."""

NO_ROOM = 1.5
"""Calls that may go out at once while it is not known that more may: one, and what a timer was late."""

PATIENCE = 1.1
"""Cycles without any 429 after which the limit may have risen: the cushion should have been used up after one."""

LATE = 3.0
"""Usual round trips after which a refusal is late: how fast calls left meanwhile says nothing of the key."""

UNSEEN = 2.0
"""How many times as large as it seems the bucket of a key may be that others use too: whoever came to it together with
one other saw half of its burst."""

LONGEST_BURST = 4.0
"""Seconds: a burst that lasts for longer is rather a rate that is too low."""

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
        # What an earlier run has met at worst is in its guess already.
        guess = rate if math.isinf(ceiling) else None
        self._lowest = min(LOWEST_RATE, max(ceiling / 8.0, LOWEST_GIVEN) if guess is None else guess)
        self._phase = Phase.FREE if math.isfinite(ceiling) else Phase.RAMP if rate is None else Phase.TRACK
        self._rate = min(self._ceiling, HIGHEST_RATE if rate is None else max(self._lowest, rate))
        self._burst = Burst(burst)
        self._is_lower = False  # the key has turned out to allow less than the limit that was given
        self._level = 0.0 if rate is None else max(1.0, burst / 2.0)
        self._filled_at = 0.0

        self._history = History()
        self._granted = self._leaving = self._answered = self._returned = 0
        self._ramp = Ramp()
        self._cycle = Cycle() if rate is None else Cycle(min(SHORTEST, max(FEWEST_AGAIN, UNNOTICED * self._rate)))
        self._surge = Surge()
        self._steps = Steps()
        self._stops = Stops()
        self._sharing = Sharing(ceiling if math.isfinite(ceiling) else rate or 0.0)
        self._share = Share(self._ceiling)

        self._saved = 0.0  # tokens that came in since the last refused call left until that was known
        self._episode = _Episode()
        self._last_refused: Grant | None = None  # the call that left last of all that were refused
        self._refused_at = Moment(0.0, 0)  # when the newest 429 was heard

    def __repr__(self) -> str:
        return f"<Pacer {self._phase.value}, {self.pace:.3g}/s>"

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        return self._phase

    @property
    def pace(self) -> float:
        """Calls per second that are let out."""
        return self._rate * (1.0 + self._surge.excess)

    @property
    def rate(self) -> float | None:
        """Calls per second the key allows, as measured; ``None`` before it has refused any."""
        return self._rate if self._phase is Phase.TRACK else None

    @property
    def burst(self) -> int | None:
        """Calls the key allows at once, at most, as far as the first 429 told; ``None`` if it did not."""
        return int(self._burst.calls) if self._burst.is_known else None

    @property
    def in_flight(self) -> int:
        """Calls that were let out and have not ended."""
        return self._granted - self._answered

    @property
    def _heard(self) -> int:
        """Calls that were sent and have ended."""
        return self._answered - self._returned

    def level(self, now: float) -> float:
        """Return the calls that may go out now."""
        return min(self._depth, self._level + (now - self._filled_at) * self.pace)

    def delay(self, now: float) -> float:
        """Return the seconds until the next call may go out; infinity if an answer must come first."""
        if self._phase is Phase.FREE:
            return 0.0
        if self._phase is Phase.RAMP:
            return self._ramp.delay(now, self.in_flight, self._heard)
        missing = 1.0 - self.level(now)
        if missing <= ROUNDING:
            return 0.0
        self._surge.is_binding = True
        if missing > 1.0:  # calls were refused, and others may be: what comes back in the next round trip tells
            return min(missing / self.pace, self._history.trip)
        return missing / self.pace

    def take(self, grant: Grant) -> None:
        """Let a call out."""
        now, grant.pace = grant.at, self.pace
        if self._phase is Phase.RAMP:
            self._ramp.take(now, self._heard)
        if self._phase is Phase.TRACK:
            self._note_rest(now)
        self._granted, self._leaving = self._granted + 1, self._leaving + 1
        self._level, self._filled_at = self.level(now) - 1.0, now

    def leave(self, grant: Grant) -> None:
        """Learn that a call that was let out has left: it may have had to wait for its connection."""
        if not grant.has_left:
            grant.has_left, self._leaving = True, self._leaving - 1
            self._history.add(grant)

    def put_back(self, grant: Grant) -> None:
        """Learn that a call that was let out will never be sent: nothing remembers it."""
        self._leaving -= not grant.has_left
        grant.has_left, grant.fate = True, Fate.VOID
        self._answered, self._returned = self._answered + 1, self._returned + 1
        self._level = min(self._depth, self._level + 1.0)

    def pause(self, now: float, seconds: float) -> None:
        """Learn that no call goes out for so long, whatever the key allows."""
        self._history.pause(now, now + seconds)
        self._sharing.forget()

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted."""
        self.leave(grant)
        grant.fate = Fate.ACCEPTED
        self._answered += 1
        if self._phase is Phase.RAMP:
            self._ramp.hear(now - grant.left)
        if self._phase is not Phase.TRACK:
            return
        if self._is_narrow:
            self._step_up(now)
        elif self._episode.is_first and grant.number <= self._episode.end:
            self._change_rate(now, max(1.0, self._history.least() / self._rate))
        elif self._is_one_of_several:
            self._climb(grant, now)
        elif self._surge.is_binding and self._surge.hears_of(grant.number) and self._is_overdue:
            self._go_faster(now)

    def forget(self, grant: Grant) -> None:
        """Learn that a call took no token, or that it is not known."""
        if grant.fate is Fate.VOID:
            return  # it was put back
        self.leave(grant)
        grant.fate = Fate.VOID
        self._answered += 1
        self._sharing.forget()

    def throttle(self, grant: Grant, now: float, stop: float = 0.0) -> None:
        """Learn that the gateway's bucket was empty when a call arrived, and that all then stop for so many seconds."""
        self.leave(grant)
        grant.fate = Fate.REFUSED
        self._answered += 1
        self._history.heard(now - grant.left)
        was_one_of_several = self._is_one_of_several
        is_new = self._enter_episode(grant, now)
        interval = measure(self._history, grant, self._burst.calls / self._rate if self._is_narrow else math.inf)
        if self._contradicts_nothing(interval, stop):
            return
        was_free = self._leave_given(stop)
        before = self._rate
        if is_new and was_one_of_several and not stop and self._share.is_all(interval.refusals, interval.accepted):
            self._sharing.dismiss()  # the key is its own after all, and only allows less than was told
            was_one_of_several = False
        if was_one_of_several and not stop:
            self._give_way(grant, is_new=is_new)
        elif self._is_narrow and self._phase is not Phase.RAMP:
            self._step_down(grant, interval, is_new=is_new or was_free)
        elif is_new or self._episode.is_first or not self._stops:
            self._adopt(grant, interval, is_new=is_new)
        if stop:
            self._learn_from_stop(grant, now, stop, before, is_new=is_new)
        self._refill(self._last_refused or grant, now)

    # What is known of the key.

    @property
    def _is_narrow(self) -> bool:
        return self._burst.is_narrow

    @property
    def _first_run(self) -> Sequence[Grant]:
        return self._burst.first_run

    @property
    def _is_told(self) -> bool:
        """Whether a limit was given."""
        return self._ceiling < HIGHEST_RATE

    @property
    def _is_one_of_several(self) -> bool:
        """Whether others seem to use a key of which it was told what it allows in all."""
        is_measured = self._phase is Phase.TRACK and not (self._first_run or self._stops or self._is_narrow)
        return self._is_told and self._sharing.is_likely and is_measured

    @property
    def _is_far(self) -> bool:
        """Whether the key allowed far more a moment ago."""
        return self._rate < surge.LARGEST * self._sharing.peak

    @property
    def _depth(self) -> float:
        """The most calls that may go out at once: after a rest, what is known to be allowed."""
        if self._is_narrow:
            return 1.0
        if self._first_run or self._stops or not self._burst.is_known:
            return NO_ROOM
        return max(NO_ROOM, self._burst.calls - self._cushion)

    @property
    def _cushion(self) -> float:
        if self._is_narrow:
            return 0.0
        return min(CUSHION + max(NOISE, self._history.noise) * self._rate, (self._burst.calls - 1.0) / 2.0)

    @property
    def _behind(self) -> float:
        """Calls that are on their way behind one that is refused until that is heard."""
        return max(self._rate * self._history.trip, 1e-3)

    @property
    def _hidden(self) -> float:
        """The tokens there may be in the gateway's bucket: so many calls more than come in go unnoticed."""
        burst = UNSEEN * self._burst.calls if self._sharing.is_likely else self._burst.calls
        most = min(burst, LONGEST_BURST * self._rate)
        return 1.0 + (min(most, self._saved) if self._episode.is_first and not self._stops else most)

    # Refusals.

    def _enter_episode(self, grant: Grant, now: float) -> bool:
        """Count a refusal, and tell whether it is the first of a run."""
        is_new = grant.number > self._episode.end
        if is_new:
            self._begin_episode(grant)
            if not (self._first_run or self._is_one_of_several):
                self._burst.shrink(self._history, grant, self._rate)
        self._episode.refusals += 1
        if self._last_refused is None or grant.left >= self._last_refused.left:
            self._last_refused = grant
        if self._episode.is_first:
            self._guess(grant, now, is_new=is_new)
        return is_new

    def _leave_given(self, stop: float) -> bool:
        """Pace by what the key allows from now on; tell whether the limit that was given has held until now."""
        if self._is_told and not (self._is_lower or self._is_narrow or stop):
            self._rate = self._episode.lowest  # to begin with, as if there were two who share it: fair, if there are
        was_free, self._is_lower = self._phase is Phase.FREE, True
        if was_free:
            self._episode.end = self._granted  # all of them left at a pace that is no more
        return was_free

    def _begin_episode(self, grant: Grant) -> None:
        """Begin a run of refusals; those of calls that left before the first was heard belong to it."""
        if self._episode.is_probe and self._episode.refusals:
            self._cycle.ended(self._episode.refusals)
        is_first = self._phase is Phase.RAMP
        if is_first:
            self._burst.first_run = self._history.until(grant)
        elif self._first_run or self._surge.raises:
            self._sharing.forget()
        elif self._last_refused is not None and not self._is_one_of_several:
            got = self._history.accepted_rate(self._last_refused, grant)
            self._sharing.compare(got, self._history.error(got, self._last_refused, grant))
        self._episode = _Episode(
            end=self._granted,
            is_first=is_first,
            is_probe=not self._first_run and self._phase is Phase.TRACK and not self._surge.raises,
            # What is known does not fall by more than half at once; as long as nothing is, it may.
            lowest=0.0 if self._first_run else self._rate / 2.0,
        )

    def _guess(self, grant: Grant, now: float, *, is_new: bool) -> None:
        """The first refusals tell how many calls there were in the bucket, at most, and hardly what the rate is."""
        self._burst.guess(self._heard if self._granted > REMEMBERED else 0)
        if self._is_narrow:  # from above: each refusal lowers it, but for one that is heard late
            rate = max(self._lowest, self._history.sending_rate(grant, now) / 2.0)
            if is_new or (rate < self._rate and now - grant.left < LATE * self._history.trip):
                self._rate = rate
        else:
            self._rate = self._history.first_guess(now - grant.left)

    def _contradicts_nothing(self, interval: Interval, stop: float) -> bool:
        """Tell whether a call was only early, and the limit that was given still holds."""
        if self._phase is not Phase.FREE or self._is_lower or given.is_contradicted(self._ceiling, interval):
            return False
        if self._is_narrow:
            return not given.is_starved(self._history, self._ceiling, stop)
        if given.was_by_chance(self._history):
            return True
        self._sharing.suspect()  # there was a cushion: somebody else has taken those tokens
        return False

    def _climb(self, grant: Grant, now: float) -> None:
        """Take a little more of a key that others use too."""
        if grant.number > self._episode.end:
            self._change_rate(now, self._share.up(self._rate, self._behind))
            self._free_at_ceiling()

    def _give_way(self, grant: Grant, *, is_new: bool) -> None:
        """Leave a little more of it to the others."""
        if is_new:
            self._rate = max(self._lowest, self._share.down(min(self._rate, max(grant.pace, self._rate / 2.0))))
            self._sharing.remember(self._rate)

    def _step_up(self, now: float) -> None:
        self._change_rate(now, self._steps.up(self._cycle.length, self._behind, self._burst.calls, is_far=self._is_far))
        self._free_at_ceiling()

    def _step_down(self, grant: Grant, interval: Interval, *, is_new: bool) -> None:
        if not is_new:
            return
        self._phase = Phase.TRACK
        self._burst.settle()
        rate = self._steps.down(min(grant.pace, 2.0 * self._rate))
        self._rate = max(self._lowest, min(self._ceiling, rate, interval.high))
        self._cycle.lengthen(self._rate, self._history.trip * self._rate, grant.left, self._sharing)
        self._sharing.remember(self._rate if self._steps.is_known else 0.0)

    def _adopt(self, grant: Grant, interval: Interval, *, is_new: bool) -> None:
        """Set the rate by what a refusal says."""
        has_risen = False
        if is_new and self._surge.is_on and not (self._stops or self._is_narrow or self._episode.is_first):
            interval, has_risen = self._after_surge(grant, interval)
        is_known = interval.is_narrow and not (self._is_narrow or self._episode.is_first)
        before = self._rate
        rate = interval.middle if is_known else min(interval.clamp(self._rate), max(self._rate, grant.pace))
        self._rate = min(self._ceiling, max(rate, self._episode.lowest, self._lowest))
        if is_known and not self._stops:
            self._burst.bound(self._rate, least=1.0)
            self._burst.settle()
        if is_new:
            if is_known:
                self._sharing.remember(self._rate)
            self._begin_cycle(before, is_anew=bool(self._first_run) or has_risen)
        self._phase = Phase.TRACK

    def _after_surge(self, grant: Grant, interval: Interval) -> tuple[Interval, bool]:
        """Return what the rate can be if the bucket may have run over before the surge; and whether it must have."""
        found = sustained(self._history, grant, self._refused_at.at, self._burst.calls).interval
        has_risen = found.low > interval.high
        if has_risen:
            self._history.forget(self._surge.began.at)
        return Interval(max(found.low, interval.low), max(found.high, interval.high)), has_risen

    def _begin_cycle(self, before: float, *, is_anew: bool) -> None:
        behind = self._history.trip * self._rate
        if is_anew and not self._is_narrow:
            self._cycle.begin_anew(self._rate, behind, is_shared=self._sharing.is_likely)
        elif self._last_refused is not None:
            self._cycle.lengthen(self._rate, behind, self._last_refused.left, self._sharing)
        if self._first_run and self._rate < TOO_LOW * before and not self._episode.is_first:
            self._sharing.suspect()
        if self._rate < DROPPED * before and not (self._first_run or self._stops):
            self._cycle.shorten(self._rate, behind)
            self._sharing.suspect()

    def _learn_from_stop(self, grant: Grant, now: float, stop: float, before: float, *, is_new: bool) -> None:
        """Run below the measured rate where every 429 stops all calls, and come near the limit rarely."""
        if is_new and self._stops and not self._is_narrow:
            self._stops.start(self._first_run, self._burst.calls)
            found = self._stops.measure(self._history, grant, before)
            if found is not None:
                self._burst.settle(found.burst)
                self._rate = min(self._ceiling, max(self._lowest, self._stops.caution(found)))
                self._cycle.spread_stops(self._rate, stop, found.error)
        self._stops.begin(now, stop)

    def _refill(self, refused: Grant, now: float) -> None:
        """Start the copy of the bucket anew: what leaves now arrives as long after the refused call as it left."""
        if self._is_narrow:
            level, excess = min(0.0, self.level(now)), 0.0
        elif self._is_one_of_several:
            level, excess = max(-1.0, min(0.0, self.level(now))), 0.0  # what came in since, others take as well
            self._share.begin(self._rate)
        else:
            self._saved = (now - refused.left) * self._rate
            level, excess = self._saved - self._taken_since(refused) - self._cushion, self._next_excess
        self._level, self._filled_at = level, now
        self._refused_at = Moment(now, self._granted)
        self._surge.end(self._refused_at, excess)

    def _taken_since(self, refused: Grant) -> int:
        """Return the calls that took, or will take, a token after a refused one; some may have to leave yet."""
        return self._history.accepted_after(refused) + self._leaving

    @property
    def _next_excess(self) -> float:
        """By how much the copy is to fill faster until the next 429."""
        if self._stops and self._stops.error < UNKNOWN:
            return 0.0 if self._stops.is_known else self._stops.error
        if not self._episode.is_first:
            return self._cushion / self._cycle.length
        if self._stops:
            return surge.SUREST
        return min(2.0 * surge.FIRST_GUESS, max(surge.FIRST_GUESS, 1.0 / self._behind))

    # Rests.

    def _note_rest(self, now: float) -> None:
        """Remember when the bucket was full, and for how long nobody asked: what it gained beyond that was lost."""
        unused = self._level + (now - self._filled_at) * self.pace - self._depth
        if unused > IDLE * self.pace:
            self._history.pause(now - unused / self.pace, now)
        if unused >= 0.0 and self._depth > NO_ROOM:
            self._burst.be_full(now)

    # Growing.

    @property
    def _is_overdue(self) -> bool:
        """Whether the 429 has not come that was due."""
        return self._episode.is_first or self._granted - self._refused_at.granted > PATIENCE * self._cycle.length

    def _go_faster(self, now: float) -> None:
        """Take a step of the surge, if the last one is done."""
        hidden = self._hidden
        if not self._surge.go_on(now, self._granted, self._step_length(hidden)):
            return
        self._change_rate(now, 1.0)
        if self._surge.is_sure(hidden):
            self._rise(now)
        elif not self._episode.is_first and not self._surge.raises:
            self._surge.grow(self._most_excess)

    def _step_length(self, hidden: float) -> float:
        """Return the calls of a step: a part of what is to be used up, but what came of the last one must be heard."""
        part = self._surge.part_of(hidden)
        if not self._stops:
            part = min(part, self._cycle.length / surge.PARTS_OF_CYCLE)
            part = part if self._episode.is_first else min(part, surge.FEWEST)
        return max(part, self._history.trip * self._rate)

    @property
    def _most_excess(self) -> float:
        if self._stops and self._is_far:
            return surge.SUREST
        if self._stops:
            return max(surge.FIRST_AT_STOPS, min(surge.LARGEST_AT_STOPS, 2.0 * self._stops.error))
        largest = max(surge.FEW, surge.LARGEST * self._sharing.highest(self._rate)) / self._rate
        return max(surge.FIRST, min(largest, surge.REFUSED / self._behind))

    def _rise(self, now: float) -> None:
        """Take the pace that has proved to be allowed for the rate, and go on from there."""
        self._change_rate(now, 1.0 + self._surge.excess)
        # One that was not narrow is not so because of a pace in doubt.
        self._burst.bound(self._rate, least=NARROW_BURST, most=self._burst.calls)
        self._free_at_ceiling()
        if not self._episode.is_first or self._last_refused is None:
            self._surge.rise(max(surge.LARGEST, self._most_excess) if self._stops else surge.SUREST)
            return
        self._saved = (now - self._last_refused.left) * self._rate - self._taken_since(self._last_refused)
        if self._saved > self._burst.calls:  # at this rate the bucket has run over
            self._history.pause(self._refused_at.at, now)
        self._surge.rise(surge.SUREST if self._surge.raises >= surge.GUESS_STEPS else None)

    def _change_rate(self, now: float, factor: float) -> None:
        self._level, self._filled_at = self.level(now), now
        self._rate = min(self._ceiling, self._rate * factor)

    def _free_at_ceiling(self) -> None:
        """Leave the pacing to the given limit again once the key seems to allow it."""
        if self._is_told and self._rate >= self._ceiling:
            self._phase = Phase.FREE


@attrs.define
class _Episode:
    """A run of refusals that say the same.

    Attributes:
        end: calls let out before this belong to it.
        refusals: how many there were.
        is_first: they ended the ramp, and nothing else was refused so far.
        is_probe: they came at the end of a cycle.
        lowest: calls per second the rate may fall to because of it.
    """

    end: int = 0
    refusals: int = 0
    is_first: bool = False
    is_probe: bool = False
    lowest: float = 0.0

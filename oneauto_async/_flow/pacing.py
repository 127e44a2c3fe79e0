"""Pacing to what a key turns out to allow: start small unless it was told, grow until the first 429, and stay near it.

How that is found depends on the key. Usually it is measured (`Tracking`); where hardly a burst leaves room for that, it
is met by steps (`Stepping`). Where the limit is told, but others use the key too, a fair share is taken (`Climbing`),
and where its burst is too small for how calls arrive, it is asked as fast as a small share of refused ones allows
(`Balancing`). The pacer lets calls out, keeps the books of what becomes of them, and chooses. Pure: time is passed in.
"""

from __future__ import annotations

import math

from . import given
from .balancing import Balancing
from .bucket import ROUNDING
from .calls import REMEMBERED, Fate, Grant
from .climbing import Climbing
from .key import NO_ROOM, Episode, Key, Phase
from .measuring import Interval, measure
from .ramp import Ramp
from .stepping import Stepping
from .tracking import Tracking
from .way import Refusal, Way

LATE = 3.0
"""Usual round trips after which a refusal is late: how fast calls left meanwhile says nothing of the key."""

IDLE = 0.02
"""Seconds by which a call may go out late without the bucket having run over."""


class Pacer:
    """Lets calls out at the rate the key allows, as far as it is known.

    Arguments:
        ceiling: calls per second never to be exceeded: a limit that was given. The pacer then is free until the key
            turns out to allow less.
        rate: a first guess from an earlier run, in calls per second.
        burst: the burst that was given, or is guessed.
    """

    def __init__(self, *, ceiling: float = math.inf, rate: float | None = None, burst: float = math.inf) -> None:
        self._key = Key(ceiling=ceiling, rate=rate, burst=burst)
        self._ramp = Ramp()
        self._tracking = Tracking(self._key)
        self._stepping = Stepping(self._key)
        self._balancing = Balancing(self._key)
        self._climbing = Climbing(self._key)
        self._is_lower = False  # the key has once allowed less than was given: from then on each refusal is believed

    def __repr__(self) -> str:
        pace = self._ramp.rate if self.phase is Phase.RAMP else self.pace
        return f"<Pacer {self.phase.value}, {pace:.3g}/s>"

    @property
    def phase(self) -> Phase:
        """What it is doing."""
        return self._key.phase

    @property
    def pace(self) -> float:
        """Calls per second that are let out; not during the ramp, which has a rate of its own."""
        return self._key.pace

    @property
    def rate(self) -> float | None:
        """Calls per second the key allows, as far as is known; ``None`` in the ramp, and while a given limit holds."""
        return self._key.rate if self.phase is Phase.TRACK else None

    @property
    def burst(self) -> int | None:
        """Calls the key allows at once, at most, as far as was given, guessed or seen; ``None`` if nothing is known."""
        return int(self._key.burst.calls) if self._key.burst.is_known else None

    @property
    def is_crowded(self) -> bool:
        """Whether calls arrive in crowds that the key's burst, which was told, does not take in."""
        return self._key.crowding.is_on

    @property
    def in_flight(self) -> int:
        """Calls that were let out and have not ended."""
        return self._key.in_flight

    def level(self, now: float) -> float:
        """Return the calls that may go out now."""
        return self._ramp.level(now) if self.phase is Phase.RAMP else self._key.level(now)

    # Calls that are let out.

    def delay(self, now: float) -> float:
        """Return the seconds until the next call may go out; infinity if an answer must come first."""
        if self.phase is Phase.FREE:
            return 0.0
        if self.phase is Phase.RAMP:
            return self._ramp.delay(now, self.in_flight, self._key.heard)
        missing = 1.0 - self.level(now)
        if missing <= ROUNDING:
            return 0.0
        self._key.surge.is_binding = True
        if missing > 1.0:  # calls were refused, and others may be: what comes back in the next round trip tells
            return min(missing / self.pace, self._key.history.trip)
        return missing / self.pace

    def take(self, grant: Grant) -> None:
        """Let a call out."""
        now, grant.pace = grant.at, self.pace
        if self.phase is Phase.RAMP:
            self._ramp.take(now, self._key.heard)
        if self.phase is Phase.TRACK:
            self._note_rest(now)
        self._key.take(now)

    def leave(self, grant: Grant) -> None:
        """Learn that a call that was let out has left: it may have had to wait for its connection."""
        self._key.leave(grant)

    def put_back(self, grant: Grant) -> None:
        """Learn that a call that was let out will never be sent: nothing remembers it."""
        grant.fate = Fate.VOID
        self._key.put_back(grant)

    def pause(self, now: float, seconds: float) -> None:
        """Learn that no call goes out for so long, whatever the key allows."""
        self._key.history.pause(now, now + seconds)
        self._key.sharing.forget()

    def _note_rest(self, now: float) -> None:
        """Remember when the bucket was full, and for how long nobody asked: what it gained beyond that was lost."""
        key, unused = self._key, self._key.unused(now)
        if unused > IDLE * key.pace:
            key.history.pause(now - unused / key.pace, now)
            key.surge.rest(key.granted)
        if unused >= 0.0 and key.depth > NO_ROOM:
            key.burst.be_full(now)

    # What becomes of them.

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted."""
        self._key.answer(grant)
        grant.fate = Fate.ACCEPTED
        if self.phase is Phase.RAMP:
            self._ramp.hear(now - grant.left)
        if self.phase is Phase.TRACK:
            self._way.accept(grant, now)

    def forget(self, grant: Grant, now: float) -> None:
        """Learn that a call took no token, or that it is not known."""
        if grant.fate is Fate.VOID:
            return  # it was put back
        self._key.answer(grant)
        grant.fate = Fate.VOID
        self._key.miss(now)
        self._key.sharing.forget()

    def throttle(self, grant: Grant, now: float, stop: float = 0.0) -> None:
        """Learn that the gateway's bucket was empty when a call arrived, and that all then stop for so many seconds."""
        key = self._key
        key.answer(grant)
        grant.fate = Fate.REFUSED
        key.history.heard(now - grant.left)
        self._hear_crowds(now - grant.left, stop)
        way = self._way  # until now: what follows may change what is known of the burst, and so the way
        is_new = self._enter_episode(grant, now)
        refusal = Refusal(grant, self._measured(grant), is_new=is_new)
        if self._was_only_early(refusal.interval, stop):
            return
        self._leave_given(refusal.interval, stop)
        before = key.rate
        self._choose(way, refusal, stop).refuse(refusal)
        if stop:
            self._learn_from_stop(grant, now, stop, before, is_new=is_new)
        self._way.refill(key.last_refused or grant, now)  # it may be another one by now

    def _hear_crowds(self, trip: float, stop: float) -> None:
        """Learn from how long a refusal took how unevenly calls arrive."""
        key, crowding = self._key, self._key.crowding
        if stop or key.stops.seen:
            crowding.end()
        elif crowding.is_on:
            crowding.hear(trip, key.rate)
        else:
            undoubted = min(key.ceiling, 2.0 * key.rate)  # what crowds do looks as if there were others, at first
            crowding.hear(trip, undoubted)
            key.rate = undoubted if crowding.is_new else key.rate

    def _measured(self, refused: Grant) -> Interval:
        """Return what the rate can be."""
        key = self._key
        if key.crowding.is_on:
            return Interval()  # it would cost time, and what runs over is not seen
        return measure(key.history, refused, key.burst.calls / key.rate if key.burst.is_small else math.inf)

    # How the rate is found.

    @property
    def _is_one_of_several(self) -> bool:
        """Whether others seem to use a key of which it was told what it allows in all."""
        key = self._key
        if key.phase is Phase.RAMP or key.burst.first_run or key.burst.is_small or key.stops.seen:
            return False
        return key.is_told and key.sharing.is_likely

    @property
    def _way(self) -> Way:
        """How the rate of the key is found for now."""
        if self._key.crowding.is_on:
            return self._balancing
        if self._key.burst.is_small:
            return self._stepping
        return self._climbing if self._is_one_of_several else self._tracking

    def _choose(self, way: Way, refusal: Refusal, stop: float) -> Way:
        """Return how the rate follows from a refusal, where it was found in a way until then."""
        if way is self._balancing:
            return way
        if way is self._climbing and not stop:
            if not self._climbing.is_pointless(refusal):
                return way
            self._key.sharing.dismiss()  # the key is its own after all, and only allows less than was told
        is_small = self._key.burst.is_small and self.phase is not Phase.RAMP
        return self._stepping if is_small else self._tracking

    # Refusals.

    def _enter_episode(self, grant: Grant, now: float) -> bool:
        """Count a refusal, and tell whether it is the first of its episode."""
        key = self._key
        is_new = grant.number > key.episode.end
        if is_new:
            self._begin_episode(grant)
            if key.crowding.is_on:
                key.burst.be_unsure()
            elif not (key.burst.first_run or self._is_one_of_several):
                key.burst.shrink(key.history, grant, key.rate)
        key.episode.refusals += 1
        if key.last_refused is None or grant.left >= key.last_refused.left:
            key.last_refused = grant
        if key.episode.is_first:
            self._guess(grant, now, is_new=is_new)
        return is_new

    def _begin_episode(self, grant: Grant) -> None:
        """Begin an episode; refusals of calls that were let out before the first was heard belong to it."""
        key = self._key
        if key.episode.is_probe and key.episode.refusals:
            key.cycle.ended(key.episode.refusals)
        is_first = key.phase is Phase.RAMP
        if is_first:
            key.burst.first_run = key.history.until(grant)
        elif key.burst.first_run or key.surge.raises or key.crowding.is_on:
            key.sharing.forget()
        elif key.last_refused is not None and not self._is_one_of_several:
            got = key.history.accepted_rate(key.last_refused, grant)
            key.sharing.compare(got, key.history.error(got, key.last_refused, grant))
        key.episode = Episode(
            end=key.granted,
            is_first=is_first,
            is_probe=not key.burst.first_run and key.phase is Phase.TRACK and not key.surge.raises,
            # What is known does not fall by more than half at once; as long as nothing is, it may.
            lowest=0.0 if key.burst.first_run else key.rate / 2.0,
        )

    def _guess(self, grant: Grant, now: float, *, is_new: bool) -> None:
        """The first refusals tell how many calls there were in the bucket, at most, and hardly what the rate is."""
        key = self._key
        key.burst.guess(key.heard if key.granted > REMEMBERED else 0)  # more than are remembered
        if key.burst.is_small:  # from above: each refusal lowers it, but for one that is heard late
            rate = max(key.lowest, key.history.sending_rate(grant, now) / 2.0)
            if is_new or (rate < key.rate and now - grant.left < LATE * key.history.trip):
                key.rate = rate
        else:
            key.rate = key.history.first_guess(now - grant.left)

    def _was_only_early(self, interval: Interval, stop: float) -> bool:
        """Tell whether a call was only early, and the limit that was given still holds."""
        key = self._key
        if key.phase is not Phase.FREE:
            return False
        if key.crowding.is_on:
            return given.was_by_chance(key.history)
        if self._is_lower or given.is_contradicted(key.ceiling, interval):
            return False
        if key.burst.is_small:
            return not given.is_starved(key.history, key.ceiling, stop)
        return given.was_by_chance(key.history)

    def _leave_given(self, interval: Interval, stop: float) -> None:
        """Pace by what the key allows from now on."""
        key = self._key
        if key.is_told and not (self._is_lower or key.burst.is_small or key.crowding.is_on):
            if key.phase is Phase.FREE and not given.is_contradicted(key.ceiling, interval):
                key.sharing.suspect()  # there was a cushion: somebody else has taken those tokens
            if not stop:
                key.rate = key.episode.lowest  # to begin with, as if there were two who share it: fair, if there are
        if key.phase is Phase.FREE:
            key.episode.end = key.granted  # all of them left at a pace that is no more
        self._is_lower = self._is_lower or not key.crowding.is_on

    def _learn_from_stop(self, grant: Grant, now: float, stop: float, before: float, *, is_new: bool) -> None:
        """Run below the measured rate where every 429 stops all calls, and come near the limit rarely."""
        key = self._key
        if is_new and key.stops.seen and not key.burst.is_small:
            key.stops.begin_with(key.burst.first_run, key.burst.calls)
            found = key.stops.measure(key.history, grant, before)
            if found is not None:
                key.burst.settle(found.burst)
                key.rate = min(key.ceiling, max(key.lowest, key.stops.cautious_rate(found)))
                key.cycle.spread_stops(key.rate, stop, found.error)
            else:
                key.rate = max(key.lowest, min(key.rate, key.stops.highest_rate(key.history)))
        key.stops.learn(now, stop)

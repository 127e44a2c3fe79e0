"""The usual way of pacing to a key: run a little above what is measured, so that each 429 measures it anew.

After a *cycle* of calls the copy of the bucket, which fills a little faster, meets the gateway's, and one call is
refused. If none is, the limit has risen, and a *surge* looks how much more the key allows. Pure: time is passed in.
"""

from __future__ import annotations

from . import surge
from .burst import SMALL_BURST
from .calls import Grant
from .key import Key, Phase
from .measuring import Interval, sustained
from .stops import UNKNOWN
from .way import Refusal

DROPPED = 0.8
"""Lower than this share of the rate before: others may have gone faster for a moment, and left room since."""

TOO_LOW = 0.7
"""Lower than this share of the first guess, which is low itself: others have come, or came at the same time."""

PATIENCE = 1.1
"""Cycles without any 429 after which the limit may have risen: the cushion should have been used up after one."""

UNSEEN = 2.0
"""How many times as large as it seems the bucket of a key may be that others use too: whoever came to it together with
one other saw half of its burst."""

LONGEST_BURST = 4.0
"""Seconds: a burst that lasts for longer is rather a rate that is too low."""


class Tracking:
    """Measures what a key allows, and runs a little above it.

    Arguments:
        key: what is known of the key.
    """

    def __init__(self, key: Key) -> None:
        self._key = key
        self._saved = 0.0  # tokens that came in since the last refused call left until that was known

    def accept(self, grant: Grant, now: float) -> None:
        """Learn that a call was accepted: the first guess of the rate may be too low, or a 429 overdue."""
        key = self._key
        if key.episode.is_first and grant.number <= key.episode.end:
            key.change_rate(now, max(1.0, key.history.least() / key.rate))
        elif key.surge.is_binding and key.surge.hears_of(grant.number) and self._is_overdue:
            self._go_faster(now)

    # Refusals.

    def refuse(self, refusal: Refusal) -> None:
        """Set the rate by what a refusal says, if it says anything new."""
        key = self._key
        if key.stops.seen and not (refusal.is_new or key.episode.is_first):
            return
        interval, has_risen = self._what_it_says(refusal)
        is_known = interval.is_narrow and not (key.burst.is_small or key.episode.is_first)
        before = key.rate
        rate = interval.middle if is_known else min(interval.clamp(before), max(before, refusal.grant.pace))
        key.rate = min(key.ceiling, max(rate, key.episode.lowest, key.lowest))
        if is_known and not key.stops.seen:
            key.burst.bound(key.rate, least=1.0)
            key.burst.settle()
        if refusal.is_new and is_known:
            key.sharing.remember(key.rate)
        if refusal.is_new:
            self._begin_cycle(before, is_anew=bool(key.burst.first_run) or has_risen)
        key.phase = Phase.TRACK

    def _what_it_says(self, refusal: Refusal) -> tuple[Interval, bool]:
        """Return what the rate can be; and whether it must have risen: before a surge the bucket may have run over."""
        key = self._key
        if not (refusal.is_new and key.surge.is_on) or key.stops.seen or key.burst.is_small or key.episode.is_first:
            return refusal.interval, False
        found = sustained(key.history, refusal.grant, key.refused_at.at, key.burst.calls).interval
        has_risen = found.low > refusal.interval.high
        if has_risen:
            key.history.forget(key.surge.began)
        return found.raise_to(refusal.interval), has_risen

    def _begin_cycle(self, before: float, *, is_anew: bool) -> None:
        key = self._key
        if is_anew and not key.burst.is_small:
            key.cycle.begin_anew(key.rate, key.behind, is_shared=key.sharing.is_likely)
        elif key.last_refused is not None:
            key.cycle.lengthen(key.rate, key.behind, key.last_refused.left, key.sharing)
        if key.burst.first_run and key.rate < TOO_LOW * before and not key.episode.is_first:
            key.sharing.suspect()
        if key.rate < DROPPED * before and not (key.burst.first_run or key.stops.seen):
            key.cycle.shorten(key.rate, key.behind)
            key.sharing.suspect()

    def refill(self, refused: Grant, now: float) -> None:
        """Start the copy anew: what leaves now arrives as long after the refused call as it left."""
        key = self._key
        self._saved = (now - refused.left) * key.rate
        key.refill(now, self._saved - self._taken_since(refused) - key.cushion, excess=self._next_excess)

    def _taken_since(self, refused: Grant) -> int:
        """Return the calls that took, or will take, a token after a refused one; some may have to leave yet."""
        return self._key.history.accepted_after(refused) + self._key.leaving

    @property
    def _next_excess(self) -> float:
        """By how much the copy is to fill faster until the next 429."""
        key = self._key
        if key.stops.seen and key.stops.error < UNKNOWN:
            return 0.0 if key.stops.is_known else key.stops.error
        if not key.episode.is_first:
            return key.cushion / key.cycle.length
        if key.stops.seen:
            return surge.SUREST
        return min(2.0 * surge.FIRST_GUESS, max(surge.FIRST_GUESS, 1.0 / key.behind))

    # Growing.

    @property
    def _is_overdue(self) -> bool:
        """Whether the 429 has not come that was due."""
        key = self._key
        return key.episode.is_first or key.granted - key.refused_at.granted > PATIENCE * key.cycle.length

    def _go_faster(self, now: float) -> None:
        """Take a step of the surge, if the last one is done."""
        key, hidden = self._key, self._hidden
        if not key.surge.go_on(now, key.granted, self._step_length(hidden)):
            return
        key.change_rate(now, 1.0)
        if key.surge.is_sure(hidden):
            self._rise(now)
        elif not key.episode.is_first and not key.surge.raises:
            key.surge.grow(self._most_excess)

    @property
    def _hidden(self) -> float:
        """The tokens there may be in the gateway's bucket: so many calls more than come in go unnoticed."""
        key = self._key
        burst = UNSEEN * key.burst.calls if key.sharing.is_likely else key.burst.calls
        most = min(burst, LONGEST_BURST * key.rate)
        return 1.0 + (min(most, self._saved) if key.episode.is_first and not key.stops.seen else most)

    def _step_length(self, hidden: float) -> float:
        """Return the calls of a step: a part of what is to be used up, but what came of the last one must be heard."""
        key = self._key
        part = key.surge.part_of(hidden)
        if not key.stops.seen:
            part = min(part, key.cycle.length / surge.PARTS_OF_CYCLE)
            part = part if key.episode.is_first else min(part, surge.FEWEST)
        return max(part, key.behind)

    @property
    def _most_excess(self) -> float:
        key = self._key
        if key.stops.seen and key.is_far:
            return surge.SUREST
        if key.stops.seen:
            return max(surge.FIRST_AT_STOPS, min(surge.LARGEST_AT_STOPS, 2.0 * key.stops.error))
        largest = max(surge.FEW, surge.LARGEST * key.sharing.highest(key.rate)) / key.rate
        return max(surge.FIRST, min(largest, surge.REFUSED / key.behind))

    def _rise(self, now: float) -> None:
        """Take the pace that has proved to be allowed for the rate, and go on from there."""
        key = self._key
        key.change_rate(now, 1.0 + key.surge.excess)
        # One that was not small is not so because of a pace in doubt.
        key.burst.bound(key.rate, least=SMALL_BURST, most=key.burst.calls)
        key.free_at_ceiling()
        if not key.episode.is_first or key.last_refused is None:
            key.surge.rise(max(surge.LARGEST, self._most_excess) if key.stops.seen else surge.SUREST)
            return
        self._saved = (now - key.last_refused.left) * key.rate - self._taken_since(key.last_refused)
        if self._saved > key.burst.calls:  # at this rate the bucket has run over
            key.history.pause(key.refused_at.at, now)
        key.surge.rise(surge.SUREST if key.surge.raises >= surge.GUESS_STEPS else None)

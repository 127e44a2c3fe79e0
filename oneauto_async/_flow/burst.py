"""How many calls a key takes at once, as far as it has shown. Pure: time is passed in.

A key begins with a full bucket: what it took before the first 429, beyond what came in meanwhile, was its burst. How
much came in is known only when the rate is, so those calls are kept until then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .calls import Grant, History

SMALL_BURST = 3.0
"""A burst smaller than this leaves no room for a cushion."""


class Burst:
    """The burst of a key.

    Attributes:
        calls: so many at most; infinity if nothing is known.
        first_run: the calls up to the first 429, newest first, until the burst is known from them.
    """

    def __init__(self, calls: float) -> None:
        self.calls = calls
        self.first_run: Sequence[Grant] = ()
        self._full_at: float | None = None  # since the last 429

    @property
    def is_small(self) -> bool:
        """Whether it leaves no room for a cushion."""
        return self.calls < SMALL_BURST

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it."""
        return math.isfinite(self.calls)

    def guess(self, fewest: int = 0) -> None:
        """Take it that nothing came in during the first run, of which so many calls at least have ended."""
        self.calls = float(max(1, fewest, sum(call.took_a_token for call in self.first_run)))

    def bound(self, rate: float, *, least: float, most: float = math.inf) -> None:
        """Bound it by what the first run took, at its most, beyond what came in at a rate."""
        taken = [call.left for call in self.first_run if call.took_a_token]
        if taken:
            counted = enumerate(taken, start=1)
            self.calls = max(least, min(most, max(number - (taken[0] - moment) * rate for number, moment in counted)))

    def settle(self, calls: float | None = None) -> None:
        """Have no further use for the first run; what it is may be known from elsewhere."""
        self.calls, self.first_run = self.calls if calls is None else calls, ()

    def be_full(self, now: float) -> None:
        """Learn that the bucket is full now, if it holds no more than is known."""
        self._full_at = now

    def be_unsure(self) -> None:
        """Learn of a 429 that says nothing of how much the bucket held."""
        self._full_at = None

    def shrink(self, history: History, refused: Grant, rate: float) -> None:
        """Learn of a 429: a bucket that was full held no more than was taken from it since."""
        if self._full_at is not None:
            used = history.left_until(refused, self._full_at) - rate * (refused.left - self._full_at)
            self.calls = min(self.calls, max(SMALL_BURST, used))
            self._full_at = None

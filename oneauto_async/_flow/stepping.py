"""Pacing to a key with hardly any burst, by steps: there is no room to measure in. Pure."""

from __future__ import annotations

NARROW_BURST = 3.0
"""A burst smaller than this leaves no room for a cushion: it is paced by `Steps`."""


class Steps:
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

"""A dictionary that forgets: what is made ready once for each of a few things must not pile up where they are many."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 100
"""Entries; whoever makes an endpoint anew for each call pays for making it ready each time, and for nothing more."""


class Recent(dict[K, V]):
    """A dictionary of the entries that were made last."""

    def __setitem__(self, key: K, value: V) -> None:
        """Make an entry; beyond the most there may be, the oldest is dropped."""
        super().__setitem__(key, value)
        if len(self) > MOST:
            del self[next(iter(self))]

"""How many examples a property is tried with: a share by default, all of them where there is time."""

from __future__ import annotations

from hypothesis import settings

BRIEF, FULL = "brief", "full"
_ALL = 100


def register() -> None:
    """Make the two profiles known, and take the brief one; ``--hypothesis-profile=full`` asks for the other.

    Neither has a deadline for one example: how long it takes is a matter of the machine.
    """
    settings.register_profile(FULL, max_examples=_ALL, deadline=None)
    settings.register_profile(BRIEF, max_examples=_ALL // 4, deadline=None)
    settings.load_profile(BRIEF)


def examples(count: int) -> settings:
    """Try a property with so many examples in full, and with the profile's share of them otherwise."""
    return settings(max_examples=count * settings().max_examples // _ALL)

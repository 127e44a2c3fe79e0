"""How long a lookup is ready to wait for its turn, and why it is turned away. Pure: time is passed in."""

from __future__ import annotations

import math

import attrs

from ..errors import (
    VENDOR_CONTACT,
    DeadlineExceededError,
    OneAutoError,
    QuotaExceededError,
    RateLimitedError,
    ServiceUnavailableError,
)
from .circuit import Circuit
from .gate import Cause, Closing, Gate
from .quota import Quota


@attrs.frozen(kw_only=True)
class Patience:
    """How long one lookup is ready to wait.

    Attributes:
        longest_closing: seconds; a gate the service asked to be shut for longer than this is not waited for at all.
        longest_wait: seconds; the most that a shut gate may still stay shut, or an outage or drought may have lasted.
        until: the moment on the clock by which its turn must have come. Whoever tries again is turned away then;
            another, of whom there may be very many, only when it comes to their turn.
        since: the moment on the clock from which on it waits.
    """

    longest_closing: float = math.inf
    longest_wait: float = math.inf
    until: float = math.inf
    since: float = -math.inf


ENDLESS = Patience()
"""That of somebody who waits for whatever comes."""


@attrs.frozen
class Barriers:
    """What may keep calls from being sent, for so long that somebody loses patience."""

    quota: Quota
    circuit: Circuit
    drought: Circuit
    gate: Gate

    def refusal(self, patience: Patience, now: float) -> OneAutoError | None:
        """Say why a call with this patience is turned away at once, or ``None``."""
        if self.quota.refuses(now):
            return QuotaExceededError("not sent: the key's quota is used up")
        if _outlasts(self.circuit, patience, now):
            return ServiceUnavailableError(
                f"not sent: the service has not answered for {_shown(self.circuit.lasts)} s; "
                f"its contact is {VENDOR_CONTACT}"
            )
        if _outlasts(self.drought, patience, now):
            return RateLimitedError(f"not sent: the key has refused every call for {_shown(self.drought.lasts)} s")
        if closing := self.gate.closing(now):
            return _gate_error(closing, patience, closing.until - now)
        if now >= patience.until:
            return DeadlineExceededError("not sent again: its turn did not come within the time allowed")
        return None


def _outlasts(circuit: Circuit, patience: Patience, now: float) -> bool:
    """Tell whether an outage is too long for someone; whoever has just come waits for one more canary at least."""
    if not circuit.is_open:
        return False
    return now >= patience.until or (circuit.lasts > patience.longest_wait and circuit.failed_at > patience.since)


def _gate_error(closing: Closing, patience: Patience, wait: float) -> OneAutoError | None:
    """Say why a shut gate is not waited for, or ``None``."""
    if closing.length > patience.longest_closing:
        return _rest_error(closing.cause, wait)
    if wait > patience.longest_wait or closing.until > patience.until:
        return DeadlineExceededError(f"not sent: calls are held back for {_shown(wait)} s, beyond the time allowed")
    return None


def _rest_error(cause: Cause, wait: float) -> OneAutoError:
    if cause is Cause.UNAVAILABLE:
        text = f"not sent: the service is unavailable and asks to wait {_shown(wait)} s"
        return ServiceUnavailableError(f"{text}; its contact is {VENDOR_CONTACT}", retry_after=wait)
    return RateLimitedError(
        f"not sent: the key is rate limited and the service asked for {_shown(wait)} s of rest", retry_after=wait
    )


def _shown(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100.0 else f"{seconds:.0f}"

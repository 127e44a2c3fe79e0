"""What stands before the vendor's service: the gateway's answers, its limits per key, its ids for support."""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import b64encode
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..settings import RateLimit
    from ._options import LimitChange

__all__ = ["KeyLimits", "SimulatedAnswer", "TokenBucket", "envelope", "gateway_answer", "support_headers"]

_ERROR_TYPES = {
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    429: "TooManyRequestsException",
    # The gateway gives 502 and 504 the same type as 500: only the status tells them apart.
    500: "InternalServerErrorException",
    502: "InternalServerErrorException",
    503: "ServiceUnavailableException",
    504: "InternalServerErrorException",
}
_MESSAGES = {
    500: "Internal server error",
    502: "Internal server error",
    504: "Endpoint request timed out",
}


@attrs.frozen(kw_only=True)
class SimulatedAnswer:
    """One answer of the simulated service, decided before anything is sent.

    Attributes:
        status: the HTTP status.
        headers: headers of this answer alone; those that every answer has come on top.
        body: the raw body.
        delay: seconds until it is sent.
        silent: it is billed and never comes: the client waits until it gives up, or until ``delay`` is over.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay: float = 0.0
    silent: bool = False

    @property
    def billed(self) -> bool:
        """Whether the vendor charges for it: every 200, and the one that was lost on the way."""
        return self.status == HTTPStatus.OK or self.silent

    def with_retry_after(self, value: str | float | None) -> SimulatedAnswer:
        """Return the same answer with a ``Retry-After`` header, or itself if there is none to add."""
        if value is None:
            return self
        return attrs.evolve(self, headers=(*self.headers, ("Retry-After", str(value))))


def envelope(
    status: int, *, success: bool, result: Any = None, error: str | None = None, **more: Any
) -> SimulatedAnswer:
    """Return an answer in the vendor's envelope; ``more`` are members that the vendor does not document."""
    body = {"success": success, "result": result, "error": error} | more
    return SimulatedAnswer(status=status, body=json.dumps(body).encode())


def gateway_answer(status: int, *, error_type: str | None = None, message: str | None = None) -> SimulatedAnswer:
    """Return what the gateway itself says with a status: its error type as a header, its message as the body."""
    error_type = error_type or _ERROR_TYPES.get(status)
    headers = (("x-amzn-ErrorType", error_type),) if error_type else ()
    body = {"message": message or _MESSAGES.get(status) or _phrase(status)}
    return SimulatedAnswer(status=status, headers=headers, body=json.dumps(body).encode())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Simulated status {status}"


class TokenBucket:
    """The gateway's throttle: starts full, refills continuously, a refused call takes nothing."""

    def __init__(self, rate: float, burst: int) -> None:
        """Hold up to ``burst`` tokens and gain ``rate`` of them per second."""
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._counted_at: float | None = None

    def take(self, now: float) -> bool:
        """Take one token at a moment in seconds, which never runs backwards; return whether there was one."""
        self._fill(now)
        # The tolerance is for rounding: a client that paces exactly at the rate must not be refused by the last bit.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def change(self, now: float, rate: float, burst: int) -> None:
        """Go on from a moment with another limit; tokens stay, as far as the new burst holds them."""
        self._fill(now)
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, burst)

    def _fill(self, now: float) -> None:
        if self._counted_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now


class KeyLimits:
    """What the gateway counts for one key: its token bucket and its quota."""

    def __init__(
        self,
        limit: RateLimit,
        changes: Sequence[LimitChange] = (),
        *,
        quota: int | None,
        retry_after: str | None,
    ) -> None:
        """Start with a full bucket and nothing used of the quota."""
        self._bucket = None if limit.rate is None else TokenBucket(limit.rate, limit.burst)
        self._changes = deque(changes)
        self._quota_left = quota
        self._throttled = gateway_answer(429).with_retry_after(retry_after)

    def refuse(self, now: float) -> SimulatedAnswer | None:
        """Return the 429 for a call at this moment, or count the call and return ``None``."""
        self._follow_changes(now)
        if self._quota_left == 0:
            return quota_exceeded()
        if self._bucket is not None and not self._bucket.take(now):
            return self._throttled
        if self._quota_left is not None:
            self._quota_left -= 1
        return None

    def _follow_changes(self, now: float) -> None:
        while self._changes and self._changes[0].at <= now:
            change = self._changes.popleft()
            self._bucket = _changed(self._bucket, change.at, change.limit)


def _changed(bucket: TokenBucket | None, moment: float, limit: RateLimit) -> TokenBucket | None:
    if limit.rate is None:
        return None
    if bucket is None:
        return TokenBucket(limit.rate, limit.burst)
    bucket.change(moment, limit.rate, limit.burst)
    return bucket


def quota_exceeded() -> SimulatedAnswer:
    """Return the 429 of a key whose quota is used up."""
    return gateway_answer(429, error_type="LimitExceededException", message="Limit Exceeded")


def support_headers(seed: int, serial: int) -> Iterator[tuple[str, str]]:
    """Yield the two ids the vendor's support asks for, the same in every run of the same seed."""
    digest = hashlib.blake2b(f"{seed}:{serial}".encode(), digest_size=27).digest()
    yield "x-amzn-RequestId", str(uuid.UUID(bytes=digest[:16], version=4))
    yield "x-amz-apigw-id", b64encode(digest[16:], b"-_").decode()

"""What stands before the vendor's service: the gateway's answers, and its ids for support."""

from __future__ import annotations

import hashlib
import json
import uuid
from base64 import b64encode
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SimulatedAnswer", "envelope", "gateway_answer", "quota_exceeded", "support_headers"]

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
        """Whether the vendor charges for it, as for every 200 and for the one that was lost on the way."""
        return self.status == HTTPStatus.OK or self.silent

    def with_retry_after(self, value: str | float | None) -> SimulatedAnswer:
        """Return the same answer with a ``Retry-After`` header, or itself if there is none to add.

        Raises:
            ConfigurationError: the value cannot be sent.
        """
        if value is None:
            return self
        if not (str(value).isascii() and str(value).isprintable()):
            raise ConfigurationError(f"a Retry-After must be printable ASCII, got {value!r}")
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


def quota_exceeded() -> SimulatedAnswer:
    """Return the 429 of a key whose quota is used up."""
    return gateway_answer(429, error_type="LimitExceededException", message="Limit Exceeded")


def support_headers(seed: int, serial: int) -> Iterator[tuple[str, str]]:
    """Yield the two ids the vendor's support asks for, the same in every run of the same seed."""
    digest = hashlib.blake2b(f"{seed}:{serial}".encode(), digest_size=27).digest()
    yield "x-amzn-RequestId", str(uuid.UUID(bytes=digest[:16], version=4))
    yield "x-amz-apigw-id", b64encode(digest[16:], b"-_").decode()

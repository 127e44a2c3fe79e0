"""The request of one lookup: GET, the key, the id, and nothing else that identifies anyone."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import attrs
import httpx

from .._key import Secret
from ..endpoints import Endpoint
from ..errors import ConfigurationError
from ..settings import Timeouts
from .dialing import Origin
from .http11 import RequestHead, origin_of, request_head
from .record import EXTENSION, FlightRecord

USER_AGENT = "oneauto-async"
PLACEHOLDER = "0"


class MaskedHeaders(httpx.Headers):
    """Headers whose repr shows no value: httpx masks passwords, but does not know which header is our key."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self.keys())}>"


@attrs.frozen(eq=False)
class Mould:
    """What is the same in every request of an endpoint, worked out once.

    Attributes:
        endpoint: the endpoint.
        url: its address, without a query.
        headers: its headers.
        origin: where its connections lead.
        before, after: the bytes of a request around the query.
    """

    endpoint: Endpoint[Any]
    url: httpx.URL
    headers: httpx.Headers = attrs.field(repr=False)
    origin: Origin
    before: bytes = attrs.field(repr=False)
    after: bytes = attrs.field(repr=False)

    @classmethod
    def cast(cls, endpoint: Endpoint[Any], base_url: str, key: Secret) -> Mould:
        """Make the mould from a request that httpx and the transport have checked in full.

        Raises:
            ConfigurationError: httpx sends to no such address.
        """
        url = httpx_url(base_url + endpoint.path)
        headers = MaskedHeaders(
            {
                "host": url.netloc.decode("ascii"),
                "accept": "application/json",
                "accept-encoding": "gzip",
                "user-agent": USER_AGENT,
                "x-api-key": key.reveal(),  # last: some tracebacks show how a long text begins, whatever its repr
            }
        )
        query = query_of(endpoint, PLACEHOLDER).encode("ascii")
        request = httpx.Request("GET", url.copy_with(query=query), headers=headers)
        before, _, after = request_head(request).partition(query)
        return cls(endpoint, url, headers, origin_of(url), before, after)

    def head(self, vehicle_id: str) -> RequestHead:
        """Return the request for an id as bytes: those that `request` would become."""
        return RequestHead(self.before + query_of(self.endpoint, vehicle_id).encode("ascii") + self.after)

    def request(self, vehicle_id: str, timeouts: dict[str, float], record: FlightRecord) -> httpx.Request:
        """Return the request for an id as httpx's object; the record goes with it, for the transport to write."""
        url = self.url.copy_with(query=query_of(self.endpoint, vehicle_id).encode("ascii"))
        extensions = {"timeout": timeouts, EXTENSION: record}
        request = httpx.Request("GET", url, headers=self.headers, extensions=extensions)
        request.headers = MaskedHeaders(request.headers)  # it has made plain ones of them
        return request


def httpx_url(address: str) -> httpx.URL:
    """Return an address as httpx has it.

    Raises:
        ConfigurationError: httpx sends to none such: it judges hosts more strictly, by IDNA's rules among others.
    """
    try:
        return httpx.URL(address)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"base_url is not an address that can be asked: {error}") from None


def query_of(endpoint: Endpoint[Any], vehicle_id: str) -> str:
    """Return the query that asks for an id; nothing but letters, digits and ``-._~`` goes out as it is."""
    plain = vehicle_id.isascii() and vehicle_id.isalnum()
    return f"{endpoint.parameter}={vehicle_id if plain else quote(vehicle_id, safe='')}"


def httpx_timeouts(timeouts: Timeouts) -> dict[str, float]:
    """Return the timeouts as httpx's transports understand them, in seconds."""
    return {"connect": timeouts.connect, "read": timeouts.read, "write": timeouts.read, "pool": timeouts.attempt}

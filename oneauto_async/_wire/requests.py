"""Ready requests: what is the same for every lookup of an endpoint is worked out once."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx

from ..endpoints import Endpoint
from ..settings import Secret, Timeouts
from .record import EXTENSION, FlightRecord

USER_AGENT = "oneauto-async"


class MaskedHeaders(httpx.Headers):
    """Headers whose repr shows no value: httpx masks passwords, but does not know which header is our key."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self.keys())}>"


class RequestMaker:
    """Makes the request of one lookup: GET, the key, the id, and nothing else that identifies anyone."""

    def __init__(self, base_url: str, key: Secret, timeouts: Timeouts) -> None:
        self._base_url = base_url
        self._key = key
        self._seconds = {
            "connect": timeouts.connect,
            "read": timeouts.read,
            "write": timeouts.read,
            "pool": timeouts.attempt,
        }
        self._ready: dict[Endpoint[Any], tuple[httpx.URL, httpx.Headers]] = {}

    def __repr__(self) -> str:
        return f"<RequestMaker for {self._base_url}>"

    def make(self, endpoint: Endpoint[Any], vehicle_id: str, record: FlightRecord) -> httpx.Request:
        """Return the request for an id; the record goes with it, for the transport to write."""
        url, headers = self._ready.get(endpoint) or self._make_ready(endpoint)
        query = f"{endpoint.parameter}={quote(vehicle_id, safe='')}"
        extensions = {"timeout": self._seconds, EXTENSION: record}
        return httpx.Request("GET", with_query(url, query), headers=headers, extensions=extensions)

    def _make_ready(self, endpoint: Endpoint[Any]) -> tuple[httpx.URL, httpx.Headers]:
        url = httpx.URL(self._base_url + endpoint.path)
        headers = {
            "host": url.netloc.decode("ascii"),
            "x-api-key": self._key.reveal(),
            "accept": "application/json",
            "accept-encoding": "gzip",
            "user-agent": USER_AGENT,
        }
        self._ready[endpoint] = ready = url, MaskedHeaders(headers)
        return ready


def _with_query_quickly(url: httpx.URL, query: str) -> httpx.URL:
    """Return the URL with this query, skipping the parser: a twentieth of the time of ``URL.copy_with``.

    It reaches into httpx, so `with_query` is chosen by trying both when the module is loaded.
    """
    copy = httpx.URL.__new__(httpx.URL)
    copy._uri_reference = url._uri_reference._replace(query=query)  # checked below
    return copy


def _with_query_by_the_book(url: httpx.URL, query: str) -> httpx.URL:
    return url.copy_with(query=query.encode("ascii"))


def _agree() -> bool:
    url, query = httpx.URL("https://host.invalid:8443/path/"), "name=a%20b%C3%A9%26%2F~-._1"
    try:
        quick, slow = _with_query_quickly(url, query), _with_query_by_the_book(url, query)
        return quick == slow and quick.raw_path == slow.raw_path and str(quick) == str(slow)
    except Exception:  # noqa: BLE001  # whatever a later httpx does instead, the slow way is right
        return False


with_query = _with_query_quickly if _agree() else _with_query_by_the_book

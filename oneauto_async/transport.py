"""The httpx transport under `OneAutoClient`, for any `httpx.AsyncClient`."""

from ._wire.http11 import HTTP11Transport
from ._wire.record import FlightRecord, Stage

__all__ = ["FlightRecord", "HTTP11Transport", "Stage"]

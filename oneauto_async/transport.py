"""The httpx transport under `OneAutoClient`, for any `httpx.AsyncClient`."""

from ._classify import Flaw
from ._wire.http11 import HTTP11Transport
from ._wire.record import FlightRecord, HeldBack, Stage

__all__ = ["Flaw", "FlightRecord", "HTTP11Transport", "HeldBack", "Stage"]

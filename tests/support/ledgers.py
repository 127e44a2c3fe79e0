"""Keys, answers and steps that tests of ledgers share."""

from __future__ import annotations

from typing import Any

from oneauto_async import Billing
from oneauto_async.ledger import Claim, Entry, Ledger, LedgerKey, Service, Settlement, State, Terms

SERVICE = Service("default", "api.example", "/evdatabase/uk/van/bidirectionalcharging/?evdb_vehicle_id")
ANYTHING = Terms()


def key(vehicle_id: str | int = "12345", service: Service = SERVICE) -> LedgerKey:
    return LedgerKey(service, str(vehicle_id))


def answer(raw: bytes = b'{"success":true}', **facts: Any) -> Settlement:
    """Return a charged answer."""
    given: dict[str, Any] = {
        "state": State.ANSWERED,
        "billing": Billing.BILLED,
        "attempts": 1,
        "status": 200,
        "request_id": "request-1",
        "headers": (("content-type", "application/json"), ("x-amzn-RequestId", "request-1")),
    }
    return Settlement(raw=raw, **(given | facts))


def nothing_known() -> Settlement:
    """Return a 204."""
    return answer(b"", billing=Billing.NOT_BILLED, status=204)


def doubt(**facts: Any) -> Settlement:
    given: dict[str, Any] = {"attempts": 1, "note": "the connection broke"}
    return Settlement(state=State.IN_DOUBT, billing=Billing.UNKNOWN, **(given | facts))


def failure(**facts: Any) -> Settlement:
    given: dict[str, Any] = {"attempts": 1, "status": 400}
    return Settlement(state=State.FAILED, billing=Billing.NOT_BILLED, **(given | facts))


async def claimed(ledger: Ledger, what: LedgerKey, terms: Terms = ANYTHING) -> Claim:
    """Claim what must be free to claim."""
    decision = await ledger.claim(what, terms)
    assert isinstance(decision, Claim)
    return decision


async def sent(ledger: Ledger, what: LedgerKey, terms: Terms = ANYTHING) -> Claim:
    claim = await claimed(ledger, what, terms)
    assert await ledger.mark_sent(claim)
    return claim


async def bought(ledger: Ledger, what: LedgerKey, end: Settlement | None = None, terms: Terms = ANYTHING) -> Claim:
    """Buy and settle."""
    claim = await sent(ledger, what, terms)
    await ledger.settle(claim, answer() if end is None else end)
    return claim


async def entries_of(ledger: Ledger, state: State | None = None) -> list[Entry]:
    return [entry async for entry in ledger.entries(state)]

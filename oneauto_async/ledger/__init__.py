"""Ledgers: what was asked, what came, and what it cost, kept so that nothing is paid for twice."""

from .memory import MemoryLedger
from .protocol import Ledger
from .records import (
    Busy,
    Claim,
    Decision,
    Entry,
    HeldInDoubt,
    Kept,
    LedgerKey,
    Limit,
    OverBudget,
    Service,
    Settlement,
    Spending,
    Standing,
    State,
    Terms,
    Verification,
)
from .sqlite import SqliteLedger

__all__ = [
    "Busy",
    "Claim",
    "Decision",
    "Entry",
    "HeldInDoubt",
    "Kept",
    "Ledger",
    "LedgerKey",
    "Limit",
    "MemoryLedger",
    "OverBudget",
    "Service",
    "Settlement",
    "Spending",
    "SqliteLedger",
    "Standing",
    "State",
    "Terms",
    "Verification",
]

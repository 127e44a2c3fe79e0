"""The tables, and the steps from each version of them to the next.

A version is never changed once it was released: a new one is added below, as statements that turn the last into it.
"""

from __future__ import annotations

APPLICATION_ID = 0x4F414C31
"""Tells our files from other programs' (SQLite's ``application_id``)."""

_STATES = "'claimed', 'sent', 'answered', 'in_doubt', 'failed'"
_BILLINGS = "'billed', 'not billed', 'unknown'"

_FIRST = (
    """
    CREATE TABLE services (
        service INTEGER PRIMARY KEY,
        account TEXT NOT NULL,
        host TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        UNIQUE (account, host, endpoint)
    )
    """,
    """
    CREATE TABLE owners (
        owner INTEGER PRIMARY KEY,
        machine TEXT NOT NULL,
        boot TEXT NOT NULL,         -- which start of the machine
        pid_space TEXT NOT NULL,    -- which container on it
        pid INTEGER NOT NULL,
        began_at REAL NOT NULL,
        alive_until REAL NOT NULL,  -- renewed while the process lives
        ended_at REAL               -- closed, or found gone
    )
    """,
    f"""
    CREATE TABLE lookups (  -- one row for each purchase: at most one charge; rows are never deleted
        seq INTEGER PRIMARY KEY,
        service INTEGER NOT NULL REFERENCES services,
        vehicle_id TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ({_STATES})),
        billing TEXT NOT NULL CHECK (billing IN ({_BILLINGS})),
        owner INTEGER NOT NULL REFERENCES owners,
        attempts INTEGER NOT NULL DEFAULT 0,
        claimed_at REAL NOT NULL,  -- seconds since 1970, as all times here
        sent_at REAL,
        settled_at REAL,
        status INTEGER,
        request_id TEXT,
        note TEXT
    )
    """,
    """
    CREATE TABLE answers (  -- the bytes as they came
        seq INTEGER PRIMARY KEY REFERENCES lookups,
        checksum TEXT NOT NULL,
        flaw TEXT,
        headers TEXT NOT NULL,
        raw BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE spending (  -- charges by the day (UTC) they were claimed on: kept in step with lookups
        service INTEGER NOT NULL REFERENCES services,
        day TEXT NOT NULL,
        billed INTEGER NOT NULL,
        in_doubt INTEGER NOT NULL,
        under_way INTEGER NOT NULL,
        PRIMARY KEY (service, day)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX lookups_by_id ON lookups (service, vehicle_id) WHERE state <> 'failed'",
    "CREATE UNIQUE INDEX lookups_under_way ON lookups (service, vehicle_id) WHERE state IN ('claimed', 'sent')",
    "CREATE INDEX lookups_by_time ON lookups (service, claimed_at)",
    """
    CREATE VIEW ledger AS  -- for people
        SELECT
            seq, account, host, endpoint, vehicle_id, state, billing, attempts, status, request_id,
            strftime('%Y-%m-%dT%H:%M:%fZ', claimed_at, 'unixepoch') AS claimed_at,
            strftime('%Y-%m-%dT%H:%M:%fZ', sent_at, 'unixepoch') AS sent_at,
            strftime('%Y-%m-%dT%H:%M:%fZ', settled_at, 'unixepoch') AS settled_at,
            note, CAST(raw AS TEXT) AS answer
        FROM lookups JOIN services USING (service) LEFT JOIN answers USING (seq)
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""The statements of each version; the version of a file is how many of them it has seen (SQLite's ``user_version``)."""

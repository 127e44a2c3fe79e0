"""A certificate for 127.0.0.1 that nobody trusts."""

from __future__ import annotations

from pathlib import Path

import trustme


def self_signed(folder: Path) -> Path:
    """Write a certificate and its key to one file."""
    path = folder / "server.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path

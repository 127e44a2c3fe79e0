"""The file and its companions: where they may be, and who may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs

from ...errors import LedgerError

OURS_ALONE = 0o600
COMPANIONS = ("-journal", "-wal", "-shm")


@attrs.frozen
class Identity:
    """Which file it is, whatever its name."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Identity | None:
        """Return it for the file of this name, or ``None`` if there is none."""
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        return cls(found.st_dev, found.st_ino)


def prepare(path: Path) -> Identity:
    """Make an empty file if there is none, see that it is a plain one, and return which file it is.

    A file that is there already is not opened here: closing it again would drop the locks that other connections of
    this process have on it.

    Raises:
        LedgerError: there can be no file, or it is not a plain one of ours.
    """
    try:
        _refuse_foreign_links(path)
        _create(path)
        require_plain(path)
        identity = Identity.of(path)
    except OSError as error:
        raise LedgerError(f"the ledger {path} cannot be opened: {error.strerror or error}") from error
    if identity is None:
        raise LedgerError(f"the ledger {path} was deleted while it was being opened")
    return identity


def require_plain(path: Path) -> None:
    """Refuse a ledger, or a companion of one, that is there and no plain file.

    Raises:
        LedgerError: it is a link, a directory, a pipe or a device.
    """
    for name in (path, *companions(path)):
        _mode(name)


def close_to_others(path: Path) -> None:
    """See that nobody else can read a ledger and what lies beside it."""
    for name in (path, *companions(path)):
        mode = _mode(name)
        if mode is not None and os.name == "posix" and mode & ~OURS_ALONE:
            name.chmod(OURS_ALONE)


def companions(path: Path) -> list[Path]:
    """Return the files that SQLite keeps beside a database."""
    return [Path(f"{path}{ending}") for ending in COMPANIONS]


def _create(path: Path) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        os.close(os.open(path, flags, OURS_ALONE))
    except FileExistsError:
        return


def _mode(path: Path) -> int | None:
    """Return who may do what with a plain file, or ``None`` if there is none; anything else is refused."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise LedgerError(f"the ledger {path} is {_kind(found.st_mode)}: give the path of the file itself")
    return stat.S_IMODE(found.st_mode)


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    return "a directory" if stat.S_ISDIR(mode) else "not a plain file"


def _refuse_foreign_links(path: Path) -> None:
    """Follow no link on the way that another user, who is not root, could have put there."""
    if os.name != "posix":
        return
    for folder in path.parents:
        found = os.lstat(folder)
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            raise LedgerError(f"the ledger {path} is behind a symbolic link of another user: {folder}")

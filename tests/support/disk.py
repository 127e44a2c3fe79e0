"""What SQLite asks of the disk, call by call, and what a power cut would leave of it.

A virtual file system is registered with the SQLite that Python uses: it hands everything on to the real one, and notes
each write, truncation, sync and deletion. From such a list any state of the disk can be made that a cut could leave:
what was synced is there, what was only written may be there or not, sector by sector.
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs

SECTOR = 512

_POINTER = ctypes.c_void_p
_METHODS = (
    "xClose xRead xWrite xTruncate xSync xFileSize xLock xUnlock xCheckReservedLock xFileControl xSectorSize "
    "xDeviceCharacteristics xShmMap xShmLock xShmBarrier xShmUnmap xFetch xUnfetch"
)
_CALLS = (
    "xDelete xAccess xFullPathname xDlOpen xDlError xDlSym xDlClose xRandomness xSleep xCurrentTime xGetLastError "
    "xCurrentTimeInt64 xSetSystemCall xGetSystemCall xNextSystemCall"
)

_Open = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, _POINTER, ctypes.c_int, _POINTER)
_Delete = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_char_p, ctypes.c_int)
_Write = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int, ctypes.c_int64)
_Truncate = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int64)
_Sync = ctypes.CFUNCTYPE(ctypes.c_int, _POINTER, ctypes.c_int)


class _Methods(ctypes.Structure):
    _fields_ = (("iVersion", ctypes.c_int), *((name, _POINTER) for name in _METHODS.split()))


class _File(ctypes.Structure):
    _fields_ = (("pMethods", ctypes.POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", _POINTER),
        ("zName", ctypes.c_char_p),
        ("pAppData", _POINTER),
        ("xOpen", _POINTER),
        *((name, _POINTER) for name in _CALLS.split()),
    )


@attrs.frozen
class Written:
    """Bytes were handed to the system."""

    file: str
    offset: int
    data: bytes


@attrs.frozen
class Truncated:
    """A file was cut to a size."""

    file: str
    size: int


@attrs.frozen
class Synced:
    """The disk has everything of a file."""

    file: str


@attrs.frozen
class Deleted:
    """A name is gone."""

    file: str


@attrs.frozen
class Noted:
    """A test says what has been promised to someone by now."""

    promise: Any


Event: TypeAlias = Written | Truncated | Synced | Deleted | Noted


class Recorder:
    """The list of events, in the order they happened, over all threads."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, promise: Any) -> None:
        """Add a promise to the list."""
        self.events.append(Noted(promise))

    def unsynced(self) -> set[str]:
        """Return the files of which something is written that the disk may not have yet."""
        pending: set[str] = set()
        for event in self.events:
            match event:
                case Written(file=file) | Truncated(file=file):
                    pending.add(file)
                case Synced(file=file) | Deleted(file=file):
                    pending.discard(file)
                case Noted():
                    pass
        return pending


def load_sqlite() -> ctypes.CDLL | None:
    """Return the library that Python's sqlite3 uses, if it can be reached from here."""
    try:
        import _sqlite3

        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        found = library.sqlite3_vfs_find(None)
    except (ImportError, OSError, AttributeError):
        return None
    return library if found and found.contents.zName == b"unix" else None


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what all connections do that are opened meanwhile."""
    library = load_sqlite()
    assert library is not None
    recorder = Recorder()
    shim = _Shim(library, recorder)
    library.sqlite3_vfs_register(ctypes.byref(shim.vfs), 1)
    try:
        yield recorder
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(shim.vfs))
        _KEPT.append(shim)  # a connection that is collected late may still call it


_KEPT: list[Any] = []


class _Shim:
    """The virtual file system: a copy of the real one that opens files with methods of its own."""

    def __init__(self, library: ctypes.CDLL, recorder: Recorder) -> None:
        self._real = library.sqlite3_vfs_find(None)
        self._recorder = recorder
        self._names: dict[int, str] = {}
        self._copies: dict[int, _Methods] = {}
        self._real_open = _Open(self._real.contents.xOpen)
        self._real_delete = _Delete(self._real.contents.xDelete)
        self.vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self.vfs), self._real, ctypes.sizeof(_Vfs))
        self.vfs.zName = b"recording"
        self._callbacks: list[Any] = [_Open(self._open), _Delete(self._delete)]
        self.vfs.xOpen, self.vfs.xDelete = (ctypes.cast(callback, _POINTER) for callback in self._callbacks)

    def _open(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        code = self._real_open(ctypes.cast(self._real, _POINTER), name, file, flags, out)
        opened = ctypes.cast(file, ctypes.POINTER(_File)).contents
        if code == 0 and name and opened.pMethods:
            self._names[file] = Path(ctypes.string_at(name).decode()).name
            opened.pMethods = ctypes.pointer(self._copy_of(opened.pMethods))
        return int(code)

    def _copy_of(self, methods: Any) -> _Methods:
        address = ctypes.addressof(methods.contents)
        if address not in self._copies:
            copy = _Methods()
            ctypes.memmove(ctypes.byref(copy), methods, ctypes.sizeof(_Methods))
            for name, kind, watched in (
                ("xWrite", _Write, self._write),
                ("xTruncate", _Truncate, self._truncate),
                ("xSync", _Sync, self._sync),
            ):
                callback = kind(watched(kind(getattr(methods.contents, name))))
                self._callbacks.append(callback)
                setattr(copy, name, ctypes.cast(callback, _POINTER))
            self._copies[address] = copy
        return self._copies[address]

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: int, size: int, offset: int) -> int:
            self._recorder.events.append(Written(self._names[file], offset, ctypes.string_at(data, size)))
            return real(file, data, size, offset)

        return write

    def _truncate(self, real: Callable[..., int]) -> Callable[..., int]:
        def truncate(file: int, size: int) -> int:
            self._recorder.events.append(Truncated(self._names[file], size))
            return real(file, size)

        return truncate

    def _sync(self, real: Callable[..., int]) -> Callable[..., int]:
        def sync(file: int, flags: int) -> int:
            code = real(file, flags)
            self._recorder.events.append(Synced(self._names[file]))
            return code

        return sync

    def _delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        self._recorder.events.append(Deleted(Path(name.decode()).name))
        return int(self._real_delete(ctypes.cast(self._real, _POINTER), name, sync_folder))


@attrs.define
class _OnDisk:
    """One file: what the disk surely has, and the changes it may or may not have."""

    synced: bytearray = attrs.field(factory=bytearray)
    pending: list[Written | Truncated] = attrs.field(factory=list)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.synced, change)
        self.pending.clear()

    def after_a_cut(self, keep: Callable[[], bool]) -> bytes:
        found = bytearray(self.synced)
        for change in self.pending:
            for part in _sectors(change):
                if keep():
                    _apply(found, part)
        return bytes(found)


def _sectors(change: Written | Truncated) -> Iterator[Written | Truncated]:
    if isinstance(change, Truncated):
        yield change
        return
    for start in range(0, len(change.data), SECTOR):
        yield Written(change.file, change.offset + start, change.data[start : start + SECTOR])


def _apply(content: bytearray, change: Written | Truncated) -> None:
    if isinstance(change, Truncated):
        del content[change.size :]
        return
    end = change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    content[change.offset : end] = change.data


@attrs.frozen
class Cut:
    """What a power cut leaves.

    Attributes:
        moment: how many events had happened.
        files: what is on the disk.
        promises: what had been promised by then.
    """

    moment: int
    files: dict[str, bytes]
    promises: list[Any]


def power_cuts(events: list[Event], seed: int) -> Iterator[Cut]:
    """Yield, for each moment, the disk with all that was written, with only what was synced, and with some of it."""
    draw = random.Random(seed)
    files: dict[str, _OnDisk] = {}
    promises: list[Any] = []
    for moment, event in enumerate(events, 1):
        match event:
            case Written() | Truncated():
                files.setdefault(event.file, _OnDisk()).pending.append(event)
            case Synced():
                files.setdefault(event.file, _OnDisk()).sync()
            case Deleted():
                files.pop(event.file, None)
            case Noted(promise=promise):
                promises.append(promise)
        for keep in (lambda: True, lambda: False, lambda: draw.random() < 0.5):
            left = {name: file.after_a_cut(keep) for name, file in files.items()}
            yield Cut(moment, left, [*promises])

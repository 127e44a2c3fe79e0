"""The threads behind a ledger in a file: one writes, one reads, one gives signs of life."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ._groups import Done

if TYPE_CHECKING:
    from ._books import Books
    from ._sqlite.reader import Reader
    from ._sqlite.writer import Writer

T = TypeVar("T")


class Threads:
    """Everything that touches the file, off the event loop."""

    def __init__(self, path: Path, free_max_age: float, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._free_max_age = free_max_age
        self._writing = ThreadPoolExecutor(1, "oneauto-ledger-writing")
        self._reading = ThreadPoolExecutor(1, "oneauto-ledger-reading")
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._end = threading.Event()
        self._heartbeat = threading.Thread(target=self._beat, name="oneauto-ledger-heartbeat", daemon=True)

    # From the event loop.

    def opened(self) -> asyncio.Future[None]:
        """Open the file."""
        if self._read_only:
            return asyncio.get_running_loop().run_in_executor(self._reading, self._open_to_look)
        return asyncio.get_running_loop().run_in_executor(self._writing, self._open)

    def run(self, works: Sequence[Callable[[Books], Any]]) -> asyncio.Future[Done]:
        """Carry out a group of orders in one transaction."""
        assert self._writer is not None
        return asyncio.get_running_loop().run_in_executor(self._writing, self._writer.run, works)

    def ask(self, question: Callable[[Reader], T]) -> asyncio.Future[T]:
        """Ask the reading side."""
        return asyncio.get_running_loop().run_in_executor(self._reading, lambda: question(self._opened_reader()))

    async def closed(self) -> None:
        """Close the file and end the threads."""
        loop = asyncio.get_running_loop()
        self._end.set()
        try:
            await loop.run_in_executor(self._reading, self._close_reader)
            await loop.run_in_executor(self._writing, self._close_writer)
        finally:
            if self._heartbeat.is_alive():
                self._heartbeat.join()
            self._reading.shutdown()
            self._writing.shutdown()

    def abandon(self) -> None:
        """Do the same without waiting, from wherever."""
        self._end.set()
        with suppress(RuntimeError):  # the program ends
            self._reading.submit(self._close_reader)
            self._writing.submit(self._close_writer)
        self._reading.shutdown(wait=False)
        self._writing.shutdown(wait=False)

    # In the threads.

    def _open(self) -> None:
        from ._sqlite.writer import Writer

        self._writer = Writer(self._path, self._free_max_age)
        self._heartbeat.start()

    def _open_to_look(self) -> None:
        self._opened_reader()

    def _beat(self) -> None:
        from ._sqlite.owners import HEARTBEAT

        last: Future[None] | None = None
        while not self._end.wait(HEARTBEAT):
            if last is not None and not last.done():
                continue  # whatever holds it up would hold up another, and both would hold up the orders
            try:
                last = self._writing.submit(self._show_life)
            except RuntimeError:  # the program ends
                return

    def _show_life(self) -> None:
        if self._writer is not None and not self._end.is_set():
            self._writer.show_life()

    def _opened_reader(self) -> Reader:
        from ._sqlite.reader import Reader

        if self._reader is None:
            self._reader = Reader(self._path, read_only=self._read_only)
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

"""Taking the key out of what the service echoes, so that nothing downstream can show it."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Generator, Iterator

from .._classify import Headers
from .._key import Secret

SHORTEST_MASKED_KEY = 12
"""A shorter key may occur in an answer by chance, and an answer must not be changed; real keys have 20 and more."""

SLICE = 256 * 1024
"""Bytes that are searched before others have their turn: it takes some ten milliseconds."""


LONGEST_SPELLING = 6
"""Bytes that JSON spells a character with, at most."""

SHORTEST_MASKED_BEGINNING = 8
"""Fewer characters of the key, at the end of a body that was cut off, tell little, and may stand there by chance."""


class Mask:
    """Hides one key.

    Arguments:
        key: the key.
    """

    def __init__(self, key: Secret) -> None:
        self._key = key
        self._in_small = Secret(key.reveal().lower())
        self._is_long = len(key.reveal()) >= SHORTEST_MASKED_KEY

    def __repr__(self) -> str:
        return "<Mask>"

    def text(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self._key.reveal(), "***")

    def may_be_in(self, headers: Headers, body: bytes) -> bool:
        """Tell in a moment whether an answer may show the key."""
        if not self._is_long:
            return False
        if self._key.reveal_bytes() in body or self._may_be_spelt(body):
            return True
        return self._in_small.reveal() in " ".join(map(" ".join, headers)).lower()

    def headers(self, headers: Headers) -> Headers:
        """Return headers without the key; in a name also in other capitals, for on the way names are made small."""
        return tuple((self._in_any_capitals.sub("***", name), self.text(value)) for name, value in headers)

    async def body(self, body: bytes) -> bytes:
        """Return a body without the key, however JSON spells it; one that is JSON stays so.

        The event loop is not held up, however large it is. A cancellation that comes meanwhile takes place after the
        return: what is masked was paid for, and has come.
        """
        work = self._masked(body)
        is_cancelled = False
        while True:
            try:
                next(work)
            except StopIteration as done:
                _put_off(is_cancelled=is_cancelled)
                masked: bytes = done.value
                return masked
            is_cancelled |= await _is_cancelled_meanwhile()

    def cut_off_body(self, body: bytes) -> bytes:
        """Return a body that was cut off without the beginning of the key that it ends in, if it does.

        Only its last bytes are looked at, which takes a moment. What stands before them is `body`'s.
        """
        if not self._is_long:
            return body
        at = max(0, len(body) - LONGEST_SPELLING * len(self._key.reveal()))
        while found := self._begun.search(body, at):
            if self._lasts_to_the_end(body, found.start()):
                return body[: found.start()] + b"***"
            at = found.start() + 1
        return body

    def _lasts_to_the_end(self, body: bytes, at: int) -> bool:
        """Tell whether everything from there on is the beginning of the key, be it cut within an escape."""
        places = {at}  # more than one while it is open whether two backslashes spell one character or two
        for character in self._key.reveal():
            if any(_CUT_ESCAPE.fullmatch(body, place) for place in places):
                return True
            found = [way.match(body, place) for way in _ways(character) for place in places]
            places = {match.end() for match in found if match is not None}
        return len(body) in places

    def _masked(self, body: bytes) -> Generator[None, None, bytes]:
        """Mask a body slice by slice, and return it."""
        if self._may_be_spelt(body):
            kept, end = [], 0
            for place in self._places(body):
                if place is None:
                    yield
                else:
                    kept.append(body[end : place[0]])
                    end = place[1]
            body = b"***".join([*kept, body[end:]])
        return body.replace(self._key.reveal_bytes(), b"***")

    def _may_be_spelt(self, body: bytes) -> bool:
        """Tell whether any character of the key may be escaped in a body."""
        return b"\\u00" in body or (b"\\" in body and not self._is_plain)

    def _places(self, body: bytes) -> Iterator[tuple[int, int] | None]:
        """Yield where the key begins and ends, and ``None`` between two slices."""
        overlap = LONGEST_SPELLING * len(self._key.reveal())
        for begin in range(0, len(body), SLICE):
            if begin:
                yield None
            at, end = begin, begin + SLICE
            while found := self._spelt.search(body, at, end + overlap):
                if found.start() >= end:
                    break  # it belongs to the next
                at = found.start() + 1
                if not _is_escaped(body, found.start()):
                    yield found.span()
                    at = found.end()

    @functools.cached_property
    def _is_plain(self) -> bool:
        """Whether JSON has no short escape for any character of the key."""
        return not set('"\\/') & set(self._key.reveal())

    @functools.cached_property
    def _in_any_capitals(self) -> re.Pattern[str]:
        """The key as the name of a header."""
        return re.compile(re.escape(self._key.reveal()), re.IGNORECASE)

    @functools.cached_property
    def _begun(self) -> re.Pattern[bytes]:
        """The first characters of the key in every way that JSON can spell them."""
        return re.compile(b"".join(map(_spellings, self._key.reveal()[:SHORTEST_MASKED_BEGINNING])))

    @functools.cached_property
    def _spelt(self) -> re.Pattern[bytes]:
        """The key in every way that JSON can spell it."""
        return re.compile(b"".join(map(_spellings, self._key.reveal())))


def _spellings(character: str) -> bytes:
    """Match a visible character of ASCII as a JSON text may have it (RFC 8259, 7).

    No two ways may match the same bytes: a search would try all their combinations in what looks like a key.
    """
    return b"(?:%s)" % b"|".join([way.pattern for way in _ways(character)])


@functools.lru_cache(maxsize=128)
def _ways(character: str) -> list[re.Pattern[bytes]]:
    plain = re.escape(character.encode())
    short = [rb"\\" + plain] if character in '"\\/' else []
    return [re.compile(way) for way in (plain, *short, rb"\\u00(?i:%02x)" % ord(character))]


_CUT_ESCAPE = re.compile(rb"(?:\\(?:u(?:0(?:0[0-9a-fA-F]?)?)?)?)?")
"""What may be left of a character that JSON spells with an escape, where a body was cut off: nothing, too."""


def _is_escaped(body: bytes, place: int) -> bool:
    """Tell whether what stands there belongs to an escape: a backslash that is escaped itself begins none."""
    width = 64
    while (before := body[max(0, place - width) : place]) and not before.strip(b"\\") and width < place:
        width *= 2  # there may be millions of them
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


async def _is_cancelled_meanwhile() -> bool:
    """Give others their turn; tell whether this task was cancelled in it, which then is forgotten."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        _own_task().uncancel()
        return True
    return False


def _put_off(*, is_cancelled: bool) -> None:
    """Let a cancellation that came meanwhile take place at the next wait."""
    if is_cancelled:
        _own_task().cancel()


def _own_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task

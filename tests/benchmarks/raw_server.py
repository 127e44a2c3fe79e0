"""The raw server: a fixed answer to whatever is asked, after a given time.

It reads no more of a request than its end, and makes no task for it, so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from asyncio import AbstractEventLoop
from typing import cast

import uvloop

from .servers import HEADERS, sample_body

HEAD_END = b"\r\n\r\n"


class _Answering(asyncio.Protocol):
    """One connection. Requests on it come one after the other."""

    accepted = 0

    def __init__(self, loop: AbstractEventLoop, answer: bytes, latency: float) -> None:
        self._loop = loop
        self._answer = answer
        self._latency = latency
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _Answering.accepted += 1
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if not self._seen.endswith(HEAD_END):
            return
        self._seen = b""
        if self._latency:
            self._loop.call_later(self._latency, self._transport.write, self._answer)
        else:
            self._transport.write(self._answer)


class _Telling(asyncio.Protocol):
    """One connection that asks for the counts."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        counts = f"accepts handled requests\n {_Answering.accepted} {_Answering.accepted} 0\n"
        self._transport.write(response(counts.encode("ascii"), {}))


def response(body: bytes, headers: dict[str, str]) -> bytes:
    """Return a whole response."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    head = ["HTTP/1.1 200 OK", "Server: raw", "Connection: keep-alive", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode("ascii") + HEAD_END + body


async def main(port: int, status_port: int, latency: float, certificate: str | None) -> None:
    """Answer until the process is ended."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    answer = response(sample_body(), HEADERS)
    await loop.create_server(lambda: _Answering(loop, answer, latency), "127.0.0.1", port, ssl=context, backlog=2048)
    await loop.create_server(_Telling, "127.0.0.1", status_port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    port, status_port, latency, *certificate = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(port), int(status_port), float(latency), certificate[0] if certificate else None))

"""Servers on 127.0.0.1 that answer every lookup with the vendor's sample: nginx, or a raw one that can wait.

They run as processes of their own, so that they cost the client no CPU, and count the connections they accept.
"""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import attrs
import trustme

SAMPLE = Path(__file__).parents[1] / "samples" / "200-success.http"

HEADERS = {
    "Content-Type": "application/json",
    "x-amzn-RequestId": "7b1f0c52-6f0a-4a07-9c39-2f8a4e0d5c11",
    "x-amz-apigw-id": "Fq3kXH1tLPEEbTw=",
}

PATIENCE = 10.0
"""Seconds a server may take to start."""

_NGINX = """
daemon off;
worker_processes 1;
error_log stderr crit;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    server {{
        listen 127.0.0.1:{port} {tls} backlog=2048;
        {certificate}
        {headers}
        location / {{ default_type application/json; return 200 '{body}'; }}
    }}
    server {{
        listen 127.0.0.1:{status_port};
        location / {{ stub_status; }}
    }}
}}
"""


@attrs.frozen
class Authority:
    """A certificate authority for one run, and the server's certificate under it, as files."""

    trusted: Path
    certificate: Path

    @classmethod
    def into(cls, folder: Path) -> Authority:
        """Make one; nobody else trusts it."""
        authority = trustme.CA()
        files = cls(folder / "authority.pem", folder / "server.pem")
        authority.cert_pem.write_to_path(str(files.trusted))
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(files.certificate))
        return files

    def ssl_context(self) -> ssl.SSLContext:
        """Return what a client needs to trust the server."""
        return ssl.create_default_context(cafile=self.trusted)


@attrs.frozen
class Server:
    """A running server.

    Attributes:
        name: which one it is.
        url: where it answers lookups.
        status: where it tells its counts, in the words of nginx's ``stub_status``; one connection kept open.
    """

    name: str
    url: str
    status: HTTPConnection

    def connections(self) -> int:
        """Return how many connections it has accepted so far."""
        self.status.request("GET", "/")
        text = self.status.getresponse().read().decode("ascii")
        counts = re.search(r"(\d+) \d+ \d+", text)
        assert counts is not None, text
        return int(counts[1])


@contextmanager
def serve(folder: Path, *, authority: Authority | None, latency: float = 0.0) -> Iterator[Server]:
    """Run a server until the block is left: nginx if it is installed and need not wait, else the raw one.

    Arguments:
        folder: for its files.
        authority: for TLS; without one it speaks plain HTTP.
        latency: seconds between a request and its answer.
    """
    nginx = shutil.which("nginx")
    port, status_port = _free_ports(2)
    if nginx is not None and not latency:
        name, command = "nginx", _nginx_command(nginx, folder, authority, port, status_port)
    else:
        name, command = "raw", _raw_command(authority, latency, port, status_port)
    process = subprocess.Popen(command)
    try:
        _wait_for(process, port, status_port)
        status = HTTPConnection("127.0.0.1", status_port)
        yield Server(name, f"{'http' if authority is None else 'https'}://127.0.0.1:{port}", status)
        status.close()
    finally:
        process.terminate()
        process.wait(PATIENCE)


def sample_body() -> bytes:
    """Return the body of the vendor's sample answer."""
    _, _, body = SAMPLE.read_bytes().partition(b"\n\n")
    return body.strip()


def _nginx_command(
    nginx: str, folder: Path, authority: Authority | None, port: int, status_port: int
) -> Sequence[str | Path]:
    certificate = "" if authority is None else _certificate_lines(authority)
    text = _NGINX.format(
        folder=folder,
        port=port,
        status_port=status_port,
        tls="" if authority is None else "ssl",
        certificate=certificate,
        headers=" ".join(f'add_header {name} "{value}";' for name, value in HEADERS.items() if name != "Content-Type"),
        body=sample_body().decode("ascii"),
    )
    config = folder / f"nginx-{port}.conf"
    config.write_text(text, encoding="ascii")
    return [nginx, "-p", folder, "-c", config, "-e", "stderr"]


def _certificate_lines(authority: Authority) -> str:
    return f"ssl_certificate {authority.certificate}; ssl_certificate_key {authority.certificate};"


def _raw_command(authority: Authority | None, latency: float, port: int, status_port: int) -> Sequence[str | Path]:
    command: list[str | Path] = [sys.executable, "-m", f"{__package__}.raw_server"]
    command += [str(port), str(status_port), str(latency)]
    return command if authority is None else [*command, authority.certificate]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _wait_for(process: subprocess.Popen[bytes], *ports: int) -> None:
    give_up = time.monotonic() + PATIENCE
    for port in ports:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the server did not start; its exit code is {process.poll()}")
            time.sleep(0.02)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True

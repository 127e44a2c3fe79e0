"""One attempt over a real socket: what is told of the money when the wire misbehaves, and what never gets out."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import pickle
import re
import signal
import ssl
import sys
import traceback
from typing import Any

import attrs
import httpcore
import httpx
import pytest
from support.raw import (
    ANSWER,
    CANARY_KEY,
    Asked,
    RawServer,
    answers,
    answers_in_turn,
    breaks_off,
    http,
    never_answers,
)

from oneauto_async import (
    AnswerTooLargeError,
    Billing,
    ConnectionFailedError,
    DeadlineExceededError,
    Failed,
    Found,
    InDoubt,
    InDoubtError,
    MalformedAnswerError,
    OneAutoClient,
    Outcome,
    ProxyError,
    RetryPolicy,
    SchemaMismatchError,
    Timeouts,
    TruncatedAnswerError,
)
from oneauto_async._key import Secret
from oneauto_async._wire.masking import SLICE, Mask
from oneauto_async.transport import HTTP11Transport

pytestmark = pytest.mark.asyncio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ONCE = RetryPolicy(attempts=1)


async def look_up(server: RawServer, vehicle_id: str = "1", **options: Any) -> Outcome[Any]:
    """Look one id up at a raw server."""
    async with OneAutoClient(CANARY_KEY, base_url=server.base_url, **options) as client:
        return await client.lookup(vehicle_id)


def assert_failed(outcome: Outcome[Any], kind: type[Exception], billing: Billing) -> None:
    """Check the error's class, what it says of the money, and that it is the library's own, free of the key."""
    assert isinstance(outcome, Failed | InDoubt)
    assert type(outcome.error) is kind
    assert outcome.error.billing is outcome.receipt.billing is billing
    assert outcome.error.__cause__ is outcome.error.__context__ is None
    assert CANARY_KEY not in repr(outcome) + str(outcome.error) + str(vars(outcome.error))
    assert CANARY_KEY.encode() not in pickle.dumps(outcome)


IN_DOUBT = {
    "FIN before the status line": breaks_off(billed=True),
    "RST before the status line": breaks_off(reset=True, billed=True),
    "RST in the status line": breaks_off(b"HTTP/1.1 2", reset=True),
    "RST in the headers": breaks_off(HEAD[:30], reset=True),
    "an SSH greeting": breaks_off(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "JSON without a status line": breaks_off(ANSWER),
    "status 099": breaks_off(b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n"),
    "two different lengths": breaks_off(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
}


@pytest.mark.parametrize("behaviour", IN_DOUBT.values(), ids=IN_DOUBT.keys())
async def test_a_request_without_a_trustworthy_status_is_in_doubt(server: RawServer, behaviour: Any) -> None:
    """It may have been billed, and it is not sent again."""
    server.on("1", behaviour)

    outcome = await look_up(server)

    assert isinstance(outcome, InDoubt)
    assert_failed(outcome, InDoubtError, Billing.UNKNOWN)
    assert server.requests == {"1": 1}


async def test_silence_is_in_doubt_after_the_read_timeout(server: RawServer) -> None:
    """The server billed and never answered: the error says that it may have been charged."""
    server.on("1", never_answers())

    outcome = await look_up(server, timeouts=Timeouts(read=0.1))

    assert_failed(outcome, InDoubtError, Billing.UNKNOWN)
    assert isinstance(outcome, InDoubt)
    assert "may be charged" in str(outcome.error)


TRUNCATED = {
    "RST in the body": breaks_off(HEAD + b"Content-Length: 500\r\n\r\n" + ANSWER[:100], reset=True),
    "FIN in the body": breaks_off(HEAD + b"Content-Length: 5000\r\n\r\n" + ANSWER),
    "no last chunk": breaks_off(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"suc\r\n'),
    "impossible chunk size": breaks_off(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
}


@pytest.mark.parametrize("behaviour", TRUNCATED.values(), ids=TRUNCATED.keys())
async def test_an_answer_that_breaks_off_is_billed_and_kept(server: RawServer, behaviour: Any) -> None:
    """A 200 was seen: it counts as paid, and is not bought again."""
    server.on("1", behaviour)

    outcome = await look_up(server)

    assert_failed(outcome, TruncatedAnswerError, Billing.BILLED)
    assert server.requests == {"1": 1}


async def test_a_body_that_drips_ends_at_the_attempts_deadline(server: RawServer) -> None:
    """What came is kept; it is billed."""

    async def drip(server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b" ")
            await asyncio.sleep(0.02)

    server.on("1", drip)

    outcome = await look_up(server, timeouts=Timeouts(attempt=0.3))

    assert_failed(outcome, DeadlineExceededError, Billing.BILLED)
    assert outcome.raw


async def test_an_endless_body_is_cut_at_the_cap(server: RawServer) -> None:
    """No more than the cap is read, whatever the server sends."""

    async def pour(server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            await writer.drain()

    server.on("1", pour)

    assert_failed(await look_up(server), AnswerTooLargeError, Billing.BILLED)


async def test_a_gzip_bomb_is_cut_at_the_cap(server: RawServer) -> None:
    """A hundred kilobytes that hold a hundred megabytes."""
    bomb = gzip.compress(b" " * 100 * 2**20, 1)
    server.on("1", answers(http(200, bomb, Content_Encoding="gzip")))

    outcome = await look_up(server)

    assert_failed(outcome, AnswerTooLargeError, Billing.BILLED)
    assert len(outcome.raw or b"") <= 8 * 2**20


async def test_a_gzipped_answer_is_read(server: RawServer) -> None:
    """The client asks for gzip and can read what it then gets."""
    server.on("1", answers(http(200, gzip.compress(ANSWER), Content_Encoding="gzip")))

    assert isinstance(await look_up(server), Found)
    assert dict(server.asked[0].headers)["accept-encoding"] == "gzip"


async def test_an_answer_that_only_says_gzip_keeps_its_bytes(server: RawServer) -> None:
    """Undecodable, billed, and there for a person to read."""
    server.on("1", answers(http(200, ANSWER, Content_Encoding="gzip")))

    outcome = await look_up(server)

    assert_failed(outcome, MalformedAnswerError, Billing.BILLED)
    assert outcome.raw == ANSWER


GOOD = {
    "100 and 103 first": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + http(200, ANSWER),
    "no reason": b"HTTP/1.1 200\r\nContent-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER,
    "chunk extension and trailer": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n" % len(ANSWER)
    + ANSWER
    + b"\r\n0\r\nX-Trailer: y\r\n\r\n",
    "problem+json": http(200, ANSWER, Content_Type="application/problem+json"),
    "no type at all": http(200, ANSWER),
    "a cookie": http(200, ANSWER, Set_Cookie="session=1"),
}


@pytest.mark.parametrize("response", GOOD.values(), ids=GOOD.keys())
async def test_unusual_but_sound_answers_are_accepted(server: RawServer, response: bytes) -> None:
    """The status decides, not the label."""
    server.on("1", answers(response))

    assert isinstance(await look_up(server), Found)


async def test_a_cookie_is_not_sent_back(server: RawServer) -> None:
    """A cookie that the server sets is in no later request."""
    server.on("1", answers(http(200, ANSWER, Set_Cookie="session=1")))

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        await client.lookup(1)
        await client.lookup(2)

    assert ["cookie" in dict(asked.headers) for asked in server.asked] == [False, False]


async def test_a_redirect_is_not_followed(server: RawServer) -> None:
    """A 301 leads to no second request, since the key would go along with it."""
    server.on("1", answers(http(301, Location=f"{server.base_url}/elsewhere?evdb_vehicle_id=2")))

    await look_up(server)

    assert len(server.asked) == 1


async def test_a_users_http_client_is_used_without_its_auth_cookies_and_redirects(server: RawServer) -> None:
    """They would send to the service, or elsewhere, what the service was never meant to get."""
    server.on("1", answers(http(302, Location="/elsewhere")))
    own = httpx.AsyncClient(auth=("user", "password"), cookies={"a": "b"}, follow_redirects=True)

    async with own, OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
        await client.lookup(1)

    (asked,) = server.asked
    assert not {"cookie", "authorization"} & dict(asked.headers).keys()


async def test_a_closed_port_is_a_connection_failure() -> None:
    """Surely not sent: unbilled, and tried as often as the policy says."""
    async with OneAutoClient(CANARY_KEY, base_url="http://127.0.0.1:9", retry=RetryPolicy(attempts=2)) as client:
        outcome = await client.lookup(1)

    assert_failed(outcome, ConnectionFailedError, Billing.NOT_BILLED)
    assert outcome.receipt.attempts == 2


async def test_a_name_that_does_not_resolve_is_a_connection_failure() -> None:
    """A lookup at a host that no resolver knows fails, and is not billed."""
    async with OneAutoClient(CANARY_KEY, base_url="https://nowhere.invalid", retry=ONCE) as client:
        assert_failed(await client.lookup(1), ConnectionFailedError, Billing.NOT_BILLED)


async def test_a_certificate_that_does_not_verify_is_final(tmp_path: Any) -> None:
    """One connection, no request, no second try: the key never leaves."""
    from support.certificate import self_signed

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    raw = RawServer()
    listening = await asyncio.start_server(raw.handle, "127.0.0.1", 0, ssl=context)
    async with listening:
        base_url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with OneAutoClient(CANARY_KEY, base_url=base_url) as client:
            outcome = await client.lookup(1)

    assert_failed(outcome, ConnectionFailedError, Billing.NOT_BILLED)
    assert isinstance(outcome, Failed)
    assert not outcome.error.retryable
    assert outcome.receipt.attempts == 1
    assert raw.asked == []


@pytest.mark.parametrize(("status", "attempts"), [(407, 1), (502, 3)])
async def test_a_proxy_that_refuses_is_a_proxy_error(server: RawServer, status: int, attempts: int) -> None:
    """407 will be no better next time; 502 may be."""
    server.on("", answers(http(status)))
    transport = httpx.AsyncHTTPTransport(proxy=server.base_url)

    async with OneAutoClient(CANARY_KEY, transport=transport, retry=RetryPolicy(attempts=3)) as client:
        outcome = await client.lookup(1)

    assert_failed(outcome, ProxyError, Billing.NOT_BILLED)
    assert outcome.receipt.attempts == len(server.asked) == attempts
    assert all(CANARY_KEY.encode() not in asked.head for asked in server.asked)


async def test_a_proxy_that_hangs_up_when_asked_to_connect_has_passed_nothing_on(server: RawServer) -> None:
    """What it was sent is no request of ours."""
    server.on("", breaks_off())
    transport = httpx.AsyncHTTPTransport(proxy=server.base_url)

    async with OneAutoClient(CANARY_KEY, transport=transport, retry=RetryPolicy(attempts=2)) as client:
        outcome = await client.lookup(1)

    assert_failed(outcome, ConnectionFailedError, Billing.NOT_BILLED)
    assert [asked.head[:7] for asked in server.asked] == [b"CONNECT"] * 2


class _Refusing(httpcore.AsyncConnectionPool):
    """A connection that traces a step and then calls what happened a fault of the protocol."""

    def __init__(self, *steps: str) -> None:
        super().__init__()
        self._steps = steps

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        error = httpcore.LocalProtocolError("99")
        for step in self._steps:
            await request.extensions["trace"](step, {"request": request, "exception": error})
        raise error


@pytest.mark.parametrize(
    ("version", "kind", "billing"),
    [("http11", ConnectionFailedError, Billing.NOT_BILLED), ("http2", InDoubtError, Billing.UNKNOWN)],
)
async def test_a_protocol_fault_over_http2_may_be_the_services_and_leaves_a_doubt(
    version: str, kind: type[Exception], billing: Billing
) -> None:
    """httpcore names it as what h11 refuses to send; that alone surely has not left."""
    transport = httpx.AsyncHTTPTransport()
    transport._pool = _Refusing(*(f"{version}.send_request_headers.{end}" for end in ("started", "failed")))

    async with OneAutoClient(CANARY_KEY, transport=transport, retry=ONCE) as client:
        outcome = await client.lookup(1)

    assert outcome.receipt.billing is billing
    assert isinstance(outcome, Failed | InDoubt)
    assert isinstance(outcome.error, kind)


async def test_whatever_shows_a_request_shows_no_key(server: RawServer) -> None:
    """A hook, or a mock that tells which request it did not expect."""
    shown: list[str] = []

    async def show(request: httpx.Request) -> None:
        shown.append(f"{request!r} {request.headers!r} {request.headers}")

    own = httpx.AsyncClient(event_hooks={"request": [show]}, trust_env=False)
    async with own, OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
        assert isinstance(await client.lookup(1), Found)

    assert "x-api-key" in shown[0]
    assert CANARY_KEY not in shown[0]


async def test_the_key_is_masked_before_an_errors_text_is_cut() -> None:
    """Cut in its midst, it would not be found any more."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("x" * 130 + request.headers["x-api-key"])

    async with OneAutoClient(CANARY_KEY, transport=httpx.MockTransport(refuse), retry=ONCE) as client:
        outcome = await client.lookup(1)

    assert isinstance(outcome, InDoubt)
    assert CANARY_KEY[:8] not in str(outcome.error)


async def test_the_environments_proxy_and_netrc_are_not_used(
    server: RawServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Where the key goes is decided by arguments, not by the machine."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert isinstance(await look_up(server), Found)
    assert "authorization" not in dict(server.asked[0].headers)


async def test_a_connection_closed_while_idle_is_not_used_again(server: RawServer) -> None:
    """Five lookups with pauses, each on a connection that lives: no resend, no doubt."""

    async def answer_and_close(
        server: RawServer, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await answers()(server, asked, reader, writer)
        await asyncio.sleep(0.01)
        raise ConnectionError

    for number in range(5):
        server.on(str(number), answer_and_close)

    async with OneAutoClient(CANARY_KEY, base_url=server.base_url) as client:
        for number in range(5):
            assert isinstance(await client.lookup(number), Found)
            await asyncio.sleep(0.05)

    assert server.bills.total() == len(server.asked) == 5


async def test_every_error_text_of_the_service_is_neutralised(server: RawServer) -> None:
    """Control characters and length are the service's; the message is ours."""
    server.on("1", answers(http(400, b'{"message": "no\\u001b[31m\\r\\nSet-Cookie: x' + b"!" * 5000 + b'"}')))

    outcome = await look_up(server)

    assert isinstance(outcome, Failed)
    text = str(outcome.error)
    assert text.isprintable()
    assert len(text) < 500


ECHOES = {
    "in the body": http(403, b'{"message": "key %s is not valid"}' % CANARY_KEY.encode()),
    "in a header": http(500, b"", x_amzn_RequestId=CANARY_KEY),
    "in an answer": http(200, ANSWER.replace(b'"error": ""', b'"error": "%s"' % CANARY_KEY.encode())),
    "in HTML": http(200, b"<p>" + CANARY_KEY.encode()),
}


@pytest.mark.parametrize("response", ECHOES.values(), ids=ECHOES.keys())
async def test_a_key_that_the_service_echoes_is_masked(
    server: RawServer, response: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is in no outcome, error, pickle, traceback, log or output, at any level."""
    server.on("1", answers(response))
    caplog.set_level(logging.DEBUG, "oneauto_async")

    outcome = await look_up(server, retry=ONCE)

    shown = [repr(outcome), str(attrs.asdict(outcome)), caplog.text, *capfd.readouterr()]
    if isinstance(outcome, Failed):
        shown += [str(vars(outcome.error)), "".join(traceback.format_exception(outcome.error))]
    assert CANARY_KEY not in "".join(shown)
    assert CANARY_KEY.encode() not in pickle.dumps(outcome)


AWKWARD_KEY = 'canary/"0123456789"\\abcdef'
SPELLINGS = {
    "plain": json.dumps(AWKWARD_KEY)[1:-1],
    "slashes": json.dumps(AWKWARD_KEY)[1:-1].replace("/", r"\/"),
    "numbers": "".join(f"\\u{ord(character):04x}" for character in AWKWARD_KEY),
    "one number": json.dumps(AWKWARD_KEY)[1:-1].replace("f", r"\u0066"),
    "capitals": "".join(f"\\u{ord(character):04X}" for character in AWKWARD_KEY),
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
async def test_an_echoed_key_is_masked_however_json_spells_it(server: RawServer, spelling: str) -> None:
    """In the bytes, and so in the record; what stands beside it stays, and is still JSON."""
    not_it = "\\" + SPELLINGS["numbers"]
    echo = f'"result": {{"echo": ["\\n{spelling}\\\\", "\\\\{spelling}{spelling}", "{not_it}"],'
    server.on("1", answers(http(200, ANSWER.replace(b'"result": {', echo.encode()))))

    async with OneAutoClient(AWKWARD_KEY, base_url=server.base_url) as client:
        outcome = await client.lookup("1")

    assert isinstance(outcome, Found)
    masked = ["\n***\\", "\\******", json.loads(f'"{not_it}"')]
    assert outcome.unwrap().extra["echo"] == masked
    assert json.loads(outcome.raw or b"")["result"]["echo"] == masked


TOLD_IN_PART = """
import asyncio, sys
from oneauto_async import OneAutoClient

async def main(base_url, key):
    async with OneAutoClient(key, base_url=base_url) as client:
        print(type(await client.lookup(1)).__name__)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_an_answer_that_shows_a_part_of_the_key_is_read_like_any_other(server: RawServer) -> None:
    """In a process of its own, which would never come back if all ways of reading it were tried."""
    hint = rb'"error": "Key %b... has \u00a310 left"' % CANARY_KEY[:-4].encode()
    server.on("1", answers(http(200, ANSWER.replace(b'"error": ""', hint))))
    command = [sys.executable, "-c", TOLD_IN_PART, server.base_url, CANARY_KEY]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()

    assert said.strip() == b"Found"


@pytest.mark.parametrize("shift", range(0, 130, 3))
async def test_a_key_is_found_wherever_it_stands_in_a_large_answer(shift: int) -> None:
    """A key across the border of two searched slices is masked, also when it is escaped."""
    mask = Mask(Secret(CANARY_KEY))
    spelt = CANARY_KEY.encode().replace(b"y", rb"\u0079")
    beside = b"\\\\" * ((SLICE - shift) // 4)

    assert await mask.body(beside + spelt + beside + spelt) == beside + b"***" + beside + b"***"


@pytest.mark.parametrize("name", [CANARY_KEY, CANARY_KEY.lower(), f"X-{CANARY_KEY}-Id"])
async def test_a_key_that_is_echoed_as_the_name_of_a_header_is_masked(server: RawServer, name: str) -> None:
    """In other capitals too: some transports make names small."""
    mask = Mask(Secret(CANARY_KEY))
    headers = (("Date", "today"), (name, "1"))

    assert mask.may_be_in(headers, b"")
    assert mask.headers(headers) == (("Date", "today"), (re.sub(CANARY_KEY, "***", name, flags=re.IGNORECASE), "1"))


PLAIN, SPELT = CANARY_KEY.encode(), SPELLINGS["numbers"].encode()


@pytest.mark.parametrize(
    ("key", "end"),
    [
        *((CANARY_KEY, PLAIN[:length]) for length in range(8, len(PLAIN))),
        *((AWKWARD_KEY, SPELT[:length]) for length in range(6 * 8, len(SPELT))),
        (AWKWARD_KEY, SPELLINGS["plain"].encode()[:-1]),
        (CANARY_KEY, PLAIN[:8] + PLAIN[:9]),
    ],
)
async def test_a_body_that_was_cut_off_in_the_midst_of_the_key_shows_none_of_it(key: str, end: bytes) -> None:
    """However much of it has come, and however JSON spells it, an escape that is cut itself included."""
    masked = Mask(Secret(key)).cut_off_body(b"you sent " + end)

    assert masked.startswith(b"you sent ")
    assert masked.endswith(b"***")
    assert len(masked) <= len(b"you sent ***") + 8


@pytest.mark.parametrize("body", [b"", PLAIN[:7], PLAIN[:-1] + b" ", b"x" * 1000, PLAIN[1:]])
async def test_a_body_that_was_cut_off_elsewhere_is_left_as_it_is(body: bytes) -> None:
    """A few characters of the key tell little, and may stand there by chance."""
    assert Mask(Secret(CANARY_KEY)).cut_off_body(body) == body
    assert Mask(Secret(CANARY_KEY[:11])).cut_off_body(body + PLAIN[:9]) == body + PLAIN[:9]


async def test_a_cancellation_does_not_lose_an_answer_that_is_being_masked() -> None:
    """It was paid for, and has come; the cancellation takes place at the next wait."""
    body = b'{"\\u00e9": "' + b"x" * 20 * SLICE + CANARY_KEY.encode() + b'"}'
    masked: list[bytes] = []

    async def work() -> None:
        masked.append(await Mask(Secret(CANARY_KEY)).body(body))
        await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert masked == [body.replace(CANARY_KEY.encode(), b"***")]


async def test_what_a_hook_does_with_a_whole_answer_does_not_break_it_off(server: RawServer) -> None:
    """The commonest mistake is to read what was not loaded."""

    async def read(response: httpx.Response) -> None:
        response.json()

    own = httpx.AsyncClient(transport=HTTP11Transport(), event_hooks={"response": [read]}, trust_env=False)
    async with own, OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own) as client:
        assert isinstance(await client.lookup(1), Found)


@pytest.mark.parametrize("stock", [False, True])
async def test_a_header_that_cannot_be_sent_is_no_doubt(server: RawServer, stock: bool) -> None:
    """Whatever a hook puts there: none of the request has left."""

    async def spoil(request: httpx.Request) -> None:
        request.headers["x-note"] = "two\nlines"

    transport = httpx.AsyncHTTPTransport() if stock else HTTP11Transport()
    own = httpx.AsyncClient(transport=transport, event_hooks={"request": [spoil]}, trust_env=False)
    async with own, OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own, retry=ONCE) as client:
        assert_failed(await client.lookup(1), ConnectionFailedError, Billing.NOT_BILLED)
    assert server.asked == []


async def test_whoever_only_waited_in_the_stock_pool_is_in_no_doubt(server: RawServer) -> None:
    """Other traffic has the only connection, and is not answered."""
    server.on("other", never_answers())
    own = httpx.AsyncClient(limits=httpx.Limits(max_connections=1), trust_env=False, timeout=30)
    options: dict[str, Any] = {"timeouts": Timeouts(attempt=0.3), "retry": ONCE}
    async with own, OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own, **options) as client:
        other = asyncio.create_task(own.get(f"{server.base_url}/?evdb_vehicle_id=other"))
        while not server.asked:  # noqa: ASYNC110  # a connection has to be opened
            await asyncio.sleep(0.001)
        outcome = await client.lookup(1)
        other.cancel()

    assert_failed(outcome, ConnectionFailedError, Billing.NOT_BILLED)
    assert list(server.requests) == ["other"]


async def test_an_answer_that_names_another_vehicle_is_not_this_ones(server: RawServer) -> None:
    """A mixed-up cache, say: it is charged, kept, and never handed out."""
    other = ANSWER.replace(b'"result": {', b'"result": {"evdb_vehicle_id": "99999", ')
    server.on("12345", answers(http(200, other)))
    server.on("99999", answers(http(200, other)))

    outcome = await look_up(server, "12345")

    assert_failed(outcome, SchemaMismatchError, Billing.BILLED)
    assert outcome.raw == other
    assert isinstance(await look_up(server, "99999"), Found)


async def test_the_last_answer_decides(server: RawServer) -> None:
    """A refusal and then the record: the receipt tells the record's status and both requests."""
    server.on("1", answers_in_turn(http(503, x_amzn_RequestId="first"), http(200, ANSWER, x_amzn_RequestId="second")))

    receipt = (await look_up(server)).receipt

    assert (receipt.status, receipt.request_id, receipt.attempts, receipt.wasted) == (200, "second", 2, 1)


STOPPED = """
import asyncio, sys
from oneauto_async import OneAutoClient, Timeouts

async def main(base_url):
    async with OneAutoClient("k" * 20, base_url=base_url, timeouts=Timeouts(read=0.5, attempt=5)) as client:
        outcomes = await client.lookup_many(range(5))
    print(*(type(outcome).__name__ for outcome in outcomes))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="POSIX stops processes so")
async def test_answers_that_came_while_the_process_was_stopped_are_taken_in(server: RawServer) -> None:
    """Its event loop looks at the timers, which are all due, before it looks at what has come."""
    for number in range(5):
        server.on(str(number), answers(delay=0.3))
    command = [sys.executable, "-c", STOPPED, server.base_url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        while len(server.asked) < 5:  # noqa: ASYNC110  # another process asks
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        said, _ = await process.communicate()

    assert said.split() == [b"Found"] * 5


@pytest.mark.parametrize("way", ["hook", "instance"])
async def test_a_stock_transport_that_no_longer_tells_leaves_a_doubt(server: RawServer, way: str) -> None:
    """Its trace is somebody else's, or its method is: what was not told of may have been sent."""
    server.on("1", never_answers())
    transport = httpx.AsyncHTTPTransport()
    send = transport.handle_async_request

    async def no_trace(*_: Any) -> None:
        pass

    async def silence(request: httpx.Request) -> None:
        request.extensions["trace"] = no_trace

    async def send_untold(request: httpx.Request) -> httpx.Response:
        request.extensions["trace"] = no_trace
        return await send(request)

    if way == "instance":
        transport.handle_async_request = send_untold  # type: ignore[method-assign]  # as a recorder does
    hooks = {"request": [silence] if way == "hook" else []}
    own = httpx.AsyncClient(transport=transport, event_hooks=hooks, trust_env=False)
    timeouts = Timeouts(read=0.2)
    async with own, OneAutoClient(CANARY_KEY, base_url=server.base_url, http_client=own, timeouts=timeouts) as client:
        assert isinstance(await client.lookup(1), InDoubt)
    assert server.requests == {"1": 1}

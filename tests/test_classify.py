"""What each reply means, and what it costs: every row of the table of statuses, and everything else a server can send.

The samples are headers and raw bodies written from the documents each names in its first line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import examples

from oneauto_async import _json
from oneauto_async._classify import (
    EXCERPT,
    Answer,
    Denied,
    Doubtful,
    Flaw,
    Headers,
    NoContent,
    Pending,
    QuotaUsedUp,
    Rejected,
    Throttled,
    Unavailable,
    Verdict,
    charge_of,
    classify,
    excerpt,
    request_id,
)
from oneauto_async._retry_after import RetryAfter
from oneauto_async.errors import (
    AnswerTooLargeError,
    ApiFailureError,
    BadRequestError,
    Billing,
    DeadlineExceededError,
    MalformedAnswerError,
    SchemaMismatchError,
    TruncatedAnswerError,
    UnexpectedStatusError,
)
from oneauto_async.outcomes import NotSentReason

SAMPLES = Path(__file__).parent / "samples"
BILLED, NOT_BILLED, UNKNOWN = Billing


@attrs.frozen
class Sample:
    source: str
    status: int
    headers: Headers
    body: bytes

    @classmethod
    def read(cls, name: str) -> Sample:
        """Read a file of a source line, a status line, headers, an empty line and the raw body."""
        head, _, body = (SAMPLES / f"{name}.http").read_bytes().partition(b"\n\n")
        source, status_line, *lines = head.decode().splitlines()
        headers = tuple((header, value.strip()) for header, _, value in (line.partition(":") for line in lines))
        return cls(source, int(status_line.split()[1]), headers, body)

    def classify(self) -> Verdict:
        return classify(self.status, self.headers, self.body)


def kind_of(verdict: Verdict) -> object:
    """Name what a verdict says: its class, or the error or the reason that it stands for."""
    match verdict:
        case Rejected(error=error):
            return error
        case Denied(reason=reason):
            return reason
        case _:
            return type(verdict)


EXPECTED: dict[str, tuple[object, Billing]] = {
    "200-success": (Answer, BILLED),
    "200-success-false": (ApiFailureError, BILLED),
    "200-success-false-nested-error": (ApiFailureError, BILLED),
    "200-null-result": (MalformedAnswerError, BILLED),
    "200-no-success-member": (MalformedAnswerError, BILLED),
    "200-empty": (MalformedAnswerError, BILLED),
    "200-html": (MalformedAnswerError, BILLED),
    "201-created": (UnexpectedStatusError, UNKNOWN),
    "202-accepted": (Pending, NOT_BILLED),
    "204-no-content": (NoContent, NOT_BILLED),
    "206-half-empty": (Answer, NOT_BILLED),
    "206-null": (NoContent, NOT_BILLED),
    "206-empty-result": (NoContent, NOT_BILLED),
    "206-empty": (NoContent, NOT_BILLED),
    "206-html": (MalformedAnswerError, NOT_BILLED),
    "302-found": (UnexpectedStatusError, NOT_BILLED),
    "304-not-modified": (UnexpectedStatusError, NOT_BILLED),
    "400-bad-request": (BadRequestError, NOT_BILLED),
    "401-unauthorized": (NotSentReason.ACCESS_DENIED, NOT_BILLED),
    "403-forbidden": (NotSentReason.ACCESS_DENIED, NOT_BILLED),
    "403-service-not-enabled": (NotSentReason.ACCESS_DENIED, NOT_BILLED),
    "403-missing-authentication-token": (NotSentReason.WRONG_ROUTE, NOT_BILLED),
    "404-not-found": (NotSentReason.WRONG_ROUTE, NOT_BILLED),
    "409-conflict": (UnexpectedStatusError, NOT_BILLED),
    "429-throttle": (Throttled, NOT_BILLED),
    "429-throttle-body-only": (Throttled, NOT_BILLED),
    "429-throttle-retry-after": (Throttled, NOT_BILLED),
    "429-vendors-words": (Throttled, NOT_BILLED),
    "429-empty": (Throttled, NOT_BILLED),
    "429-quota": (QuotaUsedUp, NOT_BILLED),
    "429-quota-body-only": (QuotaUsedUp, NOT_BILLED),
    "429-quota-customised-body": (QuotaUsedUp, NOT_BILLED),
    "500-internal-server-error": (Unavailable, NOT_BILLED),
    "500-gateway": (Unavailable, NOT_BILLED),
    "501-not-implemented": (UnexpectedStatusError, NOT_BILLED),
    "502-bad-gateway": (Doubtful, UNKNOWN),
    "503-service-unavailable": (Unavailable, NOT_BILLED),
    "503-retry-after": (Unavailable, NOT_BILLED),
    "504-gateway-timeout": (Doubtful, UNKNOWN),
    "520-unknown": (Doubtful, UNKNOWN),
    "600-unlisted": (UnexpectedStatusError, NOT_BILLED),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_sample_gets_its_verdict_and_its_price(name: str) -> None:
    """Every row of the table of statuses is told apart, with what it costs."""
    verdict = Sample.read(name).classify()
    assert (kind_of(verdict), verdict.billing) == EXPECTED[name]


def test_the_table_and_the_folder_hold_the_same_samples() -> None:
    """No sample lies about untested."""
    assert {path.stem for path in SAMPLES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_sample_names_its_source(name: str) -> None:
    """A sample says which document it was written from; none was recorded from the service."""
    source = Sample.read(name).source
    assert source.startswith("# source: ")
    assert "record" not in source.lower()


@pytest.mark.parametrize(
    ("statuses", "kind", "billing"),
    [
        ((203, 205, 207, 226, 299), UnexpectedStatusError, UNKNOWN),
        ((300, 301, 307, 308, 399), UnexpectedStatusError, NOT_BILLED),
        ((402, 405, 408, 409, 410, 418, 422, 425, 451, 499), UnexpectedStatusError, NOT_BILLED),
        ((505, 511, 521, 524, 598, 599), Doubtful, UNKNOWN),
        ((600, 999, 1000, 2**64), UnexpectedStatusError, NOT_BILLED),
        ((-1, 0, 99, 100, 103, 199), Doubtful, UNKNOWN),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_statuses_no_document_lists(statuses: tuple[int, ...], kind: object, billing: Billing) -> None:
    """Each falls to its class: an error, and free only where nothing can have been delivered (H01, H09 to H17)."""
    verdicts = [classify(status, (), b"") for status in statuses]
    assert [(kind_of(verdict), verdict.billing) for verdict in verdicts] == [(kind, billing)] * len(statuses)


# What a verdict carries.


def test_the_vendors_sample_is_a_success_in_spite_of_its_error_text() -> None:
    """``success`` decides; the text in ``error`` is kept as the message (B15)."""
    sample = Sample.read("200-success")
    message = "If there is an error the message would go here"
    assert sample.classify() == Answer(json.loads(sample.body)["result"], message=message)


def test_a_206_keeps_what_came_and_is_marked_partial() -> None:
    """A half-empty result is an answer, partial and free (H04)."""
    sample = Sample.read("206-half-empty")
    assert sample.classify() == Answer(json.loads(sample.body)["result"], partial=True)


def test_a_throttle_carries_its_retry_after() -> None:
    """Seconds in the header become the wait (R02)."""
    assert Sample.read("429-throttle-retry-after").classify() == Throttled(RetryAfter(2.0), "Too Many Requests")


def test_an_outage_carries_its_retry_after_measured_by_the_servers_clock() -> None:
    """A date is measured against the reply's own ``Date`` (R16, R21)."""
    verdict = Sample.read("503-retry-after").classify()
    assert verdict == Unavailable(RetryAfter(3.0), "Service is temporarily unavailable.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("200-success-false", "No data available for this vehicle"),
        ("200-success-false-nested-error", "Vehicle not found"),
        ("400-bad-request", "Missing required parameter: evdb_vehicle_id"),
        ("403-service-not-enabled", "This service is not enabled for your API key"),
        ("403-forbidden", "Forbidden"),
        ("504-gateway-timeout", "Endpoint request timed out"),
        ("520-unknown", "<html><body>error 520</body></html>"),
    ],
)
def test_the_services_own_words_are_found(name: str, text: str) -> None:
    """They are looked for in ``error``, ``result.error`` and ``message``, and else the body is quoted."""
    verdict = Sample.read(name).classify()
    assert isinstance(verdict, Rejected | Denied | Doubtful)
    assert verdict.text == text


def test_the_gateways_request_id_is_found() -> None:
    """The vendor's support can find a request by it."""
    headers = {name.lower(): value for name, value in Sample.read("400-bad-request").headers}

    assert request_id(headers) == "7b1f0c52-6f0a-4a07-9c39-2f8a4e0d5c11"
    assert request_id({"x-amz-apigw-id": "Fq3kXH1tLPEEbTw="}) == "Fq3kXH1tLPEEbTw="


# Header first, body second, status last.


@pytest.mark.parametrize("name", ["x-amzn-ErrorType", "X-AMZN-ERRORTYPE", "x-amzn-errortype"])
@pytest.mark.parametrize("suffix", ["", ":", ":http://internal.amazon.com/coral/com.amazon.coral.service/"])
def test_the_error_type_is_read_in_any_case_and_with_a_suffix(name: str, suffix: str) -> None:
    """Gateways spell the header as they like and may add to its value behind a colon."""
    assert classify(429, ((name, "LimitExceededException" + suffix),), b"") == QuotaUsedUp()


@pytest.mark.parametrize(
    ("error_type", "body", "kind"),
    [
        ("LimitExceededException", b'{"message":"Too Many Requests"}', QuotaUsedUp),
        ("TooManyRequestsException", b'{"message":"Limit Exceeded"}', Throttled),
        ("TooManyRequestsException", b'{"error":"Your quota is used up"}', Throttled),
    ],
)
def test_the_header_beats_the_body(error_type: str, body: bytes, kind: type[Verdict]) -> None:
    """Owners customise bodies; the error type less so."""
    assert type(classify(429, (("x-amzn-ErrorType", error_type),), body)) is kind


@pytest.mark.parametrize(
    ("status", "error_type", "kind"),
    [
        (403, "LimitExceededException", QuotaUsedUp),
        (403, "TooManyRequestsException", Throttled),
        (400, "ThrottlingException", Throttled),
        (401, "MissingAuthenticationTokenException", NotSentReason.WRONG_ROUTE),
    ],
)
def test_the_header_beats_the_status(status: int, error_type: str, kind: object) -> None:
    """An owner can map a gateway's answer to another status; its type still says what it is."""
    assert kind_of(classify(status, (("x-amzn-ErrorType", error_type),), b"")) == kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"message":"Limit Exceeded"}', QuotaUsedUp),
        (b'{"message":"LIMIT EXCEEDED"}', QuotaUsedUp),
        (b'{"success":false,"error":"Your monthly quota is used up"}', QuotaUsedUp),
        (b'{"message":"Quota exceeded for your corporate plan"}', QuotaUsedUp),
        (b'{"message":"Rate limit exceeded"}', Throttled),
        (b'{"message":"Slow down"}', Throttled),
        (b"<html>busy</html>", Throttled),
    ],
)
def test_without_a_header_the_words_of_a_429_decide(body: bytes, kind: type[Verdict]) -> None:
    """A quota must be named; anything less is taken for a throttle."""
    assert type(classify(429, (), body)) is kind


# Bodies of a 200.


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b" \r\n\t", id="blank"),
        pytest.param(b'{"success":true,"result":{"vehicle_to_load_power_output_kw":NaN}}', id="NaN"),
        pytest.param(b'{"success":true,"result":{"vehicle_to_load_power_output_kw":-Infinity}}', id="infinity"),
        pytest.param(nested(100_000), id="100,000 nested lists"),
        pytest.param(b'{"success":true,"result":{"x":"caf\xe9"}}', id="Latin-1 byte"),
        pytest.param(b'{"success":true,"result":{}}{"success":true,"result":{}}', id="second JSON value"),
        pytest.param(b'{"success":true,"result":{"x":' + b"9" * 5_001 + b"}}", id="5,001 digits"),
        pytest.param(b'{"success":true,"result":{"x":1}', id="cut short"),
        pytest.param(b'{"success":false,"error":"no such vehicle","success":true,"result":{}}', id="success twice"),
        pytest.param(b'{"success":true,"result":{"x":1,"x":true}}', id="member twice"),
        pytest.param(b'{"success":true,"result":{"ports":[{"kw":1,"\\u006bw":2}]}}', id="inner member twice"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"ok"', id="text"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(b"\x00\xff\xfe", id="binary"),
        pytest.param('{"success":true,"result":{}}'.encode("utf-16"), id="UTF-16"),
    ],
)
def test_a_200_that_is_not_the_envelope_is_malformed_and_billed(body: bytes) -> None:
    """It is counted as paid for, and never taken for an answer (B08 to B29)."""
    verdict = classify(200, (), body)
    assert (kind_of(verdict), verdict.billing) == (MalformedAnswerError, BILLED)


def test_a_byte_order_mark_does_no_harm() -> None:
    """Some servers put one before their JSON."""
    assert classify(200, (), b'\xef\xbb\xbf{"success":true,"result":{"x":1}}') == Answer({"x": 1})


@pytest.mark.parametrize("label", ["text/plain", "application/problem+json", "APPLICATION/JSON; CHARSET=UTF-8", None])
def test_the_label_does_not_matter(label: str | None) -> None:
    """The status and the body decide, not the content type (H30)."""
    headers = () if label is None else (("content-type", label),)
    assert classify(200, headers, b'{"success":true,"result":{"x":1}}') == Answer({"x": 1})


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"success":"true","result":{}}', "$.success: expected true or false, got "),
        (b'{"success":1,"result":{}}', "$.success: expected true or false, got "),
        (b'{"success":null,"result":{}}', "$.success: expected true or false, got "),
        (b'{"success":1e999,"result":{}}', "$.success: expected true or false, got "),
        (b'{"success":true,"result":[]}', "$.result: expected object, got list"),
        (b'{"success":true,"result":"none"}', "$.result: expected object, got str"),
    ],
)
def test_a_wrong_type_in_the_envelope_is_a_mismatch_with_its_path(body: bytes, problem: str) -> None:
    """``success`` is true or false and nothing like it; ``result`` is an object."""
    verdict = classify(200, (), body)
    assert isinstance(verdict, Rejected)
    assert verdict.error is SchemaMismatchError
    assert verdict.problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (b'"No such van"', "No such van"),
        (b'{"code":7}', '{"code": 7}'),
        (b'["one","two"]', '["one", "two"]'),
        (b"404", "404"),
        (b"null", "no reason given"),
        (b'""', "no reason given"),
        (b'"two\\nlines\\u001b[31m"', "two lines [31m"),
    ],
)
def test_an_error_of_any_type_is_readable(error: bytes, text: str) -> None:
    """The service's ``error`` need not be text; what is shown is one printable line (B31)."""
    verdict = classify(200, (), b'{"success":false,"result":null,"error":' + error + b"}")
    assert verdict == Rejected(ApiFailureError, text, BILLED)


def test_a_long_text_is_cut() -> None:
    """Foreign words in an error message stay short."""
    assert excerpt("word " * 1_000) == ("word " * 1_000)[:EXCERPT] + "…"


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        (200, b'{"success":true,"result":{},"error":', b"}"),
        (200, b'{"success":false,"error":', b"}"),
        (400, b'{"error":', b"}"),
        (429, b'{"message":', b"}"),
        (500, b"", b""),
    ],
)
def test_no_depth_of_nesting_raises(status: int, before: bytes, after: bytes) -> None:
    """What can just be decoded can also be quoted: no depth up to the interpreter's limit falls between (B22)."""
    for depth in range(1, sys.getrecursionlimit() + 50):
        assert isinstance(classify(status, (), before + nested(depth) + after), get_args(Verdict))


# Bodies that are not whole.


@pytest.mark.parametrize(
    ("flaw", "error"),
    [
        (Flaw.TRUNCATED, TruncatedAnswerError),
        (Flaw.TOO_LARGE, AnswerTooLargeError),
        (Flaw.UNDECODABLE, MalformedAnswerError),
        (Flaw.TIMED_OUT, DeadlineExceededError),
    ],
)
@pytest.mark.parametrize(("status", "billing"), [(200, BILLED), (206, NOT_BILLED)])
def test_a_flaw_is_named_and_priced_by_the_status(flaw: Flaw, error: type, status: int, billing: Billing) -> None:
    """The status line was seen, so the price is known, even if what came would decode."""
    verdict = classify(status, (), b'{"success":true,"result":{"x":1}}', flaw)
    assert (kind_of(verdict), verdict.billing) == (error, billing)


@pytest.mark.parametrize("status", [202, 204, 400, 403, 404, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("flaw", Flaw)
def test_a_flaw_does_not_hide_a_status_that_says_it_all(status: int, flaw: Flaw) -> None:
    """A cut body behind a 429 is still a 429."""
    assert type(classify(status, (), b"", flaw)) is type(classify(status, (), b""))


# Whatever comes.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
envelopes = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("success", "result", "error", "message", "Message"), json_values)
)
bodies = st.binary() | (json_values | envelopes).map(lambda value: json.dumps(value).encode())
header_names = st.sampled_from(["x-amzn-ErrorType", "Retry-After", "Date", "x-amzn-RequestId"]) | st.text()
header_values = st.sampled_from(["LimitExceededException", "TooManyRequestsException", "1", "²"]) | st.text()
header_lists = st.lists(st.tuples(header_names, header_values), max_size=4)
statuses = st.integers() | st.integers(100, 610) | st.sampled_from([200, 206, 400, 403, 429, 500, 503])


@given(statuses, header_lists, bodies, st.none() | st.sampled_from(Flaw))
@examples(1_000)
def test_any_reply_gets_a_verdict(status: int, headers: Headers, body: bytes, flaw: Flaw | None) -> None:
    """Any status, any headers, any bytes: a verdict with a price, and no exception (B33, B34)."""
    verdict = classify(status, headers, body, flaw)
    assert isinstance(verdict, get_args(Verdict))
    assert isinstance(verdict.billing, Billing)


@given(header_lists, bodies, st.none() | st.sampled_from(Flaw))
def test_every_200_is_billed(headers: Headers, body: bytes, flaw: Flaw | None) -> None:
    """The vendor charges for the status, whatever is behind it."""
    assert classify(200, headers, body, flaw).billing is BILLED


@given(st.integers().filter(lambda status: status != 200), header_lists, bodies)
def test_nothing_but_a_200_is_billed(status: int, headers: Headers, body: bytes) -> None:
    """Another status is free or unknown, never known to be charged."""
    assert classify(status, headers, body).billing is not BILLED


@given(statuses, header_lists, bodies, st.none() | st.sampled_from(Flaw))
@examples(300)
def test_the_status_alone_tells_the_charge(status: int, headers: Headers, body: bytes, flaw: Flaw | None) -> None:
    """What is written down before a body is read agrees with what is found in it."""
    assert charge_of(status) is classify(status, headers, body, flaw).billing


@given(statuses, bodies)
def test_what_is_quoted_is_one_short_printable_line(status: int, body: bytes) -> None:
    """Foreign text can neither break a log line nor flood it."""
    text = getattr(classify(status, (), body), "text", "")
    assert text.isprintable()
    assert len(text) <= EXCERPT + 60


def test_a_name_that_is_said_twice_alike_contradicts_nothing() -> None:
    """The answer is paid for, and it is clear what it says."""
    verdict = classify(200, (), b'{"success":true,"result":{"x":[1],"x":[1]}}')
    assert isinstance(verdict, Answer)
    assert verdict.result == {"x": [1]}


def test_alike_is_what_says_the_same_in_another_order() -> None:
    """The order of names means nothing; a truth is no number."""
    alike = classify(200, (), b'{"success":true,"result":{"a":{"p":1,"q":2},"a":{"q":2,"p":1}}}')
    assert isinstance(alike, Answer)
    unlike = classify(200, (), b'{"success":true,"result":{"a":{"p":1},"a":{"p":true}}}')
    assert isinstance(unlike, Rejected)


def test_only_what_is_said_again_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deep answer with a name twice at each level would hold up everything for minutes."""
    compared: list[str] = []

    def said(value: Any) -> str:
        compared.append(original(value))
        return compared[-1]

    original = _json._said
    monkeypatch.setattr(_json, "_said", said)
    inner = b'"' + b"y" * 1000 + b'"'
    for _ in range(50):
        inner = b'{"deep":' + inner + b',"a":1,"a":1}'
    assert isinstance(classify(200, (), b'{"success":true,"result":' + inner + b"}"), Answer)
    assert compared == ["1"] * 100

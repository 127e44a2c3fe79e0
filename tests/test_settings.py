"""What a person sets: where the key comes from, which address it may go to, and values that are refused."""

from __future__ import annotations

import copy
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tracebacks import with_locals

from oneauto_async._address import LIVE_URL, SANDBOX_URL, find_base_url
from oneauto_async._checks import require_seconds, require_whole
from oneauto_async._key import Secret, api_key_from_file, find_api_key
from oneauto_async.errors import ConfigurationError
from oneauto_async.settings import RateLimit, RetryPolicy, Timeouts

KEY = "canary-0123456789-abcdefgh"
OTHER = "canary-other-9876543210"

posix_only = pytest.mark.skipif(os.name != "posix", reason="file modes are a matter of POSIX systems")


def key_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refusal_of(argument: Any, environ: dict[str, str] | None = None) -> str:
    """Return the message with which a key is refused; it never holds the key."""
    with pytest.raises(ConfigurationError) as caught:
        find_api_key(argument, environ or {})
    assert "canary" not in f"{caught.value} {caught.value!r} {vars(caught.value)}"
    assert caught.value.__cause__ is None
    return str(caught.value)


# Where the key comes from.


@pytest.mark.parametrize(
    ("argument", "environ"),
    [
        (KEY, {}),
        (KEY, {"ONEAUTO_API_KEY": OTHER, "ONE_AUTO_API_KEY": "another", "ONEAUTO_API_KEY_FILE": "/nowhere"}),
        (None, {"ONEAUTO_API_KEY": KEY}),
        (None, {"ONE_AUTO_API_KEY": KEY}),
        (None, {"ONEAUTO_API_KEY": KEY, "ONE_AUTO_API_KEY": f"{KEY}\n"}),
        (None, {"ONEAUTO_API_KEY": "", "ONE_AUTO_API_KEY": KEY}),
        (None, {"ONEAUTO_API_KEY": KEY, "ONE_AUTO_API_KEY": " "}),
        (None, {"ONEAUTO_API_KEY": KEY, "ONEAUTO_API_KEY_FILE": "/nowhere"}),
    ],
)
def test_the_argument_beats_the_variables_and_they_the_file(argument: str | None, environ: dict[str, str]) -> None:
    """The nearer source wins; a blank variable counts as unset."""
    assert find_api_key(argument, environ).reveal() == KEY


def test_without_a_key_the_message_says_what_to_do() -> None:
    """A newcomer reads where to put the key, and how to go without one (C01)."""
    message = refusal_of(None)
    assert "ONEAUTO_API_KEY" in message
    assert "simulated()" in message


def test_two_different_keys_are_refused() -> None:
    """Which of them would pay is not to be guessed."""
    assert "differ" in refusal_of(None, {"ONEAUTO_API_KEY": KEY, "ONE_AUTO_API_KEY": OTHER})


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_argument_is_refused_and_not_replaced(blank: str) -> None:
    """An argument was given: a variable does not stand in for it."""
    assert "empty" in refusal_of(blank, {"ONEAUTO_API_KEY": KEY})


@pytest.mark.parametrize("environ", [{}, {"ONEAUTO_API_KEY": "your-api-key-here"}])
def test_the_vendors_placeholder_is_no_key(environ: dict[str, str]) -> None:
    """Copied from the vendor's page, it would cost a 403 for every id."""
    assert "placeholder" in refusal_of(None if environ else "your-api-key-here", environ)


@pytest.mark.parametrize("key", [f"{KEY}\n", f"\r\n{KEY}", f" {KEY}\t"])
def test_space_around_a_key_is_dropped(key: str) -> None:
    """Secret mounts end in a newline, which httpx would print together with the key (C02)."""
    assert find_api_key(key, {}).reveal() == KEY


@pytest.mark.parametrize("inside", [" ", "\n", "\r\nx-evil: 1", "\x00", "\x7f", "é", "\u200b", "\ud800"])
def test_a_key_no_header_can_carry_is_refused(inside: str) -> None:
    """It is refused at once, without being shown (C02)."""
    assert refusal_of(f"{KEY}{inside}{KEY}").startswith("api_key holds")


@pytest.mark.parametrize("argument", [b"canary", 12345, ["canary"], Path("canary"), Secret(KEY)])
def test_a_key_is_text(argument: Any) -> None:
    """Bytes would be sent as ``b'…'``."""
    assert "must be text" in refusal_of(argument)


@given(st.text())
def test_any_text_is_a_sendable_key_or_refused(text: str) -> None:
    """What is accepted is the text itself, trimmed, in visible ASCII."""
    try:
        key = find_api_key(text, {}).reveal()
    except ConfigurationError:
        return
    assert key == text.strip()
    assert all(0x21 <= ord(character) <= 0x7E for character in key)


# The key in a file.


@pytest.mark.parametrize(
    "content",
    [
        KEY.encode(),
        f"{KEY}\n".encode(),
        f"{KEY}\r\n".encode(),
        b"\xef\xbb\xbf" + f"{KEY}\r\n".encode(),
        f"\n  {KEY}\n\n".encode(),
    ],
    ids=["bare", "LF", "CRLF", "byte-order mark", "blank lines"],
)
def test_a_key_file_is_read_right(tmp_path: Path, content: bytes) -> None:
    """Byte-order mark and line ends are dropped (C21)."""
    environ = {"ONEAUTO_API_KEY_FILE": str(key_file(tmp_path, content))}
    assert find_api_key(None, environ).reveal() == KEY


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", f"{KEY}\n{OTHER}\n".encode(), KEY.encode("utf-16"), KEY.encode() + b"\xff\xfe\x00", b"\x00" * 100],
    ids=["empty", "blank", "two lines", "UTF-16", "not UTF-8", "binary"],
)
def test_a_file_without_one_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """The message names the file and never its content."""
    path = key_file(tmp_path, content)
    assert str(path) in refusal_of(None, {"ONEAUTO_API_KEY_FILE": str(path)})


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """The path and the reason tell what to mend."""
    path = tmp_path / "missing"
    message = refusal_of(None, {"ONEAUTO_API_KEY_FILE": str(path)})
    assert str(path) in message
    assert "No such file" in message


def test_a_directory_is_no_key_file(tmp_path: Path) -> None:
    """A mistake as easily made as explained."""
    assert "directory" in refusal_of(None, {"ONEAUTO_API_KEY_FILE": str(tmp_path)})


def test_a_path_no_system_accepts_is_refused() -> None:
    """A NUL in a path is a plain configuration error too."""
    refusal_of(None, {"ONEAUTO_API_KEY_FILE": "a\x00b"})


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_key_file_open_to_others_is_read_with_a_warning(tmp_path: Path, mode: int) -> None:
    """It works, and says what to do about it (C21)."""
    path = key_file(tmp_path, KEY.encode(), mode)
    with pytest.warns(UserWarning, match="open to other users: chmod 600") as caught:
        assert api_key_from_file(path).reveal() == KEY
    assert all("canary" not in str(warning.message) for warning in caught)


@posix_only
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_key_file_gives_no_warning(tmp_path: Path, mode: int) -> None:
    """Warnings are errors in this test run."""
    assert api_key_from_file(key_file(tmp_path, KEY.encode(), mode)).reveal() == KEY


# The key afterwards.


def test_a_secret_shows_itself_to_nobody() -> None:
    """No way of printing it shows it (C04)."""
    secret = Secret(KEY)
    assert {repr(secret), str(secret), f"{secret}", f"{secret!s:>4}", ascii(secret)} == {"<secret>"}
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("spread", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_pickled_or_copied(spread: Any) -> None:
    """It stays in the process it was given to (C04)."""
    with pytest.raises(TypeError, match="not pickled or copied"):
        spread(Secret(KEY))


REFUSED_FILES = {"of/two": f"{KEY}\n{OTHER}".encode(), "of/bytes": KEY.encode() + b"\xff"}


@pytest.mark.parametrize(
    "environ",
    [
        {"ONEAUTO_API_KEY": f"{KEY} {KEY}"},
        {"ONEAUTO_API_KEY": KEY, "ONE_AUTO_API_KEY": OTHER},
        {"ONEAUTO_API_KEY_FILE": KEY},
        *({"ONEAUTO_API_KEY_FILE": path} for path in REFUSED_FILES),
    ],
    ids=["a space", "two that differ", "the key as its file", "two in a file", "a file that is no text"],
)
def test_a_refused_key_is_in_no_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    """Crash reporters and ``pytest -l`` show locals."""
    monkeypatch.chdir(tmp_path)
    Path("of").mkdir()
    for path, content in REFUSED_FILES.items():
        Path(path).write_bytes(content)
        Path(path).chmod(0o600)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        find_api_key(None)

    assert "canary" not in with_locals(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("base_url", "environ"),
    [("htp://x", {}), (None, {"ONEAUTO_SANDBOX": "maybe"}), (None, {"ONEAUTO_BASE_URL": "htp://x"})],
)
def test_a_refused_address_shows_nothing_else_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, base_url: str | None, environ: dict[str, str]
) -> None:
    """The key is in it."""
    for name, value in ({"ONEAUTO_API_KEY": KEY} | environ).items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as caught:
        find_base_url(base_url, None)

    assert KEY not in with_locals(caught.value)


# The address.


@pytest.mark.parametrize(
    ("url", "sandbox", "environ", "address"),
    [
        (None, None, {}, LIVE_URL),
        (None, False, {}, LIVE_URL),
        (None, True, {}, SANDBOX_URL),
        (None, None, {"ONEAUTO_SANDBOX": "true"}, SANDBOX_URL),
        (None, None, {"ONEAUTO_BASE_URL": "https://proxy.example"}, "https://proxy.example"),
        (
            None,
            None,
            {"ONEAUTO_BASE_URL": "https://proxy.example", "ONEAUTO_SANDBOX": "false"},
            "https://proxy.example",
        ),
        (None, None, {"ONEAUTO_BASE_URL": " ", "ONEAUTO_SANDBOX": "1"}, SANDBOX_URL),
        (None, True, {"ONEAUTO_BASE_URL": "https://proxy.example"}, SANDBOX_URL),
        (None, False, {"ONEAUTO_SANDBOX": "true"}, LIVE_URL),
        ("https://proxy.example", None, {"ONEAUTO_SANDBOX": "true"}, "https://proxy.example"),
        ("https://proxy.example", None, {"ONEAUTO_BASE_URL": "https://other.example"}, "https://proxy.example"),
    ],
)
def test_an_argument_beats_the_environment(
    url: str | None, sandbox: bool | None, environ: dict[str, str], address: str
) -> None:
    """One source names the host; without any it is the live service."""
    assert find_base_url(url, sandbox, environ) == address


def test_the_hosts_are_the_vendors() -> None:
    """The live and the sandbox address are those on the vendor's page."""
    assert (LIVE_URL, SANDBOX_URL) == ("https://api.oneautoapi.com", "https://sandbox.oneautoapi.com")


@pytest.mark.parametrize("sandbox", [True, False])
def test_sandbox_and_base_url_exclude_each_other(sandbox: bool) -> None:
    """Giving both is refused, since each of them names the host."""
    with pytest.raises(ConfigurationError, match="not both"):
        find_base_url("https://proxy.example", sandbox, {})


def test_both_variables_exclude_each_other() -> None:
    """A sandbox run must not go to another host unnoticed."""
    with pytest.raises(ConfigurationError, match="both set"):
        find_base_url(None, None, {"ONEAUTO_BASE_URL": "https://proxy.example", "ONEAUTO_SANDBOX": "1"})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        *((text, SANDBOX_URL) for text in ("1", "true", "True", "TRUE", "yes", "on", " true ")),
        *((text, LIVE_URL) for text in ("", "0", "false", "False", "no", "off", " ")),
    ],
)
def test_the_sandbox_variable_is_read_as_people_write_it(text: str, address: str) -> None:
    """Any common spelling of yes and no."""
    assert find_base_url(None, None, {"ONEAUTO_SANDBOX": text}) == address


@pytest.mark.parametrize("text", ["maybe", "2", "ture", "sandbox"])
def test_an_unclear_sandbox_variable_is_refused(text: str) -> None:
    """A typing mistake must not cost money on the live service."""
    with pytest.raises(ConfigurationError, match="ONEAUTO_SANDBOX must be true or false"):
        find_base_url(None, None, {"ONEAUTO_SANDBOX": text})


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://proxy.example", "https://proxy.example"),
        ("https://proxy.example/", "https://proxy.example"),
        ("https://proxy.example/v1//", "https://proxy.example/v1"),
        (" https://proxy.example\n", "https://proxy.example"),
        ("HTTPS://proxy.example:8443", "https://proxy.example:8443"),
        ("https://[2001:db8::1]:8443/a/b", "https://[2001:db8::1]:8443/a/b"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://LOCALHOST:8080/", "http://LOCALHOST:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.8.7", "http://127.9.8.7"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_kept_without_its_trailing_slash(url: str, address: str) -> None:
    """The endpoint's path brings its own slashes; plain http is for this machine alone (T30)."""
    assert find_base_url(url, None, {}) == address


@pytest.mark.parametrize(
    "url",
    [
        *("http://api.oneautoapi.com", "http://10.0.0.1", "http://0.0.0.0", "http://[2001:db8::1]"),
        *("http://localhost.example", "http://127.0.0.1.example", "http://127.0.0.1@api.example"),
        *("ftp://proxy.example", "file:///etc/passwd", "//proxy.example", "proxy.example", "proxy.example:443", ""),
        *("https://", "https:///path", "https:proxy.example", "https://proxy.example:0", "https://proxy.example:x"),
        *("https://proxy.example:65536", "https://[::1", "https://proxy.example?a=b", "https://proxy.example/#top"),
        *(
            "https://proxy .example",
            "https://proxy.example/a b",
            "https://proxy.example/\x00",
            "https://pro\u200bxy.example",
        ),
    ],
)
def test_an_address_the_key_must_not_go_to_is_refused(url: str) -> None:
    """Anything that is not plainly https, or http on this machine, is refused before anything is sent."""
    with pytest.raises(ConfigurationError, match="base_url"):
        find_base_url(url, None, {})


@pytest.mark.parametrize("url", [b"https://proxy.example", 1, Path("/tmp")])
def test_an_address_is_text(url: Any) -> None:
    """Everything else is refused by name."""
    with pytest.raises(ConfigurationError, match="must be text"):
        find_base_url(url, None, {})


@pytest.mark.parametrize("place", ["user:canary@proxy.example", "canary@proxy.example", "u:canary@proxy.example:x"])
@pytest.mark.parametrize("scheme", ["https", "http", "ftp"])
def test_a_password_in_the_address_is_refused_and_not_shown(scheme: str, place: str) -> None:
    """It belongs to no address, and no message repeats it."""
    with pytest.raises(ConfigurationError) as caught:
        find_base_url(f"{scheme}://{place}", None, {})
    assert "canary" not in str(caught.value)


@given(st.text() | st.text().map("https://".__add__) | st.text().map("http://".__add__))
def test_any_text_is_a_safe_address_or_refused(text: str) -> None:
    """What is accepted is https, or http to this machine, and nothing else is raised than the refusal."""
    try:
        address = find_base_url(text, None, {})
    except ConfigurationError:
        return
    assert address.startswith(("https://", "http://localhost", "http://127.", "http://[::1]"))
    assert not address.endswith("/")


# Numbers.

SETTINGS: list[tuple[type, str, set[str]]] = [
    (Timeouts, "connect", {"above 0"}),
    (Timeouts, "read", {"above 0"}),
    (Timeouts, "attempt", {"above 0"}),
    (Timeouts, "drain", {"from 0"}),
    (RetryPolicy, "attempts", {"whole", "above 0"}),
    (RetryPolicy, "total", {"above 0"}),
    (RetryPolicy, "max_retry_after", {"from 0"}),
    (RetryPolicy, "poll_interval", {"above 0"}),
    (RetryPolicy, "poll_total", {"from 0"}),
    (RetryPolicy, "resend_in_doubt", {"whole", "from 0"}),
    (RateLimit, "rate", {"above 0"}),
    (RateLimit, "burst", {"whole", "above 0"}),
]
WRONG: list[Any] = ["5", True, [5], -1, -0.5, math.nan, math.inf, -math.inf, 1 + 0j]


def make(kind: type, name: str, value: Any) -> Any:
    return kind(**({"rate": 5.0} if kind is RateLimit else {}) | {name: value})


@pytest.mark.parametrize(("kind", "name", "rules"), SETTINGS)
@pytest.mark.parametrize("value", [1, 7, 0.25, 0])
def test_a_number_within_bounds_is_kept(kind: type, name: str, rules: set[str], value: float) -> None:
    """Seconds may be fractions, counts are whole, and some may be nothing at all."""
    if (value == 0 and "above 0" in rules) or (value == 0.25 and "whole" in rules):
        with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.{name} must be"):
            make(kind, name, value)
    else:
        assert getattr(make(kind, name, value), name) == value


@pytest.mark.parametrize(("kind", "name", "rules"), SETTINGS)
@pytest.mark.parametrize("value", WRONG, ids=lambda value: str(value)[:12])
def test_a_wrong_number_is_refused_by_name(kind: type, name: str, rules: set[str], value: Any) -> None:
    """Text, truth values, negatives and what is no finite number: the message names the setting."""
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.{name} must be"):
        make(kind, name, value)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    """It is a wrong setting like any other, not an arithmetic error."""
    with pytest.raises(ConfigurationError, match=r"Timeouts\.connect must be"):
        Timeouts(connect=10**400)


@pytest.mark.parametrize("limit", [{"rate": 5e-324}, {"rate": 9e-7}, {"burst": 10**9 + 1}, {"burst": 10**400}])
def test_a_rate_limit_that_nothing_can_count_with_is_refused(limit: dict[str, Any]) -> None:
    """Its seconds would be infinite, or its tokens no float."""
    with pytest.raises(ConfigurationError, match=rf"RateLimit\.{next(iter(limit))} must be .*at (least|most)"):
        RateLimit(**{"rate": 5.0} | limit)
    assert RateLimit(1e-6, 10**9).burst == 10**9


@pytest.mark.parametrize("scope", ["keys", None, 1, ["key"], {"key"}])
def test_a_retry_after_holds_the_key_or_the_call(scope: Any) -> None:
    """Whatever else is given, of whatever type, is a wrong setting."""
    with pytest.raises(ConfigurationError, match=r"RateLimit\.retry_after_scope must be 'key' or 'call'"):
        RateLimit.adaptive(retry_after_scope=scope)


@pytest.mark.parametrize(("kind", "name", "rules"), [row for row in SETTINGS if row[1] != "rate"])
def test_none_is_no_number(kind: type, name: str, rules: set[str]) -> None:
    """There is no way to switch a limit off by leaving it empty."""
    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.{name} must be"):
        make(kind, name, None)


def test_the_defaults_are_the_documented_ones() -> None:
    """Changing one is a change for every user."""
    assert Timeouts() == Timeouts(connect=5, read=35, attempt=45, drain=35)
    assert RetryPolicy() == RetryPolicy(
        attempts=6, total=300, max_retry_after=120, poll_interval=2, poll_total=30, resend_in_doubt=0
    )


def test_a_rate_limit_is_given_or_adaptive() -> None:
    """A burst of one unless said otherwise; adaptive knows no rate."""
    assert RateLimit(50) == RateLimit(rate=50, burst=1)
    assert RateLimit.adaptive() == RateLimit(rate=None)


@pytest.mark.parametrize("value", [Timeouts(), RetryPolicy(), RateLimit(5, 2)])
def test_settings_are_values(value: Any) -> None:
    """Frozen, hashable, picklable: shared between clients without care."""
    assert {value: 1}[pickle.loads(pickle.dumps(value))] == 1
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, 1)


@pytest.mark.parametrize("value", [0, -1, 1.5, None, True, "3", math.nan])
def test_a_count_is_a_whole_number_from_its_bound(value: Any) -> None:
    """Concurrency 0, -1, 1.5 and None are refused before any request (X08)."""
    with pytest.raises(ConfigurationError, match="concurrency must be a whole number of at least 1"):
        require_whole("concurrency", value, 1)


@pytest.mark.parametrize("value", [0, -1, True, "3", math.nan, math.inf])
def test_a_deadline_is_a_number_of_seconds(value: Any) -> None:
    """Or None, for no deadline at all."""
    require_seconds("deadline", None)
    require_seconds("deadline", 0.5)
    with pytest.raises(ConfigurationError, match="deadline must be a number of seconds above 0"):
        require_seconds("deadline", value)


@pytest.mark.parametrize(
    "make",
    [lambda: RateLimit(math.inf), lambda: RateLimit(2e9), lambda: Timeouts(read=1e10)],
    ids=["inf", "2e9", "read"],
)
def test_a_number_that_is_too_large_is_refused_with_the_largest_there_may_be(make: Callable[[], object]) -> None:
    """To be told that it must be above 0 would help nobody."""
    with pytest.raises(ConfigurationError, match="up to 1,000,000,000, got"):
        make()


def test_not_the_sandbox_is_not_the_live_service_for_who_is_led_elsewhere() -> None:
    """A program that always says ``sandbox=`` can be tested against a simulator by its environment alone."""
    led = {"ONEAUTO_BASE_URL": "http://127.0.0.1:8080", "ONEAUTO_SANDBOX": "1"}
    assert find_base_url(None, False, led) == "http://127.0.0.1:8080"
    assert find_base_url(None, True, led) == SANDBOX_URL
    assert find_base_url(None, False, {"ONEAUTO_SANDBOX": "1"}) == LIVE_URL
    with pytest.raises(ConfigurationError, match="sandbox=False, but ONEAUTO_BASE_URL names the sandbox"):
        find_base_url(None, False, {"ONEAUTO_BASE_URL": SANDBOX_URL})

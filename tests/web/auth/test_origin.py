"""Which pages may connect."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tidegate.model.settings import AuthSettings, Settings
from tidegate.web.auth.origin import origin_allowed, request_allowed

LISTED = AuthSettings.model_validate(
    {"origins": "https://app.example.com,https://*.example.org:8443,http://[::1]:3000"}
).origins


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://a.example", "a.example", True),
        ("https://a.example", "a.example:443", True),
        ("https://a.example:443", "a.example", True),
        ("http://a.example", "a.example:80", True),
        ("HTTPS://A.example", "a.EXAMPLE", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://127.0.0.1:8080", "127.0.0.1:8081", False),
        ("https://a.example", "a.example:80", False),
        ("https://evil.example", "a.example", False),
        ("https://a.example.evil.example", "a.example", False),
        ("https://evila.example", "a.example", False),
        ("https://a.example.", "a.example", False),
        ("null", "a.example", False),
        ("", "a.example", False),
        ("file://", "a.example", False),
        ("https://a.example/", "a.example", False),
        ("https://a.example@evil.example", "a.example", False),
        ("https://*.example", "*.example", False),
        ("chrome-extension://a.example", "a.example", False),
        ("https://a.example https://b.example", "a.example", False),
        ("https://\u0430.example", "\u0430.example", False),
        ("https://a.example", None, False),
        ("https://a.example", "", False),
        ("https://a.example", "a.example, b.example", False),
        ("https://" + "a" * 600, "a" * 600, False),
    ],
)
def test_the_default_is_the_same_host(origin: str, host: str | None, allowed: bool) -> None:
    assert origin_allowed(origin, host, (), has_token=True) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example.com", True),
        ("https://app.example.com:443", True),
        ("https://APP.example.com", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://b.app.example.com", False),
        ("https://x.example.org:8443", True),
        ("https://y.x.example.org:8443", True),
        ("https://example.org:8443", False),
        ("https://x.example.org", False),
        ("https://evilexample.org:8443", False),
        ("https://.example.org:8443", False),
        ("https://x.example.org.evil.com:8443", False),
        ("http://[::1]:3000", True),
        # The list replaces the default.
        ("https://here.example", False),
    ],
)
def test_listed_origins_and_subdomains(origin: str, allowed: bool) -> None:
    assert origin_allowed(origin, "here.example", LISTED, has_token=True) is allowed


@pytest.mark.parametrize("allowed", [(), LISTED])
def test_no_origin_is_no_browser_and_needs_a_token(allowed: tuple[str, ...]) -> None:
    assert origin_allowed(None, "a.example", allowed, has_token=True)
    assert not origin_allowed(None, "a.example", allowed, has_token=False)


def test_headers_given_twice_are_refused() -> None:
    good = [(b"host", b"a.example"), (b"origin", b"https://a.example")]
    assert request_allowed(good, (), has_token=True)
    assert not request_allowed([*good, good[1]], (), has_token=True)
    assert not request_allowed([*good, good[0]], (), has_token=True)
    assert request_allowed([(b"host", b"a.example")], (), has_token=True)
    assert not request_allowed([(b"host", b"a"), (b"origin", b"https://\xff")], (), has_token=True)


@hypothesis_settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_answered(origin: str, host: str) -> None:
    answer = origin_allowed(origin, host, LISTED, has_token=True)
    assert answer is False or origin.lower().startswith("http")
    origin_allowed(origin, host, (), has_token=False)


@pytest.mark.parametrize(
    "rule",
    [
        *("*", "app.example.com", "https://*", "https://a.*.com", "https://a/", "ftp://a", "null"),
        *(
            "http://a.example:*",
            "http://*.localhost:*",
            "http://127.0.0.2:*",
            "http://localhost:*1",
        ),
    ],
)
def test_a_rule_that_means_something_else_is_refused_as_a_setting(rule: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        AuthSettings.model_validate({"origins": [rule]})


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:5173", True),
        ("http://localhost", True),
        ("http://LOCALHOST:1", True),
        ("http://[::1]:5173", True),
        ("https://localhost:5173", False),
        ("http://127.0.0.1:5173", False),
        ("http://localhost.evil.example:5173", False),
        ("http://evil.localhost:5173", False),
        ("http://localhost:*", False),
        ("http://evil.example:5173", False),
    ],
)
def test_any_port_of_loopback_for_a_demo(origin: str, allowed: bool) -> None:
    rules = ["http://localhost:*", "http://[::1]:*"]
    tree = {"server": {"auth": "none", "demo": True}, "auth": {"origins": rules}}
    listed = Settings.model_validate(tree).auth.origins
    assert origin_allowed(origin, "127.0.0.1:8080", listed, has_token=True) is allowed


def test_any_port_is_for_a_demo_only() -> None:
    with pytest.raises(ValueError, match=r"needs server\.demo"):
        Settings.model_validate({"auth": {"origins": "http://localhost:*"}})

"""What viewers are told of an exception."""

from __future__ import annotations

import pytest

from tidegate.client.updates import describe_kind
from tidegate.integrations.describing import (
    HIDDEN,
    TEXT_MAX_CHARS,
    describe_text,
    redact_secrets,
    told,
)


@pytest.mark.parametrize(
    "text",
    [
        "cannot open postgres://app:S3CRET@db:5432/x",
        "redis://:S3CRET@cache/0 refused",
        "password=S3CRET",
        'login failed: {"user": "a", "password": "S3CRET with blanks"}',
        "{'api_key': 'S3CRET'}",
        "DB_PASSWORD=S3CRET is wrong",
        "client-secret: S3CRET",
        "GET /x?token=S3CRET&page=2",
        "GET /x?access_token=S3CRET",
        "Authorization: Bearer S3CRETS3CRET",
        "authorization='Basic S3CRETS3CRET='",
        "sent Bearer S3CRETS3CRET to it",
        "eyJhbGciOiJub25l.S3CRET.S3CRET is not valid",
        "key AKIAS3CRETS3CRETS3CR",
        "ghp_S3CRETS3CRETS3CRET",
        "sk-proj-S3CRETS3CRETS3CRET",
        "-----BEGIN RSA PRIVATE KEY-----\nS3CRET\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nS3CRET",
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str) -> None:
    assert HIDDEN in redact_secrets(text)
    assert "S3CRET" not in redact_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "row 7: the token of this line is missing",
        "no such file: /data/secrets.csv",
        "HTTP 503 of https://api.example.com/v1?page=2",
        "KeyError: 'password'",
        "the passport number is required",
    ],
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert redact_secrets(text) == text


def test_errors_are_told_with_kind_and_text_within_bounds() -> None:
    assert told(ValueError("no such file"), describe_text, redact_secrets) == (
        "ValueError: no such file"
    )
    assert told(ValueError(), describe_text, redact_secrets) == "ValueError"
    assert told(ValueError("password=x"), describe_kind, redact_secrets) == "ValueError"
    long = told(ValueError("x" * 100_000), describe_text, redact_secrets)
    assert len(long) == TEXT_MAX_CHARS
    assert long.endswith("\u2026")


def test_hooks_that_fail_hide_the_text_and_fail_nothing() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def broken(_: str) -> str:
        raise RuntimeError("hook")

    assert told(Rude(), describe_text, redact_secrets) == "Rude"
    assert told(ValueError("password=x"), describe_text, broken) == "ValueError"
    assert told("password=x", describe_text, broken) == "failed"


def test_hostile_texts_take_no_time() -> None:
    """Patterns that try everything again for each character would take minutes."""
    for text in ("token" * 20_000, "://" * 30_000, "eyJ" + "a" * 90_000, "password=" * 9_000):
        redact_secrets(text[:4_000])
        assert len(told(text, describe_text, redact_secrets)) <= TEXT_MAX_CHARS

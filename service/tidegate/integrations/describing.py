"""What viewers are told of an exception: its kind and text, without what looks like a secret.

A pattern can only know the usual forms of secrets. Who handles texts that browsers must never see
passes `describe=describe_kind`, or a `redact` of their own, to the reporter.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tidegate.client.updates import Describe, describe_kind

Redact = Callable[[str], str]
TEXT_MAX_CHARS = 500
#: Longer texts are cut before the patterns are tried on them.
READ_MAX_CHARS = 4_000
HIDDEN = "[redacted]"

_NAMES = (
    r"pass(?:word|wd|phrase)?|pwd|secret(?:[_-]?access)?(?:[_-]?key)?|client[_-]?secret|token|"
    r"access[_-]?token|refresh[_-]?token|id[_-]?token|api[_-]?key|apikey|private[_-]?key|"
    r"session(?:[_-]?id)?|cookie|signature|x-amz-signature|sig|credentials?"
)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ of a URL
    (re.compile(r"(?<=://)[^\s/@]{1,512}@"), f"{HIDDEN}@"),
    (
        re.compile(r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)(?:[A-Za-z]{1,20}\s+)?[^\s\"',;]+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=_.~-]{6,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            rf"(?i)((?:\b|_)(?:{_NAMES})[\"']?\s*(?:=>|[:=])\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"')}}\]]+)"
        ),
        rf"\1{HIDDEN}",
    ),
    # Tokens that say what they are: JWT, AWS, GitHub, GitLab, Slack, Stripe and OpenAI.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"), HIDDEN),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b"), HIDDEN),
    (
        re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|[sr]k[-_])[A-Za-z0-9_-]{10,}"),
        HIDDEN,
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*-----|\Z)"), HIDDEN),
)


def redact_secrets(text: str) -> str:
    """The text with what looks like a password, token or key replaced by `[redacted]`."""
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def describe_text(error: BaseException) -> str:
    """`ValueError: no such file`: the kind and what it says."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - someone else's __str__
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def told(error: BaseException | str, describe: Describe, redact: Redact) -> str:
    """What viewers get of an error, at most 500 characters. Hooks that fail hide the text."""
    try:
        text = error if isinstance(error, str) else describe(error)
        text = redact(text[:READ_MAX_CHARS])
    except Exception:  # noqa: BLE001 - a hook of the application must not fail its task
        text = "failed" if isinstance(error, str) else describe_kind(error)
    return text if len(text) <= TEXT_MAX_CHARS else f"{text[: TEXT_MAX_CHARS - 1]}\u2026"

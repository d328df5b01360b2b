"""Texts for users are held to plain terms: phrases of our own that a reader would stop at.

Each phrase has what to write instead, and an example that its pattern finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import pytest

from tests.docs.user_texts import Text, all_but_code, code


class Phrase(NamedTuple):
    """A regular expression, what to write instead, and a text that it is found in."""

    pattern: str
    instead: str
    example: str


#: In no text, strings of the code included.
PHRASES = (
    Phrase(r"\bmend(s|ed|ing)?\b", "fix, repair", "mend the network"),
    Phrase(r"\b(means?|meant) harm\b", "an attacker", "someone who means harm"),
    Phrase(r"\bwho knocks\b", "the authenticated caller", "tell who knocks"),
    Phrase(r"\bspared\b", "skipped for", "viewers were spared entries"),
    Phrase(r"\bfar country\b|\bsmear\b", "distance; jitter", "a band is a far country"),
    Phrase(r"\bstand outside\b|\bunheard\b", "pending handshakes", "too many stand outside"),
    Phrase(r"\bkept anew\b|\banew\b", "renewed, again", "said again, it is kept anew"),
    Phrase(r"\bto and fro\b", "back and forth", "pushed to and fro"),
    Phrase(r"\b(stands?|stood) in the way\b", "blocks", "what stands in the way"),
    Phrase(r"\b(stands?|stood) still\b", "is blocked", "the loop stood still"),
    Phrase(r"\b(rung|rang)\b|\bbells? rings?\b", "notified", "the bell rings"),
    Phrase(r"\b(falls?|fell|falling) behind\b", "lags", "viewers that fall behind"),
    Phrase(r"\bagain and again\b", "repeatedly", "asks again and again"),
    Phrase(r"\bwhoever\b", "anyone who", "open to whoever asks"),
    Phrase(r"\b(takes?|taken|took) for (dead|empty|full)\b", "considered", "taken for dead"),
    Phrase(r"\bpass(es|ed)? over\b", "ignored, skipped", "is passed over"),
    Phrase(r"\btr(y|ied|ies) again blindly\b", "retried", "tried again blindly"),
    Phrase(r"\blets? in\b", "accepted", "viewers are let in"),
    Phrase(r"\bhurts?\b|\bwhat harm does\b", "failures", "what harm does to viewers"),
    Phrase(r"\b(is|are) right\.", "is expected", "Falling is right."),
    Phrase(r"\bmust be said\b|\bhas to be said\b", "is required", "it must be said"),
    Phrase(r"\bsent away\b", "asked to reconnect, or disconnected", "viewers are sent away"),
    Phrase(r"\bgoodbye\b", "release, close", "left without saying goodbye"),
    Phrase(r"\bcut off by the end\b", "cancelled by shutdown", "cut off by the end of it"),
    Phrase(r"\blooked? after\b", "managed", "gateways that are looked after"),
    Phrase(r"\b(is|are|was|were|be|been|being|not) told\b", "receives", "viewers are told"),
    Phrase(r"\bcannot be told\b", "unknown, unmeasured", "what cannot be told"),
    Phrase(r"\b(comes?|came|coming) back\b", "reconnect, retry, return", "it comes back"),
    Phrase(r"\bgo(es)? before\b", "takes precedence over", "it goes before the tag"),
    Phrase(r"\b(signed|signs?) in\b|\bsign-in\b", "authenticate", "users are signed in"),
    Phrase(r"\b(any|some|every)body\b", "anyone, someone, everyone", "anybody may watch"),
    Phrase(
        r"\bgive it by environment\b", "set it by environment variable", "Give it by environment"
    ),
    Phrase(r"\bwhat (becomes|became|comes|came) of\b", "the result of", "what became of it"),
    Phrase(r"\bfor ever\b", "forever", "it is kept for ever"),
    Phrase(r"\bat the (most|least)\b", "at most, at least", "two at the most"),
    Phrase(r"\blook inside\b", "debug endpoints", "a look inside"),
    Phrase(r"\bin place of\b", "instead of", "in place of the name"),
    Phrase(r"\bway (of one|to Redis|to the)\b", "path, connection", "the way to Redis"),
    Phrase(r"\bleft alone\b", "skipped, unchanged", "streams left alone"),
    Phrase(r"\b(by|in) turns\b", "alternating", "measured in turns"),
    Phrase(r"\bby hand\b", "manually", "scaled by hand"),
    Phrase(r"\bat work\b", "busy, in progress", "requests that are at work"),
)


def found(phrases: Iterable[Phrase], texts: Iterable[Text]) -> list[str]:
    """A line for each phrase that is in a text: where, what, and what to write instead."""
    patterns = [(re.compile(one.pattern, re.IGNORECASE), one.instead) for one in phrases]
    return [
        f"{place}: write {instead!r} for {hit[0]!r}"
        for place, text in texts
        for pattern, instead in patterns
        if (hit := pattern.search(text))
    ]


def test_texts_for_users_have_no_words_of_our_own() -> None:
    texts = list(all_but_code())
    assert len(texts) > 1_000
    assert found(PHRASES, texts) == []


def test_strings_of_the_code_have_no_words_of_our_own() -> None:
    texts = list(code())
    assert len(texts) > 1_000
    assert found(PHRASES, texts) == []


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.instead)
def test_each_phrase_is_found_where_it_stands(phrase: Phrase) -> None:
    assert len(found([phrase], [Text("here", phrase.example)])) == 1

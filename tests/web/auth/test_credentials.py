"""Where tokens are found, what is refused there, and that a token never shows itself."""

import pickle

import pytest
import structlog
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tidegate.model.settings import AuthSettings
from tidegate.web.auth.credentials import TOKEN_MAX_BYTES, Token, find_token
from tidegate.web.problem import Unauthenticated

PLAIN = AuthSettings()
OPEN = AuthSettings(token_in_query=True, cookie="session")
T = "aaa.bbb.ccc"


def bearer(text: str, scheme: str = "Bearer") -> tuple[bytes, bytes]:
    return (b"authorization", f"{scheme} {text}".encode("latin-1"))


def refusal(
    headers: list[tuple[bytes, bytes]],
    subprotocols: list[str] | None = None,
    query: bytes = b"",
    settings: AuthSettings = PLAIN,
) -> str:
    with pytest.raises(Unauthenticated) as caught:
        find_token(headers, subprotocols or [], query, settings)
    assert T not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("headers", "subprotocols", "query", "settings"),
    [
        ([bearer(T)], [], b"", PLAIN),
        ([bearer(T, "bearer")], [], b"", PLAIN),
        ([bearer(f"  {T} ")], [], b"", PLAIN),
        ([], ["tidegate.v1", f"access_token.{T}"], b"", PLAIN),
        ([], [], b"history=3&token=aaa.bbb.ccc", OPEN),
        ([], [], b"t%6Fken=aaa.bbb%2Eccc", OPEN),
        ([(b"cookie", b"a=b; session=aaa.bbb.ccc; c")], [], b"", OPEN),
        ([(b"cookie", b'session="aaa.bbb.ccc"')], [], b"", OPEN),
        ([bearer(T), bearer(T)], [f"access_token.{T}"], b"token=aaa.bbb.ccc", OPEN),
    ],
)
def test_a_token_is_found(
    headers: list[tuple[bytes, bytes]],
    subprotocols: list[str],
    query: bytes,
    settings: AuthSettings,
) -> None:
    assert find_token(headers, subprotocols, query, settings) == Token(T)


@pytest.mark.parametrize(
    ("headers", "subprotocols", "query", "settings"),
    [
        ([], [], b"", PLAIN),
        ([(b"authorization", b"Basic YTpi")], ["tidegate.v1"], b"history=3", PLAIN),
        ([(b"cookie", b"session=aaa.bbb.ccc")], [], b"", PLAIN),
        ([(b"cookie", b"session=; other=aaa.bbb.ccc; Session=x")], [], b"", OPEN),
        ([], ["access_token"], b"tokens=1&atoken=2", OPEN),
    ],
)
def test_there_is_none(
    headers: list[tuple[bytes, bytes]],
    subprotocols: list[str],
    query: bytes,
    settings: AuthSettings,
) -> None:
    assert find_token(headers, subprotocols, query, settings) is None


def test_different_tokens_are_refused_wherever_they_are() -> None:
    assert refusal([bearer(T), bearer("x.y.z")]) == "several_tokens"
    assert refusal([bearer(T)], ["access_token.x.y.z"]) == "several_tokens"
    assert refusal([], ["access_token.x.y.z", f"access_token.{T}"]) == "several_tokens"
    assert refusal([bearer(T)], query=b"token=x.y.z", settings=OPEN) == "several_tokens"
    assert refusal([], query=b"token=a.b.c&token=x.y.z", settings=OPEN) == "several_tokens"
    cookies = [(b"cookie", b"session=a.b.c"), (b"cookie", b"session=x.y.z")]
    assert refusal(cookies, settings=OPEN) == "several_tokens"


def test_a_token_in_the_query_is_refused_with_a_hint_or_not_looked_at() -> None:
    assert refusal([], query=b"token=aaa.bbb.ccc") == "token_in_query"
    assert find_token([bearer(T)], [], b"token=x.y.z", PLAIN) == Token(T)


@pytest.mark.parametrize("text", ["", "a b", "a,b", "a\x00b", "é", "a=b", "a.b.c\x7f", "{}"])
def test_what_cannot_be_a_token(text: str) -> None:
    assert refusal([bearer(text)]) == "bad_token"


def test_the_length_is_bounded() -> None:
    longest = "a" * TOKEN_MAX_BYTES
    assert find_token([bearer(longest)], [], b"", PLAIN) == Token(longest)
    assert refusal([bearer(longest + "a")]) == "token_too_long"
    assert refusal([], [f"access_token.{longest}a"]) == "token_too_long"


def test_a_token_does_not_show_itself() -> None:
    token = Token(T)
    event = structlog.processors.JSONRenderer()(None, "info", {"token": token, "all": [token]})
    texts = (repr(token), str(token), f"{token}", f"{token!r:>20}", f"{[token]}", str(event))
    assert not any(T in text for text in texts)
    assert T.encode() not in token.fingerprint()
    assert token.fingerprint() != Token("x.y.z").fingerprint()
    with pytest.raises(TypeError):
        pickle.dumps(token)


HEADER = st.tuples(
    st.sampled_from([b"authorization", b"cookie", b"host"]),
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=60).map(lambda raw: b"Bearer " + raw),
        st.binary(max_size=60).map(lambda raw: b"session=" + raw),
    ),
)


@hypothesis_settings(deadline=None)
@given(
    st.lists(HEADER, max_size=4),
    st.lists(st.text(max_size=20) | st.text().map("access_token.".__add__), max_size=3),
    st.binary(max_size=60) | st.binary(max_size=60).map(b"token=".__add__),
    st.sampled_from([PLAIN, OPEN]),
)
def test_whatever_comes_it_is_a_token_none_or_a_refusal(
    headers: list[tuple[bytes, bytes]],
    subprotocols: list[str],
    query: bytes,
    settings: AuthSettings,
) -> None:
    try:
        token = find_token(headers, subprotocols, query, settings)
    except Unauthenticated:
        pass
    else:
        assert token is None or 0 < len(token.text) <= TOKEN_MAX_BYTES

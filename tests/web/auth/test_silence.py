"""No token, no secret and no claim in anything that is logged or said, at any level."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.web.auth.http_server import HttpServer, Reply, Request
from tests.web.auth.tokens import SECRET, jwk, jwks, pem, signed
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.web.access.authenticator import Authenticator
from tidegate.web.problem import Refused

HOST = (b"host", b"gate.example")
CLAIM = "a-claim-that-nobody-should-see"


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Debug of all libraries, and structlog into the same place, tracebacks included."""
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        cache_logger_on_first_use=False,
    )
    caplog.set_level(logging.DEBUG)
    yield caplog
    structlog.configure(**before)


async def attempt(
    gate: Authenticator, headers: Any, subprotocols: Any, query: bytes, said: list[str]
) -> None:
    try:
        principal = await gate.authenticate(headers, subprotocols, query)
        said.append(repr(principal))
        for operation in map(OperationId, ("job-0", "job-1", "job-2")):
            allowed = await gate.authorise(principal, operation)
            said.append(repr(allowed))
    except Refused as error:
        # As an incautious caller would: with the traceback and all attributes.
        logging.getLogger("endpoint").exception("refused")
        said.append(f"{error!r} {error} {vars(error)}")


async def test_no_token_is_logged_or_said(
    everything: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tokens = {
        "right": signed("RS256", "rsa", headers={"kid": "k"}, iss="https://id", sub=CLAIM),
        "wrong issuer": signed("RS256", "rsa", headers={"kid": "k"}, iss=CLAIM),
        "bad user": signed(
            "RS256", "rsa", headers={"kid": "k"}, iss="https://id", sub=f"{CLAIM}\n"
        ),
        "expired": signed("RS256", "rsa", headers={"kid": "k"}, exp=1),
        "other key": signed("RS256", "rsa", 1, headers={"kid": "k"}),
        "made-up kid": signed("RS256", "rsa", headers={"kid": CLAIM}),
        "other algorithm": signed("HS256"),
        "characters": signed()[:-1] + "\xe9",
        "long": signed(padding="x" * 9000),
    }
    replies: Iterator[Reply | bytes] = iter(
        [Reply(500), b"", Reply(200, b"{}"), Reply(403), Reply(404), Reply(302)] * 9
    )

    async def answer(request: Request) -> Reply | bytes:
        # A backend that sends the token back.
        reply = next(replies, Reply(500))
        if isinstance(reply, bytes):
            return reply
        sent = request.headers.get("authorization", "")
        body = reply.body or sent.encode()
        return Reply(reply.status, body, {"www-authenticate": "Bearer"})

    said: list[str] = []
    async with HttpServer(Reply(body=jwks(jwk("rsa", "k")))) as issuer, HttpServer(answer) as api:
        tree = {
            "server": {"auth": "jwt"},
            "auth": {
                "jwks_url": issuer.url,
                "jwks_allow_http": True,
                "jwks_min_interval_s": 0.05,
                "issuer": "https://id",
                "token_in_query": True,
                "cookie": "session",
            },
            "source": {"kind": "http", "url": api.url, "cache_s": 0},
        }
        gate = Authenticator(Settings.model_validate(tree))
        running = asyncio.create_task(gate.run())
        for token in tokens.values():
            raw = token.encode("latin-1")
            await attempt(gate, [HOST, (b"authorization", b"Bearer " + raw)], [], b"", said)
            await attempt(gate, [HOST], [f"access_token.{token}"], b"", said)
            await attempt(gate, [HOST], [], b"token=" + raw, said)
            await attempt(gate, [HOST, (b"cookie", b"session=" + raw)], [], b"", said)
            await attempt(
                gate, [HOST, (b"cookie", b"session=" + raw)], ["access_token.x.y.z"], b"", said
            )
        await issuer.stop()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await gate.close()

    secret_file = tmp_path / "key.pem"
    secret_file.write_bytes(pem("rsa"))
    tree = {"server": {"auth": "jwt"}, "auth": {"secret": SECRET}, "source": {"kind": "claims"}}
    gate = Authenticator(Settings.model_validate(tree))
    for token in tokens.values():
        await attempt(
            gate, [HOST, (b"authorization", b"Bearer " + token.encode("latin-1"))], [], b"", said
        )

    logged = everything.text
    assert "operation source failed" in logged
    assert "JWKS refreshed" in logged
    assert "refused" in logged
    assert any("Principal" in text for text in said)
    # The identity's user may be shown; nothing else of a claim, and nothing of a token.
    texts = [logged, *(re.sub(r"Identity\(.*?\)", "", text) for text in said)]
    for text in texts:
        assert SECRET not in text
        assert CLAIM not in text
        for token in tokens.values():
            for part in token.split("."):
                assert part[:24] not in text

"""Authenticated viewers: a secret, the settings for it, and a token for each user."""

import time
from typing import Final

import jwt

ALGORITHM: Final = "HS256"
VALID_S: Final = 86_400


def settings(secret: str, connections_per_user: int) -> dict[str, object]:
    """Of a gateway that believes these tokens; each user may have just so many connections."""
    return {
        "server.auth": "jwt",
        "auth.secret": secret,
        "source.kind": "none",
        "slots.limit": connections_per_user,
    }


def sign_in(secret: str, user: str) -> dict[str, str]:
    """The header of this user's handshakes."""
    token = jwt.encode({"sub": user, "exp": int(time.time()) + VALID_S}, secret, ALGORITHM)
    return {"Authorization": f"Bearer {token}"}

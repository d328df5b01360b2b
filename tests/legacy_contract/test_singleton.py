"""Group 7: the manager that an application imports."""

from __future__ import annotations

import importlib
import os

import pytest

import tidegate.embed
from tests.harness.backend import PREFIX, Backend
from tests.legacy_contract.application import TIMEOUT_S
from tests.servers.standalone import Server
from tidegate.embed import RedisStreamWebSocketManager, ws_manager


async def test_ws_manager_singleton_exists(
    redis_server: Server, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(ws_manager, RedisStreamWebSocketManager)

    # Without a word in the code it finds Redis where every other part of Tidegate does.
    monkeypatch.setenv("TIDEGATE_REDIS__URL", redis_server.url)
    monkeypatch.setenv("TIDEGATE_SERVER__POD", "web-7")
    assert await ws_manager.startup(patience_s=TIMEOUT_S)
    try:
        await ws_manager.send_update("42", "progress", {"n": 1})
        assert await backend.client.xlen(PREFIX + "42") == 1
        names = [client["name"] for client in await backend.client.client_list()]
        assert "tidegate:web-7" in names
    finally:
        await ws_manager.shutdown()


async def test_ws_manager_singleton_is_singleton(redis_server: Server) -> None:
    again = importlib.import_module("tidegate.embed")

    assert again.ws_manager is ws_manager is tidegate.embed.ws_manager
    # It is one by being a module's, not by a trick in the class: an application may have its own.
    assert RedisStreamWebSocketManager() is not ws_manager

    assert await ws_manager.startup(redis_server.url, patience_s=TIMEOUT_S)
    try:
        engine = ws_manager._engine
        assert engine is not None
        # Workers on one host are replicas of their own.
        assert engine.settings.server.pod.endswith(f"-{os.getpid()}")
    finally:
        await ws_manager.shutdown()

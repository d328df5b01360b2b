"""Tidegate inside an existing FastAPI or Starlette application, under any ASGI server.

    from tidegate.embed import ws_manager

    await ws_manager.startup("redis://127.0.0.1:6379/0")     # in the lifespan
    await ws_manager.connect(websocket, operation_id, user_id)   # in the endpoint
    await ws_manager.send_update(operation_id, "progress", {"progress": 0.5})

A thin face on the node that a replica has as well (`gateway.node`): the same hub, feed and slots,
in the event loop of the application. Every process of the application is a replica of its own.
There is no second implementation of anything here.
"""

from tidegate.core.cancelling import CancelOutcome, CancelReply
from tidegate.embed.updates import Sent, Stored
from tidegate.embed.websockets import RedisStreamWebSocketManager

__all__ = [
    "CancelOutcome",
    "CancelReply",
    "RedisStreamWebSocketManager",
    "Sent",
    "Stored",
    "ws_manager",
]

#: The application's own; configured by `startup` or by `TIDEGATE_` variables.
ws_manager = RedisStreamWebSocketManager()

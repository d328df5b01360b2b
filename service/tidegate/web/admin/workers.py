"""The admin port of a pod with several worker processes, which merges the responses of all workers.

    health, readiness, metrics       of all workers
    /debug/state, operations, tasks  the request is sent to each worker, and the responses merged
    everything else                  answered by one worker, because it concerns all replicas

Requests to `/debug` and `/admin` are authorized by the workers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson
from prometheus_client.registry import Collector
from pydantic import TypeAdapter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tidegate.model.operation_order import OperationOrder
from tidegate.web.admin.debug import DEFAULT_OPERATIONS, DEFAULT_TASKS
from tidegate.web.admin.exposition import METRICS_OFF, exposition
from tidegate.web.admin.merging import (
    Bodies,
    Body,
    merged_operation,
    merged_operations,
    merged_readiness,
    merged_state,
    merged_tasks,
)
from tidegate.web.http.cors import ALWAYS, SafeAnswers

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OK, UNAVAILABLE = 200, 503
HEALTH, READINESS = "/healthz", "/readyz"
NO_ANSWER: Body = {"ready": False, "reason": "no answer"}
#: As FastAPI reads a number, which takes `5.0` for one.
_number = TypeAdapter(int).validate_python


class AdminRequest(NamedTuple):
    """A request as it is sent to a worker; it has no body."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]


class WorkerAnswer(NamedTuple):
    """The response of a worker."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Workers(Protocol):
    """The worker processes of a pod."""

    @property
    def count(self) -> int:
        """The configured number of workers."""

    @property
    def has_been_complete(self) -> bool:
        """Whether all workers have served at the same time since the start."""

    @property
    def uptime_s(self) -> float:
        """Seconds since the start of the supervisor."""

    async def ask_each(self, request: AdminRequest) -> dict[int, WorkerAnswer | None]:
        """The responses of all workers that serve, by number; None for no response in time."""

    async def ask_one(self, request: AdminRequest) -> WorkerAnswer | None:
        """The response of one worker; None if no worker serves or it does not respond in time."""

    async def metrics(self) -> Collector:
        """The merged metrics of all workers."""


def workers_app(workers: Workers, pod: str, *, metrics_enabled: bool) -> ASGIApp:
    """The application of the admin port of this pod."""
    view = _View(workers, pod)

    async def metrics(request: Request) -> Response:
        if not metrics_enabled:
            return JSONResponse({"detail": METRICS_OFF}, 404)
        return exposition(await workers.metrics(), request.headers.get("accept", ""))

    def merged(merge: Callable[[Request, Bodies], Awaitable[Body]]) -> Any:
        async def endpoint(request: Request) -> Response:
            return await view.merged(request, merge)

        return endpoint

    own = [
        Route(HEALTH, view.health),
        Route(READINESS, view.ready),
        Route("/metrics", metrics),
        Route("/debug/state", merged(view.state)),
        Route("/debug/operations", merged(_operations)),
        Route("/debug/operations/{operation}", merged(_operation)),
        Route("/debug/tasks", merged(_tasks)),
    ]
    rest = Route("/{path:path}", view.forward, methods=METHODS)
    return Starlette(routes=[*own, rest], middleware=[Middleware(SafeAnswers)])


class _View:
    def __init__(self, workers: Workers, pod: str) -> None:
        self._workers = workers
        self._pod = pod

    async def health(self, request: Request) -> Response:
        """200 unless a worker hangs. A worker that is being replaced is no reason to restart the
        others.
        """
        answers = await self._workers.ask_each(_of(request))
        hang = [number for number, answer in answers.items() if answer is None]
        if not hang:
            return _json({"status": "ok"})
        return _json({"status": f"no answer from worker {', '.join(map(str, hang))}"}, UNAVAILABLE)

    async def ready(self, request: Request) -> Response:
        now = await self._readiness(request)
        return _json(now, OK if now["ready"] else UNAVAILABLE)

    async def forward(self, request: Request) -> Response:
        answer = await self._workers.ask_one(_of(request))
        return _nobody() if answer is None else _as_it_is(answer)

    async def merged(
        self, request: Request, merge: Callable[[Request, Bodies], Awaitable[Body]]
    ) -> Response:
        """The merged responses. If all workers refuse, this is the response of the first one."""
        answers = await self._workers.ask_each(_of(request))
        given = {number: answer for number, answer in answers.items() if answer is not None}
        bodies = {
            number: body
            for number, answer in given.items()
            if answer.status == OK and (body := _body_of(answer)) is not None
        }
        if bodies:
            return _json(await merge(request, bodies))
        return _as_it_is(next(iter(given.values()))) if given else _nobody()

    async def state(self, _: Request, bodies: Bodies) -> Body:
        readiness = self._merge_readiness(
            {number: body["readiness"] for number, body in bodies.items()}
        )
        metrics = await self._workers.metrics()
        return merged_state(bodies, self._pod, readiness, metrics.collect(), self._workers.uptime_s)

    async def _readiness(self, request: Request) -> Body:
        answers = await self._workers.ask_each(_of(request)._replace(method="GET"))
        return self._merge_readiness(
            {number: _body_of(answer) or NO_ANSWER for number, answer in answers.items()}
        )

    def _merge_readiness(self, bodies: Bodies) -> Body:
        return merged_readiness(
            bodies, self._workers.count, has_been_complete=self._workers.has_been_complete
        )


async def _operations(request: Request, bodies: Bodies) -> Body:
    # The parameters are valid: the workers have accepted them.
    order = OperationOrder(request.query_params.get("order", OperationOrder.VIEWERS))
    limit = _number(request.query_params.get("limit", DEFAULT_OPERATIONS))
    return merged_operations(bodies, order, limit)


async def _operation(_: Request, bodies: Bodies) -> Body:
    return merged_operation(bodies)


async def _tasks(request: Request, bodies: Bodies) -> Body:
    return merged_tasks(bodies, _number(request.query_params.get("limit", DEFAULT_TASKS)))


def _of(request: Request) -> AdminRequest:
    scope = request.scope
    return AdminRequest(
        request.method,
        scope["path"],
        scope.get("raw_path") or scope["path"].encode(),
        scope["query_string"],
        request.headers.raw,
    )


def _body_of(answer: WorkerAnswer | None) -> Body | None:
    """None: there is no answer, or a mistake of ours in its place."""
    if answer is None:
        return None
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _json(body: Mapping[str, Any], status: int = OK) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _nobody() -> Response:
    return _json({"detail": "no worker responds; retry in a second"}, UNAVAILABLE)


def _as_it_is(answer: WorkerAnswer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [one for one in answer.headers if one not in ALWAYS]
    return response

"""The admin port of a pod with several worker processes: what each of them would answer, put
together, and for all of `/debug` and `/admin` by their own rules of who may ask.

    health, readiness, metrics      of all workers
    /debug/state, operations, tasks asked of each worker with the same request, and merged
    everything else                 answered by one worker: it is about all replicas anyway
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

import orjson
from prometheus_client.registry import Collector
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


class AdminRequest(NamedTuple):
    """A request as a worker gets it; none has a body."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]


class WorkerAnswer(NamedTuple):
    """What a worker answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Workers(Protocol):
    """Those that serve, and what is known of all."""

    @property
    def count(self) -> int:
        """How many there should be."""

    @property
    def has_been_complete(self) -> bool:
        """Whether all have served at once since the start."""

    @property
    def uptime_s(self) -> float:
        """Since the start of all."""

    async def ask_each(self, request: AdminRequest) -> dict[int, WorkerAnswer | None]:
        """Each that serves, by number; None of one that does not answer in time."""

    async def ask_one(self, request: AdminRequest) -> WorkerAnswer | None:
        """Any of them; None: none answers."""

    async def metrics(self) -> Collector:
        """Of all."""


def workers_app(workers: Workers, pod: str, *, metrics_enabled: bool) -> ASGIApp:
    """The application of the admin port; `pod` is their common name."""
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
        Route("/healthz", view.health),
        Route("/readyz", view.ready),
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
        """A worker that is being replaced is no reason to end the others; one that hangs is."""
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
        """What was refused by all is refused in the words of the first."""
        answers = await self._workers.ask_each(_of(request))
        given = {number: answer for number, answer in answers.items() if answer is not None}
        bodies = {
            number: orjson.loads(answer.body)
            for number, answer in given.items()
            if answer.status == OK and answer.body
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
            {
                number: orjson.loads(answer.body)
                if answer is not None
                else {"ready": False, "reason": "no answer"}
                for number, answer in answers.items()
            }
        )

    def _merge_readiness(self, bodies: Bodies) -> Body:
        return merged_readiness(
            bodies, self._workers.count, has_been_complete=self._workers.has_been_complete
        )


async def _operations(request: Request, bodies: Bodies) -> Body:
    # Checked by the workers, which have answered.
    order = OperationOrder(request.query_params.get("order", OperationOrder.VIEWERS))
    return merged_operations(
        bodies, order, int(request.query_params.get("limit", DEFAULT_OPERATIONS))
    )


async def _operation(_: Request, bodies: Bodies) -> Body:
    return merged_operation(bodies)


async def _tasks(request: Request, bodies: Bodies) -> Body:
    return merged_tasks(bodies, int(request.query_params.get("limit", DEFAULT_TASKS)))


def _of(request: Request) -> AdminRequest:
    scope = request.scope
    return AdminRequest(
        request.method,
        scope["path"],
        scope.get("raw_path") or scope["path"].encode(),
        scope["query_string"],
        request.headers.raw,
    )


def _json(body: Mapping[str, Any], status: int = OK) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _nobody() -> Response:
    return _json({"detail": "no worker answers; retry in a second"}, UNAVAILABLE)


def _as_it_is(answer: WorkerAnswer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [one for one in answer.headers if one not in ALWAYS]
    return response

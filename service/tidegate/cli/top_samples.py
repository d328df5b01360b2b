"""What ``tidegate top`` reads from the admin ports.

A replica that does not answer, or answers nonsense, is a sample too: it says so. Figures come from
`/metrics`, which is open; names and operations from `/debug`, for which a token may be needed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from tidegate.model.operation_order import OperationOrder

TIMEOUT_S = 2.0
#: What a replica without metrics says of them.
METRICS_OFF = "metrics.enabled is false"
#: A replica's metrics are some 60 KB, 500 operations some 150 KB.
ANSWER_MAX_BYTES = 4 * 1_048_576
URLS_MAX = 64
LATENCY = "tidegate_publish_to_socket_seconds"
LOOP_LAG = "tidegate_loop_lag_seconds"
_HISTOGRAMS = (LATENCY, LOOP_LAG)

Buckets = tuple[tuple[float, float], ...]


class TopInputError(ValueError):
    """An address that cannot be asked."""


class OperationRow(NamedTuple):
    """One operation on one replica. `entries`: taken up since it is followed there."""

    operation: str
    status: str
    cursor: str
    entries: int
    live: int
    lagging: int
    catching_up: int

    @property
    def viewers(self) -> int:
        return self.live + self.lagging + self.catching_up


@dataclass(frozen=True, slots=True)
class ReplicaSample:
    """One replica at one moment.

    Attributes:
        at_s: by the monotonic clock.
        state: `ready`, `draining`, `not ready` or `dead`.
        reason: why it is not ready, or what asking it came to.
        values: by metric, or `metric{value}` where it has a label.
        buckets: by histogram: upper bound and count so far, rising.
        refused: why it does not tell its operations; None when it does, or was not asked.
    """

    url: str
    at_s: float
    state: str
    reason: str = ""
    pod: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[str, Buckets] = field(default_factory=dict)
    operations: tuple[OperationRow, ...] = ()
    refused: str | None = None

    @property
    def started(self) -> float | None:
        """When its process started, in seconds since the epoch; another one has another."""
        return self.values.get("process_start_time_seconds")

    def total(self, metric: str) -> float:
        """A metric, summed over its label."""
        return sum(v for k, v in self.values.items() if k == metric or k.startswith(f"{metric}{{"))


def parse_url(text: str) -> str:
    """An admin port's address without a path.

    Raises:
        TopInputError: it is none.
    """
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
        raise TopInputError(f"--url {text!r} must be an admin port, as http://127.0.0.1:9090")
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise TopInputError(f"--url {text!r} must have neither a path nor a user")
    return f"{parts.scheme}://{parts.netloc}"


class ReplicaPoller:
    """Asks all replicas at once. Use as an async context manager.

    `most`: operations asked of each replica, at most 500; 0: none.
    """

    def __init__(
        self, urls: Sequence[str], token: str | None, most: int, order: OperationOrder
    ) -> None:
        self._urls = urls
        self._most = most
        self._order = order
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # Not by way of a proxy: admin ports are near, and the token is theirs.
        self._client = httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._pods: dict[tuple[str, float], str] = {}

    async def __aenter__(self) -> ReplicaPoller:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def look(self) -> list[ReplicaSample]:
        """One sample of each replica, in the order of the addresses."""
        return list(await asyncio.gather(*(self._one(url) for url in self._urls)))

    async def _one(self, url: str) -> ReplicaSample:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                return await self._ask(url)
        except (httpx.HTTPError, TimeoutError) as error:
            reason = str(error) or "no response in time"
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"not the admin port of a replica ({error})"
        return ReplicaSample(url, time.monotonic(), "dead", reason)

    async def _ask(self, url: str) -> ReplicaSample:
        status, text = await self._get(f"{url}/metrics")
        at_s = time.monotonic()
        if status == httpx.codes.NOT_FOUND and METRICS_OFF in text:
            return ReplicaSample(url, at_s, "dead", f"{METRICS_OFF} there, so there are no figures")
        if status != httpx.codes.OK:
            raise ValueError(f"/metrics {_refusal(status, text)}")
        values, buckets = read_metrics(text)
        if "tidegate_ready" not in values:
            raise ValueError("no metrics of a gateway at /metrics")
        state, reason = "ready", ""
        if values.get("tidegate_draining"):
            state = "draining"
        elif not values["tidegate_ready"]:
            _, body = await self._get(f"{url}/readyz")
            state, reason = "not ready", str(json.loads(body)["reason"])
        refused: str | None = None
        operations: tuple[OperationRow, ...] = ()
        pod = ""
        if self._most:
            query = f"limit={self._most}&order={self._order.value}"
            status, body = await self._get(f"{url}/debug/operations?{query}")
            if status == httpx.codes.OK:
                operations = tuple(_operation(row) for row in json.loads(body)["operations"])
                pod = await self._pod(url, values.get("process_start_time_seconds", 0.0))
            else:
                refused = _refusal(status, body)
        return ReplicaSample(url, at_s, state, reason, pod, values, buckets, operations, refused)

    async def _pod(self, url: str, started: float) -> str:
        """Its name; asked once for each process."""
        key = (url, started)
        if key not in self._pods:
            status, body = await self._get(f"{url}/debug/state")
            self._pods = {k: pod for k, pod in self._pods.items() if k[0] != url}
            self._pods[key] = str(json.loads(body)["pod"]) if status == httpx.codes.OK else ""
        return self._pods[key]

    async def _get(self, url: str) -> tuple[int, str]:
        """Status and text. Raises ValueError for an answer that is too long."""
        async with self._client.stream("GET", url) as answer:
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > ANSWER_MAX_BYTES:
                    raise ValueError(f"an answer of more than {ANSWER_MAX_BYTES} bytes")
            return answer.status_code, body.decode(errors="replace")


def _refusal(status: int, body: str) -> str:
    if status == httpx.codes.UNAUTHORIZED:
        return (
            "the token is missing or wrong: give server.admin_token as "
            "TIDEGATE_SERVER__ADMIN_TOKEN, or look without operations (--operations 0)"
        )
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, TypeError, KeyError):
        detail = ""
    return f"answered {status}{f': {detail}' if isinstance(detail, str) and detail else ''}"


def _operation(row: Mapping[str, Any]) -> OperationRow:
    return OperationRow(
        str(row["operation"]),
        str(row["status"]),
        str(row["cursor"]),
        *(int(row[name]) for name in ("entries", "live", "lagging", "catching_up")),
    )


def read_metrics(text: str) -> tuple[dict[str, float], dict[str, Buckets]]:
    """Values and histograms of Prometheus' text format. Raises ValueError for anything else."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[str, float] = {}
    sums: dict[str, dict[float, float]] = {name: {} for name in _HISTOGRAMS}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if family.type == "histogram":
                if sample.name.endswith("_bucket") and family.name in sums:
                    bound = float(sample.labels["le"])
                    counts = sums[family.name]
                    counts[bound] = counts.get(bound, 0.0) + sample.value
                continue
            labels = list(sample.labels.values())
            values[f"{sample.name}{{{labels[0]}}}" if labels else sample.name] = sample.value
    return values, {name: tuple(sorted(counts.items())) for name, counts in sums.items()}

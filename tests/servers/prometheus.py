"""A real Prometheus in a folder of its own, that scrapes once a second and is asked over its API.

Its configuration is written once: the targets are known before it starts. What it has scraped is
gone when the `async with` ends.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import yaml

from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.process import Process, ProcessError

READY_TIMEOUT_S = 60.0


class Target(NamedTuple):
    """What is scraped: `host:port`, and the labels it gets besides `job` and `instance`."""

    job: str
    address: str
    labels: Mapping[str, str]


class QueryFailed(Exception):
    """Prometheus refused a query; the text is its own, with the query."""


class Prometheus:
    """Use as an async context manager."""

    host = "127.0.0.1"

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        rule_files: Sequence[Path] = (),
        interval_s: int = 1,
    ) -> None:
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="tidegate-prometheus-"))
        config = {
            "global": {
                "scrape_interval": f"{interval_s}s",
                "scrape_timeout": f"{interval_s}s",
                "evaluation_interval": f"{interval_s}s",
            },
            "rule_files": [str(path.resolve()) for path in rule_files],
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [
                        {"targets": [target.address], "labels": dict(target.labels)}
                        for target in targets
                        if target.job == job
                    ],
                }
                for job in dict.fromkeys(target.job for target in targets)
            ],
        }
        file = self.directory / "prometheus.yaml"
        file.write_text(yaml.safe_dump(config))
        self.process = Process(
            [
                "prometheus",
                f"--config.file={file}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address={self.host}:{self.port}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            log_file=self.directory / "prometheus.log",
            directory=self.directory,
        )

    # --- life

    async def start(self) -> Self:
        """Spawn and wait until it serves. Raises ProcessError with its log."""
        self.process.spawn()
        async with self._client() as client:

            async def ready() -> bool:
                if not self.process.running:
                    raise ProcessError("prometheus ended by itself", self.process)
                try:
                    return (await client.get("/-/ready")).status_code == 200
                except httpx.HTTPError:
                    return False

            try:
                await until(ready, within_s=READY_TIMEOUT_S)
            except AssertionError:
                raise ProcessError("prometheus is not ready", self.process) from None
        return self

    def close(self) -> None:
        self.process.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # --- questions

    async def query(self, expr: str, *, time_s: float | None = None) -> list[dict[str, Any]]:
        """The series of an instant query. Raises QueryFailed."""
        parameters = {"query": expr} | ({} if time_s is None else {"time": str(time_s)})
        return self._vector(expr, await self._ask("query", parameters))

    async def query_range(
        self, expr: str, start_s: float, end_s: float, *, step_s: float = 1
    ) -> list[dict[str, Any]]:
        """The series of a range query; each has `values`. Raises QueryFailed."""
        parameters = {
            "query": expr,
            "start": str(start_s),
            "end": str(end_s),
            "step": str(step_s),
        }
        found: list[dict[str, Any]] = (await self._ask("query_range", parameters))["result"]
        return found

    async def exemplars(self, expr: str, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The exemplars of the series of a query; each has `labels` and `value`."""
        parameters = {"query": expr, "start": str(start_s), "end": str(end_s)}
        found = await self._ask("query_exemplars", parameters)
        return [exemplar for series in found for exemplar in series["exemplars"]]

    async def label_values(self, label: str, match: str) -> list[str]:
        """The values that a label has on the series that match."""
        found: list[str] = await self._ask(f"label/{label}/values", {"match[]": match})
        return found

    async def metric_names(self) -> set[str]:
        """All names it has heard."""
        return set(await self._ask("label/__name__/values", {}))

    async def metric_metadata(self) -> dict[str, str]:
        """Name of each metric it scraped, without suffix, and its type."""
        found = await self._ask("metadata", {})
        return {name: rows[0]["type"] for name, rows in found.items()}

    async def rule_groups(self) -> list[dict[str, Any]]:
        """The groups of rules with the health of each rule."""
        found: list[dict[str, Any]] = (await self._ask("rules", {}))["groups"]
        return found

    async def until_scraped(
        self, expr: str, *, within_s: float = READY_TIMEOUT_S
    ) -> list[dict[str, Any]]:
        """The answer to a query, once there is one. Raises TimeoutError with the query."""
        found: list[dict[str, Any]] = []

        async def answered() -> bool:
            found[:] = await self.query(expr)
            return bool(found)

        try:
            await until(answered, within_s=within_s)
        except AssertionError:
            raise TimeoutError(f"nothing in {within_s:g} s for {expr}") from None
        return found

    @staticmethod
    def _vector(expr: str, data: dict[str, Any]) -> list[dict[str, Any]]:
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        if data["resultType"] != "vector":
            raise QueryFailed(f"{expr}: is no instant vector but a {data['resultType']}")
        found: list[dict[str, Any]] = data["result"]
        return found

    async def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        async with self._client() as client:
            answer = (await client.get(f"/api/v1/{path}", params=parameters)).json()
        if answer["status"] != "success":
            raise QueryFailed(f"{parameters.get('query', path)}: {answer['error']}")
        return answer["data"]

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"http://{self.host}:{self.port}", timeout=20, trust_env=False
        )

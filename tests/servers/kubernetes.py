"""A real Kubernetes API: etcd and kube-apiserver, and kube-controller-manager if asked for.

No kubelet and no scheduler: pods are what a test says they are. RBAC is on, `admin` may everything,
and `user` makes somebody who may nothing yet. Every request is in the audit log, in order.
The programs are those of `tests/cluster/lab` (`build.sh etcd kube-apiserver`), or on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.process import Process, ProcessError
from tests.servers.tls import Certificates

READY_TIMEOUT_S = 90.0
_TRIES = 3
#: Who may ask; the API server reads the file once, so all of them are made before its start.
USERS = tuple(f"user-{number}" for number in range(64))
_CONTROLLERS = (
    "deployment-controller,replicaset-controller,horizontal-pod-autoscaler-controller,"
    "garbage-collector-controller,namespace-controller,serviceaccount-controller"
)
#: Reads of the health are left out; requests, not answers, are told.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/version", "/openapi/*"]
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager"]
    verbs: [get, list, watch]
  - level: Request
"""


def program(name: str) -> Path | None:
    """Where a program of Kubernetes is: in the lab's cache, or on PATH."""
    cache = os.environ.get("TIDEGATE_LAB_CACHE") or (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate"
    )
    path = Path(cache) / "kube" / name
    if os.access(path, os.X_OK):
        return path
    found = shutil.which(name)
    return None if found is None else Path(found)


def definitions() -> Path | None:
    """The folder with the CRDs of other projects: Prometheus operator, Gateway API."""
    return program("crds")


class Request(NamedTuple):
    """One line of the audit log."""

    user: str
    verb: str
    resource: str
    name: str
    code: int
    body: Any


class Kubernetes:
    """Use as an async context manager, or `await start()` and `close()`."""

    host = "127.0.0.1"

    def __init__(self, *, controllers: bool = False) -> None:
        self.controllers = controllers
        self.directory = Path(tempfile.mkdtemp(prefix="tidegate-kube-"))
        self.certificates = Certificates(self.directory / "tls")
        self.port = 0
        self._processes: list[Process] = []
        self._users = iter(USERS)
        self._write_keys()

    # --- who asks

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def admin_kubeconfig(self) -> Path:
        """May everything."""
        return self.kubeconfig("admin")

    def user(self) -> str:
        """The name of somebody new, with no rights at all."""
        return next(self._users)

    def kubeconfig(self, user: str) -> Path:
        """A kubeconfig by which this user is known."""
        path = self.directory / f"{user}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "clusters": [
                {
                    "name": "test",
                    "cluster": {
                        "server": self.url,
                        "certificate-authority": str(self.certificates.ca_file),
                    },
                }
            ],
            "users": [{"name": user, "user": {"token": f"token-{user}"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def client(self, user: str = "admin") -> httpx.AsyncClient:
        """As this user; `async with`."""
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer token-{user}"},
            verify=ssl.create_default_context(cafile=str(self.certificates.ca_file)),
            timeout=20,
        )

    def requests(self, user: str) -> list[Request]:
        """What this user has asked for, oldest first; `resource` with its sub-resource."""
        return list(self._requests(user))

    # --- life

    async def start(self) -> Self:
        """Start and wait until it is ready. Raises ProcessError with the log."""
        for attempt in range(1, _TRIES + 1):
            try:
                await self._start()
                return self
            except ProcessError as error:
                self._end()
                if "address already in use" not in str(error) or attempt == _TRIES:
                    raise
        raise AssertionError("unreachable")

    async def intact(self) -> bool:
        """Whether it still answers."""
        if not all(process.running for process in self._processes):
            return False
        try:
            async with self.client() as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def wipe(self) -> None:
        """Nothing: each test has a namespace and users of its own."""

    def pause_api(self) -> None:
        """SIGSTOP: connections stay open, nobody is answered until `resume_api`."""
        self._processes[1].pause()

    def resume_api(self) -> None:
        self._processes[1].resume()

    def close(self) -> None:
        """End everything. Any number of times."""
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # --- inside

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.close()
        self._processes.clear()

    def _spawn(self, name: str, *flags: str) -> Process:
        path = program(name)
        if path is None:
            raise LookupError(f"no {name}")
        process = Process([path, *flags], log_file=self.directory / f"{name}.log")
        process.spawn()
        self._processes.append(process)
        return process

    async def _start(self) -> None:
        etcd, peer, self.port = free_port(), free_port(), free_port()
        here, tls, directory = self.host, self.certificates, self.directory
        shutil.rmtree(directory / "etcd", ignore_errors=True)
        self._spawn(
            "etcd",
            "--name=n0",
            f"--data-dir={directory}/etcd",
            f"--listen-client-urls=http://{here}:{etcd}",
            f"--advertise-client-urls=http://{here}:{etcd}",
            f"--listen-peer-urls=http://{here}:{peer}",
            f"--initial-advertise-peer-urls=http://{here}:{peer}",
            f"--initial-cluster=n0=http://{here}:{peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        flags = [
            f"--etcd-servers=http://{here}:{etcd}",
            f"--bind-address={here}",
            f"--advertise-address={here}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={tls.server_cert_file}",
            f"--tls-private-key-file={tls.server_key_file}",
            "--service-cluster-ip-range=10.96.0.0/24,fd00:96::/112",
            "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory}/sa.pub",
            f"--service-account-signing-key-file={directory}/sa.key",
            f"--token-auth-file={directory}/tokens.csv",
            "--authorization-mode=RBAC",
            "--enable-priority-and-fairness=false",
            "--profiling=false",
            f"--audit-policy-file={directory}/audit.yaml",
            f"--audit-log-path={directory}/audit.log",
            "--v=1",
        ]
        if not self.controllers:
            # Without controllers no service account is made, and pods without one are refused.
            flags.append("--disable-admission-plugins=ServiceAccount")
        api = self._spawn("kube-apiserver", *flags)
        await self._ready(api)
        if self.controllers:
            self._spawn(
                "kube-controller-manager",
                f"--kubeconfig={self.admin_kubeconfig}",
                "--leader-elect=false",
                "--secure-port=0",
                "--use-service-account-credentials=false",
                f"--service-account-private-key-file={directory}/sa.key",
                f"--root-ca-file={tls.ca_file}",
                f"--controllers={_CONTROLLERS}",
                "--horizontal-pod-autoscaler-sync-period=2s",
                "--v=1",
            )

    def _write_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.directory / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (self.directory / "sa.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        lines = ['token-admin,admin,admin-uid,"system:masters"']
        lines += [f"token-{user},{user},{user}-uid" for user in USERS]
        (self.directory / "tokens.csv").write_text("\n".join(lines) + "\n")
        (self.directory / "audit.yaml").write_text(_AUDIT_POLICY)

    async def _ready(self, api: Process) -> None:
        last = ""
        async with self.client() as client:

            async def ready() -> bool:
                nonlocal last
                for process in self._processes:
                    if not process.running:
                        raise ProcessError(f"ended with {process.returncode}", process)
                try:
                    answer = await client.get("/readyz")
                    last = answer.text[-500:]
                    return answer.status_code == 200
                except httpx.HTTPError as error:
                    last = repr(error)
                    return False

            try:
                await until(ready, within_s=READY_TIMEOUT_S)
            except AssertionError:
                text = f"not ready in {READY_TIMEOUT_S:.0f} s: {last}"
                raise ProcessError(text, api) from None

    def _requests(self, user: str) -> Iterator[Request]:
        with (self.directory / "audit.log").open() as lines:
            for line in lines:
                if not line.endswith("\n"):  # it is being written
                    return
                event = json.loads(line)
                if event["user"]["username"] != user:
                    continue
                about = event.get("objectRef", {})
                resource = about.get("resource", "")
                if sub := about.get("subresource"):
                    resource += f"/{sub}"
                yield Request(
                    user,
                    event["verb"],
                    resource,
                    about.get("name", ""),
                    event.get("responseStatus", {}).get("code", 0),
                    event.get("requestObject"),
                )

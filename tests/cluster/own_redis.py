"""A Redis that is not the chart's, as people have one: with TLS, behind Sentinel, or as a Cluster.

One pod with all of its servers, Debian's Redis 7.0, with a password. It is gone with its namespace.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, NamedTuple

import pytest
import trustme

from tests.cluster.kube import Cluster
from tests.cluster.patience import PATIENCE

NAME = "own-redis"
PASSWORD = "the-password-of-ones-own-redis"
TLS = "/etc/own-redis"


class Kind(NamedTuple):
    """How it is started, when it is ready, and how it is reached."""

    start: str
    ready: str
    ports: tuple[int, ...]
    url: str


KINDS = {
    "tls": Kind(
        "exec redis-server --port 0 --tls-port 6379 --tls-auth-clients no "
        f"--tls-cert-file {TLS}/tls.crt --tls-key-file {TLS}/tls.key "
        f"--tls-ca-cert-file {TLS}/ca.crt --requirepass $REDISCLI_AUTH",
        f"redis-cli --tls --cacert {TLS}/ca.crt ping | grep -q PONG",
        (6379,),
        f"rediss://{NAME}:6379/0",
    ),
    "sentinel": Kind(
        """
        mkdir second
        redis-server --port 6379 --requirepass $REDISCLI_AUTH --masterauth $REDISCLI_AUTH &
        redis-server --port 6380 --dir second --replicaof $IP 6379 \\
          --requirepass $REDISCLI_AUTH --masterauth $REDISCLI_AUTH &
        until redis-cli info replication | grep -q connected_slaves:1; do sleep 0.2; done
        printf 'port 26379\\nsentinel monitor main %s 6379 1\\nsentinel auth-pass main %s\\n' \\
          $IP $REDISCLI_AUTH >sentinel.conf
        exec redis-server sentinel.conf --sentinel
        """,
        "redis-cli -p 26379 sentinel ckquorum main | grep -q ^OK",
        (26379,),
        f"redis+sentinel://{NAME}:26379/main",
    ),
    "cluster": Kind(
        """
        for port in 7001 7002 7003; do
          mkdir $port
          redis-server --port $port --dir $port --cluster-enabled yes --cluster-announce-ip $IP \\
            --requirepass $REDISCLI_AUTH --masterauth $REDISCLI_AUTH &
        done
        for port in 7001 7002 7003; do
          until redis-cli -p $port ping | grep -q PONG; do sleep 0.2; done
        done
        redis-cli --cluster create $IP:7001 $IP:7002 $IP:7003 --cluster-yes
        wait
        """,
        "for port in 7001 7002 7003; do "
        "redis-cli -p $port cluster info | grep -q cluster_state:ok; done",
        (7001, 7002, 7003),
        f"redis+cluster://{NAME}:7001,{NAME}:7002",
    ),
}


async def start(cluster: Cluster, kind: str) -> dict[str, Any]:
    """Start it and wait until it is ready; the values of the chart that lead to it."""
    if "CLUSTER_REDIS_IMAGE" not in os.environ:
        pytest.skip("needs CLUSTER_REDIS_IMAGE: an image with redis-server, redis-cli and sh")
    made = {"apiVersion": "v1", "kind": "List", "items": _manifests(KINDS[kind])}
    await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(made))
    await cluster.kubectl("wait", f"pod/{NAME}", "--for=condition=Ready", f"--timeout={PATIENCE}")
    redis: dict[str, Any] = {"url": KINDS[kind].url, "existingSecret": NAME}
    if kind == "tls":
        redis["tls"] = {"secret": NAME}
    return {"redis": redis}


#: Keys that are no stream, and groups of the streams that have no TTL: a gateway leaves neither.
_LEFT = """
for port in {ports}; do
  for key in $({redis} -p $port --scan --pattern 'operation-progress:*'); do
    test $({redis} -p $port ttl $key) -gt 0 || {redis} -p $port xinfo groups $key
  done
  {redis} -p $port --scan --pattern '{{tidegate}}:pods*'
  {redis} -p $port --scan --pattern 'tidegate:slots:*'
done
"""


async def nothing_left(cluster: Cluster, kind: str) -> None:
    """After an uninstall: what the gateway kept there is gone, or has a TTL."""
    flags = f"--tls --cacert {TLS}/ca.crt" if kind == "tls" else ""
    ports = {"tls": "6379", "sentinel": "6379", "cluster": "7001 7002 7003"}[kind]
    script = _LEFT.format(redis=f"redis-cli {flags}", ports=ports)
    left = await cluster.kubectl("exec", NAME, "--", "sh", "-euc", script)
    assert left.split() == [], left
    # The Job that did it is gone, because it succeeded.
    assert await cluster.kubectl("get", "jobs", "--output", "name") == ""


def _manifests(kind: Kind) -> list[dict[str, Any]]:
    authority = trustme.CA()
    server = authority.issue_cert(NAME)
    secrets = {
        "redis-password": PASSWORD.encode(),
        "ca.crt": authority.cert_pem.bytes(),
        "tls.crt": b"".join(blob.bytes() for blob in server.cert_chain_pems),
        "tls.key": server.private_key_pem.bytes(),
    }
    container = {
        "name": "redis",
        "image": os.environ["CLUSTER_REDIS_IMAGE"],
        "command": ["sh", "-euc", kind.start],
        "workingDir": "/data",
        "env": [
            {"name": "REDISCLI_AUTH", "value": PASSWORD},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "readinessProbe": {
            "exec": {"command": ["sh", "-euc", kind.ready]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tls", "mountPath": TLS},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "tls", "secret": {"secretName": NAME}},
        ],
    }
    named: dict[str, Any] = {"name": NAME, "labels": {"app": NAME}}
    ports = [{"name": f"p{port}", "port": port} for port in kind.ports]
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": named,
            "data": {key: base64.b64encode(value).decode() for key, value in secrets.items()},
        },
        {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": pod},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": named,
            "spec": {"selector": {"app": NAME}, "ports": ports},
        },
    ]

"""The chart as `helm template` renders it, and the values it is rendered with.

`CASES` is the matrix: each case changes what belongs together, from the defaults.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.servers import kubernetes

CHART = Path(__file__).parents[2] / "helm" / "tidegate"
ANY_SECRET = "x" * 40
#: There is no cluster here; what is refused without one has tests of its own.
GENERATE = {"generateSecrets": "always"}

NODE_AFFINITY = {
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {
            "weight": 1,
            "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]},
        }
    ]
}
RESTRICTED = {
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
}
OF_A_MONITOR = {
    "interval": "30s",
    "scrapeTimeout": "9s",
    "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
    "metricRelabelings": [
        {"action": "drop", "sourceLabels": ["__name__"], "regex": "tidegate_slot_.*"}
    ],
}
MORE_AS_TEXT = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: as-text
  labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
data: {at: '{{ .Values.service.port }}'}
"""


def openshift_values() -> str:
    """The block of docs/install.md about clusters that assign user and group ids."""
    page = (CHART.parents[1] / "docs" / "install.md").read_text("utf-8")
    found = re.search(r"OpenShift.*?```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert found is not None
    return found[1]


CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "production": yaml.safe_load((CHART / "values-production.yaml").read_text()),
    "gitops": yaml.safe_load((CHART / "values-gitops.yaml").read_text()),
    "no operator": {"operator": {"enabled": False}, "gateway": {"replicas": 3}},
    "no operator, no number": {"operator": {"enabled": False}},
    "one operator": {"operator": {"replicas": 1, "leaseSeconds": 15, "intervalSeconds": 0.5}},
    "replicas by hand": {"scaling": {"mode": "none"}, "gateway": {"replicas": 4}},
    "no authentication": {"auth": {"mode": "none"}},
    "existing secrets": {
        "auth": {"existingSecret": "jwt", "secretKey": "key", "previousSecretKey": "old"},
        "publish": {"enabled": True, "existingSecret": "publish"},
        "admin": {"existingSecret": "admin"},
        "redis": {"url": "redis://redis:6379/0", "existingSecret": "redis", "username": "me"},
    },
    "made secrets": {"publish": {"enabled": True}},
    "public keys": {"auth": {"publicKeysSecret": "keys", "source": "redis"}},
    "keys of an issuer": {
        "settings": {"auth": {"jwks_url": "https://issuer.example.com/keys", "audience": ["a"]}}
    },
    "redis by a secret": {"redis": {"existingSecret": "redis", "urlKey": "url", "passwordKey": ""}},
    "redis with tls": {
        "redis": {
            "url": "rediss+sentinel://one,two/main",
            "existingSecret": "redis",
            "tls": {"secret": "tls", "certKey": "tls.crt", "keyKey": "tls.key"},
        }
    },
    "redis cluster": {"redis": {"url": "redis+cluster://one,two", "passwordKey": ""}},
    "redis cluster with tls": {
        "redis": {
            "url": "rediss+cluster://one:7000,two:7001",
            "existingSecret": "redis",
            "tls": {"secret": "authority"},
        }
    },
    "one redis with tls": {"redis": {"url": "rediss://one:6380/2", "existingSecret": "redis"}},
    "one redis by another name": {
        "redis": {"url": "rediss://one:6380/2", "existingSecret": "redis"},
        "settings": {"redis": {"tls_check_hostname": False}},
    },
    "redis sentinel": {"redis": {"url": "redis+sentinel://one:26379,two/main", "passwordKey": ""}},
    "redis sentinel with a login": {
        "redis": {
            "url": "redis+sentinel://one:26379,two/main",
            "existingSecret": "redis",
            "passwordKey": "",
            "sentinelUsername": "me",
            "sentinelPasswordKey": "of-sentinel",
        }
    },
    "valkey on a volume": {
        "valkey": {
            "persistence": {"enabled": True, "storageClass": "fast", "size": "5Gi"},
            "fsync": "always",
            "image": {"repository": "registry.example.com/valkey", "tag": "9.1"},
            "extraArgs": ["--io-threads", "2"],
        }
    },
    "a volume that goes": {"valkey": {"persistence": {"enabled": True, "keep": False}}},
    "ingress": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "hosts": ["a.example.com", "b.example.com"],
            "tls": [{"hosts": ["a.example.com"], "secretName": "tls"}],
        }
    },
    "gateway api": {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["a.b"]}
    },
    "gateway api with a prefix": {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "path": "/progress"}
    },
    "gateway api without time-outs": {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "timeout": ""}
    },
    "node port": {"service": {"type": "NodePort", "nodePort": 30080}},
    "load balancer": {
        "service": {
            "type": "LoadBalancer",
            "loadBalancerClass": "cloud.example.com/internal",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "externalTrafficPolicy": "Local",
        }
    },
    "network policies": {
        "networkPolicy": {
            "enabled": True,
            "viewersFrom": [{"namespaceSelector": {}}],
            "publishersFrom": [{"podSelector": {"matchLabels": {"app": "backend"}}}],
            "gatewayEgress": [{"ports": [{"port": 443}]}],
            "apiServerCidrs": ["10.0.0.1/32"],
        }
    },
    "admin namespaces": {"networkPolicy": {"adminNamespaces": ["monitoring", "people"]}},
    "no network policies": {"networkPolicy": {"admin": False}},
    "monitoring": {
        "monitoring": {
            "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {"enabled": True},
        }
    },
    "monitoring by service": {
        "monitoring": {"serviceMonitor": {"enabled": True, **OF_A_MONITOR}},
    },
    "monitoring by pod": {"monitoring": {"podMonitor": {"enabled": True, **OF_A_MONITOR}}},
    "hpa": {"scaling": {"mode": "hpa", "min": 3, "max": 9, "hpa": {"cpuPercent": 60}}},
    "keda": {
        "scaling": {
            "mode": "keda",
            "keda": {"triggers": [{"type": "prometheus", "metadata": {"query": "up"}}]},
        }
    },
    "streams": {
        "settings": {"redis": {"key_prefix": "jobs:", "group": "other"}},
        "streams": {"dryRun": True},
        "rebalance": {"ratePerS": 10},
    },
    "a slow drain": {
        "settings": {
            "drain": {"delay_s": 4.5, "window_s": 120},
            # Its workers drain at the same time, each within the same grace period.
            "server": {"shutdown_timeout_s": 20, "workers": 4},
            "redis": {"reply_timeout_s": 2},
        },
        "gateway": {"preStopSeconds": 0, "spareSeconds": 10},
    },
    "everything of a pod": {
        "commonLabels": {"team": "progress"},
        "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
        "gateway": {
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
            "envFrom": [{"configMapRef": {"name": "more"}}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "podLabels": {"a": "b"},
            "podAnnotations": {"a": "b"},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "priorityClassName": "system-cluster-critical",
            "topologySpreadConstraints": [],
            "serviceAccount": {"name": "mine"},
            "pdb": {"enabled": False},
        },
        "operator": {"serviceAccount": {"name": "mine-too"}, "rbac": {"create": False}},
        "tests": {"enabled": False},
    },
    "fields of all pods": {
        "commonAnnotations": {"example.com/owner": "progress"},
        "revisionHistoryLimit": 2,
        **{
            component: {
                "annotations": {"reloader.stakater.com/auto": "true"},
                "podLabels": {"tier": "front"},
                "podAnnotations": {"example.com/a": "b"},
                "runtimeClassName": "gvisor",
                "priorityClassName": "system-cluster-critical",
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["192.0.2.53"]},
                "affinity": {"nodeAffinity": NODE_AFFINITY},
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "a", "operator": "Exists"}],
                "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["issuer.example.com"]}],
                "hostUsers": False,
                "startupProbe": {"failureThreshold": 90},
                "livenessProbe": {"timeoutSeconds": 9},
                "readinessProbe": {"initialDelaySeconds": 1},
            }
            for component in ("gateway", "operator", "valkey")
        },
    },
    "operator with a volume": {
        "operator": {
            "initContainers": [{"name": "first", "image": "first", **RESTRICTED}],
            "extraContainers": [{"name": "beside", "image": "beside", **RESTRICTED}],
            "extraVolumes": [{"name": "more", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "topologySpreadConstraints": [],
        }
    },
    "variables of one's own": {
        "gateway": {
            "extraEnv": [
                {"name": "TIDEGATE_SERVER__POD", "value": "by-hand"},
                {"name": "TZ", "value": "UTC"},
            ]
        },
        "operator": {"extraEnv": [{"name": "TIDEGATE_OPERATOR_LOG_FORMAT", "value": "pretty"}]},
    },
    "another namespace": {
        "namespaceOverride": "other",
        "auth": {"mode": "none"},
        "monitoring": {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    },
    "one registry": {
        "global": {
            "imageRegistry": "mirror.example.com:5000",
            "imagePullSecrets": ["mirror", {"name": "other"}],
            "of": {"a parent": "chart"},
        },
        "image": {"repository": "ghcr.io/tidegate/tidegate", "pullSecrets": ["mirror"]},
        "valkey": {"image": {"digest": f"sha256:{'1' * 64}"}},
    },
    "both address families": {
        "service": {
            "ipFamilyPolicy": "PreferDualStack",
            "ipFamilies": ["IPv6", "IPv4"],
            "labels": {"a": "b"},
            "trafficDistribution": "PreferSameZone",
        },
        "monitoring": {"serviceMonitor": {"enabled": True}},
    },
    "ids that the cluster assigns": yaml.safe_load(openshift_values()),
    "an autoscaler without the operator": {
        "operator": {"enabled": False},
        "autoscaling": {
            "enabled": True,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "tidegate_connections"},
                        "target": {"type": "AverageValue", "averageValue": "5000"},
                    },
                }
            ],
        },
    },
    "more objects": {
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": '{{ include "tidegate.fullname" . }}-more',
                    "labels": {"app.kubernetes.io/instance": "{{ .Release.Name }}"},
                },
            },
            MORE_AS_TEXT,
        ]
    },
    "more hosts of redis": {
        "redis": {"url": "redis+sentinel://one,two:7000/main", "existingSecret": "redis"},
        "operator": {"redisHosts": ["three", "four:26380", "[fd00::7]"]},
        "streams": {"prefix": "jobs:night:"},
    },
    "admission policy": {"operator": {"rbac": {"admissionPolicy": True}}},
    "long names": {"fullnameOverride": "a-name-of-just-forty-characters-in-total"},
}

Manifest = dict[str, Any]
#: Ten times as fast, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read(text: str) -> tuple[Manifest, ...]:
    """The manifests of a file."""
    return tuple(one for one in yaml.load_all(text, _LOADER) if one)


def helm(
    *words: str, values: Mapping[str, Any], program_name: str = "helm"
) -> subprocess.CompletedProcess[str]:
    """Run helm, or `helm3`; `values` go in by standard input."""
    program = kubernetes.program(program_name)
    assert program is not None
    return subprocess.run(
        [program, *words, "--values", "-"],
        input=yaml.safe_dump(dict(values)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def template(
    values: Mapping[str, Any], program_name: str = "helm", *, release: str = "tidegate"
) -> subprocess.CompletedProcess[str]:
    """`helm template`, without the CRD. Secrets are generated, as with access to a cluster."""
    words = ("template", release, str(CHART), "--namespace", "some")
    return helm(*words, values={**GENERATE, **values}, program_name=program_name)


@cache
def rendered(case: str, program_name: str = "helm") -> tuple[Manifest, ...]:
    """The manifests of a case. Treat them as constants."""
    done = template(CASES[case], program_name)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def only(case: str, kind: str, name: str = "") -> Manifest:
    """The one manifest of this kind, or of this kind and name."""
    found = [
        one
        for one in rendered(case)
        if one["kind"] == kind and name in ("", one["metadata"]["name"])
    ]
    assert len(found) == 1, f"{case}: {len(found)} of {kind} {name}"
    return found[0]


def container(workload: Manifest) -> Manifest:
    """Its first container."""
    first: Manifest = workload["spec"]["template"]["spec"]["containers"][0]
    return first


def environment(workload: Manifest) -> dict[str, str]:
    """Variables of the first container; what comes from a Secret or the pod has some value."""
    unknown = {"TIDEGATE_REDIS__URL": "redis://from-a-secret:6379/0"}
    return {
        one["name"]: one.get("value", unknown.get(one["name"], ANY_SECRET))
        for one in container(workload).get("env", ())
    }

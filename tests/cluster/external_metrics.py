"""An adapter for external.metrics.k8s.io: open connections, summed over the gateway's pods.

Runs in a pod made of the image under test, from a ConfigMap. It asks the pods behind the headless
Service for their metrics, so the figure is real, and as old as the request.
"""

import datetime
import json
import os
import pathlib
import socket
import ssl
import tempfile
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

GROUP = "external.metrics.k8s.io/v1beta1"
METRIC = "tidegate_connections"
PODS = os.environ["PODS"]  # the headless Service
PORT = 8443


def connections() -> int:
    """Over all pods that its name stands for, each by its IPv4 address: it may have two."""
    found = socket.getaddrinfo(PODS, 9090, socket.AF_INET, socket.SOCK_STREAM)
    total = 0.0
    for host in {str(address[0]) for *_, address in found}:
        with urllib.request.urlopen(f"http://{host}:9090/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith((f"{METRIC} ", f"{METRIC}{{")):
                    total += float(line.rpartition(" ")[2])
    return round(total)


class Handler(BaseHTTPRequestHandler):
    """Discovery, and the one metric."""

    def do_GET(self) -> None:
        if self.path.partition("?")[0].strip("/").endswith(GROUP):
            resource = {"name": METRIC, "namespaced": True, "kind": "ExternalMetricValueList"}
            answer: dict[str, object] = {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": GROUP,
                "resources": [resource | {"singularName": "", "verbs": ["get"]}],
            }
        else:
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            item = {"metricName": METRIC, "metricLabels": {}, "timestamp": now}
            answer = {
                "kind": "ExternalMetricValueList",
                "apiVersion": GROUP,
                "metadata": {},
                "items": [item | {"value": str(connections())}],
            }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def context() -> ssl.SSLContext:
    """TLS with a certificate for an hour, which the API server is told not to check."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "external-metrics")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "pair.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        made.load_cert_chain(file)
    return made


if __name__ == "__main__":
    server = ThreadingHTTPServer(("0.0.0.0", PORT), Handler)
    server.socket = context().wrap_socket(server.socket, server_side=True)
    server.serve_forever()

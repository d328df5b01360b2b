"""The configurations of docs/proxies, with the addresses of a test in place of the page's.

Nothing else is replaced, so what runs is what a reader copies. Each text that is to be replaced
must be in the file: a file that is changed without this one fails.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.faults.replicas import Ports
from tests.servers.tls import Certificates

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "proxies"
PAGE = ROOT / "docs" / "proxies.md"
#: As the page names them, and what replaces them: addresses of this machine's own.
HOSTS = {"10.0.0.11": "127.0.0.11", "10.0.0.12": "127.0.0.12"}
PREFIX = "/progress"


class Site(NamedTuple):
    """Two replicas, on the same ports of two addresses, and a certificate for `localhost`."""

    ports: Ports
    certificates: Certificates
    hosts: Mapping[str, str] = HOSTS

    @property
    def bundle(self) -> Path:
        """Certificate and key in one file, as HAProxy wants them."""
        path = self.certificates.ca_file.with_name("bundle.pem")
        certificate = self.certificates.server_cert_file.read_text()
        path.write_text(certificate + self.certificates.server_key_file.read_text())
        path.chmod(0o600)
        return path

    def client_tls(self) -> ssl.SSLContext:
        """Of a client that trusts this authority."""
        return ssl.create_default_context(cafile=str(self.certificates.ca_file))

    def backends(self, text: str) -> str:
        """With the replicas' addresses and ports; nginx looks at no health."""
        text = replaced(text, self.hosts)
        assert re.search(r"\b8080\b", text)
        for shown_port, port in zip(("8080", "9090"), self.ports, strict=True):
            text = re.sub(rf"\b{shown_port}\b", str(port), text)
        return text

    def files(self, text: str) -> str:
        """With the files of the certificate."""
        folder = "/etc/tidegate/tls"
        if f"{folder}/bundle.pem" in text:
            return replaced(text, {f"{folder}/bundle.pem": str(self.bundle)})
        own = self.certificates
        names = {"cert.pem": own.server_cert_file, "key.pem": own.server_key_file}
        return replaced(text, {f"{folder}/{name}": str(path) for name, path in names.items()})


def shown(name: str) -> str:
    """A file of docs/proxies, as it is."""
    return (FOLDER / name).read_text("utf-8")


def replaced(text: str, names: Mapping[str, str]) -> str:
    """With each of these in place of the other."""
    for old, new in names.items():
        assert old in text, f"{old!r} is not in the file"
        text = text.replace(old, new)
    return text

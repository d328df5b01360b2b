"""A certificate authority of our own, and what it signed, as files for servers and clients.

Made by trustme, in a folder of the caller's. Another instance is another authority: that is how a
test gets a server whose certificate must be refused.
"""

from pathlib import Path

import trustme


class Certificates:
    """`server_*` is valid for localhost and 127.0.0.1; `client_*` for servers that ask for one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = directory / "ca.pem"
        self.server_cert_file = directory / "server.pem"
        self.server_key_file = directory / "server.key"
        self.client_cert_file = directory / "client.pem"
        self.client_key_file = directory / "client.key"

        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        server = authority.issue_cert("localhost", "127.0.0.1")
        _write(server, self.server_cert_file, self.server_key_file)
        client = authority.issue_cert("client.tidegate.test")
        _write(client, self.client_cert_file, self.client_key_file)


def _write(cert: trustme.LeafCert, cert_file: Path, key_file: Path) -> None:
    cert_file.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    cert.private_key_pem.write_to_path(key_file)
    key_file.chmod(0o600)

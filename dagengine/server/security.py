"""Where an engine may listen, and how its sessions are protected.

Loopback is open to this machine alone; anywhere else, orchestrators must prove who they are, by the shared token or by
a client certificate. An engine runs whatever code an orchestrator sends it: an open one is a shell for strangers.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

import grpc

from dagengine import pem
from dagengine.errors import SettingsError

__all__ = ["Identity", "check_exposure", "is_loopback"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Identity:
    """PEM contents for TLS. With `ca`, clients must show a certificate that it signed (mTLS)."""

    certificate: bytes
    key: bytes
    ca: bytes | None = None

    @classmethod
    def read(cls, *, certificate: Path | None, key: Path | None, ca: Path | None) -> Identity | None:
        """The contents of the files, or None without any. SettingsError when one is missing or cannot be used."""
        if certificate is None and key is None and ca is None:
            return None
        files = pem.Files(certificate=certificate, key=key, ca=ca, prefix="DAGENGINE_TLS")
        own, secret, signer = files.contents()
        if own is None or secret is None:
            raise SettingsError(
                "TLS takes a certificate and its key: set both DAGENGINE_TLS_CERT and DAGENGINE_TLS_KEY"
            )
        return cls(certificate=own, key=secret, ca=signer)

    def credentials(self) -> grpc.ServerCredentials:
        """What a gRPC server needs."""
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)],
            root_certificates=self.ca,
            require_client_auth=self.ca is not None,
        )


def is_loopback(host: str) -> bool:
    """Whether `host` (an address or a name) leads to this machine alone. SettingsError when it leads nowhere."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise SettingsError(f"cannot listen on host '{host}': {exc}") from exc
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def check_exposure(host: str, *, token: str | None, identity: Identity | None) -> None:
    """Raise SettingsError when strangers could give this engine work."""
    if token is None and (identity is None or identity.ca is None) and not is_loopback(host):
        raise SettingsError(
            f"refusing to listen on {host} without a way to tell orchestrators from strangers: set DAGENGINE_TOKEN "
            "or DAGENGINE_TOKEN_FILE to a secret that the orchestrator has too, or DAGENGINE_TLS_CERT, "
            "DAGENGINE_TLS_KEY and DAGENGINE_TLS_CA for mutual TLS, or listen on 127.0.0.1"
        )

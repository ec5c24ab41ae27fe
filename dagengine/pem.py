"""The PEM files that TLS is set up from, checked before anything listens or dials with them.

What the TLS libraries say of a wrong file names neither the file nor the setting that leads to it, and gRPC says
nothing until the first connection fails. Used by the engine's server, and by the orchestrator's sessions, REST server
and client.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from dagengine.errors import SettingsError

__all__ = ["Files"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A certificate and its key, and the certificates that the other side's must be signed by: any of them, or none.

    `prefix` begins the names of the settings that lead to them (`<prefix>_CERT`, `<prefix>_KEY`), `ca_setting` is
    the name of the third (`<prefix>_CA` without it).
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    prefix: str
    ca_setting: str = ""

    def check(self) -> None:
        """Raise SettingsError, naming the file and the setting, unless TLS can be set up from the files."""
        if (self.certificate is None) != (self.key is None):
            raise SettingsError(
                f"a certificate goes with its key: set both {self.prefix}_CERT and {self.prefix}_KEY, or neither"
            )
        if self.ca is not None:
            _check_certificates(self.ca, self.ca_setting or f"{self.prefix}_CA")
        if self.certificate is None or self.key is None:
            return
        _check_certificates(self.certificate, f"{self.prefix}_CERT")
        _read(self.key, f"{self.prefix}_KEY")
        try:
            self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except ssl.SSLError as exc:
            if exc.reason == "KEY_VALUES_MISMATCH":
                raise SettingsError(
                    f"the key in {self.key} ({self.prefix}_KEY) is not that of the certificate in {self.certificate} "
                    f"({self.prefix}_CERT)"
                ) from exc
            raise SettingsError(
                f"{self.key} ({self.prefix}_KEY) holds no private key in PEM form, without a pass phrase"
            ) from exc

    def load_into(self, context: ssl.SSLContext) -> None:
        """Give `context` the certificate and its key, if there are any. Raises ssl.SSLError, OSError."""
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")  # never ask at the terminal

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What the files hold: certificate, key, CA. Raises SettingsError as `check` does."""
        self.check()
        return (
            None if self.certificate is None else _read(self.certificate, f"{self.prefix}_CERT"),
            None if self.key is None else _read(self.key, f"{self.prefix}_KEY"),
            None if self.ca is None else _read(self.ca, self.ca_setting or f"{self.prefix}_CA"),
        )


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsError(f"cannot read {path} ({setting}): {exc.strerror}") from exc


def _check_certificates(path: Path, setting: str) -> None:
    _read(path, setting)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError as exc:
        raise SettingsError(f"{path} ({setting}) holds no certificate in PEM form") from exc

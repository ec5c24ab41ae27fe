"""Which orchestrator a command speaks to, and with which token.

A flag wins over its environment variable, that over what `dagctl dev` saved, that over the default. The saved token
goes to the orchestrator it was saved for and to no other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dagengine import errors, secret
from orchestrator.cli import profile

if TYPE_CHECKING:
    import ssl

    from orchestrator.cli.access import Access
    from orchestrator.client import Client

__all__ = ["DEFAULT_SERVER", "client", "resolve"]

DEFAULT_SERVER: Final = "http://127.0.0.1:8080"


def resolve(server: str | None, token: str | None, token_file: str | None) -> tuple[str, str | None]:
    """URL and token from the flags given, the environment and what was saved.

    Raises SettingsError when one of them cannot be used.
    """
    found = _given(token, token_file, "--token and --token-file") or _given(
        os.environ.get("DAGENGINE_TOKEN"),
        os.environ.get("DAGENGINE_TOKEN_FILE"),
        "DAGENGINE_TOKEN and DAGENGINE_TOKEN_FILE",
    )
    saved = profile.load() if server is None else None
    url = server or (saved.server if saved else DEFAULT_SERVER)
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    if found is None and (known := profile.find(url)) is not None:
        found = known.token
    return url, found


def _given(token: str | None, token_file: str | None, names: str) -> str | None:
    if token and token_file:
        raise errors.SettingsError(f"both {names} are given: which one holds? Give one of them")
    return token or (secret.read(Path(token_file)) if token_file else None)


def client(access: Access) -> Client:
    """A client of the orchestrator that `resolve` finds; not yet open. SettingsError when TLS files cannot be used."""
    from orchestrator.client import Client

    url, found = resolve(access.server, access.token, access.token_file)
    return Client(url, token=found, tls=_tls(access) if url.startswith("https:") else None)


def _tls(access: Access) -> ssl.SSLContext | None:
    """How to know the orchestrator, and to be known by it; None for what is usual."""
    if not (access.tls_ca or access.tls_cert or access.tls_key):
        return None
    import ssl

    from dagengine import pem

    files = pem.Files(
        certificate=Path(access.tls_cert) if access.tls_cert else None,
        key=Path(access.tls_key) if access.tls_key else None,
        ca=Path(access.tls_ca) if access.tls_ca else None,
        prefix="DAGCTL_TLS",
    )
    files.check()
    context = ssl.create_default_context(cafile=files.ca)
    files.load_into(context)
    return context

"""Which orchestrator a command speaks to, and with which token.

A flag wins over its environment variable, that over what `dagctl dev` saved, that over the default. The saved token
goes to the orchestrator it was saved for and to no other.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dagengine import errors
from orchestrator.cli import profile

if TYPE_CHECKING:
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
    saved = profile.load() if server is None or found is None else None
    url = server or (saved.server if saved else DEFAULT_SERVER)
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    if found is None and saved is not None and saved.server == url:
        found = saved.token
    return url, found


def _given(token: str | None, token_file: str | None, names: str) -> str | None:
    if token and token_file:
        raise errors.SettingsError(f"both {names} are given: which one holds? Give one of them")
    return token or (_read_token(token_file) if token_file else None)


def client(server: str | None, token: str | None, token_file: str | None) -> Client:
    """A client of the orchestrator that `resolve` finds; not yet open."""
    from orchestrator.client import Client

    url, found = resolve(server, token, token_file)
    return Client(url, token=found)


def _read_token(name: str) -> str:
    try:
        token = Path(name).read_text(encoding="ascii").strip()
    except OSError as exc:
        raise errors.SettingsError(f"the token file {name} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise errors.SettingsError(f"the token file {name} does not hold a token") from exc
    if not token:
        raise errors.SettingsError(f"the token file {name} is empty")
    return token

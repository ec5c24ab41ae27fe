"""The token that orchestrators, engines and clients share, as a file holds it. Read by both servers and by `dagctl`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dagengine.errors import SettingsError

__all__ = ["SHORT", "is_sendable", "read"]

SHORT: Final = 16
"""Characters below which a token is worth a warning."""


def is_sendable(token: str) -> bool:
    """Whether `token` fits into the header of a request: printable ASCII, and any of it at all."""
    return token.isascii() and token.isprintable() and bool(token)


def read(path: Path) -> str:
    """The token in a file, without white space around it. SettingsError, which never quotes it, when there is none."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        # Not chained: what a decoder stumbles over is the secret.
        raise SettingsError(f"cannot read the token file {path}: {reason}") from None
    if not token:
        raise SettingsError(f"the token file {path} is empty")
    if not is_sendable(token):
        raise SettingsError(f"the token file {path} does not hold a token: it must be one line of printable ASCII")
    return token

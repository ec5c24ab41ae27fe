"""What `dagctl dev` leaves for the other commands: where its orchestrator listens, and the token it made.

One file per user, readable by nobody else: `$DAGCTL_CONFIG`, else `$XDG_CONFIG_HOME/dagengine/dagctl.json`, else
`~/.config/dagengine/dagctl.json`.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from dagengine import errors

__all__ = ["Profile", "forget", "load", "path", "save"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An orchestrator and the token it takes. The token is never shown."""

    server: str
    token: str

    def __repr__(self) -> str:
        return f"Profile(server={self.server!r}, token=…)"


def path() -> Path:
    """The file of this user."""
    if named := os.environ.get("DAGCTL_CONFIG"):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "dagengine" / "dagctl.json"


def load() -> Profile | None:
    """What was saved, or None. Raises SettingsError when the file is there and cannot be used."""
    file = path()
    try:
        content = json.loads(file.read_text())
        return Profile(server=str(content["server"]), token=str(content["token"]))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise errors.SettingsError(f"{file} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise errors.SettingsError(f"{file} is not a file of dagctl; remove it, then run `dagctl dev` again") from exc


def save(profile: Profile) -> None:
    """Write the file with mode 0600, whole or not at all."""
    file = path()
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as out:
            os.fchmod(out.fileno(), 0o600)
            json.dump({"server": profile.server, "token": profile.token}, out)
        draft.replace(file)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise errors.SettingsError(f"{file} cannot be written: {exc.strerror}; set DAGCTL_CONFIG to another") from exc


def forget(profile: Profile) -> None:
    """Remove the file, unless it holds another profile by now."""
    with contextlib.suppress(errors.SettingsError, OSError):
        if load() == profile:
            path().unlink()

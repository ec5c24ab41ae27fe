"""What `dagctl dev` leaves for the other commands: where its orchestrator listens, and the token it made.

One file per user, readable by nobody else: `$DAGCTL_CONFIG`, else `$XDG_CONFIG_HOME/dagengine/dagctl.json`, else
`~/.config/dagengine/dagctl.json`. It belongs to the first `dagctl dev`; one that is started while that runs has a file
of its own beside it, named after its port, from which `--server` finds its token.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dagengine import errors

__all__ = ["Profile", "claim", "find", "forget", "load", "path", "save"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """An orchestrator, the token it takes, and the process that runs it (0: unknown). The token is never shown."""

    server: str
    token: str
    pid: int = 0

    def __repr__(self) -> str:
        return f"Profile(server={self.server!r}, token=…, pid={self.pid})"


def path() -> Path:
    """The file of this user."""
    if named := os.environ.get("DAGCTL_CONFIG"):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "dagengine" / "dagctl.json"


def load() -> Profile | None:
    """What was saved, or None. Raises SettingsError when the file is there and cannot be used."""
    return _read(path())


def find(server: str) -> Profile | None:
    """What was saved for the orchestrator at `server`, or None. Raises SettingsError as `load` does."""
    for file in (path(), _beside(server)):
        saved = _read(file)
        if saved is not None and saved.server == server:
            return saved
    return None


def claim(profile: Profile) -> Profile | None:
    """Save a profile where no `--server` is needed to find it, unless that of a running `dagctl dev` is there.

    That one is returned then, and `profile` is saved beside it. Raises SettingsError as `save` does.
    """
    try:
        saved = load()
    except errors.SettingsError:
        saved = None  # no file of ours: `save` replaces it
    if saved is None or saved == profile or not _is_live(saved):
        save(profile)
        return None
    _write(_beside(profile.server), profile)
    return saved


def save(profile: Profile) -> None:
    """Write the file with mode 0600, whole or not at all. Raises SettingsError when that cannot be done."""
    _write(path(), profile)


def forget(profile: Profile) -> None:
    """Remove the file that holds this very profile, if one does."""
    for file in (path(), _beside(profile.server)):
        with contextlib.suppress(errors.SettingsError, OSError):
            if _read(file) == profile:
                file.unlink()


def _beside(server: str) -> Path:
    file = path()
    with contextlib.suppress(ValueError):
        return file.with_name(f"{file.stem}-{urlsplit(server).port or 80}{file.suffix}")
    return file


def _is_live(saved: Profile) -> bool:
    """Whether the process that saved a profile still runs, and its orchestrator still listens."""
    with contextlib.suppress(PermissionError):  # it runs, as somebody else
        try:
            os.kill(saved.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    try:
        address = urlsplit(saved.server)
        socket.create_connection((address.hostname or "", address.port or 80), timeout=1.0).close()
    except (OSError, ValueError):
        return False
    return True


def _read(file: Path) -> Profile | None:
    try:
        content = json.loads(file.read_text())
        return Profile(server=str(content["server"]), token=str(content["token"]), pid=int(content.get("pid", 0)))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise errors.SettingsError(f"{file} cannot be read: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise errors.SettingsError(f"{file} is not a file of dagctl; remove it, then run `dagctl dev` again") from exc


def _write(file: Path, profile: Profile) -> None:
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as out:
            os.fchmod(out.fileno(), 0o600)
            json.dump({"server": profile.server, "token": profile.token, "pid": profile.pid}, out)
        draft.replace(file)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise errors.SettingsError(f"{file} cannot be written: {exc.strerror}; set DAGCTL_CONFIG to another") from exc

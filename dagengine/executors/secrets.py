"""Secrets: documents hold their names, engines know their values, and nothing that is kept or shown holds a value.

`Secrets` is the port, `EngineSecrets` reads an engine's environment and a directory of files (as Kubernetes mounts
them). Executors ask for a value right before they use it, and never keep it longer than an attempt. What comes back
from outside (output, responses, messages) goes through a `Mask` before it becomes a log line, a result or an error.
"""

from __future__ import annotations

import base64
import json
import os
import re
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from dagengine.errors import ExecutorError

__all__ = ["EngineSecrets", "MASKED", "Mask", "NO_SECRETS", "SecretMissing", "Secrets", "mask"]

MASKED: Final = "***"
"""What stands where a value was."""

_PREFIX: Final = "DAG_SECRET_"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LARGEST: Final = 1 << 20
"""Bytes that a file may hold: what Kubernetes allows."""

_TELLING: Final = 6
"""Characters from which a part or an encoding of a value is masked, too. Shorter ones are found everywhere."""


class SecretMissing(ExecutorError):  # noqa: N818 - its name is the type of error that people see
    """The engine knows no such secret. The message says its name and where it was looked for, and never a value."""


class Secrets(Protocol):
    """The secrets of an engine, by name."""

    def value(self, name: str) -> str:
        """The value of a secret, as it is now. Raises SecretMissing."""


class EngineSecrets:
    """Reads the environment variable `DAG_SECRET_<NAME>` (capitals, `-` as `_`), and then the file `directory`/name.

    A file holds the value and nothing else; one newline at its end does not count. It is read each time, so that a
    value that changes is taken up by the next attempt. `environment` is that of the process, unless given.
    """

    def __init__(self, directory: Path | None = None, *, environment: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        self._environment = os.environ if environment is None else environment

    def __repr__(self) -> str:
        return f"EngineSecrets({str(self._directory)!r})" if self._directory is not None else "EngineSecrets()"

    def value(self, name: str) -> str:
        """The value of a secret. Raises SecretMissing when there is none, or one that cannot be read or is empty."""
        if not _NAME.fullmatch(name):
            raise SecretMissing(f"'{name}' is no name of a secret: letters, digits, '-' and '_' are allowed")
        variable = _PREFIX + name.upper().replace("-", "_")
        if value := self._environment.get(variable):
            return value
        if self._directory is None:
            where = f"the environment variable {variable} is not set, and ENGINE_SECRETS_DIR names no directory"
        else:
            try:
                return _read(self._directory / name)
            except _UnreadableError as error:
                where = f"the environment variable {variable} is not set, and {error}"
        raise SecretMissing(f"this engine has no secret '{name}': {where}")


class _NoSecrets:
    """For engines that were given none."""

    def value(self, name: str) -> str:
        raise SecretMissing(f"this engine has no secret '{name}': it was given no secrets at all")


NO_SECRETS: Final[Secrets] = _NoSecrets()


class _UnreadableError(Exception):
    """Why a file gives no secret."""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        value = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        # Not chained: what a decoder stumbles over is the secret.
        raise _UnreadableError(f"the file {path} cannot be read: {reason}") from None
    if len(data) > _LARGEST:
        raise _UnreadableError(f"the file {path} is larger than {_LARGEST:,} bytes")
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise _UnreadableError(f"the file {path} is empty")
    return value


class Mask:
    """Puts `***` where one of the values is, in texts and in JSON.

    Found are the values themselves, the lines of those that have several, and what they become in JSON, in an address
    and in base64. It cannot find what a program makes of a value beyond that: half of it, its letters one by one.
    """

    __slots__ = ("_pattern", "longest")

    def __init__(self, values: Collection[str]) -> None:
        forms = sorted({form for value in values if value for form in _forms(value)}, key=len, reverse=True)
        self.longest = len(forms[0]) if forms else 0
        """Characters of the longest text that is masked: where a text is cut, so many may be half of one."""
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    def __repr__(self) -> str:
        return "Mask(***)" if self._pattern is not None else "Mask()"

    def __bool__(self) -> bool:
        return self._pattern is not None

    def text(self, text: str) -> str:
        """`text` without the values."""
        return text if self._pattern is None else self._pattern.sub(MASKED, text)

    def json(self, value: bytes) -> bytes:
        """A JSON value without them: in its texts, in the names of members, and where a number is one."""
        if self._pattern is None:
            return value
        try:
            plain = json.loads(value)  # keeps large numbers, which orjson rounds
            masked = self._within(plain)
            if masked == plain:
                return value
            return json.dumps(masked, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        except RecursionError:
            return json.dumps(MASKED).encode()  # too deep to look into, so nothing of it is shown

    def _within(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self._within(item) for item in value]
            case dict():
                return {self.text(name): self._within(item) for name, item in value.items()}
            case bool() | None:
                return value
        pattern = self._pattern
        return MASKED if pattern is not None and pattern.fullmatch(json.dumps(value)) else value


def mask(text: str, values: Collection[str]) -> str:
    """`text` with `***` in place of each of `values`. Who masks many texts with the same values makes one `Mask`."""
    return Mask(values).text(text)


def _forms(value: str) -> Iterator[str]:
    """What a value may look like where it is printed."""
    yield value
    data = value.encode("utf-8", "surrogateescape")
    encoded = base64.b64encode(data).decode()
    forms = {
        value.strip(),
        *(line.strip() for line in value.splitlines()),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        urllib.parse.quote(data, safe=""),
        urllib.parse.quote_plus(data),
        encoded.rstrip("="),
        encoded.translate(str.maketrans("+/", "-_")).rstrip("="),
    }
    yield from (form for form in forms if len(form) >= _TELLING)

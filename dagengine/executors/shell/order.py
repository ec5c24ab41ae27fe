"""What an attempt needs before its program can start: words, environment, standard input, a directory of its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dagengine.executors.base import MAX_RESULT, Job, Outcome
from dagengine.executors.secrets import Mask, SecretMissing, Secrets
from dagengine.executors.shell import environment, outcome
from dagengine.executors.shell.limits import Limits
from dagengine.spec.model import ShellExecutor

__all__ = ["Order", "RefusedError", "prepare", "unnamed_file"]


class RefusedError(Exception):
    """An attempt that cannot begin; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Order:
    """A program to start. `text` is what the keeper is told; it holds values of secrets, and so is never shown.

    `stdin` is None for none. `most` is the bytes that the result may take.
    """

    program: str
    text: bytes
    stdin: bytes | None
    directory: Path
    mask: Mask
    most: int


def prepare(job: Job, *, inherited: Mapping[str, str], secrets: Secrets, limits: Limits) -> Order:
    """Make the directory of an attempt, and all else that it needs. Raises RefusedError, and leaves nothing then."""
    spec = job.spec
    if not isinstance(spec, ShellExecutor):
        raise RefusedError(
            outcome.failure("error", "InternalError", f"not a shell node: its executor is {type(spec).__name__}")
        )
    values = _values(spec, secrets)
    directory = None
    try:
        directory = Path(tempfile.mkdtemp(prefix="dag-"))
        text, stdin = _fill(directory, job, spec, inherited=inherited, secrets=values, limits=limits)
    except (OSError, environment.UnusableError) as exc:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        if isinstance(exc, environment.UnusableError):
            raise RefusedError(outcome.failure("fail", "UnusableValue", str(exc))) from None
        message = f"the directory of the attempt cannot be made: {exc.strerror}"
        raise RefusedError(outcome.failure("error", "StartFailed", message)) from exc
    return Order(
        program=spec.command[0] if spec.command else spec.shell[0],
        text=text,
        stdin=stdin,
        directory=directory,
        mask=Mask(values.values()),
        most=min(MAX_RESULT, spec.output or MAX_RESULT),
    )


def unnamed_file(data: bytes) -> int:
    """A file in memory, or at least without a name, that holds `data` and is at its beginning. Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("dag")
    else:
        with tempfile.TemporaryFile(buffering=0) as file:
            fd = os.dup(file.fileno())
    try:
        written = 0
        while written < len(data):
            written += os.write(fd, data[written:])
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _values(spec: ShellExecutor, secrets: Secrets) -> dict[str, str]:
    """Values of the node's secrets by variable."""
    try:
        return {variable: secrets.value(name) for variable, name in spec.secrets.items()}
    except SecretMissing as exc:
        raise RefusedError(outcome.failure("error", "SecretMissing", str(exc))) from None


def _fill(
    directory: Path,
    job: Job,
    spec: ShellExecutor,
    *,
    inherited: Mapping[str, str],
    secrets: Mapping[str, str],
    limits: Limits,
) -> tuple[bytes, bytes | None]:
    """Put into a new directory what the program finds there; the order and the standard input."""
    args: dict[str, Any] = orjson.loads(job.args) if job.args is not None else {}
    variables = environment.of_job(
        job, base=inherited, given=args.get("env", spec.env), secrets=secrets, directory=directory
    )
    for name in (environment.WORK, environment.TEMPORARY):
        (directory / name).mkdir(mode=0o700)
    (directory / environment.INPUTS).write_bytes(job.scope.inputs)
    argv = list(spec.command)
    if spec.script:
        script = directory / environment.SCRIPT
        script.write_text(spec.script, encoding="utf-8", newline="")
        argv = [*spec.shell, str(script)]
    if any("\0" in word for word in argv):
        raise environment.UnusableError("an argument of the program holds a zero byte, which no program can be given")
    order = {
        "argv": argv,
        "env": variables,
        "directory": str(directory),
        "workdir": str(directory / environment.WORK),
        "memory": limits.memory,
        "cpu": limits.cpu,
    }
    stdin = None if spec.stdin is None else environment.input_of(args.get("stdin", spec.stdin))
    # Not orjson: variables of the engine may hold bytes that are not UTF-8, which the keeper gives on as they are.
    return json.dumps(order).encode(), stdin

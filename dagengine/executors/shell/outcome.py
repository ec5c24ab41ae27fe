"""What the end of a program comes to: a result, or an error with its type."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import orjson
from msgspec import UNSET, Raw

from dagengine.events.facts import Conclusion, ErrorInfo
from dagengine.executors.base import Outcome
from dagengine.executors.secrets import Mask

__all__ = ["failure", "not_started", "of_status", "result_of"]

_SHOWN: Final = 500
"""Characters of a line of stderr in a message."""


def failure(conclusion: Conclusion, type: str, message: str, details: dict[str, object] | None = None) -> Outcome:
    """An attempt that did not succeed."""
    raw = UNSET if details is None else Raw(msgspec.json.encode(details))
    return Outcome(conclusion=conclusion, error=ErrorInfo(type=type, message=message, details=raw))


def not_started(program: str, number: int) -> Outcome:
    """The program could not be started, because of the error `number` of the system."""
    reason = os.strerror(number)
    if number in (errno.ENOENT, errno.ENOTDIR):
        return failure("fail", "NotFound", f"there is no program '{program}' on this engine, or none that can run it")
    if number in (errno.EACCES, errno.ENOEXEC, errno.EISDIR):
        return failure("fail", "NotExecutable", f"'{program}' cannot be run as a program: {reason}")
    if number == errno.E2BIG:
        message = f"'{program}' cannot be started: its arguments and environment are too large together; use `stdin`"
        return failure("fail", "TooLarge", message)
    return failure("error", "StartFailed", f"'{program}' could not be started: {reason}")


def of_status(status: int, last_words: Iterable[str]) -> Outcome | None:
    """How a program failed that ended with `status` (as of `os.waitpid`); None when it did not.

    `last_words` are the last lines of its stderr, masked.
    """
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    words = [line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …" for line in last_words]
    said = "".join(f"\n{line}" for line in words)
    if code > 0:
        return failure("fail", "ExitCode", f"the program ended with exit code {code}{said}", {"code": code})
    name = _name(-code)
    if -code == signal.SIGXCPU:
        return failure("error", "CPULimit", f"the program used more processor time than this engine allows{said}")
    return failure("error", "Killed", f"the program was killed by {name}{said}", {"signal": name})


def result_of(output: Path, *, last: bytes, last_size: int, limit: int, mask: Mask) -> Outcome:
    """The result of a program that succeeded: the JSON in the file `output`, else the last line that it printed.

    `last` are the first bytes of that line, which had `last_size`. `limit` is the bytes that the result may take.
    """
    try:
        written = _read(output, limit)
    except OSError as exc:
        return failure("fail", "ResultError", f"the file that $DAG_OUTPUT names cannot be read: {exc.strerror}")
    if written:
        if len(written) > limit:
            return _too_large(f"the program wrote more than {limit:,} bytes into $DAG_OUTPUT", limit)
        value = _json(written)
        if value is None:
            return failure("fail", "ResultError", "what the program wrote into $DAG_OUTPUT is not JSON")
    else:
        if last_size > len(last):
            return _too_large(f"the last line that the program printed has {last_size:,} bytes", limit)
        text = last.decode("utf-8", "replace").strip()
        value = (_json(text.encode()) or orjson.dumps(text)) if text else b"null"
    value = mask.json(value)
    if len(value) > limit:
        return _too_large(f"the result takes {len(value):,} bytes as JSON", limit)
    return Outcome(conclusion="success", result=value)


def _too_large(what: str, limit: int) -> Outcome:
    message = f"{what}, and {limit:,} are the most: keep large values elsewhere, and give where they are"
    return failure("fail", "ResultTooLarge", message)


def _read(path: Path, limit: int) -> bytes:
    """What a file holds, one byte more than `limit` at most; nothing when it is not there. Raises OSError."""
    try:
        # The program made it: it may be a link to elsewhere, or a pipe that nobody writes to.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        with open(fd, "rb", closefd=False) as file:
            return file.read(limit + 1)
    finally:
        os.close(fd)


def _json(text: bytes) -> bytes | None:
    """A JSON value without white space, its numbers as they were written; None when it is none."""
    try:
        orjson.loads(text)  # strict: refuses NaN, and what is not UTF-8
        return msgspec.json.format(text, indent=-1)
    except (orjson.JSONDecodeError, msgspec.DecodeError):
        return None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

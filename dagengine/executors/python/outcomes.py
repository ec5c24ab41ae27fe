"""What a call came to: its value as JSON, or what its exception tells. Used in the engine and in worker processes."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import traceback
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import msgspec
import orjson

from dagengine import context
from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import MAX_RESULT, Outcome

__all__ = ["MAX_DETAILS", "error", "fail", "from_exception", "never_awaited", "succeed"]

MAX_DETAILS: Final = 64 << 10
"""Bytes that the details of a failure may take as JSON."""

_MAX_TYPE: Final = 200
_MAX_MESSAGE: Final = 16 << 10
_MAX_TRACEBACK: Final = 64 << 10
"""Characters; what is beyond is left out. Both become facts."""


def succeed(result: object) -> Outcome:
    """The outcome of a call that returned `result`; a failure when that is no JSON value."""
    try:
        value = encode(result)
    except (TypeError, ValueError, RecursionError) as problem:
        return fail("ResultError", f"the function returned something that is not JSON: {problem}")
    if len(value) > MAX_RESULT:
        return fail(
            "ResultError",
            f"the function returned {len(value):,} bytes of JSON, and {MAX_RESULT:,} are the most: "
            "keep large values elsewhere, and return where they are",
        )
    return Outcome(conclusion="success", result=value)


def encode(value: object) -> bytes:
    """`value` as JSON. Raises TypeError, ValueError or RecursionError."""
    written = orjson.dumps(value)
    if b"null" in written:  # orjson writes NaN and infinities as null; they are no JSON values
        plain = json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain, separators=(",", ":"))
        written = plain.encode()
    return written


def never_awaited(result: Coroutine[Any, Any, object]) -> Outcome:
    """The outcome of a synchronous function that returned a coroutine, which nobody would run."""
    result.close()
    return fail("ResultError", "the function returned a coroutine: register the `async def` itself")


def fail(kind: str, message: str) -> Outcome:
    """An attempt to which the code said no."""
    return Outcome(conclusion="fail", error=ErrorInfo(type=kind, message=message))


def error(kind: str, message: str) -> Outcome:
    """An attempt that broke down."""
    return Outcome(conclusion="error", error=ErrorInfo(type=kind, message=message))


def from_exception(raised: BaseException, *, told: bool = False) -> Outcome:
    """The outcome of a call that raised; its first frame, which is ours, is left out.

    `told` says that the attempt was asked to end: then one that ends by the exception of that has not failed.
    """
    if told and isinstance(raised, (context.Cancelled, asyncio.CancelledError)):
        return error("Cancelled", "the attempt was cancelled")
    frames = traceback.extract_tb(raised.__traceback__)[1:]
    kind, details = type(raised).__name__, None
    message = _text(raised) or kind
    if isinstance(raised, context.Fail):
        kind = _clipped(str(raised.type), _MAX_TYPE) or "Failed"
        try:
            details = _details(raised.details)
        except (TypeError, ValueError, RecursionError) as problem:
            kind, message = "ResultError", f"the details of Fail({message!r}) cannot be kept: {problem}"
    return Outcome(
        conclusion="fail",
        error=ErrorInfo(
            type=kind,
            message=_clipped(message, _MAX_MESSAGE),
            line=(frames[-1].lineno or 0) if frames else 0,
            traceback=_clipped("".join(traceback.format_list(frames)).rstrip(), _MAX_TRACEBACK),
            details=msgspec.UNSET if details is None else msgspec.Raw(details),
        ),
    )


def _details(details: Mapping[str, Any] | None) -> bytes | None:
    if details is None:
        return None
    written = encode(details)
    if len(written) > MAX_DETAILS:
        raise ValueError(f"they take {len(written):,} bytes of JSON, and {MAX_DETAILS:,} are the most")
    return written


def _text(raised: BaseException) -> str:
    try:
        return str(raised)
    except Exception:  # its __str__ is the user's, too
        return ""


def _clipped(text: str, limit: int) -> str:
    """What a fact can hold: not without end, and no half characters, which JSON has no way to say."""
    text = text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: object) -> object:
    """What orjson can write besides JSON's own types (dataclasses, dates, UUIDs, …)."""
    if dataclasses.is_dataclass(value):  # one level at a time: its numbers have to be looked at, too
        return {name: getattr(value, name) for name in orjson.loads(orjson.dumps(value))}
    return orjson.loads(orjson.dumps(value))

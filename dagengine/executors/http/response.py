"""What comes back: read up to a limit, unpacked up to the same limit, and made into a value.

A server is not trusted to be short, quick or honest: the limit holds for bytes on the wire and for what a compressed
body becomes, and nothing is kept beyond it. That a response takes too long is for the attempt's timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import re
import zlib
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.executors.base import Value
from dagengine.executors.http.failure import Failure
from dagengine.executors.secrets import Mask

if TYPE_CHECKING:
    import httpcore

__all__ = ["LONGEST_RETRY_AFTER", "excerpt", "header", "headers", "read", "retry_after", "value"]

LONGEST_RETRY_AFTER: Final = 3_600_000_000
"""Microseconds: a server that asks for more than an hour is asked again after an hour."""

_HEAD: Final = 64 << 10
_EXCERPT: Final = 300
_EXCERPT_TIME: Final = 2.0
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_SECONDS: Final = re.compile(r"[0-9]{1,10}")


def header(response: httpcore.Response, name: str) -> str:
    """The value of a header, that of several joined by commas; empty when it is not there."""
    wanted = name.lower().encode()
    return ", ".join(_plain(value) for key, value in response.headers if key.lower() == wanted)


def headers(response: httpcore.Response) -> dict[str, str]:
    """All headers, by names in small letters."""
    found: dict[str, str] = {}
    for key, value in response.headers:
        name = _plain(key).lower()
        found[name] = f"{found[name]}, {_plain(value)}" if name in found else _plain(value)
    return found


async def read(response: httpcore.Response, limit: int) -> bytes:
    """The whole body, unpacked. Raises Failure (`ResponseTooLarge`, `ResponseError`, `ProtocolError`)."""
    announced = header(response, "Content-Length")
    if _SECONDS.fullmatch(announced) and int(announced) > limit + _HEAD:
        raise _too_large(limit)
    body = bytearray()
    async with contextlib.aclosing(_unpacked(response, limit)) as parts:
        async for part in parts:
            body += part
            if len(body) > limit:
                raise _too_large(limit)
    return bytes(body)


async def excerpt(response: httpcore.Response, mask: Mask) -> str:
    """The beginning of a body, masked, on one line, for a message; empty when it is no text or does not come soon."""
    body = bytearray()
    enough = 4 * (_EXCERPT + mask.longest)
    whole = False
    try:
        async with asyncio.timeout(_EXCERPT_TIME), contextlib.aclosing(_unpacked(response, _HEAD)) as parts:
            async for part in parts:
                body += part
                if len(body) >= enough:
                    break
            else:
                whole = True
    except Exception:  # the status is what went wrong; the body is only what is told about it
        whole = False
    text = mask.text(body[: max(enough, _HEAD)].decode("utf-8", "replace"))
    if not whole and mask:  # its end may be the first half of what must not be shown
        text = text[: -mask.longest]
    text = " ".join(text.removesuffix("\ufffd").split())
    if "\ufffd" in text or not text.isprintable():
        return ""
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def value(response: httpcore.Response, body: bytes) -> Value:
    """The body as a JSON value: JSON as it is, any other text as a text, nothing as null. Raises Failure."""
    if not body:
        return b"null"
    if _is_json(response):
        return json_value(body)
    try:
        return msgspec.json.encode(body.decode("utf-8"))
    except UnicodeDecodeError as exc:
        kind = header(response, "Content-Type") or "of no type"
        message = f"the body ({kind[:80]}) is neither JSON nor UTF-8 text"
        raise Failure("ResponseError", message, status=response.status) from exc


def json_value(body: bytes) -> Value:
    """JSON without white space. Its numbers stay as they are written. Raises Failure when it is none."""
    text = body.removeprefix(b"\xef\xbb\xbf")
    try:
        msgspec.json.decode(text)
        return msgspec.json.format(text, indent=-1)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        reason = "it is nested too deep" if isinstance(exc, RecursionError) else str(exc)
        raise Failure("ResponseError", f"the body is not JSON: {reason}") from exc


def retry_after(response: httpcore.Response, *, now: int) -> int:
    """Microseconds that the server asks to be left alone, an hour at most. `now` is in microseconds since 1970."""
    text = header(response, "Retry-After").strip()
    if _SECONDS.fullmatch(text):
        wait = int(text) * 1_000_000
    else:
        try:
            wait = round(email.utils.parsedate_to_datetime(text).timestamp() * 1e6) - now
        except (ValueError, OverflowError):
            return 0
    return max(0, min(wait, LONGEST_RETRY_AFTER))


async def _unpacked(response: httpcore.Response, limit: int) -> AsyncGenerator[bytes]:
    """The body in parts, each one byte longer than the limit at most."""
    encodings = [name.strip().lower() for name in header(response, "Content-Encoding").split(",")]
    encodings = [name for name in encodings if name not in ("", "identity")]
    if encodings and (len(encodings) > 1 or encodings[0] not in ("gzip", "x-gzip", "deflate")):
        message = f"the body has the encoding '{', '.join(encodings)[:80]}', which was not asked for"
        raise Failure("ResponseError", message, status=response.status)
    unpacker = _Unpacker(limit) if encodings else None
    taken = 0
    async for part in response.aiter_stream():
        taken += len(part)
        if taken > limit + _HEAD:  # what is packed may be a little longer than what it holds
            raise _too_large(limit)
        if unpacker is None:
            yield part
        else:
            for unpacked in unpacker.feed(part):
                yield unpacked
    if unpacker is not None and taken and not unpacker.complete:
        raise Failure("ProtocolError", "the compressed body is cut off", conclusion="error")


class _Unpacker:
    """Unpacks gzip (several members, too), zlib and bare deflate, never more than it is asked for at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._fresh = True

    @property
    def complete(self) -> bool:
        return self._stream.eof or self._fresh

    def feed(self, data: bytes) -> Sequence[bytes]:
        """What `data` unpacks to; once that is beyond the limit, no more of it."""
        found: list[bytes] = []
        total = 0
        while data and total <= self._limit:
            if self._stream.eof:
                self._stream, self._fresh = zlib.decompressobj(_GZIP_OR_ZLIB), True
                data = data.lstrip(b"\0")  # gzip allows padding between members
                continue
            part = self._decompress(data)
            self._fresh = False
            found.append(part)
            total += len(part)
            data = self._stream.unconsumed_tail or self._stream.unused_data
        return found

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._stream.decompress(data, self._limit + 1)
        except zlib.error as exc:
            if self._fresh:
                try:
                    self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
                    return self._stream.decompress(data, self._limit + 1)
                except zlib.error:
                    pass
            raise Failure("ProtocolError", "the compressed body is damaged", conclusion="error") from exc


def _too_large(limit: int) -> Failure:
    return Failure(
        "ResponseTooLarge",
        f"the body is larger than {limit:,} bytes: `output` allows more, up to the engine's ENGINE_HTTP_MAX_RESPONSE",
    )


def _is_json(response: httpcore.Response) -> bool:
    kind = header(response, "Content-Type").partition(";")[0].strip().lower()
    return kind in ("application/json", "text/json") or kind.endswith("+json")


def _plain(data: bytes) -> str:
    return data.decode("utf-8", "replace")

"""Request bodies: their size, media type and JSON, checked in this order before anything is made of them.

A body is never taken without its `Content-Type`: that is what keeps a page in a browser from posting here without
asking first. Raises RequestError (or Misdirected, for the media type); called by the operations.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
import orjson
from starlette.requests import Request

from orchestrator.errors import RequestError
from orchestrator.problems import Misdirected

__all__ = ["DOCUMENT_TYPES", "JSON", "YAML", "Bodies"]

T = TypeVar("T")

JSON: Final = "application/json"
YAML: Final = ("application/yaml", "text/yaml", "application/x-yaml")
DOCUMENT_TYPES: Final = (JSON, *YAML)


class Bodies:
    """Reads bodies of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    async def document(self, request: Request) -> bytes:
        """A workflow document as text, JSON or YAML."""
        body = await self._read(request)
        media_type = _media_type(request, DOCUMENT_TYPES)
        if not body.strip():
            raise RequestError("the request body is empty; it must be a workflow document")
        if media_type == JSON:
            _check_json(body)
        return body

    async def json(self, request: Request, decoder: msgspec.json.Decoder[T], default: T) -> T:
        """What `decoder` makes of a JSON body; `default` when there is no body."""
        body = await self._read(request)
        if not body and "content-type" not in request.headers:
            return default
        _media_type(request, (JSON,))
        if not body:
            return default
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as exc:
            raise RequestError(f"the request body is not as it should be: {_plain(exc)}") from exc
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            _check_json(body)
            raise RequestError(f"the request body is not JSON: {exc}") from exc

    async def _read(self, request: Request) -> bytes:
        length = request.headers.get("content-length")
        if length is not None and int(length) > self._limit:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > self._limit:
                raise self._too_large()
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> RequestError:
        return RequestError(f"the request body is larger than {self._limit:,} bytes", too_large=True)


def _media_type(request: Request, offered: tuple[str, ...]) -> str:
    value = request.headers.get("content-type")
    media_type, _, options = (value or "").partition(";")
    media_type = media_type.strip().lower()
    charset = options.strip().lower().removeprefix("charset=").strip('"')
    if media_type in offered and charset in ("", "utf-8", "utf8"):
        return media_type
    given = f"not {value[:100]!r}" if value else "and none was given"
    expected = " or ".join(offered)
    raise Misdirected(
        f"the Content-Type must be {expected} (in UTF-8), {given}",
        kind="unsupported-media-type",
        headers={"Accept": expected.replace(" or ", ", ")},
    )


def _check_json(body: bytes) -> None:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise RequestError(f"the request body is not JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc


def _plain(exc: msgspec.ValidationError) -> str:
    """msgspec's message with the path as people write it."""
    return str(exc).replace(" - at `$.", " at `").replace(" - at `$`", "")

"""What the engine and a worker process say to each other: frames of msgpack, each after its length in four bytes.

A conversation is `Ready` once, and then for each call `Call`, perhaps `Wanted` and `Given`, any number of `Line`, and
`Ended`. Values are JSON, as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import msgspec

from dagengine.context import Level
from dagengine.executors.base import MAX_RESULT
from dagengine.executors.python.place import Place

__all__ = ["Call", "Ended", "FrameError", "Frames", "FromWorker", "Given", "Line", "Ready", "ToWorker", "Wanted"]

_LENGTH: Final = struct.Struct(">I")
MAX_FRAME: Final = MAX_RESULT + (1 << 20)
"""Bytes of the longest frame that a worker sends: a result, and an error at its longest."""


class Call(msgspec.Struct, frozen=True, kw_only=True, tag="call"):
    """Call the function at `place` with `args`, a JSON object. The rest is what its context tells."""

    place: Place
    args: bytes
    execution: str
    workflow: str
    version: str
    node: str
    index: int | None
    number: int
    idempotency_key: str


class Given(msgspec.Struct, frozen=True, kw_only=True, tag="given"):
    """What the scope has of the parameters that were wanted."""

    values: dict[str, bytes]


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The worker has started."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, tag="wanted"):
    """The function has these parameters, for which there is no argument."""

    names: list[str]


class Line(msgspec.Struct, frozen=True, kw_only=True, tag="line"):
    """A line that the function logged."""

    level: Level
    text: str


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The outcome of the call: JSON in `result`, an `ErrorInfo` as JSON in `error`, or None."""

    conclusion: str
    result: bytes
    error: bytes | None


ToWorker = Call | Given
FromWorker = Ready | Wanted | Line | Ended


class FrameError(Exception):
    """What came is no frame."""


class Frames:
    """Bytes as they come, cut into frames."""

    __slots__ = ("_limit", "_received")

    def __init__(self, limit: int | None = None) -> None:
        self._received = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take `data` in; gives the frames that are complete. Raises FrameError for one beyond the limit."""
        received = self._received
        received += data
        while len(received) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(received)
            if self._limit is not None and length > self._limit:
                raise FrameError(f"a frame of {length:,} bytes")
            end = _LENGTH.size + length
            if len(received) < end:
                return
            frame = bytes(received[_LENGTH.size : end])
            del received[:end]
            yield frame


def pack(message: ToWorker | FromWorker) -> bytes:
    """A message as a frame."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body

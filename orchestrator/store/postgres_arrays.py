"""Lists as arrays of PostgreSQL, packed at once in its binary format.

Statements on the hot path take whole lists. What psycopg does for each element, to find a type that suits it, costs
more than the element's row; here the type is known. Used by `postgres_journal`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg import adapt, postgres, pq

__all__ = ["byteas", "int8s", "register", "texts"]


class _Array(bytes):
    """An array in the binary format."""

    __slots__ = ()
    element = ""

    @classmethod
    def of(cls, items: Sequence[bytes | None]) -> Any:
        parts = [struct.pack(">5i", 1, None in items, postgres.types[cls.element].oid, len(items), 1)]
        for item in items:
            if item is None:
                parts.append(b"\xff\xff\xff\xff")
            else:
                parts += (len(item).to_bytes(4, "big"), item)
        return cls(b"".join(parts))


class Int8s(_Array):
    __slots__ = ()
    element = "int8"


class Texts(_Array):
    __slots__ = ()
    element = "text"


class Byteas(_Array):
    __slots__ = ()
    element = "bytea"


class _Dumper(adapt.Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: _Array) -> bytes:
        return obj


class _Int8sDumper(_Dumper):
    oid = postgres.types["int8"].array_oid


class _TextsDumper(_Dumper):
    oid = postgres.types["text"].array_oid


class _ByteasDumper(_Dumper):
    oid = postgres.types["bytea"].array_oid


def register(connection: psycopg.Connection[Any]) -> None:
    """Let statements of a connection take these arrays."""
    connection.adapters.register_dumper(Int8s, _Int8sDumper)
    connection.adapters.register_dumper(Texts, _TextsDumper)
    connection.adapters.register_dumper(Byteas, _ByteasDumper)


def int8s(items: Iterable[int | None]) -> Int8s:
    """`bigint[]`."""
    made: Int8s = Int8s.of([None if item is None else item.to_bytes(8, "big", signed=True) for item in items])
    return made


def texts(items: Iterable[str | None]) -> Texts:
    """`text[]`. Raises UnicodeEncodeError for what is no text."""
    made: Texts = Texts.of([None if item is None else item.encode() for item in items])
    return made


def byteas(items: Sequence[bytes | None]) -> Byteas:
    """`bytea[]`."""
    made: Byteas = Byteas.of(items)
    return made

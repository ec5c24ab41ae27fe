"""How facts are kept whose values are large: with references in place of them. Pure; called where facts enter and leave
the store.

A value is what a fact carries as raw JSON (`result`, `outputs`, `items`, `args`, `inputs`, `payload`). In a fact that
takes more than `LIMIT` bytes, each value above `LIMIT` is `null`, and one more member, the last, says what it was::

    {"type":"NodeSucceeded","at":…,"node":"a","result":null,"blobs":{"result":{"digest":"sha256:…","size":1048576}}}

No fact has a member `blobs` of its own, and no other place in it is looked at: user data cannot be taken for a
reference. Such a fact decodes like any other, with nulls for values; `NodeExpanded` alone cannot be folded so.

A value that is kept by itself (the outputs of an execution, a result that may be used again) is replaced by
`blob:sha256:…:<size>`, which is not JSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final, get_args

import msgspec

from dagengine.events import facts

__all__ = [
    "LIMIT",
    "Reference",
    "citations",
    "cited",
    "externalize",
    "externalize_value",
    "reference_of",
    "resolve",
    "stand_in",
]

LIMIT: Final = 128 * 1024
"""Bytes that a value may take in a fact."""

_MEMBER: Final = "blobs"
_PREFIX: Final = b"blob:"
_HINT: Final = b'"blobs":{"'
_ENDING: Final = b"}}}"


class Reference(msgspec.Struct, frozen=True, gc=False):
    """A value that is kept elsewhere. `digest` is `sha256:` and 64 hexadecimal digits, `size` counts bytes."""

    digest: str
    size: int


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_references: Final = msgspec.json.Decoder(dict[str, Reference])
_kind: Final = msgspec.json.Decoder(str)
_encode: Final = msgspec.json.Encoder().encode


def _values_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    fields = msgspec.structs.fields(kind)
    return frozenset(f.encode_name for f in fields if msgspec.Raw in (f.type, *get_args(f.type)))


_VALUES: Final = {kind.__name__: _values_of(kind) for kind in get_args(facts.Fact)}
"""The members of each fact that hold values."""


def externalize(payload: bytes) -> tuple[bytes, dict[str, bytes]]:
    """An encoded fact as it is kept, and the values that it then cites, by digest."""
    if len(payload) <= LIMIT:
        return payload, {}
    try:
        members = _members.decode(payload)
        values = _VALUES.get(_kind.decode(members["type"]), frozenset())
    except (msgspec.MsgspecError, KeyError):  # no fact that is known here: whoever reads it will say so
        return payload, {}
    found: dict[str, Reference] = {}
    kept: dict[str, bytes] = {}
    for name, raw in members.items():
        if name in values and memoryview(raw).nbytes > LIMIT:
            value = bytes(raw)
            reference = found[name] = _reference(value)
            kept[reference.digest] = value
    if not found:
        return payload, {}
    # All at once: an object keeps the order of its members.
    members |= dict.fromkeys(found, msgspec.Raw(b"null"))
    members[_MEMBER] = msgspec.Raw(_encode(found))
    return _encode(members), kept


def citations(payload: bytes) -> dict[str, Reference]:
    """What an encoded fact cites, by the member that it is the value of."""
    # Both looks are there to spare all other facts the third, which alone decides.
    if not payload.endswith(_ENDING) or _HINT not in payload:
        return {}
    found = _members.decode(payload).get(_MEMBER)
    return {} if found is None else _references.decode(found)


def cited(payload: bytes) -> list[str]:
    """The digests of the values that an encoded fact cites."""
    return [reference.digest for reference in citations(payload).values()]


def resolve(payload: bytes, values: Mapping[str, bytes]) -> bytes:
    """The fact as it was before `externalize`, byte by byte. KeyError when `values` lacks one that it cites."""
    found = citations(payload)
    if not found:
        return payload
    members = _members.decode(payload)
    del members[_MEMBER]
    for name, reference in found.items():
        members[name] = msgspec.Raw(values[reference.digest])
    return _encode(members)


def externalize_value(value: bytes) -> tuple[bytes, dict[str, bytes]]:
    """A value as it is kept by itself, and what it then cites."""
    if len(value) <= LIMIT:
        return value, {}
    reference = _reference(value)
    return stand_in(reference), {reference.digest: value}


def stand_in(reference: Reference) -> bytes:
    """What is kept in place of a value."""
    return b"%s%s:%d" % (_PREFIX, reference.digest.encode(), reference.size)


def reference_of(value: bytes) -> Reference | None:
    """What a value that is kept by itself stands in for; None when it is the value."""
    if not value.startswith(_PREFIX):
        return None
    digest, _, size = value.removeprefix(_PREFIX).decode().rpartition(":")
    return Reference(digest, int(size))


def _reference(value: bytes) -> Reference:
    return Reference("sha256:" + hashlib.sha256(value).hexdigest(), len(value))

"""Which triggers are in force: those that the highest stable version of each workflow declares.

A pre-release never brings its triggers into force. Triggers are read out of the stored documents without reading the
rest of them, and kept by digest, so that looking at all versions again is cheap. Used by `http` and `cron`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from dagengine.spec.model import Triggers
from dagengine.spec.reference import version_key
from orchestrator.store.base import VersionRecord

__all__ = ["by_workflow", "higher", "is_stable", "triggers_of"]


class _Spec(msgspec.Struct):
    triggers: msgspec.Raw = msgspec.Raw(b"{}")


class _Document(msgspec.Struct):
    spec: _Spec


_decoder = msgspec.json.Decoder(_Document)


@lru_cache(maxsize=4_096)
def _read(_digest: str, triggers: bytes) -> Triggers:
    return Triggers.model_validate_json(triggers)


def triggers_of(record: VersionRecord) -> Triggers:
    """The triggers that a registered version declares."""
    return _read(record.digest, bytes(_decoder.decode(record.document).spec.triggers))


def is_stable(version: str) -> bool:
    """Whether a version is not a pre-release."""
    return version_key(version)[0].prerelease is None


def higher(one: VersionRecord | None, other: VersionRecord) -> VersionRecord:
    """Which of two versions comes first; the earlier registered one when neither does."""
    if one is None or version_key(other.version) > version_key(one.version):
        return other
    return one


def by_workflow(records: Iterable[VersionRecord]) -> dict[str, list[VersionRecord]]:
    """The stable versions of each workflow, in the order given."""
    found: dict[str, list[VersionRecord]] = {}
    for record in records:
        if is_stable(record.version):
            found.setdefault(record.workflow, []).append(record)
    return found

"""Which triggers are in force: those that the highest stable version of each workflow declares.

A pre-release never brings its triggers into force. Triggers are kept by digest, so that looking at all versions again
is cheap. Used by `http` and `cron`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol, TypeVar

from dagengine.spec.model import Triggers
from dagengine.spec.reference import version_key

__all__ = ["Declaring", "by_workflow", "higher", "is_stable", "triggers_of"]


class Declaring(Protocol):
    """What is asked of a version here: both `store.base.Version` and `VersionRecord` have it."""

    @property
    def workflow(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def registered_at(self) -> int: ...
    @property
    def triggers(self) -> bytes: ...


V = TypeVar("V", bound=Declaring)


@lru_cache(maxsize=4_096)
def _read(_digest: str, triggers: bytes) -> Triggers:
    return Triggers.model_validate_json(triggers)


def triggers_of(record: Declaring) -> Triggers:
    """The triggers that a registered version declares."""
    return _read(record.digest, record.triggers)


def is_stable(version: str) -> bool:
    """Whether a version is not a pre-release."""
    return version_key(version)[0].prerelease is None


def higher(one: V | None, other: V) -> V:
    """Which of two versions comes first; the earlier registered one when neither does."""
    if one is None or version_key(other.version) > version_key(one.version):
        return other
    return one


def by_workflow(records: Iterable[V]) -> dict[str, list[V]]:
    """The stable versions of each workflow, in the order given."""
    found: dict[str, list[V]] = {}
    for record in records:
        if is_stable(record.version):
            found.setdefault(record.workflow, []).append(record)
    return found

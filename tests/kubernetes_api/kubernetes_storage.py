"""Where the objects are: as etcd has them, with one counter for all, and the history that watches read.

Objects in here are never changed in place: whoever changes one stores another. `kubernetes_resources` is what writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import kubernetes_status as status
import orjson

Object = dict[str, Any]


def copied(obj: Object) -> Object:
    """The same JSON value, sharing nothing."""
    copy: Object = orjson.loads(orjson.dumps(obj))
    return copy


class Key(NamedTuple):
    """Where an object is kept. `namespace` is empty for objects of the cluster."""

    group: str
    plural: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One object created (`before` None), changed, or removed (`gone`: the last that is seen of it)."""

    revision: int
    key: Key
    before: Object | None
    after: Object | None = None
    gone: Object | None = None


class Storage:
    """All objects, and what happened to them since the last compaction."""

    def __init__(self) -> None:
        self.revision = 100
        self.compacted = 0
        self._objects: dict[Key, Object] = {}
        self._history: list[Change] = []
        self._listeners: list[Callable[[Change], None]] = []

    def get(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def put(self, key: Key, obj: Object) -> Object:
        """Store an object: as it is now, with its resource version."""
        stored = copied(obj)
        stored["metadata"]["resourceVersion"] = str(self.revision + 1)
        self._happened(key, after=stored)
        self._objects[key] = stored
        self._tell()
        return stored

    def remove(self, key: Key, last: Object) -> Object:
        """Remove an object that was `last` when it went: that, with the version at which it did."""
        gone = copied(last)
        gone["metadata"]["resourceVersion"] = str(self.revision + 1)
        self._happened(key, gone=gone)
        del self._objects[key]
        self._tell()
        return gone

    def _happened(self, key: Key, **states: Object) -> None:
        self.revision += 1
        self._history.append(Change(revision=self.revision, key=key, before=self._objects.get(key), **states))

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener(self._history[-1])

    def everything(self) -> Iterator[tuple[Key, Object]]:
        yield from sorted(self._objects.items())

    def select(self, group: str, plural: str, namespace: str, *, at: int = 0) -> list[tuple[Key, Object]]:
        """The objects of a kind, of one namespace or of all, in order; as they were at revision `at`."""
        objects = self._objects
        if at and at != self.revision:
            objects = self._as_of(at)
        chosen = ((key, obj) for key, obj in objects.items() if key[:2] == (group, plural))
        return sorted((item for item in chosen if namespace in ("", item[0].namespace)), key=lambda item: item[0])

    def _as_of(self, revision: int) -> dict[Key, Object]:
        self.check(revision)
        objects = dict(self._objects)
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            if change.before is None:
                del objects[change.key]
            else:
                objects[change.key] = change.before
        return objects

    def check(self, revision: int) -> None:
        """Refuse versions that are forgotten or have not been yet."""
        if revision < self.compacted:
            raise status.expired(revision, self.compacted)
        if revision > self.revision:
            raise status.too_large(revision, self.revision)

    def since(self, revision: int) -> list[Change]:
        """What happened after a revision."""
        self.check(revision)
        return [change for change in self._history if change.revision > revision]

    def compact(self) -> None:
        """Forget how it came to this. As etcd does, the counter goes on: older versions are then too old."""
        self.revision += 1
        self.compacted = self.revision
        self._history.clear()

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` for each change from now on; what is returned ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

"""Watches: streams of what happens, from a version on, through selectors.

A `Watch` is fed by the storage and read by `kubernetes_http`, which writes it out; `Watches` has all that are open, for
the faults that end or silence them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import kubernetes_status as status
import kubernetes_subresources as subresources
from kubernetes_kinds import Kind
from kubernetes_storage import Change, Storage

Object = dict[str, Any]
Selects = Callable[[Object], bool]

_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}


class Watch:
    """One stream. `since` is None for one that begins with what there is; `initial_end` bookmarks the end of that."""

    def __init__(
        self,
        *,
        kind: Kind,
        namespace: str,
        selects: Selects,
        storage: Storage,
        since: int | None,
        bookmarks: bool,
        initial_end: bool,
    ) -> None:
        self.kind = kind
        self.bookmarks = bookmarks
        self._namespace = namespace
        self._selects = selects
        self._storage = storage
        self._events: asyncio.Queue[Object | None] = asyncio.Queue()
        self._forget: Callable[[], None] = lambda: None
        try:
            self._begin(since)
        except status.Refusal as refusal:
            self.fail(refusal)
            return
        if initial_end:
            self.bookmark(annotations=_INITIAL_END)
        self._forget = storage.listen(self._happened)

    def _begin(self, since: int | None) -> None:
        if since is not None:
            for change in self._storage.since(since):
                self._happened(change)
            return
        for _, obj in self._storage.select(self.kind.group, self.kind.plural, self._namespace):
            if self._selects(obj):
                self._put("ADDED", obj)

    def _happened(self, change: Change) -> None:
        """What a change is for somebody who sees only what the selectors select."""
        if change.key[:2] != self.kind.stored or self._namespace not in ("", change.key.namespace):
            return
        before = change.before is not None and self._selects(change.before)
        after = change.after is not None and self._selects(change.after)
        if after and change.after is not None:
            self._put("MODIFIED" if before else "ADDED", change.after)
        elif before and change.before is not None:
            last = change.gone or change.before
            version = {"resourceVersion": str(change.revision)}
            self._put("DELETED", last | {"metadata": last["metadata"] | version})

    def _put(self, event: str, obj: Object) -> None:
        self._events.put_nowait({"type": event, "object": subresources.shown(self.kind, obj, "")})

    def bookmark(self, *, annotations: dict[str, str] | None = None) -> None:
        """Say which version this stream has come to, if whoever watches wants to hear it."""
        if not self.bookmarks:
            return
        meta: Object = {"resourceVersion": str(self._storage.revision)}
        if annotations:
            meta["annotations"] = annotations
        obj = {"kind": self.kind.kind, "apiVersion": self.kind.api_version, "metadata": meta}
        self._events.put_nowait({"type": "BOOKMARK", "object": obj})

    def fail(self, refusal: status.Refusal) -> None:
        """End with an ERROR event."""
        self._events.put_nowait({"type": "ERROR", "object": refusal.body})
        self.end()

    def end(self) -> None:
        self.close()
        self._events.put_nowait(None)

    def close(self) -> None:
        """Hear of nothing any more."""
        self._forget()
        self._forget = lambda: None

    async def events(self) -> AsyncIterator[Object]:
        while (event := await self._events.get()) is not None:
            yield event


class Watches:
    """The watches that are open."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.expires_as_status = False
        self._open: dict[Watch, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, watch: Watch, cut: Callable[[], None]) -> None:
        """`cut` breaks the connection of a watch off."""
        self._open[watch] = cut

    def closed(self, watch: Watch) -> None:
        watch.close()
        self._open.pop(watch, None)

    def of(self, resource: str = "") -> list[Watch]:
        """Those of a resource (`pods`, `deployments.apps`), or all."""
        return [watch for watch in self._open if resource in ("", watch.kind.plural, watch.kind.resource)]

    def cut(self, resource: str = "") -> int:
        """Break connections off; how many."""
        found = self.of(resource)
        for watch in found:
            self._open[watch]()
        return len(found)

"""All objects of a kind, kept at hand: listed, then watched, and listed again whenever a watch cannot go on.

Level-triggered: `objects` is what there is, as far as is known; whoever is told that names have changed looks at what
they are now, and a full list comes again every `resync` seconds, so that nothing missed stays missed. When the API
cannot be reached, `objects` stays as it was and `trouble` says why; it is never emptied by an outage.

::

    reflector = Reflector(cluster, PODS, labels="app=workflow-engine", clock=clock, changed=look)
    task = supervisor.start(reflector.run(), name="pods")   # until cancelled; never ends by a ClusterError
    await reflector.synced.wait()                            # the first list is in
    reflector.objects["engine-0"]                            # by name; do not change them

`changed(names)` is called on the loop's thread, after `objects` has changed: with the names in an event, or with all
that are or were there after a list (so a controller looks at everything again at each resync). It must be quick and
must not raise. `told(trouble)` is called when `trouble` has changed. Used by discovery, by the controllers of workflow
objects, and by scaling.
"""

from __future__ import annotations

import contextlib
import random
from asyncio import Event as Flag
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.errors import ClusterError, ClusterExpired, ClusterNotFound, ClusterRefused, ClusterUnavailable
from orchestrator.kubernetes.base import Cluster, Object, Resource

__all__ = ["Reflector"]

_log = structlog.get_logger(__name__)

_SECOND: Final = 1_000_000
_FIRST_DELAY: Final = 0.1
_LAST_DELAY: Final = 30.0
_LONGEST_WATCH: Final = 300.0
_LONGEST_RETRY_AFTER: Final = 120.0
_ABSENT_DELAY: Final = 120.0
"""Seconds between looks for a kind that the API does not have."""

_SOME_FAILURES: Final = 3
"""Watches in a row that broke off before they told anything: then something is wrong with watching itself. The same
for lists that do not find the kind: then it is not there."""

_A_WHILE: Final = 5.0
"""Seconds after which a watch that breaks off has been a good one all the same."""


class Reflector:
    """Objects of one kind, as the API has them. `resync` is in seconds."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        *,
        clock: Clock,
        labels: str = "",
        resync: float = 300.0,
        changed: Callable[[frozenset[str]], None] | None = None,
        told: Callable[[str], None] | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """`chance` spreads what many replicas would do at the same time."""
        self._cluster = cluster
        self._resource = resource
        self._clock = clock
        self._labels = labels
        self._resync = resync
        self._changed = changed
        self._told = told
        self._chance = chance or random.Random()  # noqa: S311 - spreads retries, no secret
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._unlisted = 0
        """Lists that failed, in a row."""
        self._deaf = 0
        """Watches that broke off before they told anything, in a row."""
        self._expired = 0
        """Watches that soon had to begin anew, in a row: at once only the first time."""
        self._trouble = ""
        self.missing = False
        """The API does not have this kind of objects: its CRD is not installed. It is looked for now and then."""
        self.synced = Flag()
        """The first list is in."""
        self.relists = 0
        """Times that everything was listed, for metrics."""

    @property
    def objects(self) -> Mapping[str, Object]:
        """What there is, by name."""
        return self._objects

    @property
    def trouble(self) -> str:
        """Why `objects` may be out of date, for people; empty while it is not."""
        return self._trouble

    async def run(self) -> None:
        """Follow the API until cancelled."""
        while True:
            try:
                await self._list()
            except ClusterError as error:
                self._unlisted += 1
                self.missing = isinstance(error, ClusterNotFound)
                self._say(str(error))
                await self._wait_after(error, self._unlisted)
                continue
            begun = self._clock.now()
            try:
                await self._follow(until=begun + _microseconds(self._resync))
            except ClusterError as error:
                lasted = self._clock.now() - begun > _microseconds(_A_WHILE)
                self._deaf = 1 if lasted else self._deaf + 1
                if isinstance(error, ClusterRefused):
                    self._deaf = max(self._deaf, _SOME_FAILURES)
                if self._deaf >= _SOME_FAILURES:
                    self._say(str(error))
                self._expired = self._expired + 1 if isinstance(error, ClusterExpired) and not lasted else 0
                if not (isinstance(error, ClusterExpired) and max(self._deaf, self._expired) == 1):
                    await self._wait_after(error, self._deaf)

    async def _list(self) -> None:
        page = await self._cluster.list(self._resource, labels=self._labels)
        before, self._objects = self._objects, {str(item["metadata"]["name"]): _slim(item) for item in page.items}
        self._version = page.resource_version
        self._unlisted, self.missing = 0, False
        self.relists += 1
        if self._deaf < _SOME_FAILURES:
            self._say("")
        self.synced.set()
        self._look(frozenset(before) | frozenset(self._objects))

    async def _follow(self, *, until: int) -> None:
        """Watch, again and again, until it is time for the next list. ClusterError when that is over before."""
        while (left := (until - self._clock.now()) / _SECOND) > 0:
            begun, heard = self._clock.now(), False
            watch = self._cluster.watch(
                self._resource, since=self._version, labels=self._labels, seconds=min(left, _LONGEST_WATCH)
            )
            async with contextlib.aclosing(watch) as events:
                async for event in events:
                    heard = True
                    self._heard()
                    self._apply(event.type, event.object)
            if self._clock.now() - begun < _microseconds(min(1.0, left / 2)):
                if not heard:
                    raise ClusterUnavailable(f"a watch of {self._resource.plural} ended as soon as it had begun")
                await self._clock.sleep_until(self._clock.now() + _microseconds(_FIRST_DELAY))
            self._heard()

    def _heard(self) -> None:
        self._deaf = 0
        self._say("")

    def _apply(self, kind: str, body: Object) -> None:
        meta = body["metadata"]
        self._version = str(meta["resourceVersion"])
        if kind == "BOOKMARK":
            return
        name = str(meta["name"])
        if kind == "DELETED":
            self._objects.pop(name, None)
        else:
            self._objects[name] = _slim(body)
        self._look(frozenset({name}))

    def _look(self, names: frozenset[str]) -> None:
        if self._changed is not None:
            self._changed(names)

    async def _wait_after(self, error: ClusterError, failures: int) -> None:
        _log.debug("cluster_not_followed", kind=self._resource.plural, error=str(error), failures=failures)
        delay = min(_LAST_DELAY, _FIRST_DELAY * 2 ** min(failures - 1, 16)) * self._chance.uniform(0.5, 1.0)
        if isinstance(error, ClusterUnavailable) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, _LONGEST_RETRY_AFTER))
        if self.missing and failures >= _SOME_FAILURES:  # before, it may be a load balancer that does not find the API
            delay = max(delay, min(_ABSENT_DELAY, self._resync))
        await self._clock.sleep_until(self._clock.now() + _microseconds(delay))

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if self._told is not None:
                self._told(trouble)


def _slim(body: Object) -> Object:
    """Without what says who changed which field: most of the memory of an object, and nobody here asks for it."""
    body["metadata"].pop("managedFields", None)
    return body


def _microseconds(seconds: float) -> int:
    return round(seconds * _SECOND)

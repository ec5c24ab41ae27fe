"""The controllers put together: two reflectors, two queues, two reconcilers, and what makes them look without an event.

Run by the replica that leads (`in_kubernetes`). Where the kinds are not installed nothing is done; they are looked for
every two minutes. While the API is away, everything waits and nothing is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from dagengine.clock import Clock
from orchestrator.controller.base import Orchestrating
from orchestrator.controller.executions import Executions
from orchestrator.controller.objects import Objects
from orchestrator.controller.queue import WorkQueue
from orchestrator.controller.workflows import Workflows
from orchestrator.errors import OrchestratorError
from orchestrator.kubernetes.base import EXECUTIONS, WORKFLOWS, Cluster, Resource
from orchestrator.kubernetes.reflector import Reflector

__all__ = ["Controllers"]

_log = structlog.get_logger(__name__)

_PULSE: Final = 5_000_000
"""Microseconds between two looks at the engines and at the newest executions."""
_NEWEST: Final = 200
"""Executions of which it is known by then whose they are; when there are more of them, all workflows are looked at."""


class Controllers:
    """Does what Workflow and Execution objects say. Make a new one for each turn of leading."""

    def __init__(self, orchestrator: Orchestrating, cluster: Cluster, clock: Clock, *, resync: float = 300.0) -> None:
        """Everything is looked at again every `resync` seconds, whether or not anything was heard of it."""
        self._orchestrator = orchestrator
        self._clock = clock
        self._workflow_queue = WorkQueue("workflow", clock)
        self._execution_queue = WorkQueue("execution", clock)
        self._reflectors: dict[str, Reflector] = {}

        def reflect(resource: Resource, queue: WorkQueue) -> Objects:
            reflector = Reflector(
                cluster,
                resource,
                clock=clock,
                resync=resync,
                changed=lambda names: _add_all(queue, names),
                told=self._told(resource.plural),
            )
            self._reflectors[resource.plural] = reflector
            return Objects(cluster, resource, lambda: reflector.objects, clock)

        self._workflows = Workflows(
            orchestrator, reflect(WORKFLOWS, self._workflow_queue), clock, registered=self._registered
        )
        self._executions = Executions(orchestrator, reflect(EXECUTIONS, self._execution_queue), clock)
        self._fleet: object = None
        self._newest: tuple[int, str] = (0, "")

    @property
    def trouble(self) -> str:
        """Why objects may be out of date, for people; empty while they are not, or where the kinds are missing."""
        troubles = (each.trouble for each in self._reflectors.values() if not each.missing)
        return next((trouble for trouble in troubles if trouble), "")

    @property
    def off(self) -> bool:
        """Whether there is nothing to do: neither kind is installed."""
        return all(reflector.missing for reflector in self._reflectors.values())

    async def run(self) -> None:
        """Follow the objects until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind, reflector in self._reflectors.items():
                tasks.create_task(reflector.run(), name=f"reflect {kind}")
            tasks.create_task(self._workflow_queue.run(self._workflows.look), name="workflow objects")
            tasks.create_task(self._execution_queue.run(self._executions.look), name="execution objects")
            tasks.create_task(self._beat(), name="pulse of workflow objects")

    async def _beat(self) -> None:
        """Look, now and then, at what workflow objects tell of that no event of theirs announces."""
        while True:
            await self._clock.sleep_until(self._clock.now() + _PULSE)
            if not self._reflectors[WORKFLOWS.plural].objects:
                continue
            try:
                names = await self._stale()
            except OrchestratorError as error:
                _log.debug("workflow_objects_wait", error=str(error))
                continue
            for name in names:
                self._workflow_queue.add(name)

    async def _stale(self) -> set[str]:
        """The workflow objects whose status may have become wrong by itself."""
        everything = set(self._reflectors[WORKFLOWS.plural].objects)
        engines = await self._orchestrator.engines()
        fleet = (
            self._workflows.settled,
            frozenset((each.id, each.state, *sorted(each.executors), *sorted(each.labels.items())) for each in engines),
            frozenset((pool.name, pool.engine) for pool in await self._orchestrator.pools()),
        )
        if fleet != self._fleet:
            self._fleet = fleet
            return everything
        page = await self._orchestrator.executions(limit=_NEWEST)
        recent = [each for each in page.items if (each.created_at, each.id) > self._newest]
        if recent:
            self._newest = (recent[0].created_at, recent[0].id)
        if len(recent) == _NEWEST:
            return everything
        return {*self._workflows.of({each.workflow for each in recent}), *self._workflows.unsettled()}

    def _registered(self) -> None:
        """A version has become known: starts may have waited for it."""
        for name in self._executions.waiting():
            self._execution_queue.add(name)

    def _told(self, kind: str) -> Callable[[str], None]:
        def tell(trouble: str) -> None:
            if not trouble:
                _log.info("workflow_objects_followed", kind=kind)
            elif self._reflectors[kind].missing:
                _log.info("workflow_objects_off", kind=kind, reason="its CustomResourceDefinition is not installed")
            else:
                _log.warning("workflow_objects_frozen", kind=kind, reason=trouble)

        return tell


def _add_all(queue: WorkQueue, names: Iterable[str]) -> None:
    for name in names:
        queue.add(name)

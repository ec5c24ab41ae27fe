"""Workflow objects: what they say is registered, and their status tells what became of it.

An object stands for a workflow: each version that is applied to it is registered beside those before, and when it is
deleted, the workflow is removed with all of its versions, so that none of its triggers fires any more. Executions that
are under way then run to their end, and what there was stays readable. The finalizer sees to it that this happens also
when nobody was there at the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.errors import SpecError
from dagengine.spec import document as documents
from dagengine.spec import manifest
from orchestrator import waiting
from orchestrator.controller import conditions
from orchestrator.controller.base import Orchestrating
from orchestrator.controller.conditions import Condition
from orchestrator.controller.objects import Objects
from orchestrator.errors import NotFound, RequestError, VersionConflict
from orchestrator.kubernetes.base import WORKFLOWS, Object
from orchestrator.store.base import TERMINAL
from orchestrator.verbs import Registration, WorkflowView

__all__ = ["FINALIZER", "Workflows"]

_log = structlog.get_logger(__name__)

FINALIZER: Final = f"{manifest.GROUP}/unregister"
_ABOUT_LAYOUT: Final = ("labels", "annotations")
"""Parts of a document's metadata that tools of a cluster like to change by themselves."""
_SETTLING: Final = 10_000_000
"""Microseconds that engines have to connect to a new leader, before it is told that there are none."""


class _Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What was registered of an object: what it said, which version that is, and what is told of it."""

    content: bytes
    known: dict[str, str]
    told: Condition


class Workflows:
    """Looks at Workflow objects, one by one. `registered` is called when a version has become known."""

    def __init__(
        self, orchestrator: Orchestrating, objects: Objects, clock: Clock, *, registered: Callable[[], None]
    ) -> None:
        self._orchestrator = orchestrator
        self._objects = objects
        self._clock = clock
        self._registered = registered
        self._settled_at = clock.now() + _SETTLING
        self._applied: dict[str, _Applied] = {}
        """What was registered last of each object. Its status may not tell that yet."""

    @property
    def settled(self) -> bool:
        """Whether engines have had the time to connect."""
        return self._clock.now() >= self._settled_at

    async def look(self, name: str) -> float | None:
        """Do what an object needs. Raises ClusterError and OrchestratorError, upon which to try again."""
        body = self._objects.get(name)
        if body is None:
            self._applied.pop(name, None)
            return None
        if "deletionTimestamp" in body["metadata"]:
            await self._remove(body)
            return None
        body = await self._objects.finalize(body, FINALIZER, wanted=True)
        status = dict(body.get("status") or {})
        registered = await self._register(body, status)
        ready = await self._ready(status)
        status |= {
            "observedGeneration": _generation(body),
            "conditions": conditions.updated(
                status.get("conditions") or (),
                (registered, ready),
                generation=_generation(body),
                now=self._clock.now(),
            ),
        }
        last = await self._last_execution(status)
        status = {key: value for key, value in status.items() if key != "lastExecution"}
        status |= {"lastExecution": last} if last else {}
        return await self._objects.tell(body, status)

    def unsettled(self) -> list[str]:
        """The objects whose last execution, as told, has not ended."""
        found = []
        for name in self._objects.names:
            last = ((self._objects.get(name) or {}).get("status") or {}).get("lastExecution") or {}
            if last and str(last.get("phase", "")).lower() not in TERMINAL:
                found.append(name)
        return found

    def of(self, workflows: Collection[str]) -> list[str]:
        """The objects that stand for these workflows."""
        return [name for name in self._objects.names if _stands_for(self._objects.get(name) or {}) in workflows]

    async def _register(self, body: Object, status: dict[str, Any]) -> Condition:
        """Register what the object says, unless that is so already. What is known goes into `status`."""
        name = str(body["metadata"]["name"])
        if status.get("id", _id(body)) != _id(body):
            message = (
                f"this object stands for the workflow {status['id']!r}, and cannot become another: delete it, and "
                f"create one for {_id(body)!r}"
            )
            return Condition(type="Registered", status="False", reason="IdChanged", message=message)
        content = _content(body)
        applied = self._applied.pop(name, None)
        if applied is None or applied.content != content or not await self._still(applied.known):
            values = msgspec.json.decode(content)
            try:
                made = await self._orchestrator.apply(values)
            except SpecError as error:
                told = conditions.told(error)
                return Condition(type="Registered", status="False", reason="SpecInvalid", message=told)
            except RequestError as error:
                return Condition(type="Registered", status="False", reason="SpecInvalid", message=str(error))
            except VersionConflict as error:
                alike = await self._registered_alike(values)
                if alike is None:
                    return Condition(type="Registered", status="False", reason="VersionConflict", message=str(error))
                applied = _applied(
                    content,
                    alike,
                    "is registered, with the labels and annotations that it had first: "
                    "raise the version to change them",
                )
            else:
                applied = _applied(content, made, "is registered")
                if made.created:
                    self._registered()
        self._applied[name] = applied
        status |= applied.known
        return applied.told

    async def _still(self, known: Mapping[str, str]) -> bool:
        """Whether what was registered still is: somebody may have removed the version elsewhere."""
        return await self._digest_of(f"{known['id']}@{known['version']}") == known["digest"]

    async def _registered_alike(self, values: Mapping[str, Any]) -> WorkflowView | None:
        """The version that is registered with another content, if that is the same but for labels and annotations."""
        document = await asyncio.to_thread(documents.from_dict, values)
        there = await self._orchestrator.workflow(document.reference)
        same = _meaning(document.to_dict()) == _meaning(msgspec.json.decode(there.document))
        return there if same else None

    async def _ready(self, status: Mapping[str, Any]) -> Condition:
        """Whether some engine could run what is registered."""
        digest = status.get("digest")
        if not digest:
            return Condition(type="Ready", status="False", reason="NotRegistered", message="no version is registered")
        obstacle = await self._orchestrator.obstacle(digest)
        if obstacle is None:
            message = f"an engine can run {status.get('id')}@{status.get('version')}"
            return Condition(type="Ready", status="True", reason="EngineAvailable", message=message)
        before = conditions.find(status, "Ready")
        if before and not self.settled:
            return msgspec.convert(dict(before), Condition)
        words = waiting.words(obstacle)
        return Condition(type="Ready", status="False", reason=conditions.reason_of(obstacle), message=words)

    async def _last_execution(self, status: Mapping[str, Any]) -> dict[str, Any] | None:
        """The newest execution of the workflow; None when there is none, or that is gone."""
        if not status.get("version"):
            return None
        page = await self._orchestrator.executions(workflow=status["id"], limit=1)
        if not page.items:
            return None
        (last,) = page.items
        times = {"startedAt": last.started_at, "finishedAt": last.finished_at}
        told = {name: conditions.instant(at) for name, at in times.items() if at is not None}
        return {"id": last.id, "phase": last.status.capitalize(), **told}

    async def _remove(self, body: Object) -> None:
        """The object is deleted: the workflow goes with it, unless another object that has registered it stays."""
        if FINALIZER not in (body["metadata"].get("finalizers") or ()):
            return
        workflow = _stands_for(body)
        if await self._has_registered(body) and not await self._stays(workflow):
            try:
                removed = await self._orchestrator.delete_workflow(workflow, force=True)
                _log.info("workflow_object_deleted", workflow=workflow, versions=removed)
            except NotFound:
                pass  # somebody else has removed it
        await self._objects.finalize(body, FINALIZER, wanted=False)
        self._applied.pop(body["metadata"]["name"], None)

    async def _has_registered(self, body: Object) -> bool:
        """Whether an object has ever registered anything, its status being perhaps one that was never written."""
        if (body.get("status") or {}).get("version"):
            return True
        try:
            document = await asyncio.to_thread(documents.from_dict, msgspec.json.decode(_content(body)))
        except SpecError:
            return False
        return await self._digest_of(document.reference) == document.digest

    async def _digest_of(self, reference: str) -> str | None:
        try:
            return (await self._orchestrator.workflow(reference)).digest
        except (NotFound, RequestError):
            return None

    async def _stays(self, workflow: str) -> bool:
        """Whether an object that is not deleted has registered the workflow: one that was refused keeps nothing."""
        for name in self.of((workflow,)):
            body = self._objects.get(name)
            if body is not None and "deletionTimestamp" not in body["metadata"] and await self._has_registered(body):
                return True
        return False


def _applied(content: bytes, version: Registration | WorkflowView, words: str) -> _Applied:
    message = f"{version.id}@{version.version} {words}"
    return _Applied(
        content=content,
        known={"id": version.id, "version": version.version, "digest": version.digest},
        told=Condition(type="Registered", status="True", reason="Registered", message=message),
    )


def _content(body: Mapping[str, Any]) -> bytes:
    """What of an object is the document, as JSON."""
    metadata = body["metadata"]
    kept = {name: metadata[name] for name in ("name", *_ABOUT_LAYOUT) if name in metadata}
    document = {
        "apiVersion": WORKFLOWS.api_version,
        "kind": WORKFLOWS.kind,
        "metadata": kept,
        "spec": body.get("spec"),
    }
    return msgspec.json.encode(document, order="deterministic")


def _meaning(document: dict[str, Any]) -> dict[str, Any]:
    """A plain document without what may differ."""
    metadata = {name: value for name, value in document["metadata"].items() if name not in _ABOUT_LAYOUT}
    return {**document, "metadata": metadata}


def _id(body: Mapping[str, Any]) -> str:
    metadata = body.get("metadata") or {}
    return str((metadata.get("annotations") or {}).get(manifest.ID, metadata.get("name", "")))


def _stands_for(body: Mapping[str, Any]) -> str:
    """The id of the workflow that an object has registered, or would."""
    return str((body.get("status") or {}).get("id") or _id(body))


def _generation(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("generation", 0))

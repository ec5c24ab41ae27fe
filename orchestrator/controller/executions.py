"""Execution objects: creating one starts an execution, its status tells how far that is, deleting it cancels.

An object starts once, whatever crashes in between: the start has the object's UID as its idempotency key, and whether
there is such an execution already is asked before anything else. Such keys belong to a workflow, and somebody may name
another one in the spec before the status tells of the start: so the object gets a note of it first. What was started is
told until it has ended; the finalizer is there for as long, so that an object goes only when its execution has ended. A
start that is refused (the inputs do not fit, say) is tried again when the object's spec changes, one that cannot be
done now again and again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from dagengine.clock import Clock, elapsed
from dagengine.errors import InputError, SpecError
from dagengine.spec.duration import parse_duration
from dagengine.spec.reference import WorkflowReference
from orchestrator import waiting
from orchestrator.controller import conditions
from orchestrator.controller.base import Orchestrating
from orchestrator.controller.conditions import Answer, Condition
from orchestrator.controller.objects import Objects
from orchestrator.errors import AtLimit, ClusterError, Conflict, NotFound, Overloaded, RequestError
from orchestrator.kubernetes.base import EXECUTIONS, Object
from orchestrator.store.base import TERMINAL
from orchestrator.verbs import ExecutionView

__all__ = ["FINALIZER", "Executions"]

FINALIZER: Final = f"{EXECUTIONS.group}/cancel"
_BEGUN: Final = f"{EXECUTIONS.group}/workflow"
"""Annotation: the id of the workflow that an execution was, perhaps, started of."""
_AUTHOR: Final = "kubernetes"
_LOOKS_PER_SECOND: Final = 200.0
"""How often executions that run are looked at, all together."""
_SOONEST: Final = 1.0
_ABSENT: Final = 30.0
"""Seconds until a workflow that there is not is asked for again, unless one is registered here before."""
_MOST_OUTPUT: Final = 64 * 1024
_MOST_ERROR: Final = 4_096
_SHARE: Final = 20
"""Counting the nodes of an execution may take one part in so many of the time."""


class _Count(msgspec.Struct):
    """How many nodes of `execution` had ended after fact `at`, and when it may be counted again."""

    execution: str
    at: int
    words: str
    again: int


class Executions:
    """Looks at Execution objects, one by one."""

    def __init__(self, orchestrator: Orchestrating, objects: Objects, clock: Clock) -> None:
        self._orchestrator = orchestrator
        self._objects = objects
        self._clock = clock
        self._counts: dict[str, _Count] = {}
        self._running: set[str] = set()

    def waiting(self) -> list[str]:
        """The objects whose start could not be done yet."""
        found = ((name, (self._objects.get(name) or {}).get("status") or {}) for name in self._objects.names)
        return [name for name, status in found if status.get("phase") == "Pending"]

    async def look(self, name: str) -> float | None:
        """Do what an object needs. Raises ClusterError and OrchestratorError, upon which to try again."""
        body = self._objects.get(name)
        if body is None:
            self._forget(name)
            return None
        status = body.get("status") or {}
        try:
            view = await self._find(body, status)
        except NotFound:
            return await self._lost(body, status)
        if "deletionTimestamp" in body["metadata"]:
            return await self._delete(body, view)
        if view is None:
            return await self._start(body, status)
        return await self._tell(body, view)

    async def _find(self, body: Object, status: Mapping[str, Any]) -> ExecutionView | None:
        """The execution of an object, None before its start. NotFound when it is gone."""
        if known := status.get("executionId"):
            return await self._orchestrator.execution(known)
        noted = (body["metadata"].get("annotations") or {}).get(_BEGUN)
        for workflow in dict.fromkeys((_id(noted), _id(_spec(body).get("workflow")))):
            view = await self._orchestrator.started(workflow, body["metadata"]["uid"]) if workflow else None
            if view is not None:
                return view
        return None

    # --- before the start ---

    async def _start(self, body: Object, status: Mapping[str, Any]) -> float | None:
        spec, generation = _spec(body), _generation(body)
        if status.get("phase") == "Refused" and status.get("observedGeneration") == generation:
            return None
        noted = _id(spec.get("workflow"))
        body = await self._objects.finalize(body, FINALIZER, wanted=True, notes={_BEGUN: noted} if noted else None)
        try:
            if "ttl" in spec:
                _ttl(spec)
            view = await self._orchestrator.start(
                spec.get("workflow", ""),
                spec.get("inputs") or {},
                idempotency_key=body["metadata"]["uid"],
                trigger="kubernetes",
                priority=spec.get("priority"),
            )
        except InputError as error:
            return await self._refused(body, "InputsInvalid", conditions.told(error))
        except AtLimit as error:
            return await self._refused(body, "AtLimit", str(error))
        except RequestError as error:
            return await self._refused(body, "SpecInvalid", str(error))
        except NotFound as error:
            await self._pending(body, "WorkflowNotFound", str(error))
            return _ABSENT
        except Overloaded as error:
            await self._pending(body, "Overloaded", str(error))
            return max(error.retry_after, _SOONEST)
        return await self._tell(body, view)

    async def _refused(self, body: Object, reason: str, message: str) -> float | None:
        """The start makes no sense as it is. There is nothing to cancel then, and no finalizer is needed."""
        body = await self._objects.finalize(body, FINALIZER, wanted=False)
        return await self._say(body, {"phase": "Refused"}, _before(reason, message, over=True), at_once=True)

    async def _pending(self, body: Object, reason: str, message: str) -> None:
        await self._say(body, {"phase": "Pending"}, _before(reason, message, over=False), at_once=True)

    # --- while it runs, and at its end ---

    async def _tell(self, body: Object, view: ExecutionView) -> float | None:
        """Have the status say how far the execution is; in how many seconds to look again."""
        name, ended = str(body["metadata"]["name"]), view.status in TERMINAL
        if not ended:
            self._running.add(name)
            body = await self._objects.finalize(body, FINALIZER, wanted=True)
        elif "deletionTimestamp" not in body["metadata"]:  # it is free to go, even should the API refuse the status
            body = await self._objects.finalize(body, FINALIZER, wanted=False)
        if not _is_told(body, view):
            left = await self._say(body, *await self._status(body, view))
            if left is not None:
                return left
        if not ended:
            return self._pace()
        self._forget(name)
        return await self._expire(self._objects.get(name) or body, view.finished_at)

    async def _status(self, body: Object, view: ExecutionView) -> tuple[dict[str, Any], list[Condition]]:
        cancelling = "deletionTimestamp" in body["metadata"] and view.status not in TERMINAL
        told: dict[str, Any] = {
            "executionId": view.id,
            "workflow": f"{view.workflow}@{view.version}",
            "phase": "Cancelling" if cancelling else view.status.capitalize(),
        }
        if view.last_seq:
            told["progress"] = await self._progress(str(body["metadata"]["name"]), view)
        if view.started_at is not None:
            told["startedAt"] = conditions.instant(view.started_at)
        if view.status in TERMINAL and view.finished_at is not None:
            told["finishedAt"] = conditions.instant(view.finished_at)
        if view.error is not None and view.status == "failed":
            told["error"] = {
                "type": view.error.type,
                "message": conditions.shortened(view.error.message, _MOST_ERROR),
            }
        omitted = ""
        if view.outputs is not None and view.status == "succeeded":
            size = len(msgspec.json.encode(view.outputs))
            if size <= _MOST_OUTPUT:
                told["outputs"] = conditions.without_nulls(view.outputs)
            else:
                omitted = (
                    f"its outputs take {size:,} bytes, more than a status has room for: "
                    f"`dagctl describe execution {view.id}` prints them"
                )
        return told, _after(view, omitted)

    async def _progress(self, name: str, view: ExecutionView) -> str:
        """How many of the nodes have ended: `3/7`. Not counted anew while that would be too much work."""
        known = self._counts.get(name)
        now = self._clock.now()
        if known is not None and known.execution != view.id:  # of an object that had the name before
            known = None
        if known is not None and (known.at == view.last_seq or (now < known.again and view.status not in TERMINAL)):
            return known.words
        begun = elapsed()
        nodes = await self._orchestrator.nodes(view.id)
        took = (elapsed() - begun) // 1_000
        ended = sum(node.state in ("succeeded", "failed", "skipped", "cancelled") for node in nodes)
        words, again = f"{ended}/{len(nodes)}", now + took * _SHARE
        self._counts[name] = count = _Count(execution=view.id, at=view.last_seq, words=words, again=again)
        return count.words

    async def _expire(self, body: Object, finished_at: int | None) -> float | None:
        """Delete an object whose time is over; else in how many seconds that is."""
        try:
            ttl = _ttl(_spec(body))
        except RequestError:  # it was changed after the start
            return None
        if ttl is None or finished_at is None or "deletionTimestamp" in body["metadata"]:
            return None
        left = finished_at + ttl - self._clock.now()
        if left > 0:
            return left / 1e6
        await self._objects.delete(body)
        return None

    # --- its end by others ---

    async def _delete(self, body: Object, view: ExecutionView | None) -> float | None:
        """The object is deleted: its execution is cancelled, and the object goes when that has ended."""
        name = str(body["metadata"]["name"])
        if FINALIZER not in (body["metadata"].get("finalizers") or ()):
            return None
        if view is None:
            self._forget(name)
            await self._objects.finalize(body, FINALIZER, wanted=False)
            return None
        if view.status not in TERMINAL and (body.get("status") or {}).get("phase") != "Cancelling":
            try:
                await self._orchestrator.cancel(view.id, author=_AUTHOR, reason="its Execution object was deleted")
            except Conflict:  # it has ended meanwhile
                view = await self._orchestrator.execution(view.id)
        if view.status not in TERMINAL:
            return await self._tell(body, view)
        with contextlib.suppress(ClusterError):  # should the API refuse the last status, the object goes without it
            left = await self._tell(body, view)
            if left is not None:
                return left
        await self._objects.finalize(self._objects.get(name) or body, FINALIZER, wanted=False)
        self._forget(name)
        return None

    async def _lost(self, body: Object, status: Mapping[str, Any]) -> float | None:
        """The orchestrator does not know the execution any more: it was purged, or the store is an older one."""
        self._forget(str(body["metadata"]["name"]))
        if "finishedAt" not in status and "deletionTimestamp" not in body["metadata"]:
            message = f"the orchestrator does not know execution {status['executionId']} any more"
            finished = conditions.instant(self._clock.now())
            kept = {key: value for key, value in status.items() if key not in ("conditions", "observedGeneration")}
            lost = {**kept, "phase": "Failed", "finishedAt": finished, "error": {"type": "Lost", "message": message}}
            await self._say(body, lost, _over("Lost", message, succeeded="False"), at_once=True)
            body = self._objects.get(str(body["metadata"]["name"])) or body
            status = lost
        body = await self._objects.finalize(body, FINALIZER, wanted=False)
        return await self._expire(
            body, conditions.microseconds(status["finishedAt"]) if "finishedAt" in status else None
        )

    # --- parts ---

    async def _say(
        self, body: Object, told: dict[str, Any], about: list[Condition], *, at_once: bool = False
    ) -> float | None:
        before = body.get("status") or {}
        generation = _generation(body)
        known = conditions.updated(before.get("conditions") or (), about, generation=generation, now=self._clock.now())
        status = {**told, "observedGeneration": generation, "conditions": known}
        return await self._objects.tell(body, status, at_once=at_once)

    def _pace(self) -> float:
        """Seconds until the next look at an execution that runs: longer the more of them there are."""
        return max(_SOONEST, len(self._running) / _LOOKS_PER_SECOND)

    def _forget(self, name: str) -> None:
        self._counts.pop(name, None)
        self._running.discard(name)


def _is_told(body: Object, view: ExecutionView) -> bool:
    """Whether the status tells the end of the execution already: then none of it is read again."""
    status = body.get("status") or {}
    if view.status not in TERMINAL or view.finished_at is None:
        return False
    told = (status.get("phase"), status.get("finishedAt"), status.get("observedGeneration"))
    return told == (view.status.capitalize(), conditions.instant(view.finished_at), _generation(body))


def _before(reason: str, message: str, *, over: bool) -> list[Condition]:
    """The conditions of an object without execution."""
    succeeded: Answer = "False" if over else "Unknown"
    return [
        Condition(type="Started", status="False", reason=reason, message=message),
        Condition(type="Finished", status="True" if over else "False", reason="Refused" if over else reason),
        Condition(type="Succeeded", status=succeeded, reason="Refused" if over else reason),
    ]


def _after(view: ExecutionView, omitted: str) -> list[Condition]:
    """The conditions of an object whose execution there is."""
    started = Condition(
        type="Started",
        status="True",
        reason="Started",
        message=f"execution {view.id} of {view.workflow}@{view.version}",
    )
    if view.status not in TERMINAL:
        words = waiting.words(view.waiting_on) if view.waiting_on else ""
        reason = conditions.reason_of(view.waiting_on) if view.waiting_on else view.status.capitalize()
        return [
            started,
            Condition(type="Finished", status="False", reason=reason, message=words),
            Condition(type="Succeeded", status="Unknown", reason="NotFinished"),
        ]
    message = view.error.message if view.error is not None else view.reason or omitted
    succeeded: Answer = "True" if view.status == "succeeded" else "False"
    return [started, *_over(view.status.capitalize(), message, succeeded=succeeded)]


def _over(reason: str, message: str, *, succeeded: Answer) -> list[Condition]:
    return [
        Condition(type="Finished", status="True", reason=reason, message=message),
        Condition(type="Succeeded", status=succeeded, reason=reason),
    ]


def _spec(body: Object) -> Mapping[str, Any]:
    return body.get("spec") or {}


def _id(reference: str | None) -> str:
    """The id of the workflow that is meant; empty when that cannot be read, which starting will tell."""
    try:
        return WorkflowReference.parse(reference or "").id
    except SpecError:
        return ""


def _ttl(spec: Mapping[str, Any]) -> int | None:
    """Microseconds that an object stays after the end. Raises RequestError."""
    if spec.get("ttl") is None:
        return None
    try:
        return parse_duration(spec["ttl"])
    except ValueError as error:
        raise RequestError(f"spec.ttl: {error}") from error


def _generation(body: Mapping[str, Any]) -> int:
    return int(body["metadata"].get("generation", 0))

"""The verbs, carried out: over the registry, the dispatcher and the store of this process.

`app.Orchestrator` is this service with its parts put together; the REST doors and the triggers call it.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
import orjson

from dagengine.clock import Clock
from dagengine.errors import InputError, Problem
from dagengine.events.facts import ErrorInfo
from dagengine.spec.inputs import check_inputs
from dagengine.spec.model import Document
from dagengine.wire import limits
from orchestrator import outcome
from orchestrator.dispatcher.commits import is_terminal
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.dispatcher.identity import execution_id
from orchestrator.errors import Conflict, NotFound, RequestError
from orchestrator.registry.registry import Entry, Registry, parse_reference
from orchestrator.store.base import TERMINAL, ExecutionRecord, InboxItem, NewExecution, Status, Store, Version
from orchestrator.verbs import (
    EngineView,
    ExecutionPage,
    ExecutionView,
    FactView,
    LogView,
    Registration,
    WorkflowView,
)

__all__ = ["Service"]

_MOST_INPUTS: Final = limits.MAX_FACT_BYTES - 64 * 1024
"""Bytes of inputs that still fit the first fact of an execution, with all else that is in it."""
_STATUSES: tuple[Status, ...] = ("queued", "running", "succeeded", "failed", "cancelled")


class Service:
    """Implements `orchestrator.verbs.Verbs`."""

    def __init__(self, *, store: Store, registry: Registry, dispatcher: Dispatcher, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._clock = clock

    # --- workflows ---

    async def apply(
        self, document: Document | Mapping[str, Any] | str | bytes, *, expected: str | None = None
    ) -> Registration:
        """Register a workflow version. Raises SpecError with every error of the document, or VersionConflict.

        With `expected` (`id` or `id@1.2.0`), RequestError when the document is another one.
        """
        entry, created = await self._registry.register(document, expected=expected)
        record = entry.record
        return Registration(id=record.workflow, version=record.version, digest=record.digest, created=created)

    async def workflows(self, *, labels: str = "") -> list[WorkflowView]:
        """The latest version of every workflow whose labels fit the selector. RequestError when it is malformed."""
        return [await self._workflow_view(record) for record in await self._registry.list(labels)]

    async def workflow(self, reference: str) -> WorkflowView:
        """The version that a reference names. Raises NotFound, and RequestError when it is none."""
        return await self._workflow_view((await self._registry.resolve(reference)).record)

    async def delete_workflow(self, workflow: str, *, version: str | None = None, force: bool = False) -> int:
        """Remove one version, or the whole workflow; how many versions went. Raises NotFound, InUse."""
        return await self._registry.remove(workflow, version=version, force=force)

    # --- executions ---

    async def start(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        trigger: str = "api",
        occurrence: str | None = None,
    ) -> ExecutionView:
        """Start an execution; returns once it is recorded.

        Raises NotFound, InputError, Overloaded, and RequestError when the inputs are too large.

        A second start with the same key (of the same workflow), or for the same occurrence of a trigger, is answered
        with the execution of the first, whatever would refuse a new one. With the same key but other inputs it is a
        Conflict. Which version the reference names does not matter: `id@latest` may name another one by now.
        """
        if idempotency_key is not None or occurrence is not None:
            known = await self._store.known_execution(
                parse_reference(reference).id, idempotency_key=idempotency_key, occurrence=occurrence
            )
            if known is not None:
                await self._require_same(known, inputs or {}, idempotency_key)
                return self._view(known)
        entry = await self._registry.resolve(reference)
        beginning = self._begin(entry, inputs or {}, idempotency_key, trigger, occurrence)
        # Shielded: a caller that gives up half-way must not leave an execution recorded that nobody runs.
        return self._view(await asyncio.shield(asyncio.ensure_future(beginning)))

    async def execute_workflow(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        """Start an execution, wait for its end and return its outputs.

        Raises ExecutionFailed when it does not succeed, and TimeoutError when it has not ended after `timeout` seconds
        (it goes on).
        """
        view = await self.start(reference, inputs, idempotency_key=idempotency_key)
        view = await self.wait(view.id, timeout=timeout)
        if view.status not in TERMINAL:
            raise TimeoutError(f"execution {view.id} has not ended after {timeout:g} s; it goes on")
        return await outcome.outputs_of(self, view)

    async def wait(self, execution: str, *, timeout: float | None = None) -> ExecutionView:
        """The execution once it has ended, or as it is after `timeout` seconds. Raises NotFound."""
        ended = self._dispatcher.feed.end(execution)
        try:
            record = await self._existing(execution)
            if record.status in TERMINAL:
                return self._view(record)
            done, _ = await asyncio.wait((ended,), timeout=timeout)
            return self._view(ended.result()) if done else await self.execution(execution)
        finally:
            ended.cancel()

    async def execution(self, execution: str) -> ExecutionView:
        """One execution. Raises NotFound."""
        return self._view(await self._existing(execution))

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ExecutionPage:
        """Executions, newest first. `status` may name several, separated by commas. RequestError when one is wrong."""
        if limit < 1:
            raise RequestError(f"a page has at least one execution, not {limit}")
        records = await self._store.executions(
            workflow=workflow, status=_statuses(status), before=_before(cursor), limit=limit + 1
        )
        page = records[:limit]
        following = f"{page[-1].created_at}.{page[-1].id}" if len(records) > limit else None
        return ExecutionPage(items=[self._view(record, brief=True) for record in page], next=following)

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[FactView]:
        """Committed facts after position `after`. Raises NotFound."""
        found = await self._store.facts(execution, after=after, limit=limit)
        if not found:
            await self._existing(execution)
        return [FactView(seq=fact.seq, epoch=fact.epoch, fact=msgspec.Raw(fact.payload)) for fact in found]

    async def events(self, execution: str, *, after: int = 0) -> AsyncIterator[FactView]:
        """Facts as they are committed, from `after` on, until the execution has ended. Raises NotFound."""
        record = await self._existing(execution)
        while True:
            change = self._dispatcher.feed.change(execution)
            try:
                found = await self.facts(execution, after=after)
                for view in found:
                    after = view.seq
                    yield view
                if found and is_terminal(bytes(found[-1].fact)):
                    return
                if not found:
                    record = await self._existing(execution)
                    if record.status in TERMINAL and after >= record.last_seq:
                        return
                    await change
            finally:
                change.cancel()

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[LogView]:
        """Log lines with ids after `after`. Raises NotFound."""
        found = await self._store.logs(execution, node=node, after=after, limit=limit)
        if not found:
            await self._existing(execution)
        return [LogView(id=line.id, line=msgspec.Raw(line.payload)) for line in found]

    async def cancel(self, execution: str, *, reason: str = "", author: str = "") -> ExecutionView:
        """Ask an execution to stop; returns once the request is durable. Raises NotFound, Conflict."""
        item = InboxItem(
            id=uuid.uuid4().hex,
            execution=execution,
            kind="cancel",
            payload=orjson.dumps({"author": author, "reason": reason}),
            created_at=self._clock.now(),
        )
        await asyncio.shield(asyncio.ensure_future(self._dispatcher.cancel(item)))
        return await self.execution(execution)

    async def engines(self) -> list[EngineView]:
        """The engines known now."""
        return self._dispatcher.engines()

    # --- parts ---

    async def _begin(
        self, entry: Entry, inputs: Mapping[str, Any], key: str | None, trigger: str, occurrence: str | None
    ) -> ExecutionRecord:
        """Record an execution and have it run, or find the one that has the key or the occurrence."""
        now = self._clock.now()
        new = NewExecution(
            id=execution_id(now),
            workflow=entry.record.workflow,
            version=entry.record.version,
            digest=entry.record.digest,
            inputs=_encode(check_inputs(entry.document, inputs)),
            created_at=now,
            seed=secrets.randbits(63),
            idempotency_key=key,
            trigger=trigger,
            occurrence=occurrence,
        )
        with self._dispatcher.admission(len(new.inputs)):
            record, created = await self._store.create_execution(new)
            if created:
                self._dispatcher.submit(record, entry.document)
        if not created:
            await self._require_same(record, inputs, key)
        return record

    async def _require_same(self, record: ExecutionRecord, inputs: Mapping[str, Any], key: str | None) -> None:
        """Raise Conflict when an execution that has the key was started with other inputs.

        They are read as those of its own version, since the defaults of another one may differ.
        """
        if key is None or record.idempotency_key != key:
            return
        document = await self._registry.document(record.digest)
        try:
            meant = check_inputs(document, inputs) if document is not None else inputs
            if _sorted(meant) == _sorted(orjson.loads(record.inputs)):
                return
        except InputError:
            pass
        raise Conflict(
            f"the idempotency key '{key}' belongs to execution {record.id}, which was started with other inputs: "
            "another request needs another key"
        )

    async def _existing(self, execution: str) -> ExecutionRecord:
        record = await self._store.execution(execution)
        if record is None:
            raise NotFound(f"there is no execution '{execution}'")
        return record

    async def _workflow_view(self, record: Version) -> WorkflowView:
        document = await self._registry.canonical(record.digest)
        return WorkflowView(
            id=record.workflow,
            version=record.version,
            digest=record.digest,
            name=record.name,
            description=record.description,
            labels=record.labels,
            registered_at=record.registered_at,
            versions=await self._registry.versions(record.workflow),
            document=msgspec.Raw(document),
        )

    def _view(self, record: ExecutionRecord, *, brief: bool = False) -> ExecutionView:
        """What people see of an execution; `brief` leaves the values out."""
        return ExecutionView(
            id=record.id,
            workflow=record.workflow,
            version=record.version,
            status=record.status,
            created_at=record.created_at,
            trigger=record.trigger,
            engine=record.engine,
            epoch=record.epoch,
            last_seq=record.last_seq,
            started_at=record.started_at,
            finished_at=record.finished_at,
            inputs=None if brief else orjson.loads(record.inputs),
            outputs=None if brief or record.outputs is None else orjson.loads(record.outputs),
            error=None if record.error is None else msgspec.json.decode(record.error, type=ErrorInfo),
            waiting_on=self._dispatcher.waiting_on(record.id) if record.status not in TERMINAL else None,
        )


def _encode(inputs: Mapping[str, Any], options: int = 0) -> bytes:
    try:
        encoded = orjson.dumps(inputs, option=options)
    except TypeError as error:
        raise InputError("the inputs are not JSON", [Problem(path="inputs", message=str(error))]) from error
    if len(encoded) > _MOST_INPUTS:
        raise RequestError(
            f"the inputs take {len(encoded):,} bytes, and {_MOST_INPUTS:,} are the most: keep large values elsewhere, "
            "and pass where they are",
            too_large=True,
        )
    return encoded


def _sorted(inputs: Mapping[str, Any]) -> bytes:
    return _encode(inputs, orjson.OPT_SORT_KEYS)


def _statuses(text: str | None) -> list[Status]:
    if not text:
        return []
    wanted = text.split(",")
    if unknown := [word for word in wanted if word not in _STATUSES]:
        raise RequestError(f"there is no status '{unknown[0]}'; there are {', '.join(_STATUSES)}")
    return [status for status in _STATUSES if status in wanted]


def _before(cursor: str | None) -> tuple[int, str] | None:
    if not cursor:
        return None
    at, dot, execution = cursor.partition(".")
    if not (dot and execution and at.isascii() and at.isdecimal() and len(at) < 19):  # it must fit 64 bits
        raise RequestError(f"the cursor {cursor!r} is none that this interface gave out")
    return int(at), execution

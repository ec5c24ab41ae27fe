"""From a reference and inputs to a recorded execution: once per idempotency key, and per occurrence of a trigger.

Called by `service`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from dagengine.clock import Clock
from dagengine.errors import InputError
from dagengine.spec.inputs import check_inputs
from dagengine.spec.model import MAX_PRIORITY
from orchestrator import given_inputs, supervision
from orchestrator.dispatcher import concurrency
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.dispatcher.identity import execution_id
from orchestrator.errors import Conflict, RequestError
from orchestrator.registry.registry import Entry, Registry, parse_reference
from orchestrator.store.base import ExecutionRecord, NewExecution, Store

__all__ = ["Request", "Starts"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to be started, and what tells it from another request."""

    reference: str
    inputs: Mapping[str, Any]
    idempotency_key: str | None = None
    trigger: str = "api"
    occurrence: str | None = None
    priority: int | None = None


class Starts:
    """Records executions, and has them run."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        clock: Clock,
        evaluate: concurrency.Evaluate,
    ) -> None:
        """`evaluate` is for the keys of workflows' `concurrency`."""
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._clock = clock
        self._evaluate = evaluate

    async def start(self, request: Request) -> ExecutionRecord:
        """The execution of a request: a new one, or that of the first request with its key, or for its occurrence.

        Raises what `orchestrator.service.Service.start` raises.
        """
        key, occurrence, priority = request.idempotency_key, request.occurrence, request.priority
        if key is not None or occurrence is not None:
            workflow = parse_reference(request.reference).id
            known = await self._store.known_execution(workflow, idempotency_key=key, occurrence=occurrence)
            if known is not None:
                await self._require_same(known, request)
                return known
        entry = await self._registry.resolve(request.reference)
        if priority is not None and not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise RequestError(f"a priority lies between {-MAX_PRIORITY} and {MAX_PRIORITY}, and is not {priority}")
        # Shielded: a caller that gives up half-way must not leave an execution recorded that nobody runs.
        return await supervision.to_its_end(self._begin(entry, request))

    async def _begin(self, entry: Entry, request: Request) -> ExecutionRecord:
        """Record an execution and have it run, or find the one that has the key or the occurrence."""
        encoded = given_inputs.encode(check_inputs(entry.document, request.inputs))
        concurrency_key = await concurrency.key_of(entry.document, encoded, self._evaluate)
        now = self._clock.now()
        new = NewExecution(
            id=execution_id(now),
            workflow=entry.record.workflow,
            version=entry.record.version,
            digest=entry.record.digest,
            inputs=encoded,
            created_at=now,
            seed=secrets.randbits(63),
            idempotency_key=request.idempotency_key,
            trigger=request.trigger,
            occurrence=request.occurrence,
            priority=entry.document.spec.priority if request.priority is None else request.priority,
            concurrency_key=concurrency_key,
        )
        record, created = await self._dispatcher.accept(new, entry.document)
        if not created:
            await self._require_same(record, request)
        return record

    async def _require_same(self, record: ExecutionRecord, request: Request) -> None:
        """Raise Conflict when an execution that has the key was started with other inputs.

        They are read as those of its own version, since the defaults of another one may differ.
        """
        key = request.idempotency_key
        if key is None or record.idempotency_key != key:
            return
        document = await self._registry.document(record.digest)
        try:
            meant = check_inputs(document, request.inputs) if document is not None else request.inputs
            if given_inputs.same(meant, orjson.loads(record.inputs)):
                return
        except InputError:
            pass
        raise Conflict(
            f"the idempotency key '{key}' belongs to execution {record.id}, which was started with other inputs: "
            "another request needs another key"
        )

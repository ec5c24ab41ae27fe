"""The verbs, carried out: over the registry, the dispatcher and the store of this process.

`app.Orchestrator` is this service with its parts put together; the REST doors and the triggers call it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from dagengine.clock import Clock
from dagengine.machine import operations
from dagengine.machine.phases import Phase
from dagengine.spec.model import Document
from orchestrator import checking, execution_views, journals, outcome, paging, supervision, waiting
from orchestrator.blobs import values
from orchestrator.blobs.base import Blobs
from orchestrator.dispatcher import concurrency
from orchestrator.dispatcher.commits import is_terminal
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.errors import Conflict, NotFound, RequestError, StoreError
from orchestrator.operating import Operating
from orchestrator.registry.registry import Registry, parse_reference
from orchestrator.retention.purger import Purger
from orchestrator.starts import Request, Starts
from orchestrator.store.base import TERMINAL, ExecutionRecord, InboxItem, Store, Version
from orchestrator.verbs import (
    AttemptView,
    EngineView,
    ExecutionPage,
    ExecutionView,
    Explanation,
    FactView,
    JournalHeader,
    LogView,
    NodeView,
    PoolView,
    PurgeReport,
    Receipt,
    Registration,
    ReplicaView,
    WorkflowView,
)

__all__ = ["Service"]


class Service(Operating):
    """Implements `orchestrator.verbs.Verbs`."""

    def __init__(
        self,
        *,
        store: Store,
        blobs: Blobs,
        registry: Registry,
        dispatcher: Dispatcher,
        clock: Clock,
        evaluate: concurrency.Evaluate,
        purger: Purger,
    ) -> None:
        """`evaluate` is for the keys of workflows' `concurrency`."""
        self._store = store
        self._blobs = blobs
        self._starts = Starts(store=store, registry=registry, dispatcher=dispatcher, clock=clock, evaluate=evaluate)
        self._registry = registry
        self._dispatcher = dispatcher
        self._clock = clock
        self._purger = purger

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

    async def obstacle(self, digest: str) -> str | None:
        """Why no engine could run the version with a digest, however idle; None when one could.

        A reason as in `ExecutionView.waiting_on`; `waiting.words` says it in words.
        """
        return await self._dispatcher.obstacle(digest)

    # --- executions ---

    async def started(self, reference: str, idempotency_key: str) -> ExecutionView | None:
        """The execution that a start of a workflow with this key has made, whatever its version; None without one.

        Raises RequestError when the reference cannot be read.
        """
        workflow = parse_reference(reference).id
        record = await self._store.known_execution(workflow, idempotency_key=idempotency_key)
        return None if record is None else await self._view(record)

    async def start(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        trigger: str = "api",
        occurrence: str | None = None,
        priority: int | None = None,
    ) -> ExecutionView:
        """Start an execution; returns once it is recorded. Without a `priority` it has that of its workflow.

        Raises NotFound, InputError, Overloaded, AtLimit when its workflow skips what comes while as many as it allows
        are under way, and RequestError when the inputs are too large, or the priority is none.

        A second start with the same key (of the same workflow), or for the same occurrence of a trigger, is answered
        with the execution of the first, whatever would refuse a new one. With the same key but other inputs it is a
        Conflict. Which version the reference names does not matter: `id@latest` may name another one by now.
        """
        request = Request(
            reference=reference,
            inputs=inputs or {},
            idempotency_key=idempotency_key,
            trigger=trigger,
            occurrence=occurrence,
            priority=priority,
        )
        return await self._view(await self._starts.start(request))

    async def execute_workflow(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        priority: int | None = None,
    ) -> dict[str, Any]:
        """Start an execution, wait for its end and return its outputs.

        Raises ExecutionFailed when it does not succeed, and TimeoutError when it has not ended after `timeout` seconds
        (it goes on).
        """
        view = await self.start(reference, inputs, idempotency_key=idempotency_key, priority=priority)
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
                return await self._view(record)
            done, _ = await asyncio.wait((ended,), timeout=timeout)
            return await self._view(ended.result()) if done else await self.execution(execution)
        finally:
            ended.cancel()

    async def execution(self, execution: str) -> ExecutionView:
        """One execution. Raises NotFound."""
        return await self._view(await self._existing(execution))

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
            workflow=workflow, status=paging.statuses(status), before=paging.before(cursor), limit=limit + 1
        )
        page = records[:limit]
        following = paging.cursor_after(page[-1]) if len(records) > limit else None
        return ExecutionPage(items=[await self._view(record, brief=True) for record in page], next=following)

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[FactView]:
        """Committed facts after position `after`. Raises NotFound."""
        found = await self._store.facts(execution, after=after, limit=limit)
        if not found:
            await self._existing(execution)
            return []
        page = next(values.pages(found))  # with its large values, it may be more than one
        payloads = await values.whole(self._blobs, [fact.payload for fact in page])
        return [
            FactView(seq=fact.seq, epoch=fact.epoch, fact=msgspec.Raw(payload))
            for fact, payload in zip(page, payloads, strict=True)
        ]

    async def journal(self, execution: str) -> JournalHeader:
        """An execution with its document, without its facts: the first line of an exported journal. NotFound."""
        record = await self._existing(execution)
        return journals.header(record, await self._registry.canonical(record.digest))

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
                if not found or is_terminal(bytes(found[-1].fact)):
                    record = await self._existing(execution)  # not the fact alone: the execution may go on after it
                    if record.status in TERMINAL and after >= record.last_seq:
                        return
                if not found:
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

    # --- operations ---

    async def _ask(self, execution: str, kind: str, members: Mapping[str, Any]) -> Receipt:
        return await self.operate(execution, checking.read(kind, members))

    async def operate(self, execution: str, operation: operations.Operation, /) -> Receipt:
        """Ask something of an execution; returns once that is durable.

        Raises NotFound, Conflict, Forbidden, InputError, RequestError (`orchestrator.verbs.Verbs.operate`).
        """
        record = await self._existing(execution)
        document = await self._document(record)
        checking.check(operation, document)
        await self._require_meant(operation, record, document)
        item = InboxItem(
            id=uuid.uuid4().hex,
            execution=execution,
            kind=operations.kind_of(operation),
            payload=operations.encode(operation),
            created_at=self._clock.now(),
        )
        await supervision.to_its_end(self._dispatcher.inboxes.operate(item))
        return Receipt(execution=execution, command=item.id, kind=item.kind, after=record.last_seq)

    async def why(self, execution: str, node: str | None = None) -> Explanation:
        """Why an execution, and its nodes (or one), is not running, from what is committed. Raises NotFound."""
        record = await self._existing(execution)
        document = await self._document(record)
        if node is not None:
            checking.require_node(document, node)
        view = await self._view(record, brief=True)
        return Explanation(
            execution=execution,
            status=record.status,
            waiting_on=view.waiting_on,
            words=waiting.words(view.waiting_on) if view.waiting_on else "",
            nodes=await journals.reasons(self._store, self._blobs, record, document, node),
        )

    async def nodes(self, execution: str) -> list[NodeView]:
        """How far each node is, in the order of the document. Raises NotFound."""
        record = await self._existing(execution)
        return await journals.nodes(self._store, record, await self._document(record))

    async def attempts(
        self, execution: str, node: str, *, index: int | None = None, after: int = 0, limit: int = 1_000
    ) -> list[AttemptView]:
        """Every try at a node (at one item of it), but for the first `after`: a page of them. Raises NotFound."""
        record = await self._existing(execution)
        checking.require_node(await self._document(record), node)
        found = await journals.attempts(self._store, execution, node, index)
        return await journals.page(self._blobs, found[after : after + limit])

    async def engines(self) -> list[EngineView]:
        """The engines known now."""
        return self._dispatcher.engines()

    async def pools(self) -> list[PoolView]:
        """The pools over the whole system, and those of the engines that are connected."""
        return self._dispatcher.pools()

    async def purge(
        self,
        *,
        workflow: str | None = None,
        older_than: float | str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
        within: float | None = None,
    ) -> PurgeReport:
        """Delete executions (of one workflow) that have ended; what went (`orchestrator.verbs.Verbs.purge`).

        Raises NotFound, RequestError.
        """
        return await self._purger.purge(
            workflow=workflow, older_than=older_than, keep=keep, dry_run=dry_run, within=within
        )

    async def replicas(self) -> list[ReplicaView]:
        """The orchestrators that share this one's store, itself included, in the order in which they joined."""
        return [
            ReplicaView(name=one.name, leads=one.leads, joined_at=one.joined_at, until=one.until)
            for one in await self._store.replicas()
        ]

    # --- parts ---

    async def _require_meant(
        self, operation: operations.Operation, record: ExecutionRecord, document: Document
    ) -> None:
        """Raise Conflict when it is known already that an execution cannot do what it is asked for."""
        ended = record.status in TERMINAL
        if isinstance(operation, operations.Rerun):
            if record.status == "succeeded" and not operation.nodes:
                raise Conflict(f"execution '{record.id}' has succeeded: name the nodes that are to run again")
        elif ended:
            raise Conflict(f"execution '{record.id}' has ended already ({record.status})")
        elif isinstance(operation, operations.EditInputs) and record.last_seq:
            state = await journals.state(self._store, self._blobs, record, document)
            if state.phase[state.graph.index[operation.node]] != Phase.PENDING:
                raise Conflict(f"node '{operation.node}' of execution '{record.id}' has begun already")

    async def _document(self, record: ExecutionRecord) -> Document:
        """The document of the version that an execution is pinned to; it is kept also when the version was removed."""
        document = await self._registry.document(record.digest)
        if document is None:
            raise StoreError(f"the store has execution {record.id}, but not its document {record.digest}")
        return document

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

    async def _view(self, record: ExecutionRecord, *, brief: bool = False) -> ExecutionView:
        """What people see of an execution; `brief` leaves the values out."""
        waiting_on = await self._dispatcher.waiting_on(record) if record.status not in TERMINAL else None
        if brief:
            return execution_views.without_values(record, waiting_on=waiting_on)
        return await execution_views.whole(self._blobs, record, waiting_on=waiting_on)

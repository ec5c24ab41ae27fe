"""A small double of the verbs, and the application over it, with and without a socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import jsonschema
import msgspec
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from dagengine.events import facts
from dagengine.machine import operations
from dagengine.spec import document as documents
from dagengine.spec.model import Document
from orchestrator import errors, verbs
from orchestrator.api import server
from orchestrator.api.app import create_app
from orchestrator.registry.registry import compare
from orchestrator.reports import FORMAT, Purged

NOW = 1_760_000_000_000_000
TERMINAL = ("succeeded", "failed", "cancelled")


def document(workflow: str = "greeting", version: str = "1.0.0", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "workflows/v1",
        "kind": "Workflow",
        "metadata": {"id": workflow, "version": version, **metadata},
        "spec": {"nodes": [{"id": "greet", "executor": {"type": "lua", "code": "return 'hello'"}}]},
    }


class Memory:
    """Verbs over dictionaries. Executions of workflows named `slow…` end when the test says so; others at once."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], Document] = {}
        self.views: dict[str, verbs.ExecutionView] = {}
        self.journals: dict[str, list[verbs.FactView]] = {}
        self.lines: dict[str, list[verbs.LogView]] = {}
        self.replica_views: list[verbs.ReplicaView] = []
        self.keys: dict[tuple[str, str], str] = {}
        self.pool_views: list[verbs.PoolView] = []
        self.engine_views: list[verbs.EngineView] = []
        self.asked: list[tuple[str, operations.Operation]] = []
        """Operations, each with its execution."""
        self.attempt_views: list[verbs.AttemptView] = []
        self.purges: list[dict[str, Any]] = []
        """What was asked of `purge`."""
        self.failure: Exception | None = None
        """Raised by the next verb."""
        self.changed = asyncio.Condition()
        self.reading = 0
        """Streams of events open now."""

    def _trip(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure

    async def apply(
        self, given: Document | Mapping[str, Any] | str | bytes, *, expected: str | None = None
    ) -> verbs.Registration:
        self._trip()
        if isinstance(given, Document):
            read = given
        elif isinstance(given, str | bytes):
            read = documents.read(given)
        else:
            read = documents.from_dict(given)
        compare(read, expected)
        known = self.documents.get((read.id, read.version))
        if known is not None and known.digest != read.digest:
            raise errors.VersionConflict(f"{read.reference} is registered with another content")
        self.documents[read.id, read.version] = read
        return verbs.Registration(id=read.id, version=read.version, digest=read.digest, created=known is None)

    def _view(self, read: Document) -> verbs.WorkflowView:
        return verbs.WorkflowView(
            id=read.id,
            version=read.version,
            digest=read.digest,
            name=read.metadata.name,
            description=read.metadata.description,
            labels=dict(read.metadata.labels),
            registered_at=NOW,
            versions=sorted((v for w, v in self.documents if w == read.id), reverse=True),
            document=msgspec.Raw(read.canonical),
        )

    async def workflows(self, *, labels: str = "") -> list[verbs.WorkflowView]:
        self._trip()
        wanted = dict(part.split("=") for part in labels.split(",")) if labels else {}
        return [self._view(read) for read in self.documents.values() if wanted.items() <= read.metadata.labels.items()]

    async def workflow(self, reference: str) -> verbs.WorkflowView:
        self._trip()
        workflow, _, version = reference.partition("@")
        versions = sorted(v for w, v in self.documents if w == workflow)
        found = version if version in versions else versions[-1] if versions and version in ("", "latest", "^1") else ""
        if not found:
            raise errors.NotFound(f"there is no workflow {reference!r}")
        return self._view(self.documents[workflow, found])

    async def delete_workflow(self, workflow: str, *, version: str | None = None, force: bool = False) -> int:
        self._trip()
        gone = [key for key in self.documents if key[0] == workflow and version in (None, key[1])]
        if not gone:
            raise errors.NotFound(f"there is no workflow {workflow!r}")
        running = [v.id for v in self.views.values() if v.workflow == workflow and v.status not in TERMINAL]
        if running and not force:
            raise errors.InUse(f"workflow {workflow!r} still has running executions: {', '.join(running)}")
        for key in gone:
            del self.documents[key]
        return len(gone)

    async def start(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        trigger: str = "api",
        priority: int | None = None,
    ) -> verbs.ExecutionView:
        workflow = await self.workflow(reference)
        known = self.keys.get((workflow.id, idempotency_key)) if idempotency_key else None
        if known is not None:
            return self.views[known]
        view = verbs.ExecutionView(
            id=f"x{len(self.views) + 1}",
            workflow=workflow.id,
            version=workflow.version,
            status="running",
            created_at=NOW + len(self.views),
            trigger=trigger,
            inputs=msgspec.Raw(msgspec.json.encode(dict(inputs or {}))),
        )
        self.views[view.id] = view
        self.journals[view.id] = []
        self.lines[view.id] = []
        if idempotency_key:
            self.keys[workflow.id, idempotency_key] = view.id
        async with self.changed:
            self.changed.notify_all()
        if not workflow.id.startswith("slow"):
            await self.finish(view.id)
        return self.views[view.id]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that requests bring about has come true."""
        async with self.changed:
            await self.changed.wait_for(condition)

    async def record(self, execution: str, *new: facts.Fact) -> None:
        async with self.changed:
            journal = self.journals[execution]
            for fact in new:
                raw = msgspec.Raw(facts.encode(fact))
                journal.append(verbs.FactView(seq=len(journal) + 1, epoch=1, fact=raw))
            self.changed.notify_all()

    async def finish(self, execution: str, status: str = "succeeded", **changes: Any) -> None:
        view = self.views[execution]
        if status == "succeeded":
            changes.setdefault("outputs", view.inputs)
        async with self.changed:
            self.views[execution] = msgspec.structs.replace(view, status=status, finished_at=NOW, **changes)
            self.changed.notify_all()

    async def wait(self, execution: str, *, timeout: float | None = None) -> verbs.ExecutionView:
        await self.execution(execution)
        try:
            async with asyncio.timeout(timeout), self.changed:
                await self.changed.wait_for(lambda: self.views[execution].status in TERMINAL)
        except TimeoutError:
            pass
        return self.views[execution]

    async def execution(self, execution: str) -> verbs.ExecutionView:
        self._trip()
        if execution not in self.views:
            raise errors.NotFound(f"there is no execution {execution!r}")
        return self.views[execution]

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> verbs.ExecutionPage:
        self._trip()
        newest = [
            view
            for view in reversed(self.views.values())
            if workflow in (None, view.workflow) and (status is None or view.status in status.split(","))
        ]
        at = int(cursor or 0)
        more = at + limit < len(newest)
        return verbs.ExecutionPage(items=newest[at : at + limit], next=str(at + limit) if more else None)

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[verbs.FactView]:
        await self.execution(execution)
        return self.journals[execution][after : after + limit]

    async def events(self, execution: str, *, after: int = 0) -> AsyncIterator[verbs.FactView]:
        await self.execution(execution)
        journal = self.journals[execution]
        self.reading += 1
        try:
            while True:
                for view in journal[after:]:
                    after = view.seq
                    yield view
                async with self.changed:
                    if len(journal) <= after:
                        if self.views[execution].status in TERMINAL:
                            return
                        await self.changed.wait()
        finally:
            self.reading -= 1
            asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[verbs.LogView]:
        await self.execution(execution)
        lines = [view for view in self.lines[execution] if view.id > after]
        if node is not None:
            lines = [view for view in lines if msgspec.json.decode(view.line)["node"] == node]
        return lines[:limit]

    async def operate(self, execution: str, operation: operations.Operation, /) -> verbs.Receipt:
        view = await self.execution(execution)
        if view.status in TERMINAL and not isinstance(operation, operations.Rerun):
            raise errors.Conflict(f"execution {execution!r} has ended: {view.status}")
        self.asked.append((execution, operation))
        command = f"c{len(self.asked)}"
        return verbs.Receipt(execution=execution, command=command, kind=operations.kind_of(operation), after=0)

    async def why(self, execution: str, node: str | None = None) -> verbs.Explanation:
        view = await self.execution(execution)
        reason = verbs.NodeReason(
            node="greet", phase="pending", code="waiting_on", words="it waits for a", waiting_on=("a",), items={"x": 1}
        )
        nodes = [reason] if node in (None, "greet") else []
        return verbs.Explanation(execution=execution, status=view.status, nodes=nodes)

    async def nodes(self, execution: str) -> list[verbs.NodeView]:
        await self.execution(execution)
        return [verbs.NodeView(id="greet", state="running", attempt=1, started_at=NOW)]

    async def attempts(
        self, execution: str, node: str, *, index: int | None = None, after: int = 0, limit: int = 1_000
    ) -> list[verbs.AttemptView]:
        await self.execution(execution)
        found = [one for one in self.attempt_views if one.node == node and index in (None, one.index)]
        return found[after : after + limit]

    async def journal(self, execution: str) -> verbs.JournalHeader:
        view = await self.execution(execution)
        read = self.documents[view.workflow, view.version]
        return verbs.JournalHeader(
            format=FORMAT,
            release="0.1.0",
            execution=view.id,
            workflow=view.workflow,
            version=view.version,
            digest=read.digest,
            status=view.status,
            seed=2**63 - 1,
            epoch=1,
            last_seq=len(self.journals[execution]),
            created_at=view.created_at,
            inputs=msgspec.Raw(b"{}"),
            document=msgspec.Raw(read.canonical),
        )

    async def purge(self, *, within: float | None = None, **asked: Any) -> verbs.PurgeReport:
        """One execution goes in each turn; without `within` all that have ended."""
        self._trip()
        self.purges.append({**asked, "within": within})
        ended = [view for view in self.views.values() if view.status in TERMINAL]
        gone = ended if within is None or asked["dry_run"] else ended[:1]
        for view in gone if not asked["dry_run"] else ():
            del self.views[view.id]
        of = [Purged(workflow=view.workflow, executions=1, facts=2, oldest=NOW, newest=NOW) for view in gone]
        report = verbs.PurgeReport(dry_run=asked["dry_run"], workflows=[], executions=0, more=len(gone) < len(ended))
        for purged in of:
            one = msgspec.structs.replace(report, workflows=[purged], executions=1, rows=4)
            report = report.plus(one)
        return report

    async def engines(self) -> list[verbs.EngineView]:
        self._trip()
        return self.engine_views

    async def pools(self) -> list[verbs.PoolView]:
        self._trip()
        return self.pool_views

    async def replicas(self) -> list[verbs.ReplicaView]:
        self._trip()
        return self.replica_views


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def reasons() -> list[str]:
    """Why the orchestrator is not ready; tests add to it."""
    return []


@pytest.fixture
def faults() -> list[str]:
    """Why the orchestrator should be started anew; tests add to it."""
    return []


@pytest.fixture
def make_app(memory: Memory, reasons: list[str], faults: list[str]) -> Callable[..., FastAPI]:
    """Makes the application over `memory`; keyword arguments replace those of the tests."""
    triggers = {("POST", "/trigger/greeting"): "greeting", ("PUT", "/hooks/slow"): "slow@latest"}

    def make(**changes: Any) -> FastAPI:
        arguments: dict[str, Any] = {
            "metrics": lambda: b"# TYPE up gauge\nup 1.0\n",
            "readiness": lambda needs_engine: reasons if needs_engine else [],
            "health": lambda: faults,
            "http_triggers": lambda method, path: triggers.get((method, path)),
            "max_body": 64 * 1024,
            "trigger_wait": 0.05,
        }
        if isinstance(changes.get("token"), str):
            changes["token"] = SecretStr(changes["token"])
        return create_app(memory, **(arguments | changes))

    return make


class Described:
    """Holds responses against the OpenAPI description."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description
        self.seen: set[tuple[str, str]] = set()
        """Operation and status of every response that was checked."""
        self._paths = [
            (re.compile(re.sub(r"{\w+}", "[^/]+", path.replace("/{trigger}", "/.+")) + "$"), operations)
            for path, operations in sorted(description["paths"].items(), key=lambda item: "{trigger}" in item[0])
        ]

    def validate(self, value: object, schema: dict[str, Any]) -> None:
        jsonschema.Draft202012Validator(schema | {"components": self.description["components"]}).validate(value)

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        matches = (operations for pattern, operations in self._paths if pattern.match(path))
        return next(matches, {}).get(method.lower())

    async def check(self, response: httpx.Response) -> None:
        await response.aread()
        operation = self.operation(response.request.method, response.request.url.path)
        if operation is None:  # nothing is said about paths and methods that are not offered
            assert response.status_code in (403, 404, 405, 421) or response.request.url.path == "/openapi.json"
            return
        described = operation["responses"][str(response.status_code)]
        media_type = response.headers["content-type"].partition(";")[0]
        schema = described["content"][media_type]["schema"]
        self.validate(response.json() if media_type.endswith("json") else response.text, schema)
        for header in described.get("headers", {}):
            assert header in response.headers
        self.seen.add((operation["operationId"], str(response.status_code)))


@pytest.fixture
def described(make_app: Callable[..., FastAPI]) -> Described:
    return Described(make_app(token="secret").openapi())


@pytest.fixture
async def http(make_app: Callable[..., FastAPI], described: Described) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to the application without a socket in between; every response is held against OpenAPI."""
    transport = httpx.ASGITransport(make_app())
    hooks = {"response": [described.check]}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", event_hooks=hooks) as client:
        yield client


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[server.Serving]]:
    """`server.start` and `stop` around a block."""

    @asynccontextmanager
    async def run(app: FastAPI, **options: Any) -> AsyncIterator[server.Serving]:
        running = await server.start(app, **options)
        try:
            yield running
        finally:
            await running.stop()

    return run


@pytest.fixture
async def serving(serve, make_app: Callable[..., FastAPI]) -> AsyncIterator[server.Serving]:
    """The application behind a real server on a free loopback port."""
    async with serve(make_app(), grace=5) as running:
        yield running


@pytest.fixture
def registered(memory: Memory) -> Memory:
    """`memory` with the workflows `greeting` (1.0.0 and 1.1.0) and `slow`."""
    for workflow, version in (("greeting", "1.0.0"), ("greeting", "1.1.0"), ("slow", "1.0.0")):
        read = documents.from_dict(document(workflow, version, labels={"team": workflow}))
        memory.documents[workflow, version] = read
    return memory


@pytest.fixture
def new_document() -> Callable[..., dict[str, Any]]:
    """Makes a document: `new_document(id, version, **metadata)`."""
    return document


@pytest.fixture
def captured_logs() -> Iterator[Callable[[], list[MutableMapping[str, Any]]]]:
    """Gives what was logged during the test."""
    with structlog.testing.capture_logs() as entries:
        yield lambda: entries

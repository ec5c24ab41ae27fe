"""`Client`: the verbs over HTTP."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from orchestrator import outcome, verbs, views
from orchestrator.client import stream
from orchestrator.client.connection import Connection
from orchestrator.errors import RequestError
from orchestrator.operating import Operating, as_json
from orchestrator.store.base import TERMINAL
from orchestrator.verbs import ExecutionView, FactView

if TYPE_CHECKING:
    from typing import Self

    from dagengine.machine.operations import Operation
    from dagengine.spec.model import Document

__all__ = ["DEFAULT_URL", "Client"]

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8080"

_TURN: Final = 30.0
"""Seconds for which one request waits for an execution; longer waits are several requests."""
_LONGEST_KEY: Final = 255


class Client(Operating):
    """An orchestrator behind a URL, with the verbs and errors of the embedded one (`orchestrator.verbs.Verbs`).

    `timeout` is the longest time an answer may take, in seconds, on top of the time the server was asked to wait.
    `tls` replaces the system's certificate authorities. Connections are opened when they are needed and kept; use it
    as a context manager, or call `close`. It belongs to one event loop at a time.

    Raises SettingsError when `url` or `token` cannot be one. Every method raises TransportError when the orchestrator
    cannot be reached, and Unauthorized when it does not take the token.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connection = Connection(url, token=token, timeout=timeout, tls=tls)

    @property
    def url(self) -> str:
        """Where the orchestrator is."""
        return self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._connection.close()

    def run_sync(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of one call (or of a coroutine that makes several), for scripts without an event loop.

        ::

            client = Client()
            outputs = client.run_sync(client.execute_workflow("greeting", {"name": "Ada"}))

        Raises RuntimeError inside a running event loop: there, `await` the call.
        """

        async def whole() -> T:
            async with self:
                return await call

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(whole())
        call.close()
        raise RuntimeError("run_sync cannot be used inside a running event loop; await the call instead")

    # --- workflows ---

    async def apply(
        self, document: Document | Mapping[str, Any] | str | bytes, *, expected: str | None = None
    ) -> verbs.Registration:
        """Register a workflow version. Raises SpecError with every error of the document, or VersionConflict.

        With `expected` (`id` or `id@1.2.0`), RequestError when the document is another one.
        """
        body, media_type = _text(document)
        method, path = ("POST", "/api/v1/workflows") if expected is None else ("PUT", _workflow(expected))
        answer = await self._connection.request(method, path, body=body, headers={"content-type": media_type})
        return self._connection.decode(answer, verbs.Registration)

    async def workflows(self, *, labels: str = "") -> list[verbs.WorkflowView]:
        """The latest version of every workflow whose labels fit the selector."""
        query = {"filter": labels or None}
        return (await self._connection.get("/api/v1/workflows", views.WorkflowList, query=query)).items

    async def workflow(self, reference: str) -> verbs.WorkflowView:
        """The version that a reference names. Raises NotFound."""
        return await self._connection.get(_workflow(reference), verbs.WorkflowView)

    async def delete_workflow(self, workflow: str, *, version: str | None = None, force: bool = False) -> int:
        """Remove one version, or the whole workflow; how many versions went. Raises NotFound, InUse."""
        query = {"version": version, "force": "true" if force else None}
        answer = await self._connection.request("DELETE", _workflow(workflow), query=query)
        return self._connection.decode(answer, views.Removal).removed

    # --- executions ---

    async def start(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        trigger: str = "api",
        priority: int | None = None,
    ) -> ExecutionView:
        """Start an execution; returns once it is recorded. Raises NotFound, InputError, Overloaded, AtLimit.

        Without a key one is made, so that a start whose answer was lost is not made twice. Over HTTP, the `trigger`
        is always `api`.
        """
        if trigger != "api":
            raise RequestError(f"an execution started over HTTP has the trigger 'api', not {trigger!r}")
        return await self._start(reference, inputs, idempotency_key, priority)

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
        turn = _TURN if timeout is None else min(_TURN, timeout)
        deadline = None if timeout is None else _now() + timeout
        view = await self._start(reference, inputs, idempotency_key, priority, turn=turn)
        if view.status not in TERMINAL:
            view = await self.wait(view.id, timeout=None if deadline is None else max(0.0, deadline - _now()))
        if view.status not in TERMINAL:
            raise TimeoutError(f"execution {view.id} has not ended after {timeout:g} s; it goes on")
        return await outcome.outputs_of(self, view)

    async def wait(self, execution: str, *, timeout: float | None = None) -> ExecutionView:
        """The execution once it has ended, or as it is after `timeout` seconds. Raises NotFound."""
        deadline = None if timeout is None else _now() + timeout
        while True:
            turn = _TURN if deadline is None else max(0.0, min(_TURN, deadline - _now()))
            query = {"wait": "true", "timeout": f"{turn:.3f}"}
            view = await self._connection.get(_execution(execution), ExecutionView, query=query, patience=turn)
            if view.status in TERMINAL or (deadline is not None and _now() >= deadline):
                return view

    async def execution(self, execution: str) -> ExecutionView:
        """One execution. Raises NotFound."""
        return await self._connection.get(_execution(execution), ExecutionView)

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> verbs.ExecutionPage:
        """Executions, newest first."""
        query = {"workflow": workflow, "status": status, "limit": limit, "cursor": cursor}
        return await self._connection.get("/api/v1/executions", verbs.ExecutionPage, query=query)

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[FactView]:
        """Committed facts after position `after`. Raises NotFound."""
        query = {"after": after, "limit": limit}
        path = f"{_execution(execution)}/facts"
        return (await self._connection.get(path, views.FactList, query=query)).items

    async def journal(self, execution: str) -> verbs.JournalHeader:
        """An execution with its document, without its facts: the first line of an exported journal. Raises NotFound."""
        return await self._connection.get(f"{_execution(execution)}/journal", verbs.JournalHeader)

    def events(self, execution: str, *, after: int = 0) -> AsyncIterator[FactView]:
        """Facts as they are committed, until the execution has ended; resumed by itself after a cut. NotFound."""
        return stream.follow(self._connection, f"{_execution(execution)}/events", after=after)

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[verbs.LogView]:
        """Log lines with ids after `after`. Raises NotFound."""
        query = {"node": node, "after": after, "limit": limit}
        return (await self._connection.get(f"{_execution(execution)}/logs", views.LogList, query=query)).items

    async def operate(self, execution: str, operation: Operation, /) -> verbs.Receipt:
        """Ask something of an execution; returns once that is durable.

        Raises NotFound, Conflict, Forbidden, InputError, RequestError (`orchestrator.verbs.Verbs.operate`).
        """
        members: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(operation))
        return await self._ask(execution, members.pop("kind"), members)

    async def _ask(self, execution: str, kind: str, members: Mapping[str, Any]) -> verbs.Receipt:
        body = dict(members)
        if body.pop("terminate", False):
            kind = "terminate"
        if kind == "cancel":
            body["grace"] = body.get("grace", 0) / 1e6
        elif kind == "terminate":
            body.pop("grace", None)
        answer = await self._connection.request(
            "POST",
            f"{_execution(execution)}/{kind}",
            body=as_json(body, "what is asked for"),
            headers={"content-type": "application/json"},
        )
        return self._connection.decode(answer, verbs.Receipt)

    async def why(self, execution: str, node: str | None = None) -> verbs.Explanation:
        """Why an execution, and its nodes (or one), is not running, from what is committed. Raises NotFound."""
        path = f"{_execution(execution)}/why"
        return await self._connection.get(path, verbs.Explanation, query={"node": node})

    async def nodes(self, execution: str) -> list[verbs.NodeView]:
        """How far each node is, in the order of the document. Raises NotFound."""
        return (await self._connection.get(f"{_execution(execution)}/nodes", views.NodeList)).items

    async def attempts(
        self, execution: str, node: str, *, index: int | None = None, after: int = 0, limit: int = 1_000
    ) -> list[verbs.AttemptView]:
        """Every try at a node (at one item of it), but for the first `after`: a page of them. Raises NotFound."""
        query = {"index": index, "after": after, "limit": limit}
        path = f"{_execution(execution)}/nodes/{quote(node, safe='')}/attempts"
        return (await self._connection.get(path, views.AttemptList, query=query)).items

    async def engines(self) -> list[verbs.EngineView]:
        """The engines known now."""
        return (await self._connection.get("/api/v1/engines", views.EngineList)).items

    async def pools(self) -> list[verbs.PoolView]:
        """The pools over the whole system, and those of the engines that are connected."""
        return (await self._connection.get("/api/v1/pools", views.PoolList)).items

    async def replicas(self) -> list[verbs.ReplicaView]:
        """The orchestrators that share one store, in the order in which they joined it."""
        return (await self._connection.get("/api/v1/replicas", views.ReplicaList)).items

    async def purge(
        self,
        *,
        workflow: str | None = None,
        older_than: float | str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
        within: float | None = None,
    ) -> verbs.PurgeReport:
        """Delete executions (of one workflow) that have ended; what went (`orchestrator.verbs.Verbs.purge`).

        Without `within`, as many requests as it takes. Raises NotFound, RequestError.
        """
        body = {"workflow": workflow, "older_than": older_than, "keep": keep, "dry_run": dry_run}
        if within is not None:
            return await self._purge({**body, "within": within})
        report = await self._purge(body)
        while report.more and not dry_run:
            report = report.plus(await self._purge(body))
        return report

    async def _purge(self, body: Mapping[str, Any]) -> verbs.PurgeReport:
        answer = await self._connection.request(
            "POST",
            "/api/v1/purge",
            body=as_json({name: value for name, value in body.items() if value is not None}, "what is to go"),
            headers={"content-type": "application/json"},
            patience=_TURN,
            repeatable=True,  # what went before an answer was lost is not counted, and that is all
        )
        return self._connection.decode(answer, verbs.PurgeReport)

    async def _start(
        self,
        reference: str,
        inputs: Mapping[str, Any] | None,
        key: str | None,
        priority: int | None,
        *,
        turn: float | None = None,
    ) -> ExecutionView:
        body = {"inputs": dict(inputs or {})} | ({} if priority is None else {"priority": priority})
        if key is None:
            key = uuid.uuid4().hex
        elif not 0 < len(key) <= _LONGEST_KEY or not key.isascii() or not key.isprintable():
            raise RequestError(f"an idempotency key must be 1 to {_LONGEST_KEY} printable ASCII characters")
        answer = await self._connection.request(
            "POST",
            f"{_workflow(reference)}/executions",
            query=None if turn is None else {"wait": "true", "timeout": f"{turn:.3f}"},
            body=as_json(body, "the inputs"),
            headers={"content-type": "application/json", "idempotency-key": key},
            patience=turn or 0.0,
            repeatable=True,
        )
        return self._connection.decode(answer, ExecutionView)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _workflow(reference: str) -> str:
    return f"/api/v1/workflows/{quote(reference, safe='@')}"


def _execution(execution: str) -> str:
    return f"/api/v1/executions/{quote(execution, safe='')}"


def _text(document: Document | Mapping[str, Any] | str | bytes) -> tuple[bytes, str]:
    """The document as text, and its media type."""
    if isinstance(document, str | bytes):
        text = document.encode() if isinstance(document, str) else document
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return text, "application/yaml"
        return text, "application/json"
    if isinstance(document, Mapping):
        return as_json(dict(document), "the document"), "application/json"
    return document.canonical, "application/json"

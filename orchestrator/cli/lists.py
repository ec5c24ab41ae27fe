"""What `dagctl get` prints: workflows, executions, engines, pools and replicas, one row each."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator import errors
from orchestrator.cli import printing, progress
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import EngineView, ExecutionView, PoolView, ReplicaView, WorkflowView

__all__ = ["Wanted", "engines", "execution_duration", "executions", "now", "pools", "replicas", "workflows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which executions to list."""

    workflow: str | None
    status: str | None
    limit: int


def now() -> int:
    """Microseconds since the Unix epoch."""
    return time.time_ns() // 1_000


def workflows(client: Client, reference: str | None, labels: str, form: Format) -> None:
    """Print one workflow, or all whose labels fit."""

    async def fetch() -> list[WorkflowView]:
        async with client:
            if reference is not None:
                return [await client.workflow(reference)]
            return await client.workflows(labels=labels)

    found = asyncio.run(fetch())
    if form is not Format.TABLE:
        printing.structured(found if reference is None else found[0], form)
        return
    rows = [
        (
            view.id,
            view.version,
            str(len(view.versions)),
            printing.ago(view.registered_at, now()),
            ",".join(f"{key}={value}" for key, value in sorted(view.labels.items())),
            view.name,
        )
        for view in found
    ]
    _print("workflows", ("ID", "VERSION", "VERSIONS", "REGISTERED", "LABELS", "NAME"), rows)


def executions(client: Client, execution: str | None, wanted: Wanted, form: Format) -> None:
    """Print one execution, or the newest ones."""

    async def fetch() -> list[ExecutionView]:
        async with client:
            return await _newest(client, wanted) if execution is None else [await client.execution(execution)]

    found = asyncio.run(fetch())
    told = any(view.reason for view in found)
    if form is not Format.TABLE:
        printing.structured(found if execution is None else found[0], form)
        return
    rows = [
        (
            view.id,
            f"{view.workflow}@{view.version}",
            view.status,
            view.engine or (f"waiting: {view.waiting_on}" if view.waiting_on else ""),
            printing.ago(view.created_at, now()),
            execution_duration(view),
            view.trigger,
            *([view.reason] if told else []),
        )
        for view in found
    ]
    headings = ("ID", "WORKFLOW", "STATUS", "ENGINE", "CREATED", "DURATION", "TRIGGER", *(["REASON"] if told else []))
    _print(
        "executions", headings, rows, least=("TRIGGER", "DURATION", "ENGINE", "CREATED", *(["REASON"] if told else []))
    )


async def _newest(client: Client, wanted: Wanted) -> list[ExecutionView]:
    found: list[ExecutionView] = []
    cursor: str | None = None
    while True:
        page = await client.executions(
            workflow=wanted.workflow,
            status=wanted.status,
            limit=min(100, wanted.limit - len(found)),
            cursor=cursor,
        )
        found.extend(page.items)
        cursor = page.next
        if cursor is None or len(found) >= wanted.limit:
            return found


def execution_duration(view: ExecutionView) -> str:
    """How long an execution took, or has been running; empty when it has not begun."""
    if view.started_at is None:
        return ""
    return progress.duration(max(0, (view.finished_at or now()) - view.started_at))


def engines(client: Client, engine: str | None, form: Format) -> None:
    """Print one engine, or all of them."""

    async def fetch() -> list[EngineView]:
        async with client:
            return await client.engines()

    found = asyncio.run(fetch())
    if engine is not None:
        found = [view for view in found if view.id == engine]
        if not found:
            raise errors.NotFound(f"there is no engine '{engine}'; see `dagctl get engines`")
    if form is not Format.TABLE:
        printing.structured(found if engine is None else found[0], form)
        return
    reserved = any(view.reserved_for for view in found)
    rows = [
        (
            view.id,
            view.address,
            view.state,
            view.labels.get("pool", ""),
            f"{view.running}/{view.capacity}",
            *([view.reserved_for] if reserved else []),
            str(view.started),
            ",".join(view.executors),
            view.reason,
        )
        for view in found
    ]
    only_when_told = ["RESERVED FOR"] if reserved else []
    headings = ("ID", "ADDRESS", "STATE", "POOL", "RUNNING", *only_when_told, "STARTED", "EXECUTORS", "REASON")
    _print("engines", headings, rows, least=("EXECUTORS", "STARTED", "ADDRESS", "POOL"))


def pools(client: Client, pool: str | None, form: Format) -> None:
    """Print the pools of one name, or all of them."""

    async def fetch() -> list[PoolView]:
        async with client:
            return await client.pools()

    found = asyncio.run(fetch())
    if pool is not None:
        found = [view for view in found if view.name == pool]
        if not found:
            raise errors.NotFound(f"there is no pool '{pool}'; see `dagctl get pools`")
    if form is not Format.TABLE:
        printing.structured(found, form)
        return
    rows = [
        (
            view.name,
            view.engine or "whole system",
            f"{'?' if view.used is None else view.used}/{view.size}",
            "?" if view.waiting is None else str(view.waiting),
            view.rate or "",
            view.reason,
        )
        for view in found
    ]
    headings = ("NAME", "OF", "USED", "WAITING", "RATE", "REASON")
    _print("pools", headings, rows, least=("RATE",))


def replicas(client: Client, form: Format) -> None:
    """Print the orchestrators that share one store."""

    async def fetch() -> list[ReplicaView]:
        async with client:
            return await client.replicas()

    found = asyncio.run(fetch())
    if form is not Format.TABLE:
        printing.structured(found, form)
        return
    rows = [
        (
            view.name,
            "leads" if view.leads else "",
            printing.ago(view.joined_at, now()),
            printing.moment(view.until),
        )
        for view in found
    ]
    _print("replicas", ("NAME", "ROLE", "SINCE", "LEASE UNTIL"), rows)


def _print(what: str, headings: Sequence[str], rows: Sequence[Sequence[str]], *, least: Sequence[str] = ()) -> None:
    """Print a table, on a terminal without as many of the `least` important columns as it takes to fit its width."""
    if rows:
        printing.write(printing.table(headings, rows, least=least))
    else:
        sys.stderr.write(f"no {what}\n")

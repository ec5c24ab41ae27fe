"""What `dagctl start` and `watch` do: start an execution, wait for it or watch it, print what came of it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from orchestrator.cli import documents, failures, following, inputs, plan, printing, progress, report, waiting
from orchestrator.cli.options import Format
from orchestrator.errors import RequestError

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import ExecutionView, Verbs

__all__ = ["Order", "start", "watch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be started, and how long to stay with it."""

    reference: str
    pairs: tuple[str, ...]
    inputs_file: str | None
    idempotency_key: str | None
    priority: int | None = None
    wait: bool
    watch: bool


def start(client: Client, order: Order, form: Format) -> int:
    """Start an execution; the exit code. Raises RequestError when a file is named and not a workflow."""
    if documents.is_file(order.reference):
        file = order.reference
        raise RequestError(f"{file} is a file: dagctl apply -f {file}, or dagctl run {file}")
    started: list[str] = []
    return _until_interrupted(_start(client, order, form, started), started)


def watch(client: Client, execution: str, form: Format) -> int:
    """Show an execution until it has ended, then print its outputs; the exit code."""
    return _until_interrupted(_watch(client, execution, form), [execution])


def _until_interrupted(work: Any, started: list[str]) -> int:
    """Run `work`. Ctrl-C leaves the execution alone, and says so."""
    try:
        code: int = asyncio.run(work)
    except KeyboardInterrupt:
        if started:
            failures.complain(f"{started[0]} goes on; see it with `dagctl watch`, stop it with `dagctl cancel`")
        return failures.INTERRUPTED
    return code


async def _start(client: Client, order: Order, form: Format, started: list[str]) -> int:
    async with client:
        reference, declared = order.reference, {}
        if order.pairs:
            # What a value means follows from the declaration: start the very version whose declaration was read.
            workflow = await client.workflow(order.reference)
            reference = f"{workflow.id}@{workflow.version}"
            declared = dict(plan.read(msgspec.json.decode(workflow.document)).inputs)
        values = inputs.gather(order.pairs, order.inputs_file, declared)
        view = await client.start(reference, values, idempotency_key=order.idempotency_key, priority=order.priority)
        started.append(view.id)
        if not order.wait:
            _print(view, form)
            return 0
        return await _stay(client, view, form, quiet=not order.watch)


async def _watch(client: Client, execution: str, form: Format) -> int:
    async with client:
        return await _stay(client, await client.execution(execution), form, quiet=False)


async def _stay(verbs: Verbs, view: ExecutionView, form: Format, *, quiet: bool) -> int:
    """Wait for the end of an execution, print its outputs or why there are none; the exit code."""
    board: progress.Board | None = None
    if not quiet:
        board = await following.board(verbs, view)
        await following.follow(verbs, board)
    async with waiting.told(verbs, view.id, _say):
        while (view := await verbs.wait(view.id, timeout=30.0)).finished_at is None:
            pass
    if form is not Format.TABLE:
        printing.structured(view, form)
    elif view.outputs:
        printing.write(printing.value_block(view.outputs))
    if view.status == "succeeded":
        return 0
    failures.complain(await _why(verbs, view, board))
    return failures.FAILURE


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


async def _why(verbs: Verbs, view: ExecutionView, board: progress.Board | None) -> str:
    return report.explain(board or await following.load_board(verbs, view))


def _print(view: ExecutionView, form: Format) -> None:
    if form is Format.TABLE:
        printing.write(view.id)
    else:
        printing.structured(view, form)

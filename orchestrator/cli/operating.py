"""What the commands do that ask something of an execution: send it, wait a moment for what becomes of it, say that."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from dagengine.events import facts
from dagengine.spec import duration
from orchestrator import errors
from orchestrator.cli import failures, inputs, plan, printing, telling, waiting
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import FactView, Receipt, Verbs

__all__ = ["Asked", "ask", "edit", "seconds"]

_PATIENCE: Final = 10.0
"""Seconds to wait for what becomes of it."""

Ask = Callable[["Client"], Awaitable["Receipt"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How to ask: in whose name and why, and what to print of it."""

    author: str
    reason: str
    wait: bool
    form: Format

    def by(self) -> dict[str, str]:
        """Who asks, and why."""
        return {"author": self.author, "reason": self.reason}


def seconds(text: str) -> float:
    """A duration as it is typed (`10s`, `2m`), in seconds. Raises RequestError."""
    try:
        return duration.parse_duration(float(text) if text.replace(".", "", 1).isdigit() else text) / 1e6
    except ValueError as exc:
        raise errors.RequestError(f"--grace: {exc}") from exc


def ask(client: Client, how: Asked, send: Ask) -> int:
    """Send an operation and tell what became of it; the exit code."""
    return asyncio.run(_ask(client, how, send))


def edit(client: Client, execution: str, node: str, how: Asked, given: tuple[tuple[str, ...], str | None]) -> int:
    """Let a node see other inputs: `-i` pairs and a file. Raises InputError, RequestError without any."""
    pairs, file = given
    if not pairs and file is None:
        raise errors.RequestError("give the inputs that the node is to see: -i NAME=VALUE, or --inputs-file")

    async def send(client: Client) -> Receipt:
        view = await client.execution(execution)
        declared: dict[str, Any] = {}
        with contextlib.suppress(errors.NotFound):  # its version may have been deleted
            workflow = await client.workflow(f"{view.workflow}@{view.version}")
            declared = dict(plan.read(msgspec.json.decode(workflow.document)).inputs)
        return await client.edit(execution, node, inputs.gather(pairs, file, declared), **how.by())

    return ask(client, how, send)


async def _ask(client: Client, how: Asked, send: Ask) -> int:
    async with client:
        receipt = await send(client)
        fact = await _answer(client, receipt) if how.wait else None
        if how.form is not Format.TABLE:
            printing.structured({**msgspec.structs.asdict(receipt), "fact": fact}, how.form)
        if fact is None:
            return await _unanswered(client, receipt, how)
    if isinstance(fact, facts.CommandRefused):
        failures.complain(telling.operation(fact))
        return failures.FAILURE
    if how.form is Format.TABLE:
        printing.write(telling.operation(fact))
    return 0


async def _answer(client: Client, receipt: Receipt) -> facts.Operation | None:
    """The fact that cites the operation; None when the execution ends without one, or none comes for a while."""
    events = cast("AsyncGenerator[FactView, None]", client.events(receipt.execution, after=receipt.after))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE), contextlib.aclosing(events):
            async for item in events:
                fact = facts.decode(bytes(item.fact))
                if isinstance(fact, facts.Operation) and fact.command == receipt.command:
                    return fact
    return None


async def _unanswered(verbs: Verbs, receipt: Receipt, how: Asked) -> int:
    view = await verbs.execution(receipt.execution)
    if how.wait and view.finished_at is not None:
        failures.complain(f"nothing came of it: execution {view.id} has ended ({view.status})")
        return failures.FAILURE
    if how.form is Format.TABLE:
        printing.write(f"recorded as {receipt.command}")
    if how.wait:
        why = await waiting.explained(verbs, view)
        because = f"{view.status}: {why}" if why else f"the execution is {view.status}"
        sys.stderr.write(f"it will be done when the execution can be told; {because}\n")
    return 0

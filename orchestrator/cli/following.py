"""An execution behind a URL, followed fact by fact until it has ended: `dagctl watch` and `start --watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from dagengine.events import facts
from orchestrator import errors
from orchestrator.cli import display, plan, progress, waiting

if TYPE_CHECKING:
    from orchestrator.verbs import ExecutionView, Verbs

__all__ = ["board", "follow", "load_board"]


async def board(verbs: Verbs, view: ExecutionView) -> progress.Board:
    """An empty board for an execution, from the document of its version, if that was not deleted meanwhile."""
    reference = f"{view.workflow}@{view.version}"
    try:
        workflow = await verbs.workflow(reference)
    except errors.NotFound:
        known = plan.Plan(reference=reference, steps=(), inputs={})
    else:
        known = plan.read(msgspec.json.decode(workflow.document))
    empty = progress.Board(known)
    empty.execution = view.id
    return empty


async def load_board(verbs: Verbs, view: ExecutionView) -> progress.Board:
    """The board of an execution with every fact that is committed by now."""
    filled = await board(verbs, view)
    after = 0
    while page := await verbs.facts(view.id, after=after):
        for item in page:
            filled.apply(facts.decode(bytes(item.fact)))
        after = page[-1].seq
    return filled


async def follow(verbs: Verbs, empty: progress.Board, *, quiet: bool = False) -> None:
    """Show the facts of an execution as they are committed, until it has ended."""
    with display.choose(empty, quiet=quiet) as shown:
        async with waiting.told(verbs, empty.execution, shown.say):
            await _show(verbs, empty.execution, shown)


async def _show(verbs: Verbs, execution: str, shown: display.Display) -> None:
    async for item in verbs.events(execution):
        shown.fact(facts.decode(bytes(item.fact)))

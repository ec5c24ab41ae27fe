"""Why an execution is not running yet, in words: from `waiting_on`, which is made for programs.

Told by `start --wait`, `start --watch` and `watch` while they wait, and by `describe execution`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.errors import DAGEngineError
from orchestrator import errors
from orchestrator.cli import plan
from orchestrator.waiting import words

if TYPE_CHECKING:
    from orchestrator.verbs import ExecutionView, Verbs

__all__ = ["explained", "told", "words"]

_PATIENCE: Final = 2.0
"""Seconds that an execution may wait without a word."""
_PAUSE: Final = 1.0
"""Seconds between two looks."""


async def explained(verbs: Verbs, view: ExecutionView) -> str:
    """Why `view` waits, in words, functions that are missing by their names; empty when it does not wait."""
    if view.waiting_on is None:
        return ""
    functions: tuple[str, ...] = ()
    if view.waiting_on == "engines_unable":
        with contextlib.suppress(errors.NotFound):  # its version may have been deleted
            workflow = await verbs.workflow(f"{view.workflow}@{view.version}")
            functions = plan.read(msgspec.json.decode(workflow.document)).functions
    return words(view.waiting_on, functions)


@contextlib.asynccontextmanager
async def told(verbs: Verbs, execution: str, say: Callable[[str], None]) -> AsyncIterator[None]:
    """While the block runs, and as long as the execution is queued, say why: after a while, and when it changes."""
    telling = asyncio.create_task(_tell(verbs, execution, say))
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _tell(verbs: Verbs, execution: str, say: Callable[[str], None]) -> None:
    said = ""
    await asyncio.sleep(_PATIENCE)
    # Whoever waits for the execution itself reports what goes wrong with the connection.
    with contextlib.suppress(DAGEngineError, errors.OrchestratorError):
        while (view := await verbs.execution(execution)).status == "queued":
            why = await explained(verbs, view)
            if why and why != said:
                say(f"queued: {why}")
                said = why
            await asyncio.sleep(_PAUSE)

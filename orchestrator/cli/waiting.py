"""Why an execution is not running yet, in words: from `waiting_on`, which is made for programs.

Told by `start --wait`, `start --watch` and `watch` while they wait, and by `get executions` and `describe execution`.
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

if TYPE_CHECKING:
    from orchestrator.verbs import ExecutionView, Verbs

__all__ = ["explained", "told", "words"]

_PATIENCE: Final = 2.0
"""Seconds that an execution may wait without a word."""
_PAUSE: Final = 1.0
"""Seconds between two looks."""
_WORDS: Final = {
    "no_engine": "no engine is connected and ready",
    "all_draining": "every engine is draining: none takes new work",
    "engines_full": "every engine that could run it is full",
    "engines_unable": "no engine is able to run it",
}


def words(reason: str, functions: tuple[str, ...] = ()) -> str:
    """What `waiting_on` says. `functions` are the Python functions that the workflow calls, where they are known."""
    kind, _, detail = reason.partition(":")
    if kind == "no_executor":
        types = detail.split("+")
        return f"no engine has the {_listed('executor', types)}"
    if kind == "engines_unable" and functions:
        flags = " ".join(f"--python '{name}=module:{name.rpartition('.')[2]}'" for name in functions)
        return f"no engine has the {_listed('Python function', functions)} (dag-engine {flags})"
    return _WORDS.get(reason, reason)


def _listed(noun: str, names: tuple[str, ...] | list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    if len(quoted) == 1:
        return f"{noun} {quoted[0]}"
    return f"{noun}s {', '.join(quoted[:-1])} and {quoted[-1]}"


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

"""What `dagctl why` prints: why an execution, and its nodes, are not running."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from orchestrator.cli import lists, printing, progress, waiting
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import Explanation, NodeReason

__all__ = ["why"]

_UNREMARKABLE: Final = frozenset({"succeeded"})
_STANDING: Final = {"succeeded": "has succeeded", "failed": "has failed", "cancelled": "was cancelled"}


def why(client: Client, execution: str, node: str | None, form: Format) -> None:
    """Print the reasons of an execution, or of one node and its items. The table leaves out what has succeeded."""

    async def fetch() -> tuple[Explanation, str]:
        async with client:
            found = await client.why(execution, node)
            words = found.words
            if found.waiting_on is not None:
                words = await waiting.explained(client, await client.execution(execution)) or words
            return found, words

    found, words = asyncio.run(fetch())
    if form is not Format.TABLE:
        printing.structured(found, form)
        return
    shown = [reason for reason in found.nodes if node is not None or reason.code not in _UNREMARKABLE]
    standing = _STANDING.get(found.status, f"is {found.status}")
    lines = [f"{found.execution} {standing}{f': {words}' if words else ''}"]
    if shown:
        rows = [(progress.label(one.node, one.index), one.phase, one.code, one.words, _until(one)) for one in shown]
        lines.append(printing.table(("NODE", "PHASE", "WHY", "IN WORDS", "UNTIL"), rows).rstrip("\n"))
    elif node is not None:
        lines.append(f"{node} is running")
    printing.write("\n".join(lines))


def _until(reason: NodeReason) -> str:
    if reason.until is None:
        return ""
    left = reason.until - lists.now()
    return printing.moment(reason.until) + (f" (in {progress.duration(left)})" if left > 0 else "")

"""What `dagctl logs` prints: the log stream of an execution, from its beginning, if wanted until its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.executors.base import LogLine
from orchestrator import errors
from orchestrator.cli import display, following, printing
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client

__all__ = ["Wanted", "print_logs"]

_PAGE: Final = 1_000
_NAMED: Final = 20
"""Most nodes that a message names."""
_PAUSE: Final = 0.5
"""Seconds between two looks at an execution that prints nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines, and how."""

    node: str | None
    follow: bool
    timestamps: bool


def print_logs(client: Client, execution: str, wanted: Wanted, form: Format) -> None:
    """Print the lines there are; with `follow`, also those to come, until the execution has ended.

    Raises NotFound when there is no such execution, or no such node in it.
    """

    async def read() -> None:
        async with client:
            if wanted.node is not None:
                await _check_node(client, execution, wanted.node)
            async for line in _lines(client, execution, wanted):
                _print(line, wanted, form)

    asyncio.run(read())


async def _check_node(client: Client, execution: str, node: str) -> None:
    board = await following.board(client, await client.execution(execution))
    if board.nodes and node not in board.nodes:  # none are known where its version was deleted
        shown = ", ".join(islice(board.nodes, _NAMED)) + (", …" if len(board.nodes) > _NAMED else "")
        raise errors.NotFound(f"{board.plan.reference} has no node '{node}'; it has {shown}")


async def _lines(client: Client, execution: str, wanted: Wanted) -> AsyncIterator[msgspec.Raw]:
    after = 0
    while True:
        # Asked before the lines are read: what an execution printed is there before its end is.
        ended = not wanted.follow or (await client.execution(execution)).finished_at is not None
        while page := await client.logs(execution, node=wanted.node, after=after, limit=_PAGE):
            for item in page:
                yield item.line
            after = page[-1].id
        sys.stdout.flush()
        if ended:
            return
        await asyncio.sleep(_PAUSE)


def _print(raw: msgspec.Raw, wanted: Wanted, form: Format) -> None:
    if form is Format.JSON:
        printing.write(bytes(raw).decode())
        return
    if form is Format.YAML:
        sys.stdout.write("---\n")
        printing.structured(msgspec.json.decode(raw), form)
        return
    line = msgspec.json.decode(raw, type=LogLine)
    at = f"{printing.moment(line.at)} " if wanted.timestamps else ""
    printing.write(at + display.log_text(line))

"""What the host needs of an engine. `dagengine.app.DAGEngine` is the one; tests bring their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dagengine.events.facts import Fact
from dagengine.executors.base import LogSink
from dagengine.graph import Graph
from dagengine.journal.base import Journal
from dagengine.spec.model import Document

__all__ = ["Engine", "Run"]


class Run(Protocol):
    """One execution under way (`dagengine.driver.Driver`). All calls are made on the event loop's thread."""

    def start(self, inputs: bytes, /) -> None:
        """Begin a new execution with `inputs`, a JSON object."""

    def resume(self, facts: Sequence[Fact], /) -> None:
        """Go on from committed history, which the journal holds already."""

    def cancel(self, *, author: str, reason: str, command: str) -> None:
        """Ask the execution to stop. Idempotent per `command`."""

    def stop(self) -> None:
        """Abandon everything at once and append no more."""

    async def wait(self) -> None:
        """Return when the last fact is committed, or after `stop`. Raises what the execution broke down of."""


class Engine(Protocol):
    """What runs executions."""

    @property
    def executors(self) -> Sequence[str]:
        """Types of the nodes that it can run."""

    def missing(self, document: Document, /) -> Sequence[str]:
        """Why it cannot run a workflow, for people; empty when it can."""

    def open(self, graph: Graph, /, *, execution: str, journal: Journal, seed: int, log: LogSink | None = None) -> Run:
        """Make an execution ready to start or to resume."""

    def release(self, execution: str, /) -> None:
        """Forget what `open` kept for an execution."""

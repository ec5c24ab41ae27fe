"""What the host needs of an engine. `dagengine.app.DAGEngine` is the one; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from dagengine.driver.local_gate import LocalGate
from dagengine.driver.results import KnownResults
from dagengine.events.facts import Fact
from dagengine.executors.base import LogSink
from dagengine.graph import Graph
from dagengine.journal.base import Journal
from dagengine.machine.operations import Operation
from dagengine.spec.model import Document

__all__ = ["Engine", "Run"]


class Run(Protocol):
    """One execution under way (`dagengine.driver.Driver`). All calls are made on the event loop's thread."""

    def start(self, inputs: bytes, /) -> None:
        """Begin a new execution with `inputs`, a JSON object."""

    def resume(self, facts: Sequence[Fact], /) -> None:
        """Go on from committed history, which the journal holds already."""

    @property
    def only_waits(self) -> bool:
        """Whether nothing of it is under way: it may as well wait elsewhere."""

    @property
    def wake_at(self) -> int | None:
        """When something of it is due next (microseconds since the epoch), or None."""

    def on_rest(self, callback: Callable[[], None], /) -> None:
        """Have `callback()` called when something has happened that made no facts, and all that were made are
        committed: `only_waits` may have become true."""

    def lose_contact(self) -> None:
        """The lease is over: give up effects that run, unless they may go on, and begin none. Idempotent."""

    def regain_contact(self) -> None:
        """The lease goes on: effects may begin again."""

    def operate(self, operation: Operation, *, command: str) -> None:
        """Do what somebody asks for. Idempotent per `command`."""

    def stop(self) -> None:
        """Abandon everything at once and append no more."""

    async def wait(self) -> None:
        """Return when the last fact is committed, or after `stop`. Raises what the execution broke down of.

        An execution that went on after its end has another last fact: call it again.
        """


class Engine(Protocol):
    """What runs executions."""

    @property
    def executors(self) -> Sequence[str]:
        """Types of the nodes that it can run."""

    @property
    def gate(self) -> LocalGate:
        """Where its attempts ask for room: the host attaches the pools over the whole system there."""

    def missing(self, document: Document, /) -> Sequence[str]:
        """Why it cannot run a workflow, for people; empty when it can."""

    def open(
        self,
        graph: Graph,
        /,
        *,
        execution: str,
        journal: Journal,
        seed: int,
        log: LogSink | None = None,
        results: KnownResults | None = None,
        priority: int | None = None,
    ) -> Run:
        """Make an execution ready to start or to resume.

        `results` is where nodes with `cache` look. `priority` replaces that of its workflow.
        """

    def release(self, execution: str, /) -> None:
        """Forget what `open` kept for an execution."""

"""What the controllers ask of the orchestrator: the verbs, and two questions that only its own process can answer."""

from __future__ import annotations

from typing import Protocol

from orchestrator.verbs import ExecutionView, Receipt, Verbs

__all__ = ["Orchestrating"]


class Orchestrating(Verbs, Protocol):
    """An orchestrator in this process. `service.Service` is one."""

    async def cancel(self, execution: str, *, reason: str = "", author: str = "") -> Receipt:
        """Stop an execution. Raises NotFound, and Conflict when it has ended."""

    async def started(self, reference: str, idempotency_key: str) -> ExecutionView | None:
        """The execution that a start of a workflow with this key has made; None when there was none.

        Raises RequestError when the reference cannot be read.
        """

    async def obstacle(self, digest: str) -> str | None:
        """Why no engine could run the version with this digest, however idle; None when one could.

        A reason as in `ExecutionView.waiting_on`.
        """

"""What a host knows of one orchestrator that it is in session with, and what it waits for in the opening."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dagengine.errors import WireError
from dagengine.server.lease import Lease
from dagengine.server.outbox import Outbox
from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2

__all__ = ["Session", "expect"]


class Session:
    """One session after its opening. `number` counts them: a higher one began later."""

    def __init__(self, hello: session_pb2.OrchestratorHello, *, number: int, outbox: Outbox, lease: Lease) -> None:
        self.orchestrator: str = hello.orchestrator
        self.incarnation: str = hello.incarnation
        self.number = number
        self.outbox = outbox
        self.lease = lease
        self._histories: dict[str, tuple[int, list[bytes]]] = {}

    def add_history(self, history: session_pb2.History) -> None:
        """Keep committed facts for the Start that will follow."""
        epoch, facts = self._histories.get(history.execution, (history.epoch, []))
        if history.first_seq == 1 or history.epoch != epoch:
            epoch, facts = history.epoch, []
        if history.first_seq == len(facts) + 1:
            facts.extend(history.facts)
        self._histories[history.execution] = (epoch, facts)

    def forget_history(self, execution: str) -> None:
        """Drop what came for a start that needs none of it."""
        self._histories.pop(execution, None)

    def take_history(self, start: session_pb2.Start) -> list[bytes]:
        """The facts that came for this start. WireError unless they are the ones that it counts on."""
        epoch, facts = self._histories.pop(start.execution, (start.epoch, []))
        if epoch != start.epoch or len(facts) != start.history:
            raise WireError(
                f"the start counts on {start.history} facts of history under epoch {start.epoch}, "
                f"but {len(facts)} came in a row under epoch {epoch}"
            )
        return facts

    def sends(self, message: session_pb2.EngineMessage) -> None:
        """A message is about to be handed to the transport."""
        if message.HasField("load"):
            message.load.beat = self.lease.beat()

    def renew(self, lease: session_pb2.Lease) -> None:
        """A report was answered: the lease goes on, and reports must come often enough for it to do so."""
        if self.lease.answered(lease.beat, lease.milliseconds):
            self.outbox.report_every(max(self.lease.length / 3e6, limits.SHORTEST_REPORT_SECONDS))

    def refuse(self, execution: str, epoch: int, reason: session_pb2.Refusal.Reason, message: str) -> None:
        """Tell the orchestrator that an execution will not run here."""
        self.outbox.refuse(session_pb2.Refusal(execution=execution, epoch=epoch, reason=reason, message=message))


async def expect(
    incoming: AsyncIterator[session_pb2.OrchestratorMessage], field: str
) -> session_pb2.OrchestratorMessage:
    """The next message, which must hold `field`."""
    try:
        async with asyncio.timeout(limits.OPENING_SECONDS):
            message = await anext(incoming)
    except StopAsyncIteration:
        raise WireError(f"the orchestrator left before its {field}") from None
    except TimeoutError as exc:
        raise WireError(f"no {field} came within {limits.OPENING_SECONDS:g} s") from exc
    if (size := message.ByteSize()) > limits.OPENING_BYTES:
        raise WireError(f"the orchestrator's {field} takes {size:,} bytes; at most {limits.OPENING_BYTES:,} are read")
    if not message.HasField(field):
        raise WireError(f"the orchestrator should have sent its {field}")
    return message

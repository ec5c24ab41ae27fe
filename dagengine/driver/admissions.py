"""Asks the gate for the attempts of one execution, and gives their room back. Part of the driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dagengine.clock import Clock
from dagengine.driver.gate import Gate, Request, Ticket
from dagengine.machine.commands import Admit, Run
from dagengine.machine.machine import Machine
from dagengine.machine.stimuli import Admitted, Queued

__all__ = ["Admissions"]


class Admissions:
    """`handle` takes the gate's answers, as stimuli, into the machine."""

    def __init__(self, machine: Machine, *, gate: Gate, clock: Clock, priority: int) -> None:
        self.machine = machine
        self._gate = gate
        self._clock = clock
        self._priority = priority
        self._pending: dict[Ticket, Admit] = {}

    def ask(self, admit: Admit, handle: Callable[[Admitted | Queued], None]) -> None:
        """Ask for room and for a turn. The grant may come at once, as the next stimulus of the sweep."""
        graph = self.machine.graph
        node = graph.nodes[admit.node]
        ticket = self._ticket(admit)
        if self._pending.pop(ticket, None) is not None:
            self._gate.withdraw(ticket)
        self._pending[ticket] = admit
        request = Request(
            ticket=ticket,
            pool=node.pool or "",
            weight=node.weight,
            rate=node.rate,
            rate_key=f"{graph.document.id}/{node.id}",
            priority=self._priority,
        )
        self._gate.ask(request, partial(self._granted, admit, ticket, handle), partial(self._queued, admit, handle))

    def withdraw(self) -> None:
        """Ask no longer for those that need no room any more: those that were given up, paused or skipped."""
        if len(self._pending) == len(self.machine.admitting):
            return
        for ticket in [ticket for ticket, admit in self._pending.items() if not self.machine.wants_room(admit)]:
            if self._pending.pop(ticket, None) is not None:  # one that leaves may make room for the next, also of these
                self._gate.withdraw(ticket)

    def release(self, run: Run | Admitted) -> None:
        """An attempt has ended, or will never begin."""
        if self.machine.graph.nodes[run.node].gated:
            self._gate.release(self._ticket(run))

    def forget(self) -> None:
        """The execution has ended here."""
        self._pending.clear()
        self._gate.forget(self.machine.state.execution)

    def _granted(self, admit: Admit, ticket: Ticket, handle: Callable[[Admitted | Queued], None]) -> None:
        self._pending.pop(ticket, None)
        if not self.machine.wants_room(admit):
            self._gate.release(ticket)
            return
        handle(Admitted(at=self._clock.now(), node=admit.node, index=admit.index, attempt=admit.attempt))

    def _queued(self, admit: Admit, handle: Callable[[Admitted | Queued], None], pool: str, rate: str) -> None:
        handle(Queued(at=self._clock.now(), node=admit.node, index=admit.index, pool=pool, rate=rate))

    def _ticket(self, unit: Admit | Admitted | Run) -> Ticket:
        return Ticket(self.machine.state.execution, unit.node, unit.index, unit.attempt)

"""The pool machine: a pool has room for so much at once, and a line of those who ask for some.

`handle(stimulus)` answers with the tickets that are granted room, in order. Rules:

- Room is given in the order of the line (`line.rank`: priority with ageing, then first come). While the first does not
  fit, nobody behind it gets anything: so heavy requests are not starved by light ones.
- What is granted never takes the pool over its size. A request heavier than the whole pool counts as the whole pool:
  it is granted when the pool is empty, and has it alone.
- After a shrink more may be taken than the size; then nothing is granted until it fits again. Size 0 closes the pool.
- A pool may have a rate, too: then no more than that begin in it, however much room there is.

`Held` tells the machine of room that is taken already (after a restart): it is counted whatever the size.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import assert_never

import msgspec

from dagengine.admission.line import Line, rank
from dagengine.admission.window import Window
from dagengine.spec.rate import Rate

__all__ = ["Asked", "Held", "Pool", "Released", "Resized", "Snapshot", "Stimulus", "TimePassed", "Withdrawn", "check"]


class Asked(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Somebody asks for `weight` room. `waited` is how long it has done so elsewhere already, in microseconds.

    One that waits, or has room, already keeps it.
    """

    at: int
    ticket: Hashable
    weight: int = 1
    priority: int = 0
    waited: int = 0


class Withdrawn(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Some of those who asked do not wait any more. What they have is not given back by this."""

    at: int
    tickets: tuple[Hashable, ...]


class Released(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Those who had room have given it back. Who had none is ignored."""

    at: int
    tickets: tuple[Hashable, ...]


class Held(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Room that somebody has already. It does not wait for any."""

    at: int
    ticket: Hashable
    weight: int = 1


class Resized(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The pool has another size from now on."""

    at: int
    size: int


class TimePassed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """It is now `at`."""

    at: int


Stimulus = Asked | Withdrawn | Released | Held | Resized | TimePassed


class Snapshot(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A pool as it stands: room it has, room that is taken, and how many wait for some."""

    name: str
    size: int
    used: int
    waiting: int


class Pool:
    """One named pool. `size` is the room that it has, `rate` how often something may begin in it."""

    def __init__(self, name: str, size: int, *, rate: Rate | None = None) -> None:
        """Raises ValueError when `size` is negative."""
        if size < 0:
            raise ValueError(f"pool '{name}' cannot have a size of {size}")
        self.name = name
        self.size = size
        self.rate = rate
        self.used = 0
        self.held: dict[Hashable, int] = {}
        """Who has room, and how much."""
        self.line: Line[Hashable] = Line()
        self._weights: dict[Hashable, int] = {}
        self._window = None if rate is None else Window(rate)
        self._wake_at: int | None = None

    @property
    def wake_at(self) -> int | None:
        """When it wants to hear that time has passed; None when only others' stimuli can change anything."""
        return self._wake_at

    def snapshot(self) -> Snapshot:
        """The pool as it stands."""
        return Snapshot(name=self.name, size=self.size, used=self.used, waiting=len(self.line))

    def waits(self, ticket: Hashable) -> bool:
        """Whether a ticket is in the line."""
        return ticket in self.line

    def handle(self, stimulus: Stimulus) -> list[Hashable]:
        """Take a stimulus in; the tickets that are granted room now, in order."""
        match stimulus:
            case Asked():
                self._ask(stimulus)
            case Withdrawn():
                for ticket in stimulus.tickets:
                    self._leave(ticket)
            case Released():
                for ticket in stimulus.tickets:
                    self.used -= self.held.pop(ticket, 0)
            case Held():
                self._hold(stimulus.ticket, stimulus.weight)
            case Resized():
                self.size = stimulus.size
            case TimePassed():
                pass
            case _:
                assert_never(stimulus)
        return self._grant(stimulus.at)

    def _ask(self, asked: Asked) -> None:
        if asked.ticket in self.held or asked.ticket in self.line:
            return
        self._weights[asked.ticket] = asked.weight
        self.line.put(asked.ticket, rank(asked.at - asked.waited, asked.priority))

    def _leave(self, ticket: Hashable) -> None:
        if self.line.remove(ticket):
            del self._weights[ticket]

    def _hold(self, ticket: Hashable, room: int) -> None:
        self._leave(ticket)
        if ticket not in self.held:
            self.held[ticket] = room
            self.used += room

    def _grant(self, at: int) -> list[Hashable]:
        granted: list[Hashable] = []
        self._wake_at = None
        while self.size > 0 and (ticket := self.line.first) is not None:
            room = min(self._weights[ticket], self.size)
            if self.used + room > self.size:
                break
            if self._window is not None:
                if (opens := self._window.next_at(at)) > at:
                    self._wake_at = opens
                    break
                self._window.add(at)
            self._hold(ticket, room)
            granted.append(ticket)
        return granted


def check(pool: Pool) -> None:
    """The invariants of a pool. Raises AssertionError that says which one does not hold."""
    if pool.used != sum(pool.held.values()):
        raise AssertionError(f"pool {pool.name}: {pool.used} is counted as used, {pool.held} is held")
    for ticket in pool.line:
        if ticket in pool.held:
            raise AssertionError(f"pool {pool.name}: {ticket} waits for room that it has")
    if pool.size > 0 and not pool.used and pool.line and pool.wake_at is None:
        raise AssertionError(f"pool {pool.name} is empty, and {len(pool.line)} wait for nothing")

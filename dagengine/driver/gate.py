"""The gate between a driver and the limits above executions: room in pools, and turns by rate.

The machine emits `Admit` for an attempt whose node has a pool or a rate; the driver asks the gate, which says once when
the attempt may begin. Everything happens on the event loop's thread. Room counts from the grant until `release`.

`local_gate.LocalGate` is the one adapter of the port `Gate`: it decides about pools of this engine and about rates, and
asks for room in pools over the whole system through the port `SharedPools`, whose adapter is `dagengine.server.gate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from dagengine.spec.rate import Rate

__all__ = ["Gate", "Granted", "Queued", "Request", "SharedPools", "Ticket"]


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """One attempt that asks for admission: the members of the machine's `Admit`, in its execution."""

    execution: str
    node: int
    index: int
    attempt: int


class Request(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an attempt needs to begin. At least one of `pool` and `rate` is given.

    `weight` is how much room in `pool` it takes. `rate_key` says with whom it shares `rate`: `workflow-id/node-id`.
    `priority` is that of its execution: higher ones first, and a second of waiting is worth a point.
    """

    ticket: Ticket
    pool: str = ""
    weight: int = 1
    rate: Rate | None = None
    rate_key: str = ""
    priority: int = 0


Granted = Callable[[], None]
"""The attempt may begin. Called at most once, perhaps inside `ask`; never after `withdraw` or `forget`."""

Queued = Callable[[str, str], None]
"""`queued(pool, rate)`: the attempt has to wait, for room in `pool`, or for its turn by `rate` (such as `10/s`).

One of the two is the empty text. Called at most once, perhaps inside `ask`, and never after `granted`. Not called when
the wait for the answer about a pool of the whole system is short.
"""


class Gate(Protocol):
    """Decides when attempts may begin."""

    def ask(self, request: Request, granted: Granted, queued: Queued) -> None:
        """Have `granted()` called once the attempt may begin, and `queued(pool, rate)` before, if it has to wait.

        A pool that is declared nowhere is waited for; `missing` tells before it comes to that. Never raises.
        """

    def withdraw(self, ticket: Ticket) -> None:
        """The attempt that waits (or was granted, and has not begun) will not begin. Unknown tickets are ignored."""

    def release(self, ticket: Ticket) -> None:
        """The attempt has ended: its room is free. Unknown tickets (those without a pool, too) are ignored."""

    def forget(self, execution: str) -> None:
        """Withdraw and release whatever an execution has here. It has ended here, or was dropped."""

    def missing(self, pools: Iterable[str]) -> list[str]:
        """Those of `pools` that are declared neither at this engine nor, as far as is known here, over the system."""

    def close(self) -> None:
        """Grant nothing any more."""


class SharedPools(Protocol):
    """Pools over the whole system, as far as this engine has been told of them. Used by the gate alone."""

    def knows(self, pool: str) -> bool:
        """Whether there is such a pool."""

    def ask(self, request: Request, granted: Granted, /) -> None:
        """Have `granted()` called once there is room; never before this returns."""

    def give_back(self, ticket: Ticket, /) -> None:
        """Its room is free, or it does not wait for any (longer). Unknown tickets are ignored."""

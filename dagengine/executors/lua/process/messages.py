"""What the engine, the zygote and the workers say to each other. Everything stays on one machine, in one release.

Between the engine and a worker there are two socket pairs:

- The *channel*: hand-offs down, each a length and a MessagePack `HandOff`; reports up, each a `REPORT` and a body.
- The *tokens*: the number of each attempt that was handed over. A worker takes one, then performs that attempt and no
  other; what it was handed before and not given a token for is void. The engine can take tokens back from the same
  socket: what the kernel gives to one is not given to the other, so that an attempt is begun by a worker or taken back,
  never both. (All read and write whole tokens only, so that none is ever cut in two.)

A worker reports the end of every attempt before it takes the next token; so the engine knows at any time which attempt
a worker performs, even of a worker that died: the first that was handed over, has not been reported and has no token.
An attempt without a token has begun: when it was handed over, or when the one before it ended. A worker that got no
processor then reports when it really began. (One with nothing to do reads what a token stands for before it takes it.)

The *control* socket is between the engine and the zygote: `REQUEST`s down (with the ends of the two pairs for a new
worker), `NOTICE`s up.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

__all__ = [
    "BEGUN",
    "BORN",
    "DIED",
    "ERROR",
    "Extra",
    "FORK",
    "HandOff",
    "KILL",
    "LENGTH",
    "LOG",
    "NOTICE",
    "Options",
    "Order",
    "Packed",
    "READY",
    "REPORT",
    "REQUEST",
    "RESULT",
    "STILLBORN",
    "TOKEN",
    "VOID",
]

Packed = bytes | int | None
"""A JSON value; or the number under which the worker has it; or None where it is not read or is not there."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers are made with. `max_memory` and `max_output` are in bytes, `cpu` in seconds (0: no limit)."""

    max_memory: int
    max_output: int
    cpu: int


class Extra(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What few attempts need: `key` and `execution` of the scope, its modules as a JSON object, limits in bytes."""

    key: str | None = None
    execution: Packed = None
    modules: Packed = None
    memory: int | None = None
    output: int | None = None


class Order(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One attempt, by a number of its own. `code` is what the worker has the code under; `now` is in microseconds.

    With `after` it is performed only if the attempt of that number, earlier in the same hand-off, has succeeded. A
    negative number in `nodes` stands for the result of such an attempt.
    """

    number: int
    code: int
    inputs: Packed = None
    nodes: dict[str, bytes | int] | None = None
    env: Packed = None
    item: Packed = None
    index: int | None = None
    seed: int = 0
    now: int = 0
    extra: Extra | None = None
    after: int = 0


class HandOff(msgspec.Struct, gc=False, array_like=True):
    """Attempts for one worker, and the code and values that they are the first to need.

    Both are named by numbers; those in `forgotten_codes` and `forgotten_values` are not used again. `at` is when it was
    handed over (monotonic, ns).
    """

    orders: list[Order]
    codes: dict[int, bytes]
    values: dict[int, bytes]
    forgotten_codes: list[int]
    forgotten_values: list[int]
    at: int


LENGTH: Final = struct.Struct("<I")
"""Before a hand-off: its length in bytes."""

TOKEN: Final = struct.Struct("<I")
"""The number of an attempt."""

REPORT: Final = struct.Struct("<BIIQQ")
"""Before the body of a report: kind, number of the attempt, length of the body, microseconds that the attempt took, and
when it ended (monotonic, ns)."""

READY, RESULT, ERROR, LOG, BEGUN, VOID = range(6)
"""Kinds of reports. The body of a result is JSON, of an error `ErrorInfo` as JSON, of a log line its level's digit
and text. `BEGUN` tells of an attempt that began late, in the place of when it ended, `VOID` of one
that was not performed, because the one that it comes after has not succeeded."""

REQUEST: Final = struct.Struct("<BI")
"""To the zygote: kind, number of the worker."""

FORK, KILL = range(2)

NOTICE: Final = struct.Struct("<BIi")
"""From the zygote: kind, number of the worker, and its process id, its wait status, or an errno."""

BORN, DIED, STILLBORN = range(3)
"""Kinds of notices."""

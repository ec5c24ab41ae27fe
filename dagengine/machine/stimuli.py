"""What can happen to an execution, as the machine is told of it. `at` is microseconds since the Unix epoch.

`node` is a position in the graph; `index` is the position of a `foreach` item counted from 0, or -1 for the node.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dagengine.events.facts import ErrorInfo
from dagengine.machine.operations import Cancel, Operation

__all__ = [
    "Admitted",
    "AttemptEnded",
    "Begin",
    "ContactLost",
    "Evaluated",
    "Found",
    "Operate",
    "Purpose",
    "Queued",
    "Resume",
    "Stimulus",
    "TimePassed",
]

Purpose = Literal["when", "foreach", "args", "cache", "outputs"]
"""What an expression is evaluated for."""


class Operate(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Somebody asked for something. `command` identifies the request; a second delivery changes nothing."""

    at: int
    operation: Operation
    command: str = ""


class Begin(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A new execution begins. `inputs` is a JSON object that was checked at the door.

    With `cancel`, somebody wanted it to stop before it began: no node of it starts, but those that run always.
    """

    at: int
    inputs: bytes
    cancel: Cancel | None = None
    command: str = ""


class Resume(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An execution that was folded from its journal goes on in this process; whatever ran before is gone."""

    at: int


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """An attempt ended. `result` is JSON (with `success`); `error` is set otherwise; `elapsed` is in microseconds.

    `retry_after` is how long the other side asked to be left alone, in microseconds: the least wait before a retry.
    """

    at: int
    node: int
    index: int
    attempt: int
    conclusion: Literal["success", "fail", "error"]
    result: bytes
    error: ErrorInfo | None
    elapsed: int
    retry_after: int = 0


class Evaluated(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to an `Evaluate` command: a JSON value, or an error. `serial` is that of the question."""

    at: int
    purpose: Purpose
    node: int
    index: int
    serial: int
    value: bytes
    error: ErrorInfo | None = None


class Queued(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An `Admit` has to wait: there is no room in `pool`, or attempts begin too often for `rate`."""

    at: int
    node: int
    index: int
    pool: str = ""
    rate: str = ""


class Admitted(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to an `Admit` command: the attempt may begin."""

    at: int
    node: int
    index: int
    attempt: int


class Found(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to a `Lookup` command: the JSON result and the execution that found it, or None."""

    at: int
    node: int
    index: int
    serial: int
    result: bytes | None
    execution: str = ""


class TimePassed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """It is now `at`: whatever was due by then may go on."""

    at: int


class ContactLost(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Whoever keeps the execution was not heard of for longer than its lease: another engine may get it any time now.

    `unbegun` are `(node, index, attempt)` of attempts that have started, as facts say, and have not begun to do
    anything: there is nothing to give up of those.
    """

    at: int
    unbegun: frozenset[tuple[int, int, int]] = frozenset()


Stimulus = AttemptEnded | Evaluated | Admitted | Queued | Found | TimePassed | Operate | Begin | Resume | ContactLost

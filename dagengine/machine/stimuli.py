"""What can happen to an execution, as the machine is told of it. `at` is microseconds since the Unix epoch.

`node` is a position in the graph; `index` is the position of a `foreach` item counted from 0, or -1 for the node.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from dagengine.events.facts import ErrorInfo

__all__ = ["AttemptEnded", "Begin", "Cancel", "Evaluated", "Purpose", "Resume", "Stimulus", "TimePassed"]

Purpose = Literal["when", "foreach", "args", "outputs"]
"""What an expression is evaluated for."""


class Cancel(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Somebody wants the execution to stop. `command` identifies the request; a second delivery changes nothing."""

    at: int
    author: str = ""
    reason: str = ""
    command: str = ""


class Begin(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A new execution begins. `inputs` is a JSON object that was checked at the door.

    With `cancel`, somebody wanted it to stop before it began: no node of it starts, but those that run always.
    """

    at: int
    inputs: bytes
    cancel: Cancel | None = None


class Resume(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An execution that was folded from its journal goes on in this process; whatever ran before is gone."""

    at: int


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """An attempt ended. `result` is JSON (with `success`); `error` is set otherwise; `elapsed` is in microseconds."""

    at: int
    node: int
    index: int
    attempt: int
    conclusion: Literal["success", "fail", "error"]
    result: bytes
    error: ErrorInfo | None
    elapsed: int


class Evaluated(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to an `Evaluate` command: a JSON value, or an error."""

    at: int
    purpose: Purpose
    node: int
    index: int
    value: bytes
    error: ErrorInfo | None = None


class TimePassed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """It is now `at`: whatever was due by then may go on."""

    at: int


Stimulus = AttemptEnded | Evaluated | TimePassed | Cancel | Begin | Resume

"""Facts: immutable records of what happened in one execution. Their order is the journal.

Only the machine makes facts (but for the last one of an execution that is given up, which its owner makes), and only
`State.apply` reads them back: state is nothing but the fold of them. A fact is encoded to JSON once, by `encode`; from
then on it is stored, forwarded and shown as those bytes.

Shapes shared by all facts: `at` is microseconds since the Unix epoch, on the clock of whoever sequences the execution,
and never decreases along a journal. `node` is the node's id. `index` is the position of a `foreach` item, counted from
0, or None for a node without `foreach` (and for the node as a whole). `attempt` counts from 1. Values (`inputs`,
`result`, `items`, `args`, `outputs`) are JSON, carried as raw bytes.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = [
    "CancelRequested",
    "Conclusion",
    "ErrorInfo",
    "ExecutionCancelled",
    "ExecutionFailed",
    "ExecutionStarted",
    "ExecutionSucceeded",
    "Fact",
    "NodeCancelled",
    "NodeExpanded",
    "NodeFailed",
    "NodeSkipped",
    "NodeStarted",
    "NodeSucceeded",
    "SkipReason",
    "TERMINAL",
    "decode",
    "encode",
]

Conclusion = Literal["fail", "error"]
"""How an attempt that did not succeed ended: `fail` (the code said no) or `error` (the platform did)."""

SkipReason = Literal["when_false", "run_if", "upstream_skipped", "upstream_failed", "cancelled"]


class _Fact(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="type"):
    at: int


class ErrorInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Why an attempt, a node or an execution did not succeed.

    `type` is a short stable name (`LuaError`, `Timeout`, `ValueError`, `Orphaned`); `message` is for people; `line`
    is the line of the user's own code, counted from 1, or 0; `traceback` holds the user's frames only.
    """

    type: str
    message: str
    line: int = 0
    traceback: str = ""


class ExecutionStarted(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionStarted"):
    """The first fact of every journal."""

    execution: str
    workflow: str
    version: str
    digest: str
    inputs: Raw


class NodeExpanded(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeExpanded"):
    """A `foreach` was evaluated: the node has `count` items, `items` is the JSON list of their values."""

    node: str
    count: int
    items: Raw


class NodeStarted(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeStarted"):
    """An attempt may be performed. An effect begins only after this fact is committed.

    `args` holds the evaluated templates of the executor, where it has any.
    """

    node: str
    index: int | None = None
    attempt: int = 1
    args: Raw | UnsetType = UNSET


class NodeSucceeded(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeSucceeded"):
    """An attempt succeeded. `elapsed` is the time it took in microseconds.

    For a node with `foreach` as a whole, `result` is UNSET: its result is the list of its items' results, a view.
    """

    node: str
    index: int | None = None
    attempt: int = 1
    result: Raw | UnsetType = UNSET
    elapsed: int = 0


class NodeFailed(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeFailed"):
    """An attempt ended as `conclusion`. With `retry_at` it is tried again then; without it, the node has failed.

    Attempt 0 means that the node failed before its first attempt (an expression of it could not be evaluated), or,
    for a node with `foreach`, that some of its items failed.
    """

    node: str
    index: int | None = None
    attempt: int = 0
    conclusion: Conclusion
    error: ErrorInfo
    elapsed: int = 0
    retry_at: int | None = None


class NodeSkipped(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeSkipped"):
    """The node will not run. `because` names the dependencies that decided it, where there are any."""

    node: str
    index: int | None = None
    reason: SkipReason
    because: tuple[str, ...] = ()


class NodeCancelled(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeCancelled"):
    """An attempt that was running, or waiting to be tried again, was given up because the execution was cancelled."""

    node: str
    index: int | None = None
    attempt: int = 0


class CancelRequested(_Fact, frozen=True, gc=False, kw_only=True, tag="CancelRequested"):
    """Somebody asked for the execution to stop. `command` is the id of the inbox item, for redelivery."""

    author: str = ""
    reason: str = ""
    command: str = ""


class ExecutionSucceeded(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionSucceeded"):
    """Every node ended and none failed. `outputs` is a JSON object."""

    outputs: Raw


class ExecutionFailed(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionFailed"):
    """Every node ended and at least one failed, or the outputs could not be evaluated, or the platform gave up.

    With `given_up`, no engine could go on with the execution, and whoever owned it has ended it: nodes may not have
    ended, and what became of those that ran is not known.
    """

    error: ErrorInfo
    given_up: bool = False


class ExecutionCancelled(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionCancelled"):
    """Every node ended after a request to cancel."""

    reason: str = ""


Fact = (
    ExecutionStarted
    | NodeExpanded
    | NodeStarted
    | NodeSucceeded
    | NodeFailed
    | NodeSkipped
    | NodeCancelled
    | CancelRequested
    | ExecutionSucceeded
    | ExecutionFailed
    | ExecutionCancelled
)

TERMINAL = (ExecutionSucceeded, ExecutionFailed, ExecutionCancelled)
"""The facts that can only be the last of a journal."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)


def encode(fact: Fact) -> bytes:
    """The fact as JSON: one object whose first member is `type`."""
    return _encoder.encode(fact)


def decode(data: bytes) -> Fact:
    """The fact that `encode` made `data` from. Raises `msgspec.ValidationError` when it is none."""
    return _decoder.decode(data)

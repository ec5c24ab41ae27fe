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
    "CancelReason",
    "CancelRequested",
    "CommandRefused",
    "Conclusion",
    "Decided",
    "ErrorInfo",
    "ExecutionCancelled",
    "ExecutionConcluded",
    "ExecutionFailed",
    "ExecutionStarted",
    "ExecutionSucceeded",
    "ExecutionTimedOut",
    "Fact",
    "InputsEdited",
    "NodeCancelled",
    "NodeExpanded",
    "NodeFailed",
    "NodeOverridden",
    "NodeQueued",
    "NodeSkipped",
    "NodeStarted",
    "NodeSucceeded",
    "NodeWaiting",
    "Operation",
    "Paused",
    "RerunRequested",
    "Resumed",
    "Signalled",
    "SkipReason",
    "TERMINAL",
    "WaitKind",
    "decode",
    "encode",
]

Conclusion = Literal["fail", "error"]
"""How an attempt that did not succeed ended: `fail` (the code said no) or `error` (the platform did)."""

SkipReason = Literal[
    "when_false",
    "run_if",
    "upstream_skipped",
    "upstream_failed",
    "upstream_cancelled",
    "cancelled",
    "fail_fast",
    "timeout",
]

CancelReason = Literal["cancelled", "fail_fast", "timeout"]
"""Why an attempt was given up: by a request, because another node failed, or because the execution took too long."""

WaitKind = Literal["duration", "until", "signal", "approval"]
"""What a `wait` node waits for."""


class _Fact(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="type"):
    at: int


class ErrorInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Why an attempt, a node or an execution did not succeed.

    `type` is a short stable name (`LuaError`, `Timeout`, `ValueError`, `Orphaned`), which `retry_on` and `stop_on`
    look at; `message` is for people; `line` is the line of the user's own code, counted from 1, or 0; `traceback` holds
    the user's frames only; `details` is a JSON object that the user's code gave (`fail(reason, details)`).
    """

    type: str
    message: str
    line: int = 0
    traceback: str = ""
    details: Raw | UnsetType = UNSET


class ExecutionStarted(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionStarted"):
    """The first fact of every journal."""

    execution: str
    workflow: str
    version: str
    digest: str
    inputs: Raw


class NodeExpanded(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeExpanded"):
    """A `foreach` was evaluated: the node has `count` items. `items` is the JSON list of their values, or an object.

    With an object, items are in the order of its keys, and the node's result is an object with the same keys.
    """

    node: str
    count: int
    items: Raw


class NodeStarted(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeStarted"):
    """An attempt may be performed. An effect begins only after this fact is committed.

    `args` holds the evaluated templates of the executor, where it has any; `cache` is the digest under which the
    result may be found again, or empty.
    """

    node: str
    index: int | None = None
    attempt: int = 1
    args: Raw | UnsetType = UNSET
    cache: str = ""


class NodeQueued(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeQueued"):
    """An attempt could begin, but there is no room in `pool`, or (`rate`) attempts begin too often already."""

    node: str
    index: int | None = None
    pool: str = ""
    rate: str = ""


class NodeWaiting(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeWaiting"):
    """A `wait` node waits: until `until` (when its time is over, or when it gives up), for the signal `name`."""

    node: str
    index: int | None = None
    attempt: int = 1
    kind: WaitKind
    until: int | None = None
    name: str = ""


class NodeSucceeded(_Fact, frozen=True, gc=False, kw_only=True, tag="NodeSucceeded"):
    """An attempt succeeded. `elapsed` is the time it took in microseconds.

    For a node with `foreach` as a whole, `result` is UNSET: its result is the list of its items' results, a view.
    `cache` is the digest under which the result may be found again, until `cache_until` (None: for ever).
    `cached_from` names the execution that found the result: then no attempt was made, and `attempt` is that before.
    """

    node: str
    index: int | None = None
    attempt: int = 1
    result: Raw | UnsetType = UNSET
    elapsed: int = 0
    cache: str = ""
    cache_until: int | None = None
    cached_from: str = ""


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
    """An attempt that was running, or waiting to be tried again, was given up."""

    node: str
    index: int | None = None
    attempt: int = 0
    reason: CancelReason = "cancelled"


class Operation(_Fact, frozen=True, gc=False, kw_only=True):
    """What somebody asked for. `command` is the id of the inbox item: a second delivery of it changes nothing."""

    author: str = ""
    reason: str = ""
    command: str = ""


class CancelRequested(Operation, frozen=True, gc=False, kw_only=True, tag="CancelRequested"):
    """The execution is to stop. Effects that run have `grace` microseconds to end by themselves; `on_exit` still runs.

    With `terminate` everything ends at once, and nothing more runs.
    """

    grace: int = 0
    terminate: bool = False


class Paused(Operation, frozen=True, gc=False, kw_only=True, tag="Paused"):
    """Nothing new begins, and no clock runs: in the whole execution, or (`node`) at one node.

    Ends with the node or the execution that it is about, at the latest.
    """

    node: str = ""


class Resumed(Operation, frozen=True, gc=False, kw_only=True, tag="Resumed"):
    """What was paused goes on: the whole execution, or (`node`) one node."""

    node: str = ""


class RerunRequested(Operation, frozen=True, gc=False, kw_only=True, tag="RerunRequested"):
    """`nodes` are as if they had never run, and run again; the results of all others are kept.

    Of those in `items` (nodes with `foreach`) the items that succeeded are kept as well. Those in `fresh` were named by
    whoever asked: they do not look for results that were found before. May follow the last fact of an execution, which
    then goes on.
    """

    nodes: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


class NodeOverridden(Operation, frozen=True, gc=False, kw_only=True, tag="NodeOverridden"):
    """Somebody decided what becomes of a node: it is skipped, or with `result` it has succeeded."""

    node: str
    result: Raw | UnsetType = UNSET


class Signalled(Operation, frozen=True, gc=False, kw_only=True, tag="Signalled"):
    """A signal came. The node that has waited for it longest takes it; without one, it waits for a node."""

    name: str
    payload: Raw


class Decided(Operation, frozen=True, gc=False, kw_only=True, tag="Decided"):
    """`author` approved of what a node waits for, or rejected it."""

    node: str
    index: int | None = None
    approved: bool


class InputsEdited(Operation, frozen=True, gc=False, kw_only=True, tag="InputsEdited"):
    """A node that has not run sees these values in `inputs`, in place of those of the execution."""

    node: str
    inputs: Raw


class CommandRefused(Operation, frozen=True, gc=False, kw_only=True, tag="CommandRefused"):
    """What was asked for (`kind`) cannot be done, and `why`."""

    kind: str
    why: str


class ExecutionTimedOut(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionTimedOut"):
    """The execution has taken longer than its `timeout`, in microseconds: what has not ended is given up.

    It ends all pauses, as a `CancelRequested` does.
    """

    timeout: int


class ExecutionConcluded(_Fact, frozen=True, gc=False, kw_only=True, tag="ExecutionConcluded"):
    """Every node but those of `on_exit` has ended, as `status`; now those run."""

    status: Literal["succeeded", "failed", "cancelled"]
    outputs: Raw | UnsetType = UNSET
    error: ErrorInfo | None = None


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
    """Every node (or every one but those of `on_exit`) ended after a request to cancel."""

    reason: str = ""


Fact = (
    ExecutionStarted
    | NodeExpanded
    | NodeQueued
    | NodeStarted
    | NodeWaiting
    | NodeSucceeded
    | NodeFailed
    | NodeSkipped
    | NodeCancelled
    | NodeOverridden
    | CancelRequested
    | Paused
    | Resumed
    | RerunRequested
    | Signalled
    | Decided
    | InputsEdited
    | CommandRefused
    | ExecutionTimedOut
    | ExecutionConcluded
    | ExecutionSucceeded
    | ExecutionFailed
    | ExecutionCancelled
)

TERMINAL = (ExecutionSucceeded, ExecutionFailed, ExecutionCancelled)
"""The facts that end an execution. Nothing follows them but a `RerunRequested`."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Fact] = msgspec.json.Decoder(Fact)


def encode(fact: Fact) -> bytes:
    """The fact as JSON: one object whose first member is `type`."""
    return _encoder.encode(fact)


def decode(data: bytes) -> Fact:
    """The fact that `encode` made `data` from. Raises `msgspec.ValidationError` when it is none."""
    return _decoder.decode(data)

"""The JSON bodies of the REST interface that are not views of `verbs`: requests, lists and small answers.

Used by the doors in `api` and by `client`, so that both sides mean the same bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from orchestrator.store.base import Status
from orchestrator.verbs import AttemptView, EngineView, FactView, LogView, NodeView, PoolView, ReplicaView, WorkflowView

__all__ = [
    "AttemptList",
    "CancelRequest",
    "DecideRequest",
    "EditRequest",
    "EngineList",
    "FactList",
    "LogList",
    "Health",
    "NodeList",
    "OperationRequest",
    "PauseRequest",
    "PoolList",
    "PurgeRequest",
    "Readiness",
    "Removal",
    "ReplicaList",
    "ResumeRequest",
    "RetryRequest",
    "SignalRequest",
    "SkipRequest",
    "StartRequest",
    "TerminateRequest",
    "TriggerAnswer",
    "WorkflowList",
]


class StartRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to start an execution with: the value of each input, by name, and another priority than its workflow's."""

    inputs: dict[str, Any] = {}
    priority: int | None = None


class OperationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every operation has: who asks for it, and why. Both are kept in the execution's journal."""

    author: str = ""
    reason: str = ""


class CancelRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long nodes with effects may take to end by themselves: a duration such as `10s`, or a number of seconds."""

    grace: str | float = 0


class TerminateRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That nothing more is to run."""


class PauseRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to pause: one node, or all of the execution."""

    node: str = ""


class ResumeRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to go on: one node, or all of the execution."""

    node: str = ""


class RetryRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which nodes are to run again, with all that depends on them; without any, those that have not succeeded."""

    nodes: list[str] = []


class SkipRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The node that is not to run. With `result` it counts as succeeded."""

    node: str
    result: msgspec.Raw | UnsetType = UNSET


class SignalRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has happened. Without `payload` nothing comes with it: null."""

    name: str
    payload: msgspec.Raw | UnsetType = UNSET


class DecideRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A decision about a node that waits for an approval, or about the item `index` of it, counted from 0."""

    node: str
    approved: bool
    index: int | None = None


class EditRequest(OperationRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The inputs that a node is to see, by name, in place of those of the execution."""

    node: str
    inputs: msgspec.Raw


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which executions are to go (`Verbs.purge`): `older_than` is a duration such as `30d`, or a number of seconds.

    `within` is how many seconds the request may take.
    """

    workflow: str | None = None
    older_than: str | float | None = None
    keep: int | None = None
    dry_run: bool = False
    within: float = 5.0


class WorkflowList(msgspec.Struct, frozen=True, kw_only=True):
    """The latest version of every workflow asked for."""

    items: list[WorkflowView]


class FactList(msgspec.Struct, frozen=True, kw_only=True):
    """Facts in order. Ask for more with `after` set to the last `seq`."""

    items: list[FactView]


class NodeList(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes of an execution, in the order of its document."""

    items: list[NodeView]


class AttemptList(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts in the order of their beginnings. Ask for more with `after` set to how many you have."""

    items: list[AttemptView]


class LogList(msgspec.Struct, frozen=True, kw_only=True):
    """Log lines in order. Ask for more with `after` set to the last `id`."""

    items: list[LogView]


class PoolList(msgspec.Struct, frozen=True, kw_only=True):
    """Pools over the whole system, then those of engines, in order of their names."""

    items: list[PoolView]


class ReplicaList(msgspec.Struct, frozen=True, kw_only=True):
    """The orchestrators that share one store, in the order in which they joined it."""

    items: list[ReplicaView]


class EngineList(msgspec.Struct, frozen=True, kw_only=True):
    """The engines known now."""

    items: list[EngineView]


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """How many versions were removed."""

    removed: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the process works as it should. `status` is `ok`, or `broken` with the `reasons`.

    `warnings` tell what is wrong that starting it anew would not mend.
    """

    status: str = "ok"
    reasons: list[str] | UnsetType = UNSET
    warnings: list[str] | UnsetType = UNSET


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether executions can be taken now, and if not, why. `warnings` are of what does not keep that from being so."""

    ready: bool
    reasons: list[str]
    warnings: list[str] | UnsetType = UNSET


class TriggerAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an HTTP trigger started. `outputs` is there when the execution has succeeded."""

    execution: str
    url: str
    """Path of the execution."""
    status: Status
    outputs: dict[str, Any] | None = None

"""The JSON bodies of the REST interface that are not views of `verbs`: requests, lists and small answers.

Used by the doors in `api` and by `client`, so that both sides mean the same bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from orchestrator.store.base import Status
from orchestrator.verbs import EngineView, FactView, LogView, WorkflowView

__all__ = [
    "CancelRequest",
    "EngineList",
    "FactList",
    "LogList",
    "Health",
    "Readiness",
    "Removal",
    "StartRequest",
    "TriggerAnswer",
    "WorkflowList",
]


class StartRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to start an execution with: the value of each input, by name."""

    inputs: dict[str, Any] = {}


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an execution should stop, and who says so. Both are kept in its journal."""

    reason: str = ""
    author: str = ""


class WorkflowList(msgspec.Struct, frozen=True, kw_only=True):
    """The latest version of every workflow asked for."""

    items: list[WorkflowView]


class FactList(msgspec.Struct, frozen=True, kw_only=True):
    """Facts in order. Ask for more with `after` set to the last `seq`."""

    items: list[FactView]


class LogList(msgspec.Struct, frozen=True, kw_only=True):
    """Log lines in order. Ask for more with `after` set to the last `id`."""

    items: list[LogView]


class EngineList(msgspec.Struct, frozen=True, kw_only=True):
    """The engines known now."""

    items: list[EngineView]


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """How many versions were removed."""

    removed: int


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the process works as it should. `status` is `ok`, or `broken` with the `reasons`."""

    status: str = "ok"
    reasons: list[str] | UnsetType = UNSET


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether executions can be taken now, and if not, why."""

    ready: bool
    reasons: list[str]


class TriggerAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an HTTP trigger started. `outputs` is there when the execution has succeeded."""

    execution: str
    url: str
    """Path of the execution."""
    status: Status
    outputs: dict[str, Any] | None = None

"""dagengine: runs DAG workflows in this process, or on behalf of an orchestrator.

What is exported here is the public surface; names are loaded when they are first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagengine.app import DAGEngine, read_workflow
    from dagengine.context import Cancelled, Context, Fail, attempt
    from dagengine.errors import DAGEngineError, ExecutionFailed, InputError, Problem, SpecError
    from dagengine.spec.builder import Workflow
    from dagengine.spec.model import (
        Approval,
        Cache,
        Concurrency,
        CronTrigger,
        Document,
        HTTPExecutor,
        HTTPTrigger,
        LuaExecutor,
        Node,
        PythonExecutor,
        Retry,
        RetryPolicy,
        ShellExecutor,
        Signal,
        WaitExecutor,
    )

__all__ = [
    "DAGEngine",
    "Workflow",
    "Node",
    "LuaExecutor",
    "PythonExecutor",
    "ShellExecutor",
    "HTTPExecutor",
    "WaitExecutor",
    "Signal",
    "Approval",
    "Retry",
    "RetryPolicy",
    "Cache",
    "Concurrency",
    "CronTrigger",
    "HTTPTrigger",
    "Document",
    "read_workflow",
    "attempt",
    "Context",
    "Fail",
    "Cancelled",
    "DAGEngineError",
    "ExecutionFailed",
    "InputError",
    "Problem",
    "SpecError",
]

_HOMES = {
    **dict.fromkeys(("DAGEngine", "read_workflow"), "dagengine.app"),
    **dict.fromkeys(("Cancelled", "Context", "Fail", "attempt"), "dagengine.context"),
    **dict.fromkeys(("DAGEngineError", "ExecutionFailed", "InputError", "Problem", "SpecError"), "dagengine.errors"),
    "Workflow": "dagengine.spec.builder",
    **dict.fromkeys(
        (
            "Approval",
            "Cache",
            "Concurrency",
            "CronTrigger",
            "Document",
            "HTTPExecutor",
            "HTTPTrigger",
            "LuaExecutor",
            "Node",
            "PythonExecutor",
            "Retry",
            "RetryPolicy",
            "ShellExecutor",
            "Signal",
            "WaitExecutor",
        ),
        "dagengine.spec.model",
    ),
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

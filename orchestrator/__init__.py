"""Orchestrator: keeps versioned workflows, finds engines, spreads executions over them and records what happened.

What is exported here is the public surface; names are loaded when they are first used, so that importing the package
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagengine.spec.model import CronTrigger, HTTPTrigger
    from orchestrator.app import Options, Orchestrator
    from orchestrator.client.client import Client
    from orchestrator.monitor.monitor import Monitor

__all__ = ["Client", "CronTrigger", "HTTPTrigger", "Monitor", "Options", "Orchestrator"]

_HOMES = {
    "Client": "orchestrator.client.client",
    "CronTrigger": "dagengine.spec.model",
    "HTTPTrigger": "dagengine.spec.model",
    "Monitor": "orchestrator.monitor.monitor",
    "Options": "orchestrator.app",
    "Orchestrator": "orchestrator.app",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

"""Examples shown in the OpenAPI description. Tests hold them against the schemas they are examples of."""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "ATTEMPT",
    "DOCUMENT",
    "ENGINE",
    "EXECUTION",
    "EXPLANATION",
    "FACT",
    "JOURNAL",
    "LOG",
    "NODE",
    "POOL",
    "PURGE",
    "PURGED",
    "QUEUED",
    "RECEIPT",
    "REGISTRATION",
    "REPLICA",
    "WORKFLOW",
]

_DIGEST: Final = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_EXECUTION_ID: Final = "01jb2x3y4z5a6b7c8d9e0f1g2h"

DOCUMENT: Final[dict[str, Any]] = {
    "apiVersion": "workflows/v1",
    "kind": "Workflow",
    "metadata": {"id": "greeting", "version": "1.0.0", "labels": {"team": "data"}},
    "spec": {
        "inputs": {"name": {"type": "string", "default": "world"}},
        "nodes": [{"id": "greet", "executor": {"type": "lua", "code": "return 'Hello, ' .. inputs.name"}}],
    },
}
REGISTRATION: Final[dict[str, Any]] = {
    "id": "greeting",
    "version": "1.0.0",
    "digest": _DIGEST,
    "created": True,
}
WORKFLOW: Final[dict[str, Any]] = {
    "id": "greeting",
    "version": "1.0.0",
    "digest": _DIGEST,
    "name": "",
    "description": "",
    "labels": {"team": "data"},
    "registered_at": 1_760_000_000_000_000,
    "versions": ["1.0.0"],
    "document": DOCUMENT,
}
QUEUED: Final[dict[str, Any]] = {
    "id": _EXECUTION_ID,
    "workflow": "greeting",
    "version": "1.0.0",
    "status": "queued",
    "created_at": 1_760_000_001_000_000,
    "inputs": {"name": "world"},
    "waiting_on": "no_engine",
}
EXECUTION: Final[dict[str, Any]] = {
    "id": _EXECUTION_ID,
    "workflow": "greeting",
    "version": "1.0.0",
    "status": "succeeded",
    "created_at": 1_760_000_001_000_000,
    "engine": "engine-1",
    "epoch": 1,
    "last_seq": 4,
    "started_at": 1_760_000_001_002_000,
    "finished_at": 1_760_000_001_003_500,
    "inputs": {"name": "world"},
    "outputs": {"greet": "Hello, world"},
}
FACT: Final[dict[str, Any]] = {
    "seq": 2,
    "epoch": 1,
    "fact": {"type": "NodeStarted", "at": 1_760_000_001_002_100, "node": "greet", "attempt": 1},
}
RECEIPT: Final[dict[str, Any]] = {
    "execution": _EXECUTION_ID,
    "command": "8f14e45fceea467a9b3ad2f0a1c5d6e7",
    "kind": "pause",
    "after": 4,
}
EXPLANATION: Final[dict[str, Any]] = {
    "execution": _EXECUTION_ID,
    "status": "running",
    "nodes": [
        {
            "node": "greet",
            "phase": "pending",
            "code": "waiting_on",
            "words": "it waits for load",
            "waiting_on": ["load"],
        }
    ],
}
NODE: Final[dict[str, Any]] = {
    "id": "greet",
    "state": "retrying",
    "attempt": 1,
    "started_at": 1_760_000_001_002_100,
    "note": "attempt 1: no greeting today",
}
ATTEMPT: Final[dict[str, Any]] = {
    "node": "greet",
    "attempt": 1,
    "outcome": "fail",
    "started_at": 1_760_000_001_002_100,
    "finished_at": 1_760_000_001_002_900,
    "elapsed": 800,
    "error": {"type": "LuaError", "message": "no greeting today", "line": 2},
    "retry_at": 1_760_000_002_002_900,
}
LOG: Final[dict[str, Any]] = {
    "id": 1,
    "line": {
        "execution": _EXECUTION_ID,
        "node": "greet",
        "attempt": 1,
        "line": 1,
        "at": 1_760_000_001_002_200,
        "text": "greeting world",
    },
}
JOURNAL: Final[dict[str, Any]] = {
    "format": "dagengine-journal/1",
    "release": "0.1.0",
    "execution": _EXECUTION_ID,
    "workflow": "greeting",
    "version": "1.0.0",
    "digest": _DIGEST,
    "status": "succeeded",
    "seed": 1_234_567_890_123,
    "epoch": 1,
    "last_seq": 4,
    "created_at": 1_760_000_001_000_000,
    "started_at": 1_760_000_001_002_000,
    "finished_at": 1_760_000_001_003_500,
    "inputs": {"name": "world"},
    "document": DOCUMENT,
}
PURGE: Final[dict[str, Any]] = {"workflow": "greeting", "older_than": "30d", "keep": 100, "dry_run": True}
PURGED: Final[dict[str, Any]] = {
    "dry_run": False,
    "workflows": [
        {
            "workflow": "greeting",
            "executions": 12,
            "facts": 48,
            "oldest": 1_750_000_001_003_500,
            "newest": 1_757_000_001_003_500,
        }
    ],
    "executions": 12,
    "rows": 84,
    "log_lines": 0,
    "values": 0,
    "more": False,
}
POOL: Final[dict[str, Any]] = {"name": "db", "scope": "system", "size": 10, "used": 4, "waiting": 0}

REPLICA: Final[dict[str, Any]] = {
    "name": "orchestrator-0",
    "leads": True,
    "joined_at": 1_767_225_600_000_000,
    "until": 1_767_229_206_000_000,
}

ENGINE: Final[dict[str, Any]] = {
    "id": "engine-1",
    "address": "127.0.0.1:50051",
    "state": "ready",
    "capacity": 10,
    "running": 1,
    "version": "0.1.0",
    "executors": ["lua", "python"],
    "labels": {},
    "workflows": ["greeting@1.0.0"],
    "started": 12,
    "reason": "",
}

"""What is so unless somebody says otherwise, written once: for the server's settings and for embedding programs."""

from __future__ import annotations

from typing import Final

__all__ = [
    "CRON_CATCH_UP",
    "DISCOVERY_INTERVAL",
    "ENGINE_LOST_AFTER",
    "GRACE",
    "GRPC_PORT",
    "HEALTH_CHECK_INTERVAL",
    "LABEL_SELECTOR",
    "LEASE",
    "MAX_BODY",
    "QUEUE_LIMIT",
    "REPLICA_LEASE",
    "SERVICE_NAME",
    "TRIGGER_WAIT",
]

QUEUE_LIMIT: Final = 10_000
"""Executions that may wait for an engine."""

ENGINE_LOST_AFTER: Final = 30.0
"""Seconds without a session after which what an engine had is placed again."""

REPLICA_LEASE: Final = 6.0
"""Seconds after which others take over what a replica of the orchestrator had that is not heard of any more."""

CRON_CATCH_UP: Final = 3_600.0
"""Seconds by which an occurrence of a cron trigger may be late and still be started."""

TRIGGER_WAIT: Final = 30.0
"""Seconds that an HTTP trigger waits for the result."""

MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes of a request body."""

GRACE: Final = 10.0
"""Seconds that requests get to finish when the server stops."""

SERVICE_NAME: Final = "workflow-engines"
"""The Kubernetes service of the engines."""

LABEL_SELECTOR: Final = "app=workflow-engine"
"""The pods of engines."""

GRPC_PORT: Final = 50_051
"""TCP port of engines, where nothing says another one."""

DISCOVERY_INTERVAL: Final = 30.0
"""Seconds after which all engines are looked for anew, whatever was heard of changes."""

HEALTH_CHECK_INTERVAL: Final = 10.0
"""Seconds between two health checks of an engine."""

LEASE: Final = "workflow-orchestrator"
"""The Lease in a cluster by which replicas of the orchestrator elect their leader."""

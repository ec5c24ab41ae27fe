"""How an orchestrator behaves, for programs that embed one; `settings` has the same for its server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from dagengine.admission.declaration import Declared
from orchestrator import defaults
from orchestrator.dispatcher.placement import Strategy
from orchestrator.transport.grpc_link import TLS

__all__ = ["Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an orchestrator behaves; every default is one to live with.

    `engine_lost_after`, `replica_lease`, `trigger_wait` and `cron_catch_up` are in seconds, `max_body` in bytes;
    `queue_limit` counts executions that wait for an engine. `pools` are those over the whole system:
    `{"db": Declared(10)}`, or as `dagengine.admission.declaration.parse` reads them. `token` is what engines, and users
    of the REST interface, must know. `tls` is for sessions. `retention_ttl` and `retention_log_ttl` (seconds) and
    `retention_keep` say what is kept of executions that have ended, where their workflow does not: without them,
    everything. `name` is how engines, and people among the replicas, know this orchestrator; without one it is a random
    id.
    """

    name: str = ""

    strategy: Strategy = "consistent-hash"
    queue_limit: int = defaults.QUEUE_LIMIT
    engine_lost_after: float = defaults.ENGINE_LOST_AFTER
    pools: Mapping[str, Declared] = field(default_factory=dict)
    replica_lease: float = defaults.REPLICA_LEASE
    trigger_wait: float = defaults.TRIGGER_WAIT
    cron_catch_up: float = defaults.CRON_CATCH_UP
    retention_ttl: float | None = None
    retention_keep: int | None = None
    retention_log_ttl: float | None = None
    max_body: int = defaults.MAX_BODY
    token: SecretStr | None = None
    tls: TLS | None = None
    allowed_hosts: tuple[str, ...] = field(default=())

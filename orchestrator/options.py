"""How an orchestrator behaves, for programs that embed one; `settings` has the same for its server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import SecretStr

from dagengine.admission.declaration import Declared
from orchestrator import defaults
from orchestrator.dispatcher.placement import Strategy
from orchestrator.kubernetes.access import Access, InPod
from orchestrator.scaling.declared import Autoscaling, Workload
from orchestrator.transport.grpc_link import TLS

__all__ = ["Kubernetes", "Options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubernetes:
    """What an orchestrator does with the cluster around it; `in_kubernetes` puts it together.

    `access` says how its API is reached. `namespace` is where everything is looked for: the pod's own, or the one that
    the context of the kubeconfig names, if empty. `discovery`: whether engines are found as pods that `label_selector`
    selects, or as endpoints of the service `service_name`; None where they are not looked for in the cluster. `lease`
    is the name of the Lease by which replicas elect their leader; empty where they do that in the store. `workflows`:
    whether to do what Workflow and Execution objects say, where their definitions are installed. With `autoscaling`,
    `workload` is made as large as there is work for; engines have to be found as pods then.
    """

    access: Access = field(default_factory=InPod)
    namespace: str = ""
    discovery: Literal["pods", "endpointslices"] | None = "pods"
    label_selector: str = defaults.LABEL_SELECTOR
    service_name: str = defaults.SERVICE_NAME
    lease: str = ""
    workflows: bool = True
    autoscaling: Autoscaling | None = None
    workload: Workload = field(default_factory=Workload)


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

    `kubernetes` turns on what there is in a cluster. `dns` is a name of many addresses, `host:port`, to be resolved
    again and again: each is an engine. `grpc_port` is that of engines found in a cluster, unless they say another.
    Engines are looked for every `discovery_interval` seconds, and asked for their health every
    `health_check_interval` (0: never).
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
    kubernetes: Kubernetes | None = None
    dns: str = ""
    grpc_port: int = defaults.GRPC_PORT
    discovery_interval: float = defaults.DISCOVERY_INTERVAL
    health_check_interval: float = defaults.HEALTH_CHECK_INTERVAL

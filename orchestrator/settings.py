"""Settings of the orchestrator's server. A flag wins over the environment, that over the file, that over the default.

The file is YAML (`dag-orchestrator --config FILE`); its keys are the names of the fields below. Secrets are read from
the environment or from files only, never from flags, which every user of the machine can see.
`dagengine.configuration` does the reading.

Read by `orchestrator.cli` (lazily: pydantic-settings takes a while to import). Embedding programs need none of this.
`docs/environment.md` is generated from here by `scripts/generate_environment.py`.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, field_validator

from dagengine import configuration
from dagengine.admission import declaration
from dagengine.errors import SettingsError
from dagengine.server import security
from dagengine.spec.duration import parse_duration
from orchestrator import defaults
from orchestrator.discovery import static
from orchestrator.discovery.base import Address
from orchestrator.dispatcher.placement import Strategy
from orchestrator.scaling.declared import Autoscaling, Workload

__all__ = ["OrchestratorSettings", "Seconds", "load"]

SECOND: Final = 1_000_000
_HOST: Final = r"(\[[^]]*\]|[^],:/?@[]*)(:\d{0,5})?"
_POSTGRES: Final = re.compile(rf"postgres(ql)?://([^@/?]*@)?{_HOST}(,{_HOST})*([/?].*)?", re.ASCII | re.DOTALL)


def _seconds(value: object) -> float:
    if isinstance(value, str):
        value = value.strip()
        if value.replace(".", "", 1).isdecimal():
            value = float(value)
    return parse_duration(value) / SECOND


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A length of time: a number of seconds, or a text such as `90s`, `5m` or `1h30m`."""


def _items(value: object) -> object:
    return [item for item in value.replace(",", " ").split() if item] if isinstance(value, str) else value


class _Listening(BaseModel):
    """Where people and programs reach the orchestrator: REST, HTTP triggers, metrics."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    http_port: int = Field(
        default=8080, ge=0, le=65_535, description="TCP port to listen on; 0 takes any that is free."
    )
    allowed_hosts: Annotated[tuple[str, ...], BeforeValidator(_items)] = Field(
        default=(),
        description="Names under which clients may ask for it, beside loopback names and IP addresses: "
        "`name,…`; `*.example.org` allows subdomains, `*` any.",
    )
    http_tls_cert: Path | None = Field(default=None, description="PEM file: certificate for HTTPS.")
    http_tls_key: Path | None = Field(default=None, description="PEM file: private key of that certificate.")
    http_tls_client_ca: Path | None = Field(
        default=None, description="PEM file: CA of clients' certificates. With it, clients must show one (mTLS)."
    )
    max_body_bytes: int = Field(
        default=defaults.MAX_BODY,
        ge=1_024,
        le=16 * 1024 * 1024,
        description="Largest request body, in bytes.",
    )
    http_trigger_wait: Seconds = Field(
        default=defaults.TRIGGER_WAIT,
        ge=0,
        le=3_600,
        description="Seconds that an HTTP trigger waits for the result before it answers with the execution's URL.",
    )
    shutdown_timeout: Seconds = Field(
        default=defaults.GRACE, ge=0, le=3_600, description="Seconds that requests get to finish after SIGTERM."
    )


class _Security(configuration.SharedToken):
    """How engines and clients prove who they are.

    The token is asked of clients and proven to engines. It, or `HTTP_TLS_CLIENT_CA`, is needed unless `HOST` is a
    loopback address. The TLS settings here are for sessions with engines; any of them turns TLS on for all sessions.
    """

    dagengine_tls_ca: Path | None = Field(
        default=None, description="PEM file: CA of the engines' certificates. Default: those that the system trusts."
    )
    dagengine_tls_cert: Path | None = Field(
        default=None, description="PEM file: certificate of this orchestrator, for engines that ask for one."
    )
    dagengine_tls_key: Path | None = Field(default=None, description="PEM file: private key of that certificate.")


class _Engines(BaseModel):
    """Which engines there are, and how work is spread over them."""

    engines: tuple[str, ...] = Field(default=(), description="Addresses of the engines: `host:port,…`.")
    engine_discovery: Literal["auto", "static", "pods", "endpointslices", "dns"] = Field(
        default="auto",
        description="How further engines are found: `static` (there are only those in `ENGINES`), as `pods` or "
        "`endpointslices` of a Kubernetes cluster, or as all addresses of the name `K8S_SERVICE_NAME` (`dns`). `auto` "
        "is `pods` in a pod of a cluster if `ENGINES` is empty, else `static`.",
    )
    engine_discovery_interval: Seconds = Field(
        default=defaults.DISCOVERY_INTERVAL,
        ge=1,
        le=86_400,
        description="Seconds after which engines are all looked for anew; changes in a cluster are heard of at once.",
    )
    transport_type: Literal["grpc"] = Field(default="grpc", description="What engines are spoken to by.")
    grpc_port: int = Field(
        default=defaults.GRPC_PORT,
        ge=1,
        le=65_535,
        description="Port of engines that are discovered, unless the cluster tells another one.",
    )
    engine_health_check_interval: Seconds = Field(
        default=defaults.HEALTH_CHECK_INTERVAL,
        ge=0,
        le=86_400,
        description="Seconds between two health checks of an engine (`grpc.health.v1`); 0 for none. One that fails two "
        "in a row gets no more work until one is good again.",
    )
    load_balancer_type: Strategy = Field(
        default="consistent-hash", description="How an engine is chosen for an execution."
    )
    engine_lost_timeout: Seconds = Field(
        default=defaults.ENGINE_LOST_AFTER,
        ge=1,
        le=86_400,
        description="Seconds without a session after which what an engine had is placed again, elsewhere.",
    )

    pools: dict[str, InstanceOf[declaration.Declared]] = Field(
        default_factory=dict,
        description="Pools over the whole system, for nodes that say `pool`: `name=size,…`, or `name=size:rate` when "
        "no more than that may begin in it: `db=10,api=4:100/m`. Size 0 closes a pool.",
    )

    @field_validator("pools", mode="before")
    @classmethod
    def _declared_pools(cls, value: object) -> object:
        return declaration.read(value)

    @field_validator("engines", mode="before")
    @classmethod
    def _parse_engines(cls, value: object) -> object:
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
            value = ",".join(value)
        if not isinstance(value, str):
            raise ValueError("expected addresses: host:port,… or a list of host:port")
        try:
            return tuple(sorted(address.target for address in static.parse_addresses(value)))
        except SettingsError as exc:
            raise ValueError(str(exc)) from exc


class _Kubernetes(BaseModel):
    """The cluster around the orchestrator, where it uses one; `docs/kubernetes.md` tells what it may need there."""

    k8s_namespace: str = Field(
        default="default",
        max_length=63,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="Namespace of everything. When it is not set: that of the pod, or of the kubeconfig's context.",
    )
    k8s_label_selector: str = Field(
        default=defaults.LABEL_SELECTOR, min_length=1, description="Selects the pods of engines, by labels."
    )
    k8s_service_name: str = Field(
        default=defaults.SERVICE_NAME,
        max_length=253,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?$",
        description="Service of the engines: for `endpointslices` its name, for `dns` the name to resolve.",
    )
    in_cluster_config: bool = Field(
        default=True, description="Reach the cluster's API as the service account of this pod; else by a kubeconfig."
    )
    kubeconfig: str = Field(
        default="",
        description="Kubeconfig files, as for kubectl, when `IN_CLUSTER_CONFIG` is false. Default: `~/.kube/config`.",
    )
    k8s_context: str = Field(default="", description="Context of the kubeconfig. Default: its current one.")
    k8s_workflows: bool = Field(
        default=True,
        description="Do what Workflow and Execution objects of the namespace say, where their definitions are "
        "installed. When it is not set: only where the cluster is used for something else anyway.",
    )
    leader_election: Literal["auto", "store", "kubernetes"] = Field(
        default="auto",
        description="How several orchestrators find out which one leads: in the `store`, or by a Lease of "
        "`kubernetes`. `auto` is `kubernetes` in a pod of a cluster over PostgreSQL, else `store`.",
    )
    leader_election_lease: str = Field(
        default=defaults.LEASE,
        max_length=253,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        description="Name of that Lease. Orchestrators of another database in the same namespace need another one.",
    )
    engine_autoscaling: InstanceOf[Autoscaling] | None = Field(
        default=None,
        description="Have as many engines as there is work for: `min=1,max=10,target=8`, where `target` is how many "
        "executions there should be for each. `cooldown=5m` (as by default) is for how long less must have been needed "
        "before engines are drained and removed. Needs engines that are found as `pods`.",
    )
    engine_workload: InstanceOf[Workload] = Field(
        default=Workload(), description="What has the engines to be scaled: `deployment/NAME` or `statefulset/NAME`."
    )

    @field_validator("engine_autoscaling", mode="before")
    @classmethod
    def _how_it_is_scaled(cls, value: object) -> object:
        return None if value is None else Autoscaling.read(value)

    @field_validator("engine_workload", mode="before")
    @classmethod
    def _what_is_scaled(cls, value: object) -> object:
        return Workload.read(value)


class _Work(BaseModel):
    """What the orchestrator remembers and how much it takes on."""

    orchestrator_id: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="Name of this orchestrator, as `--announce` prints it. Default: the host's name.",
    )
    database_url: str = Field(
        default="sqlite:///dagengine.db",
        description="Where everything is kept: `sqlite:///relative/path.db` or `sqlite:////absolute/path.db`; "
        "`sqlite://` is a database in memory, gone with the process; `postgresql://USER:PASSWORD@HOST/DATABASE` "
        "(needs the extra `postgres`) may be shared by several orchestrators.",
    )
    replica_lease: Seconds = Field(
        default=defaults.REPLICA_LEASE,
        ge=1,
        le=3_600,
        description="Seconds after which other replicas over the same database take over what this one had, when they "
        "do not hear of it any more.",
    )
    max_queued: int = Field(
        default=defaults.QUEUE_LIMIT,
        ge=1,
        le=1_000_000,
        description="Executions that may wait for an engine; beyond that, starters are told to try again later.",
    )
    cron_catch_up: Seconds = Field(
        default=defaults.CRON_CATCH_UP,
        ge=10,
        le=31 * 86_400,
        description="Seconds by which an occurrence of a cron trigger may be late, after a downtime say, and still "
        "be started. Later than that, it is skipped.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value == "sqlite://" or (value.startswith("sqlite:///") and len(value) > 10) or _POSTGRES.fullmatch(value):
            return value
        if value.startswith(("postgresql://", "postgres://")):
            raise ValueError(
                "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with a number for the port, and %40 for an @ in "
                "the password"
            )
        scheme = value.partition(":")[0] if ":" in value else ""  # the rest may hold a password
        raise ValueError(
            f"{scheme + ' databases are' if scheme else 'this is'} not supported: write sqlite:///path/to/file.db, "
            "sqlite:// for a database in memory, or postgresql://USER:PASSWORD@HOST/DATABASE"
        )


class _Retention(BaseModel):
    """What is kept of executions that have ended, unless their workflow says otherwise (`retention` of its document).

    Without any of these, and where no workflow says so, nothing is ever deleted.
    """

    retention_ttl: Seconds | None = Field(
        default=None, ge=1, description="Seconds after its end for which an execution is kept."
    )
    retention_keep: int | None = Field(
        default=None, ge=1, description="Executions of each workflow that are kept, the newest."
    )
    retention_log_ttl: Seconds | None = Field(
        default=None,
        ge=1,
        description="Seconds after the end of its execution for which a log line is kept; not longer than that.",
    )


class OrchestratorSettings(_Listening, _Security, _Engines, _Kubernetes, _Work, _Retention, configuration.Logging):
    """All settings of `dag-orchestrator`. The environment variable of a field is its name in capitals.

    Made by `load`; making one directly reads no environment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @property
    def addresses(self) -> frozenset[Address]:
        """The engines to dial."""
        return static.parse_addresses(",".join(self.engines))

    @property
    def discovery(self) -> Literal["static", "pods", "endpointslices", "dns"]:
        """How engines are found that are not in `engines`."""
        if self.engine_discovery != "auto":
            return self.engine_discovery
        return "pods" if self._in_pod and not self.engines else "static"

    @property
    def lease(self) -> str:
        """The Lease that elects the leader; empty when the store does."""
        by_lease = self.leader_election == "kubernetes" or (
            self.leader_election == "auto" and self._in_pod and self.database_url.startswith("postgres")
        )
        return self.leader_election_lease if by_lease else ""

    @property
    def objects(self) -> bool:
        """Whether workflow objects alone are reason enough to use a cluster."""
        return self.k8s_workflows and "k8s_workflows" in self.model_fields_set

    @property
    def _in_pod(self) -> bool:
        return self.in_cluster_config and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))

    @property
    def namespace(self) -> str:
        """The namespace that somebody has set; empty when nobody has."""
        return self.k8s_namespace if "k8s_namespace" in self.model_fields_set else ""

    @property
    def session_tls(self) -> bool:
        """Whether sessions with engines are to be encrypted."""
        return any((self.dagengine_tls_ca, self.dagengine_tls_cert, self.dagengine_tls_key))

    def contradictions(self) -> Iterator[str]:
        """What is wrong between settings that are right by themselves."""
        yield from super().contradictions()
        if (self.dagengine_tls_cert is None) != (self.dagengine_tls_key is None):
            yield "a certificate goes with its key: set both DAGENGINE_TLS_CERT and DAGENGINE_TLS_KEY, or neither"
        if (self.http_tls_cert is None) != (self.http_tls_key is None):
            yield "a certificate goes with its key: set both HTTP_TLS_CERT and HTTP_TLS_KEY, or neither"
        if self.http_tls_client_ca is not None and self.http_tls_cert is None:
            yield "HTTP_TLS_CLIENT_CA asks clients for certificates over HTTPS: set HTTP_TLS_CERT and HTTP_TLS_KEY too"
        if self.in_cluster_config and self.k8s_context:
            yield "K8S_CONTEXT chooses from a kubeconfig, which IN_CLUSTER_CONFIG=true leaves alone: set that to false"
        if self.engine_autoscaling is not None and self.discovery != "pods":
            yield (
                f"ENGINE_AUTOSCALING drains engines by marks on their pods, which ENGINE_DISCOVERY={self.discovery} "
                "does not see: set ENGINE_DISCOVERY=pods"
            )
        known = self.dagengine_token or self.dagengine_token_file or self.http_tls_client_ca
        if not known and not self._on_loopback():
            yield (
                f"refusing to listen on {self.host} without a way to tell clients from strangers: set DAGENGINE_TOKEN "
                "or DAGENGINE_TOKEN_FILE to a secret that clients and engines have too, or HTTP_TLS_CERT, "
                "HTTP_TLS_KEY and HTTP_TLS_CLIENT_CA for mutual TLS, or listen on 127.0.0.1"
            )

    def _on_loopback(self) -> bool:
        try:
            return security.is_loopback(self.host)
        except SettingsError:
            return False  # a name that leads nowhere now may lead anywhere later


def load(flags: Mapping[str, Any] | None = None, *, config: Path | None = None) -> OrchestratorSettings:
    """Settings from flags (by field name; None is "not given"), the environment and a file.

    Raises SettingsError that names everything that is wrong at once.
    """
    settings = configuration.load(OrchestratorSettings, flags, config=config)
    settings.token()  # a file that cannot be read is told before anything is started
    return settings

"""The workflow document as typed, immutable values: what is read from YAML, built in Python, stored and sent.

A `Document` is one version of one workflow. It is checked where it enters (`dagengine.spec.document` reports every
error with its path and line) and trusted afterwards. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import Field, JsonValue, field_validator, model_validator

from dagengine.spec.base import Identifier, Model
from dagengine.spec.duration import Duration
from dagengine.spec.executors import (
    AnyExecutor,
    Approval,
    HTTPExecutor,
    LuaExecutor,
    PythonExecutor,
    ShellExecutor,
    Signal,
    WaitExecutor,
)
from dagengine.spec.rate import RateField

__all__ = [
    "API_VERSION",
    "AnyExecutor",
    "Approval",
    "Backoff",
    "Cache",
    "Concurrency",
    "Configuration",
    "CronTrigger",
    "Document",
    "FailurePolicy",
    "HTTPExecutor",
    "HTTPTrigger",
    "Identifier",
    "KeptExecutions",
    "KeptLogs",
    "LuaExecutor",
    "MAX_PRIORITY",
    "Metadata",
    "Node",
    "OnPartition",
    "PythonExecutor",
    "RequiredEngine",
    "Retention",
    "Retry",
    "RetryPolicy",
    "RunIf",
    "ShellExecutor",
    "Signal",
    "Spec",
    "Triggers",
    "WaitExecutor",
]

API_VERSION: Final = "workflows/v1"

MAX_PRIORITY: Final = 1_000
"""Priorities lie between this and its negative."""

RunIf = Literal["all_succeeded", "all_done", "any_succeeded", "any_failed", "none_failed", "always"]
FailurePolicy = Literal["continue", "fail_fast"]
OnPartition = Literal["cancel", "continue"]


class Backoff(Model):
    """The wait before try n + 1: `min(initial * factor ** (n - 1), max)`, spread by ± `jitter`."""

    initial: Duration = Field(default=1_000_000, description="Wait before the second attempt.")
    factor: float = Field(default=2.0, ge=1.0, le=100.0, strict=True, description="Growth from one wait to the next.")
    max: Duration = Field(default=30_000_000, description="Longest wait.")
    jitter: float = Field(default=0.1, ge=0.0, le=1.0, strict=True, description="Share of the wait that is random.")


class RetryPolicy(Model):
    """How often an attempt that ended with one conclusion is tried again."""

    max_attempts: int = Field(ge=1, le=1_000, strict=True, description="Attempts that may end with this conclusion.")
    backoff: Backoff = Backoff()
    retry_on: tuple[str, ...] = Field(
        default=(), description="Patterns (`HTTP5*`) of the types of error that are tried again; without any, all."
    )
    stop_on: tuple[str, ...] = Field(
        default=(), description="Patterns of the types of error that are not tried again, whatever `retry_on` says."
    )


class Cache(Model):
    """A result that is used again by whoever asks with the same key, also in other executions."""

    key: str = Field(min_length=1, description="A text with `{{ }}` templates: what the result depends on.")
    ttl: Duration | None = Field(default=None, gt=0, description="How long the result may be used.")


class Retry(Model):
    """Retries per conclusion: `fail` (the code said no) and `error` (the platform did); counted apart."""

    fail: RetryPolicy = RetryPolicy(max_attempts=1)
    error: RetryPolicy = RetryPolicy(max_attempts=3)


class Node(Model):
    """One vertex of the DAG."""

    id: Identifier
    name: str = ""
    description: str = ""
    dependencies: tuple[Identifier, ...] = Field(default=(), description="Ids of the nodes that this one waits for.")
    foreach: str | None = Field(
        default=None,
        min_length=1,
        description="Lua expression giving a list or a map; the node runs once per element, with `item` and `index` "
        "(for a map also `key`) in scope.",
    )
    max_parallel: int | None = Field(
        default=None, ge=1, le=100_000, strict=True, description="Items of `foreach` that run at once."
    )
    fail_after: int | None = Field(
        default=None,
        ge=0,
        strict=True,
        description="Failed items that are tolerated. One more fails the node at once; without it, all items run.",
    )
    when: str | None = Field(
        default=None, min_length=1, description="Lua expression; the node is skipped unless it is true."
    )
    run_if: RunIf = Field(default="all_succeeded", description="Which outcomes of the dependencies let this node run.")
    executor: AnyExecutor = Field(description="What the node does.")
    retry: Retry = Retry()
    timeout: Duration | None = Field(default=None, gt=0, description="Longest time one attempt may take.")
    total_timeout: Duration | None = Field(
        default=None, gt=0, description="Longest time from the node's first attempt to its end, retries and all items."
    )
    pool: Identifier | None = Field(default=None, description="The pool that an attempt takes room in while it runs.")
    weight: int = Field(default=1, ge=1, le=1_000_000, strict=True, description="How much room in the pool it takes.")
    rate: RateField | None = Field(default=None, description="How often attempts of this node begin, on one engine.")
    cache: Cache | None = Field(default=None, description="Use a result that was found before.")
    on_partition: OnPartition = Field(
        default="cancel",
        description="What becomes of an attempt with effects whose engine has had no contact for longer than its "
        "lease, so that another engine may get the execution: stop it, or let it go on.",
    )


class HTTPTrigger(Model):
    """Starts an execution when a request arrives."""

    path: str = Field(pattern=r"^/[A-Za-z0-9_\-./]*$", description="Path under which the orchestrator listens.")
    method: Literal["POST", "PUT"] = "POST"


class CronTrigger(Model):
    """Starts an execution at the times of a cron schedule."""

    schedule: str = Field(description="Five fields, or six with seconds first.")
    timezone: str = Field(default="UTC", description="IANA name of the time zone the schedule is read in.")
    inputs: dict[str, JsonValue] = Field(default_factory=dict, description="Inputs of the executions it starts.")


class Triggers(Model):
    """What starts executions of this workflow besides people and programs."""

    http: HTTPTrigger | None = None
    cron: CronTrigger | None = None


class Configuration(Model):
    """What executions of this workflow find around them."""

    env: dict[str, str] = Field(default_factory=dict, description="Constants, in scope as `env` in Lua.")
    secrets: tuple[Identifier, ...] = Field(
        default=(), description="Names of the secrets that nodes may use; engines know their values."
    )
    kubernetes: dict[str, JsonValue] = Field(
        default_factory=dict, max_length=0, description="Reserved: must be empty until it is supported."
    )


class Concurrency(Model):
    """How many executions that share a key run at once, over the whole system."""

    key: str = Field(
        default="", description="A text that may hold inputs, such as `{{ inputs.tenant }}`; empty: one for all."
    )
    max: int = Field(default=1, ge=1, le=100_000, strict=True, description="Executions that run at once.")
    on_conflict: Literal["queue", "skip", "replace"] = Field(
        default="queue", description="Wait, be refused, or cancel the oldest and take its place."
    )


_LabelValue = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=63)]
_LabelKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$", max_length=128)]


class RequiredEngine(Model):
    """Which engines may run executions of a workflow, and whether each of them gets one for itself."""

    pool: _LabelValue | None = Field(
        default=None, description="The pool of engines: those with this value of the label `pool`."
    )
    labels: dict[_LabelKey, _LabelValue] = Field(
        default_factory=dict, description="Further labels that the engine must have, all of them."
    )
    exclusive: bool = Field(
        default=False,
        strict=True,
        description="Whether an execution has its engine for itself, from its begin there to its end.",
    )

    @field_validator("labels")
    @classmethod
    def _pool_apart(cls, labels: dict[str, str]) -> dict[str, str]:
        if "pool" in labels:
            raise ValueError(f"the label 'pool' has a field of its own: write engine: {{pool: {labels['pool']}}}")
        return labels

    @property
    def all_labels(self) -> frozenset[tuple[str, str]]:
        """All labels that the engine must have, each with its value."""
        pool = {} if self.pool is None else {"pool": self.pool}
        return frozenset((self.labels | pool).items())


class KeptExecutions(Model):
    """Which executions that have ended are kept: not those that are older, nor those beyond so many newer ones."""

    ttl: Duration | None = Field(default=None, gt=0, description="How long one is kept after its end.")
    keep: int | None = Field(default=None, ge=1, strict=True, description="How many are kept, the newest.")


class KeptLogs(Model):
    """How long log lines are kept of an execution that has ended. They go with it at the latest."""

    ttl: Duration | None = Field(default=None, gt=0, description="How long after the end of their execution.")


class Retention(Model):
    """What is kept of executions that have ended. Each part that is given stands in place of what the server says."""

    executions: KeptExecutions | None = Field(
        default=None, description="Executions with all that belongs to them. Empty: all are kept."
    )
    logs: KeptLogs | None = Field(default=None, description="Their log lines. Empty: as long as their execution.")


class Metadata(Model):
    """Who a workflow is."""

    id: Identifier
    name: str = ""
    version: str = Field(max_length=128, description="Semantic version (https://semver.org), for example 1.0.0.")
    description: str = ""
    labels: dict[str, str] = Field(default_factory=dict, description="Short facts to select workflows by.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Free notes; nothing is selected by them.")


class Spec(Model):
    """What a workflow does."""

    inputs: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="JSON Schema of each input; one without `default` is required."
    )
    outputs: dict[str, JsonValue] = Field(
        default_factory=dict, description="Templates of the outputs; without them, the results of the last nodes."
    )
    nodes: tuple[Node, ...] = Field(min_length=1, description="What runs, each after the nodes it depends on.")
    on_exit: tuple[Node, ...] = Field(
        default=(), description="Nodes that run at the end in any case, with `execution.status` in scope."
    )
    modules: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")], str] = Field(
        default_factory=dict, description="Lua code by name, for `require` in Lua nodes."
    )
    timeout: Duration | None = Field(
        default=None, gt=0, description="Longest time from start to end, without `on_exit`."
    )
    failure_policy: FailurePolicy = Field(
        default="continue", description="After a failure, let what does not depend on it run, or stop everything."
    )
    concurrency: Concurrency | None = Field(default=None, description="Executions of this workflow that run at once.")
    engine: RequiredEngine = Field(
        default=RequiredEngine(), description="Which engines may run it, and whether each execution has one for itself."
    )
    priority: int = Field(
        default=0,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        strict=True,
        description="Higher ones are placed first; those that wait long are not passed over for ever.",
    )
    retention: Retention = Field(default=Retention(), description="What is kept of executions that have ended.")
    triggers: Triggers = Triggers()
    configuration: Configuration = Configuration()

    @model_validator(mode="after")
    def _keep_once(self) -> Spec:
        """Keep once what nodes have in common, there may be very many: the ids they name, and which fields are given.

        Half a kilobyte a node. Nobody changes those sets: models are frozen.
        """
        nodes = (*self.nodes, *self.on_exit)
        ids = {node.id: node.id for node in nodes}
        given: dict[tuple[str, ...], set[str]] = {}
        for node in nodes:
            if node.dependencies:
                node.__dict__["dependencies"] = tuple([ids.get(needed, needed) for needed in node.dependencies])
            executor = node.executor
            waits_for = (executor.signal or executor.approval) if isinstance(executor, WaitExecutor) else None
            for part in (node, executor) if waits_for is None else (node, executor, waits_for):
                fields = part.model_fields_set
                shared = given.setdefault(tuple(fields), fields)
                object.__setattr__(part, "__pydantic_fields_set__", shared)
        return self


class Document(Model):
    """One immutable version of one workflow."""

    api_version: Literal["workflows/v1"] = Field(default=API_VERSION, alias="apiVersion")
    kind: Literal["Workflow"] = "Workflow"
    metadata: Metadata
    spec: Spec

    @property
    def id(self) -> str:
        return self.metadata.id

    @property
    def version(self) -> str:
        return self.metadata.version

    @property
    def reference(self) -> str:
        """`id@version`."""
        return f"{self.metadata.id}@{self.metadata.version}"

    def to_dict(self) -> dict[str, Any]:
        """The document as plain JSON values, defaults left out, ready to be written as YAML or JSON."""
        plain: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"apiVersion": self.api_version, "kind": self.kind, **plain}

    @cached_property
    def demanding(self) -> tuple[Node, ...]:
        """Those nodes that not every engine can run: all that are neither Lua nor waits."""
        nodes = (*self.spec.nodes, *self.spec.on_exit)
        return tuple(node for node in nodes if not isinstance(node.executor, LuaExecutor | WaitExecutor))

    @cached_property
    def pools(self) -> tuple[str, ...]:
        """The pools that its nodes take room in."""
        nodes = (*self.spec.nodes, *self.spec.on_exit)
        return tuple(dict.fromkeys(node.pool for node in nodes if node.pool is not None))

    @cached_property
    def canonical(self) -> bytes:
        """The document as canonical JSON: sorted keys, no white space, defaults left out."""
        return msgspec.json.encode(self.to_dict(), order="deterministic")

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the canonical form. Two documents that mean the same have the same digest."""
        return "sha256:" + hashlib.sha256(self.canonical).hexdigest()

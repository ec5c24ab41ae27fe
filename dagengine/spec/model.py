"""The workflow document as typed, immutable values: what is read from YAML, built in Python, stored and sent.

A `Document` is one version of one workflow. It is checked where it enters (`dagengine.spec.document` reports every
error with its path and line) and trusted afterwards. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
)

from dagengine.spec.duration import Duration

__all__ = [
    "API_VERSION",
    "AnyExecutor",
    "Backoff",
    "Configuration",
    "CronTrigger",
    "Document",
    "HTTPTrigger",
    "Identifier",
    "LuaExecutor",
    "Metadata",
    "Node",
    "PythonExecutor",
    "Retry",
    "RetryPolicy",
    "RunIf",
    "Spec",
    "Triggers",
]

API_VERSION: Final = "workflows/v1"

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]+$", min_length=1, max_length=128)]
RunIf = Literal["all_succeeded", "all_done", "any_succeeded", "any_failed", "none_failed", "always"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Executor(_Model):
    """What all executors share. `type` is always written: it says which model the rest belongs to."""

    type: str

    @model_serializer(mode="wrap")
    def _with_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type, **handler(self)}


class LuaExecutor(_Executor):
    """Runs a Lua 5.5 chunk in the sandbox; what it returns is the node's result."""

    type: Literal["lua"] = "lua"
    code: str = Field(min_length=1, description="The Lua chunk. `inputs`, `nodes`, `item` and `index` are in scope.")

    @property
    def pure(self) -> bool:
        """Whether an attempt has no effect the outside can see, so that it may run ahead of the commit."""
        return True


class PythonExecutor(_Executor):
    """Calls a Python function known to the engine; what it returns is the node's result."""

    type: Literal["python"] = "python"
    function: str = Field(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.@+-]*$",
        description="The name under which the engine registered the function.",
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments; texts may hold `{{ }}` templates."
    )
    pure: bool = Field(
        default=False, strict=True, description="The function has no effect outside; it may be run again freely."
    )


AnyExecutor = Annotated[LuaExecutor | PythonExecutor, Field(discriminator="type")]


class Backoff(_Model):
    """The wait before try n + 1: `min(initial * factor ** (n - 1), max)`, spread by ± `jitter`."""

    initial: Duration = Field(default=1_000_000, description="Wait before the second attempt.")
    factor: float = Field(default=2.0, ge=1.0, le=100.0, strict=True, description="Growth from one wait to the next.")
    max: Duration = Field(default=30_000_000, description="Longest wait.")
    jitter: float = Field(default=0.1, ge=0.0, le=1.0, strict=True, description="Share of the wait that is random.")


class RetryPolicy(_Model):
    """How often an attempt that ended with one conclusion is tried again."""

    max_attempts: int = Field(ge=1, le=1_000, strict=True, description="Attempts that may end with this conclusion.")
    backoff: Backoff = Backoff()


class Retry(_Model):
    """Retries per conclusion: `fail` (the code said no) and `error` (the platform did); counted apart."""

    fail: RetryPolicy = RetryPolicy(max_attempts=1)
    error: RetryPolicy = RetryPolicy(max_attempts=3)


class Node(_Model):
    """One vertex of the DAG."""

    id: Identifier
    name: str = ""
    description: str = ""
    dependencies: tuple[Identifier, ...] = Field(default=(), description="Ids of the nodes that this one waits for.")
    foreach: str | None = Field(
        default=None,
        min_length=1,
        description="Lua expression giving a list; the node runs once per element, with `item` and `index` in scope.",
    )
    when: str | None = Field(
        default=None, min_length=1, description="Lua expression; the node is skipped unless it is true."
    )
    run_if: RunIf = Field(default="all_succeeded", description="Which outcomes of the dependencies let this node run.")
    executor: AnyExecutor
    retry: Retry = Retry()
    timeout: Duration | None = Field(default=None, gt=0, description="Longest time one attempt may take.")


class HTTPTrigger(_Model):
    """Starts an execution when a request arrives."""

    path: str = Field(pattern=r"^/[A-Za-z0-9_\-./]*$", description="Path under which the orchestrator listens.")
    method: Literal["POST", "PUT"] = "POST"


class CronTrigger(_Model):
    """Starts an execution at the times of a cron schedule."""

    schedule: str = Field(description="Five fields, or six with seconds first.")
    timezone: str = Field(default="UTC", description="IANA name of the time zone the schedule is read in.")
    inputs: dict[str, JsonValue] = Field(default_factory=dict, description="Inputs of the executions it starts.")


class Triggers(_Model):
    """What starts executions of this workflow besides people and programs."""

    http: HTTPTrigger | None = None
    cron: CronTrigger | None = None


class Configuration(_Model):
    """What executions of this workflow find around them."""

    env: dict[str, str] = Field(default_factory=dict, description="Constants, in scope as `env` in Lua.")
    secrets: tuple[()] = Field(default=(), description="Reserved: must be empty until secrets are supported.")
    kubernetes: dict[str, JsonValue] = Field(
        default_factory=dict, max_length=0, description="Reserved: must be empty until it is supported."
    )


class Metadata(_Model):
    """Who a workflow is."""

    id: Identifier
    name: str = ""
    version: str = Field(max_length=128, description="Semantic version (https://semver.org), for example 1.0.0.")
    description: str = ""
    labels: dict[str, str] = Field(default_factory=dict, description="Short facts to select workflows by.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Free notes; nothing is selected by them.")


class Spec(_Model):
    """What a workflow does."""

    inputs: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="JSON Schema of each input; one without `default` is required."
    )
    outputs: dict[str, JsonValue] = Field(
        default_factory=dict, description="Templates of the outputs; without them, the results of the last nodes."
    )
    nodes: tuple[Node, ...] = Field(min_length=1)
    triggers: Triggers = Triggers()
    configuration: Configuration = Configuration()


class Document(_Model):
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
    def canonical(self) -> bytes:
        """The document as canonical JSON: sorted keys, no white space, defaults left out."""
        return msgspec.json.encode(self.to_dict(), order="deterministic")

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of the canonical form. Two documents that mean the same have the same digest."""
        return "sha256:" + hashlib.sha256(self.canonical).hexdigest()

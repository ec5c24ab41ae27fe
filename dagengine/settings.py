"""Settings of the engine's server. A flag wins over the environment, that over the file, that over the default.

The file is YAML (`dag-engine --config FILE`); its keys are the names of the fields below. Secrets are read from the
environment or from files only, never from flags, which every user of the machine can see. `dagengine.configuration`
does the reading.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, SecretStr, field_validator, model_validator

from dagengine import configuration
from dagengine.admission import declaration
from dagengine.executors.http import guard, policy
from dagengine.executors.python import allowed
from dagengine.executors.shell import limits
from dagengine.journal.session import Budget
from dagengine.journal.spool import Spool

__all__ = ["EngineSettings", "load"]


class _Work(BaseModel):
    """Which work the engine takes."""

    engine_id: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="Name of this engine, unique among those of one orchestrator. Default: the host's name.",
    )
    capacity: int = Field(default=10, ge=1, le=100_000, description="Executions that it runs at a time.")
    engine_labels: dict[str, str] = Field(
        default_factory=dict,
        description="Labels that workflows may ask for (`engine: {labels: …}`), shown with the engine: `key=value,…`.",
    )
    engine_pool: str = Field(
        default="",
        max_length=63,
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$",
        description="The pool of engines that it is in (`engine: {pool: …}`): short for the label `pool`.",
    )
    engine_python_modules: dict[str, str] = Field(
        default_factory=dict,
        description="Functions that `python` nodes may call: `[name=]package.module:function,…`. "
        "Without a name, the function's own.",
    )
    engine_python_allow: tuple[str, ...] = Field(
        default=(),
        description="Functions that documents may name by path, which are imported when they are called: "
        "`package.module:function,…`, with `*` for any text and `?` for any character. Nothing else is imported.",
    )
    engine_python_workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Processes at most for Python functions that run in one (`isolation: process`). "
        "Default: one for each processor it may use.",
    )
    engine_pools: dict[str, InstanceOf[declaration.Declared]] = Field(
        default_factory=dict,
        description="Pools of this engine, for nodes that say `pool`: `name=size,…`, or `name=size:rate` when no more "
        "than that may begin in it: `db=4,api=2:10/s`. Size 0 closes a pool.",
    )
    drain_timeout: float = Field(
        default=25.0,
        ge=0,
        description="Seconds that running executions get to finish after SIGTERM; what is left is handed back. "
        "Kubernetes kills after terminationGracePeriodSeconds (30): stay below it.",
    )

    @field_validator("engine_labels", mode="before")
    @classmethod
    def _labels(cls, value: object) -> object:
        return _pairs(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_in_one_pool(self) -> _Work:
        labelled = self.engine_labels.get("pool", self.engine_pool)
        if self.engine_pool and labelled != self.engine_pool:
            raise ValueError(
                f"ENGINE_POOL is {self.engine_pool}, and ENGINE_LABELS says pool={labelled}: an engine is in one pool"
            )
        return self

    def labels(self) -> dict[str, str]:
        """Its labels, that of its pool among them."""
        return self.engine_labels | ({"pool": self.engine_pool} if self.engine_pool else {})

    @field_validator("engine_pools", mode="before")
    @classmethod
    def _declared_pools(cls, value: object) -> object:
        return declaration.read(value)

    @field_validator("engine_python_modules", mode="before")
    @classmethod
    def _functions(cls, value: object) -> object:
        return _functions(value) if isinstance(value, str) else value

    @field_validator("engine_python_allow", mode="before")
    @classmethod
    def _patterns(cls, value: object) -> object:
        return list(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("engine_python_allow")
    @classmethod
    def _allowed(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(allowed.check(pattern) for pattern in patterns)


class _Lua(BaseModel):
    """Where Lua nodes run, and what they may use.

    In processes, any script can be stopped, and what one uses is kept from the engine and from other scripts. On a
    thread of the engine, a hole in Lua itself would be one in the engine: for code you trust.
    """

    lua_isolation: Literal["process", "thread"] = Field(
        default="process", description="`process` for any code; `thread` for code you trust."
    )
    lua_memory: int = Field(
        default=256, ge=16, le=65_536, description="MiB that scripts may use: those of one process, or of the thread."
    )
    lua_workers: int | None = Field(
        default=None, ge=1, le=1024, description="Processes at most. Default: one for each processor it may use."
    )
    lua_cpu: int | None = Field(
        default=None,
        ge=0,
        description="Seconds of processor time that one attempt may use in a process, whatever its timeout; 0: no "
        "limit. Default: 3600.",
    )

    @model_validator(mode="after")
    def _are_for_processes(self) -> _Lua:
        if self.lua_isolation == "thread" and (self.lua_workers is not None or self.lua_cpu is not None):
            raise ValueError("LUA_WORKERS and LUA_CPU are for Lua in processes, and LUA_ISOLATION is thread")
        return self


class _Shell(BaseModel):
    """Whether `shell` nodes run here, and what their programs may use.

    A program can do whatever the engine's user can: allow it where you trust everybody who can register a workflow.
    """

    engine_shell: bool = Field(default=False, description="Run programs and scripts of `shell` nodes.")
    engine_shell_programs: int | None = Field(
        default=None, ge=1, le=10_000, description="Programs at a time. Default: four for each processor it may use."
    )
    engine_shell_env: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...] = Field(
        default=(), description="Variables of the engine's environment that programs see, too: `NAME,…`."
    )
    engine_shell_memory: int | None = Field(
        default=None, ge=16, description="MiB of address space for each process of a program. Default: no limit."
    )
    engine_shell_cpu: int | None = Field(
        default=None, ge=1, description="Seconds of processor time for each process of a program. Default: no limit."
    )
    engine_shell_output: int = Field(
        default=64, ge=1, le=65_536, description="MiB that a program may print; one that prints more is stopped."
    )
    engine_shell_grace: float = Field(
        default=2.0, ge=0, description="Seconds from SIGTERM to SIGKILL for a program that exceeds its timeout."
    )

    @field_validator("engine_shell_env", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    def shell_limits(self) -> limits.Limits | None:
        """What programs may use, or None when none are run."""
        if not self.engine_shell:
            return None
        memory = self.engine_shell_memory
        return limits.Limits(
            programs=self.engine_shell_programs,
            memory=None if memory is None else memory << 20,
            cpu=self.engine_shell_cpu,
            output=self.engine_shell_output << 20,
            grace=round(self.engine_shell_grace * 1_000_000),
        )

    @model_validator(mode="after")
    def _are_for_programs(self) -> _Shell:
        given = [name for name in _Shell.model_fields if name in self.model_fields_set and name != "engine_shell"]
        if given and not self.engine_shell:
            raise ValueError(f"{given[0].upper()} is for programs, and ENGINE_SHELL is not true")
        return self


class _HTTP(BaseModel):
    """Where `http` nodes may send requests.

    Without a rule they reach the public Internet, and nothing else: no private, loopback or link-local address. A rule
    is a name, `*.domain`, an address or a network such as `10.0.0.0/8`, and `:port` where it is for one port only.
    """

    engine_http: bool = Field(default=True, description="Send the requests of `http` nodes.")
    engine_http_allow: tuple[str, ...] = Field(
        default=(), description="Rules that open what is closed: `localhost:8080,*.internal,10.0.0.0/8,…`."
    )
    engine_http_deny: tuple[str, ...] = Field(
        default=(), description="Rules that close what is open. They win over those of ENGINE_HTTP_ALLOW."
    )
    engine_http_only_allowed: bool = Field(
        default=False, description="Close everything that no rule of ENGINE_HTTP_ALLOW opens."
    )
    engine_http_ca: Path | None = Field(
        default=None, description="PEM file: authorities to trust beside those of the system."
    )
    engine_http_insecure: bool = Field(
        default=False, description="Let nodes say `verify: false`: the server's certificate is not checked."
    )
    engine_http_proxy: SecretStr | None = Field(
        default=None,
        description="URL of a proxy for all requests, or `environment`: HTTP_PROXY, HTTPS_PROXY and NO_PROXY hold. "
        "Default: no proxy, whatever the environment says.",
    )
    engine_http_connections: int = Field(
        default=100, ge=1, le=10_000, description="Requests at a time; more wait, and their time does not run."
    )
    engine_http_max_response: int = Field(
        default=16, ge=1, le=1024, description="MiB of a response that a node may read, whatever its `output`."
    )

    @field_validator("engine_http_allow", "engine_http_deny", mode="before")
    @classmethod
    def _rules(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("engine_http_allow", "engine_http_deny")
    @classmethod
    def _readable(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(guard.read_rule(rule).text for rule in rules)

    @field_validator("engine_http_proxy")
    @classmethod
    def _usable(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None:
            policy.check_proxy(proxy.get_secret_value())
        return proxy

    def http_policy(self) -> policy.Policy | None:
        """What requests may do, or None when none are sent."""
        if not self.engine_http:
            return None
        return policy.Policy(
            allow=self.engine_http_allow,
            deny=self.engine_http_deny,
            only_allowed=self.engine_http_only_allowed,
            ca=self.engine_http_ca,
            insecure=self.engine_http_insecure,
            connections=self.engine_http_connections,
            max_response=self.engine_http_max_response << 20,
            proxy=self.engine_http_proxy.get_secret_value() if self.engine_http_proxy is not None else "",
        )


class _Secrets(BaseModel):
    """Where the engine finds the secrets that workflows name: `DAG_SECRET_<NAME>` in its environment, or files."""

    engine_secrets_dir: Path | None = Field(
        default=None, description="Directory with a file for each secret, named like it: a mounted Kubernetes Secret."
    )


class _Buffers(BaseModel):
    """Where facts wait until an orchestrator has committed them, when it is slow or cannot be reached.

    They wait in memory first. When they take more than there is for them, the engine begins no new work, and what its
    executions still make goes to a temporary file without a name. Nothing is dropped: facts for which there is no room
    in the file stay in memory.
    """

    engine_buffer: int = Field(default=64, ge=1, le=65_536, description="MiB of memory for facts that wait.")
    engine_spool: int = Field(
        default=1024, ge=0, le=1_048_576, description="MiB of the temporary file; 0: there is none."
    )
    engine_spool_dir: Path | None = Field(
        default=None,
        description="Directory of the temporary file, on a disk rather than in memory. Default: that of the system "
        "(TMPDIR, or /tmp).",
    )

    @field_validator("engine_spool_dir")
    @classmethod
    def _writable(cls, directory: Path | None) -> Path | None:
        if directory is not None and not (directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)):
            raise ValueError(f"{directory} is no directory that this user may write to")
        return directory

    def budget(self) -> Budget:
        """What unacknowledged facts may take."""
        spool = Spool(self.engine_spool << 20, self.engine_spool_dir) if self.engine_spool else None
        return Budget(self.engine_buffer << 20, spool=spool)


class _Listening(BaseModel):
    """Where orchestrators find the engine."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=50051, ge=0, le=65_535, description="TCP port to listen on; 0 takes any that is free.")
    engine_reflection: bool = Field(
        default=False, description="Offer gRPC reflection. For development: it shows the interface to anyone."
    )


class _Security(configuration.SharedToken):
    """How orchestrators prove who they are. Needed unless `host` is a loopback address."""

    dagengine_tls_cert: Path | None = Field(default=None, description="PEM file: certificate of this engine.")
    dagengine_tls_key: Path | None = Field(default=None, description="PEM file: private key of this engine.")
    dagengine_tls_ca: Path | None = Field(
        default=None,
        description="PEM file: CA of the orchestrators' certificates. With it, they must show one (mTLS).",
    )


class EngineSettings(_Work, _Lua, _Shell, _HTTP, _Secrets, _Buffers, _Listening, _Security, configuration.Logging):
    """All settings of `dag-engine`. The environment variable of a field is its name in capitals.

    Made by `load`; making one directly reads no environment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def load(flags: Mapping[str, Any] | None = None, *, config: Path | None = None) -> EngineSettings:
    """Settings from flags (by field name; None is "not given"), the environment and a file.

    Raises SettingsError that names everything that is wrong at once.
    """
    return configuration.load(EngineSettings, flags, config=config)


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise ValueError(f"'{item}' is no label: write key=value")
        if key in pairs:
            raise ValueError(f"the label '{key}' is given twice")
        pairs[key] = value
    return pairs


def _functions(text: str) -> dict[str, str]:
    functions: dict[str, str] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(?:([A-Za-z_][\w.-]*)=)?([A-Za-z_][\w.]*:([A-Za-z_]\w*))", item)
        if match is None:
            raise ValueError(f"'{item}' is no function: write [name=]package.module:function")
        name = match[1] or match[3]
        if name in functions:
            raise ValueError(f"the function name '{name}' is given twice")
        functions[name] = match[2]
    return functions

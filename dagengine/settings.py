"""Settings of the engine's server. A flag wins over the environment, that over the file, that over the default.

The file is YAML (`dag-engine --config FILE`); its keys are the names of the fields below. Secrets are read from the
environment or from files only, never from flags, which every user of the machine can see. `dagengine.configuration`
does the reading.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dagengine import configuration

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
        default_factory=dict, description="Labels that are shown with the engine: `key=value,…`."
    )
    engine_python_modules: dict[str, str] = Field(
        default_factory=dict,
        description="Functions that `python` nodes may call: `[name=]package.module:function,…`. "
        "Without a name, the function's own.",
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

    @field_validator("engine_python_modules", mode="before")
    @classmethod
    def _functions(cls, value: object) -> object:
        return _functions(value) if isinstance(value, str) else value


class _Lua(BaseModel):
    """Where Lua nodes run, and what they may use.

    In processes, any script can be stopped, and what one uses is kept from the engine and from other scripts. On a
    thread of the engine, a hostile pattern (`string.find` and its kin) can hold up all Lua: for code you trust.
    """

    lua_isolation: Literal["process", "thread"] = Field(
        default="thread", description="`thread` for code you trust; `process` (experimental) for any code."
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


class _Logging(BaseModel):
    """What the engine says on standard error."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe events that are logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`console` for people, `json` for machines; `auto` looks for a terminal."
    )


class EngineSettings(_Work, _Lua, _Listening, _Security, _Logging):
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

"""Settings of the engine's server. A flag wins over the environment, that over the file, that over the default.

The file is YAML (`dag-engine --config FILE`); its keys are the names of the fields below. Secrets are read from the
environment or from files only, never from flags, which every user of the machine can see.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from dagengine.errors import SettingsError

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
    engine_labels: Annotated[dict[str, str], NoDecode] = Field(
        default_factory=dict, description="Labels to place work by: `key=value,…`."
    )
    engine_python_modules: Annotated[dict[str, str], NoDecode] = Field(
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


class _Listening(BaseModel):
    """Where orchestrators find the engine."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=50051, ge=0, le=65_535, description="TCP port to listen on; 0 takes any that is free.")
    engine_reflection: bool = Field(
        default=False, description="Offer gRPC reflection. For development: it shows the interface to anyone."
    )


class _Security(BaseModel):
    """How orchestrators prove who they are. Needed unless `host` is a loopback address."""

    dagengine_token: SecretStr | None = Field(
        default=None, description="Secret shared with the orchestrator. At least 32 random characters."
    )
    dagengine_token_file: Path | None = Field(default=None, description="File that holds that secret instead.")
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


class EngineSettings(_Work, _Listening, _Security, _Logging, BaseSettings):
    """All settings of `dag-engine`. The environment variable of a field is its name in capitals."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_ignore_empty=True, hide_input_in_errors=True)


def load(flags: Mapping[str, Any] | None = None, *, config: Path | None = None) -> EngineSettings:
    """Settings from flags (by field name; None is "not given"), the environment and a file.

    Raises SettingsError that names everything that is wrong at once.
    """
    written = _read(config) if config is not None else {}

    class Sources(EngineSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - given by name
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=written)

    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        settings = Sources(**given)
    except pydantic.ValidationError as exc:
        raise SettingsError(_describe(exc, given, written, config)) from None
    if settings.dagengine_token is not None and settings.dagengine_token_file is not None:
        raise SettingsError("both DAGENGINE_TOKEN and DAGENGINE_TOKEN_FILE are set: which one holds? Set one of them")
    return settings


def _read(config: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config.read_text())
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration file {config}: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise SettingsError(f"the configuration file {config} is not YAML: {exc}") from exc
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"the configuration file {config} must be a mapping of settings to values")
    return values


def _describe(
    error: pydantic.ValidationError, flags: Mapping[str, Any], written: Mapping[str, Any], config: Path | None
) -> str:
    """Every problem, each with where its value came from."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        name = str(problem["loc"][0])
        if name in flags:
            source = f"flag for {name}"
        elif name in written and name.upper() not in _environment():
            source = f"{config}: {name}"
        else:
            source = f"environment variable {name.upper()}"
        unknown = problem["type"] == "extra_forbidden"
        message = "there is no such setting" if unknown else problem["msg"].removeprefix("Value error, ")
        lines.append(f"{source}: {message}")
    return "\n".join(lines)


def _environment() -> set[str]:
    import os

    return {name.upper() for name in os.environ}


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

"""How the settings of both servers are read: flags win over the environment, that over a file, that over defaults.

`load` reads all three at once and names everything that is wrong at once, each with where it came from. No message
quotes a value or a line of the file: either may hold the token. `Logging` and `SharedToken` are groups of settings
that both servers have. Called by `dagengine.settings` and `orchestrator.settings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import pydantic
import structlog
import yaml
from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from dagengine import secret
from dagengine.errors import SettingsError
from dagengine.spec.suggestion import Suggestions

__all__ = ["Logging", "SharedToken", "load", "warn_of_short_token"]

S = TypeVar("S", bound=BaseModel)

log = structlog.get_logger(__name__)


class SharedToken(BaseModel):
    """The secret by which orchestrators, engines and clients know each other."""

    dagengine_token: SecretStr | None = Field(
        default=None,
        description="Secret that the orchestrator, its engines and its clients share. At least 32 random characters.",
    )
    dagengine_token_file: Path | None = Field(default=None, description="File that holds that secret instead.")

    def token(self) -> SecretStr | None:
        """The token, read from its file where it has one. SettingsError when that cannot be read or holds none."""
        if self.dagengine_token_file is None:
            return self.dagengine_token
        return SecretStr(secret.read(self.dagengine_token_file))

    def contradictions(self) -> Iterator[str]:
        """What is wrong between settings that are right by themselves."""
        if self.dagengine_token is not None and self.dagengine_token_file is not None:
            yield "both DAGENGINE_TOKEN and DAGENGINE_TOKEN_FILE are set: which one holds? Set one of them"
        if self.dagengine_token is not None and not secret.is_sendable(self.dagengine_token.get_secret_value()):
            yield "DAGENGINE_TOKEN must be printable ASCII characters"

    @model_validator(mode="after")
    def _fits_together(self) -> SharedToken:
        if faults := list(self.contradictions()):
            raise ValueError("\n".join(faults))
        return self


class Logging(BaseModel):
    """What the server says on standard error."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe events that are logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`console` for people, `json` for machines; `auto` looks for a terminal."
    )


class _Environment(BaseSettings):
    """Made a base of settings to have their fields looked up; lists need not be JSON there."""

    model_config = SettingsConfigDict(enable_decoding=False)


def load(kind: type[S], flags: Mapping[str, Any] | None = None, *, config: Path | None = None) -> S:
    """Settings from flags (by field name; None is "not given"), the environment and a file.

    The environment variable of a field is its name in capitals; an empty one counts as not set. Raises SettingsError
    that names everything that is wrong at once.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    environment = _environment(kind)
    written = _read(config) if config is not None else {}
    origins = {
        **{name: f"{config}: {name}" for name in written},
        **{name: f"environment variable {name.upper()}" for name in environment},
        **{name: f"flag for {name}" for name in given},
    }
    try:
        return kind.model_validate({**written, **environment, **given})
    except pydantic.ValidationError as exc:
        raise SettingsError(_describe(exc, kind, origins)) from None


def warn_of_short_token(token: SecretStr | None) -> None:
    """Log a warning when the token could be guessed. Called once logging is set up."""
    if token is not None and (length := len(token.get_secret_value())) < secret.SHORT:
        log.warning("token_is_short", characters=length, advice="use 32 random characters or more")


def _environment(kind: type[BaseModel]) -> dict[str, Any]:
    """What the environment says, by field, as text: the validators of `kind` take it from there."""
    looked_up = pydantic.create_model(f"{kind.__name__}Environment", __base__=(kind, _Environment))
    return EnvSettingsSource(cast("type[BaseSettings]", looked_up), env_ignore_empty=True)()


def _read(config: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"cannot read the configuration file {config}: {exc.strerror}") from exc
    except yaml.MarkedYAMLError as exc:
        # The parser quotes the line that it does not like, and that may be the one with the token: its place must do.
        mark = exc.problem_mark or exc.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise SettingsError(f"the configuration file {config} is not YAML{place}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise SettingsError(f"the configuration file {config} is not YAML") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise SettingsError(f"the configuration file {config} must be a mapping of settings to values")
    return values


def _describe(error: pydantic.ValidationError, kind: type[BaseModel], origins: Mapping[str, str]) -> str:
    """Every problem, each with where its value came from."""
    lines = []
    near = Suggestions(kind.model_fields)
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            message = f"there is no such setting{near.hint(name)}"
        lines.append(f"{origins.get(name, name)}: {message}" if name else message)
    return "\n".join(lines)

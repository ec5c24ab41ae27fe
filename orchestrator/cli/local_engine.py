"""The engine of `dagctl run`: one in this process, from the same settings as `dag-engine` has, Lua on a thread.

The settings take a while to import. Where neither a flag nor the environment says anything, the defaults of `DAGEngine`
are those of the settings, and nothing is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dagengine import app, errors
from dagengine.admission import declaration

__all__ = ["Options", "make"]

_READ: Final = ("ENGINE_", "LUA_MEMORY")
"""How the variables begin that an engine of this process follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the flags say, None where one was not given. They win over the environment."""

    shell: bool | None = None
    python_allow: str | None = None
    http_allow: str | None = None
    pools: str = ""

    def settings(self) -> dict[str, Any]:
        """The flags by the names of the settings."""
        return {
            "engine_shell": self.shell,
            "engine_python_allow": self.python_allow,
            "engine_http_allow": self.http_allow,
        }


def make(options: Options) -> app.DAGEngine:
    """An engine that is yet to be closed. Raises SettingsError that names everything that is wrong."""
    pools = _declared(options.pools)
    flags = options.settings()
    if all(flag is None for flag in flags.values()) and not _environment_speaks():
        return app.DAGEngine(lua="thread", pools=pools)  # a thread, so that a script that does not end can be cancelled
    return _from_settings(flags, pools)


def _environment_speaks() -> bool:
    return any(value and name.upper().startswith(_READ) for name, value in os.environ.items())


def _from_settings(flags: Mapping[str, Any], pools: Mapping[str, declaration.Declared]) -> app.DAGEngine:
    from dagengine import settings
    from dagengine.executors.secrets import EngineSecrets
    from dagengine.server import functions

    found = settings.load(flags)
    if found.engine_python_modules or found.engine_python_allow:
        sys.path.append(os.getcwd())  # as the engines of `dagctl dev` have it; last, so that it hides nothing
    return app.DAGEngine(
        functions=functions.load(found.engine_python_modules),
        python_allow=found.engine_python_allow,
        python_workers=found.engine_python_workers,
        lua="thread",
        lua_memory=found.lua_memory << 20,
        shell=found.shell_limits() or False,
        shell_env=found.engine_shell_env,
        http=found.http_policy() or False,
        secrets=EngineSecrets(found.engine_secrets_dir),
        pools=pools or found.engine_pools,
    )


def _declared(pools: str) -> dict[str, declaration.Declared]:
    try:
        return declaration.parse(pools)
    except ValueError as exc:
        raise errors.SettingsError(f"--pools: {exc}") from exc

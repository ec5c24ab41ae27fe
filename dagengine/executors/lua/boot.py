"""Builds the sandbox in a new Lua state, from the `.lua` files of this package. Used by `runtime`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from dagengine.errors import ExecutorError
from dagengine.executors.lua.host import Host

__all__ = ["Entries", "boot"]

_LOG_LINES, _LOG_LINE, _LOG_BYTES = 1_000, 64 << 10, 1 << 20

_MATCHING: Final = 4_000_000
"""Steps of Lua's own matcher that a script's hook can wait for: some 20 ms."""

_sources: dict[str, bytes] = {}


class Entries(NamedTuple):
    """What the host calls, in the order that `sandbox.lua` returns it."""

    script: Callable[..., Any]
    template: Callable[..., Any]
    console: Callable[..., Any]
    check_script: Callable[[bytes], bytes | None]
    check_expression: Callable[[bytes], bytes | None]
    position: Callable[[], int | None]
    explain: Callable[[], tuple[Any, ...] | None]
    keep: Callable[[int, bytes], None]
    drop: Callable[[int], None]
    modules: Callable[[int, Any], None]
    more: Callable[..., None]
    limit: Callable[[int, int], None]
    collect: Callable[[], None]
    revive: Callable[[], None]


Tick = Callable[[bytes | None], int]


def boot(state: Any, tick: Tick, host: Host, *, max_output: int, watched: bool) -> Entries:
    """Build the sandbox in `state`, a `lupa` runtime with a limit on its memory."""

    def load(name: str, *arguments: Any) -> Any:
        return state.execute(_source(name), *arguments, name="=host", mode="t")

    values = load("values")
    load("problems", values)
    guard = load("guard", tick, host.used, watched, state.get_max_memory(total=True))
    json = load("json", values, guard, max_output)
    safe = guard[b"host"]
    functions = state.table_from({name: safe(function) for name, function in host.functions().items()})
    limits = state.table_from({b"lines": _LOG_LINES, b"line": _LOG_LINE, b"bytes": _LOG_BYTES})
    extras = state.table_from(
        {
            b"texts": load("texts", guard, load("patterns", guard, load("backtracking"), _MATCHING)),
            b"tables": load("tables", guard),
            b"time": load("time"),
            b"base64": load("base64"),
            b"digest": load("digest", guard, functions),
            b"re": load("re", guard, functions),
        }
    )
    library = load("library", values, guard, json, load("metatables", values), limits, extras)
    return Entries(*load("sandbox", values, guard, library, functions, max_output).values())


def _source(name: str) -> bytes:
    source = _sources.get(name)
    if source is None:
        source = pkgutil.get_data(__package__, f"{name}.lua")
        if source is None:
            raise ExecutorError(f"{name}.lua is missing from the installed package {__package__}; install it again")
        _sources[name] = source
    return source

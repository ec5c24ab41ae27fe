"""Why no engine runs an execution, in words: from `waiting_on`, which is made for programs.

`service` puts it into explanations, `dagctl` tells it while it waits.
"""

from __future__ import annotations

from typing import Final

__all__ = ["words"]

_WORDS: Final = {
    "no_engine": "no engine is connected and ready",
    "all_draining": "every engine is draining: none takes new work",
    "engines_full": "every engine that could run it is full, or reserved for another execution",
    "no_free_engine": "it is to have an engine for itself, and every one that could run it has others still, or is "
    "kept for another",
    "no_reservable_engine": "it is to have an engine for itself, and those that could run it are of a release that "
    "cannot keep others out: upgrade them",
    "engines_unable": "no engine is able to run it",
    "concurrency": "as many executions as its workflow allows are under way; it waits for one of them to end",
    "broken": "it was given up, and the store has yet to take its end",
}


def words(reason: str, functions: tuple[str, ...] = ()) -> str:
    """What `waiting_on` says. `functions` are the Python functions that the workflow calls, where they are known."""
    kind, _, detail = reason.partition(":")
    if kind == "no_executor":
        types = detail.split("+")
        return f"no engine has the {_listed('executor', types)}"
    if kind == "engine_away":
        return (
            f"its engine '{detail}' is not connected: it goes on there once that is back, or elsewhere when it stays "
            "away for longer than ENGINE_LOST_TIMEOUT"
        )
    if kind == "no_pool":
        return (
            f"no engine has the {_listed('pool', detail.split('+'))} (ENGINE_POOLS of an engine, or POOLS of the "
            "orchestrator for one over the whole system)"
        )
    if kind == "no_label":
        return f"no engine that could run it has the {_listed('label', detail.split('+'))} ({_labelled(detail)})"
    if kind == "engines_unable" and functions:
        flags = " ".join(_flag(name) for name in functions)
        return f"no engine has the {_listed('Python function', functions)} (dag-engine {flags})"
    return _WORDS.get(reason, reason)


def _labelled(detail: str) -> str:
    """What engines are started with to have labels."""
    labels = dict(label.split("=", 1) for label in detail.split("+"))
    pool = labels.pop("pool", None)
    others = ",".join(f"{name}={value}" for name, value in labels.items())
    variables = {"ENGINE_POOL": pool, "ENGINE_LABELS": others}
    return " ".join(f"{name}={value}" for name, value in variables.items() if value) + " of an engine"


def _flag(function: str) -> str:
    """What an engine is started with to have it: one that is named by its path is imported where that is allowed."""
    if ":" in function:
        return f"--python-allow '{function}'"
    return f"--python '{function}=module:{function.rpartition('.')[2]}'"


def _listed(noun: str, names: tuple[str, ...] | list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    if len(quoted) == 1:
        return f"{noun} {quoted[0]}"
    return f"{noun}s {', '.join(quoted[:-1])} and {quoted[-1]}"

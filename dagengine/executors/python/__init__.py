"""Python functions as nodes: synchronous ones on threads, asynchronous ones on the event loop, or both in processes.

- `executor`: the port's side. `attempt`: one call under way. `outcomes`: what a call came to.
- `catalogue`: which functions there are. `allowed`: which may be imported. `place`: where one is, and how to get it.
- `binding`: how parameters get their values. `threads`, `process`: where synchronous functions run.

Names are loaded when they are first used: worker processes need none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagengine.context import Context
    from dagengine.executors.python.binding import Binding
    from dagengine.executors.python.executor import PythonFunctions

__all__ = ["Binding", "Context", "PythonFunctions"]

_HOMES = {
    "Binding": "dagengine.executors.python.binding",
    "Context": "dagengine.context",
    "PythonFunctions": "dagengine.executors.python.executor",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)

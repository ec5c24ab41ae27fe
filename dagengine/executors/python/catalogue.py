"""The functions that `python` nodes can call: those registered by name, and those that may be imported by path.

Used by `executor`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable

from dagengine.errors import ExecutorError
from dagengine.executors.python import allowed
from dagengine.executors.python import place as places
from dagengine.executors.python.binding import Binding
from dagengine.executors.python.place import FunctionMissing, Place

__all__ = ["Catalogue"]


class Catalogue:
    """What there is, by the name that documents use. ValueError when a pattern of `allow` is none."""

    def __init__(self, allow: Iterable[str] = ()) -> None:
        self._registered: dict[str, Binding] = {}
        self._imported: dict[str, Binding] = {}
        self._allowed = allowed.Allowed(allow)

    def register(self, name: str, function: Callable[..., object]) -> None:
        """Make `function` known as `name`. Raises ExecutorError; see `PythonFunctions.register`."""
        known = self._registered.get(name)
        if known is not None and not _same(known.function, function):
            raise ExecutorError(f"another function is registered as '{name}' already")
        try:
            self._registered[name] = Binding(function)
        except (TypeError, ValueError) as error:
            raise ExecutorError(f"'{name}' cannot be called by nodes: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._registered

    def find(self, name: str) -> Binding | None:
        """The function, as far as nothing has to be imported for it; None when `load` has to be asked.

        Raises FunctionMissing when that would not help.
        """
        found = self._registered.get(name) or self._imported.get(name)
        if found is None:
            self._path(name)
        return found

    def load(self, name: str) -> Binding:
        """The function that an allowed path names. Runs its module: not for the event loop. Raises FunctionMissing."""
        function = places.load(self._path(name))
        try:
            binding = self._imported[name] = Binding(function)
        except (TypeError, ValueError) as error:
            raise FunctionMissing(f"cannot be called by nodes: {error}") from error
        return binding

    def place(self, name: str) -> Place:
        """Where a worker process finds the function; imports nothing. Raises FunctionMissing when it cannot."""
        registered = self._registered.get(name)
        return self._path(name) if registered is None else places.place_of(registered.function)

    def missing(self, name: str, *, in_process: bool) -> str | None:
        """Why the function cannot be called, as far as that can be told without running code; None when it can."""
        try:
            place = self.place(name) if in_process or name not in self._registered else None
            if place is None or not place.named:
                return None
            module = sys.modules.get(place.module)
            if module is not None and not _is_being_imported(module):
                places.find_in(module, place)
            elif not places.search(place.module):
                return f"cannot be imported: there is no module '{place.module}' here"
        except FunctionMissing as error:
            return str(error)
        return None

    def _path(self, name: str) -> Place:
        """An allowed path, taken apart. Raises FunctionMissing."""
        if not allowed.is_path(name):
            raise FunctionMissing("is not registered here")
        if name not in self._allowed:
            raise FunctionMissing(
                "is not registered here, and this engine does not allow to import it (ENGINE_PYTHON_ALLOW)"
            )
        module, _, function = name.partition(":")
        return Place(module=module, name=function, named=True)


def _is_being_imported(module: object) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _same(known: Callable[..., object], function: Callable[..., object]) -> bool:
    """Whether two functions do the same: a cell of a notebook that is run again makes an equal function anew."""
    if known == function:  # a bound method is another object each time, but equal
        return True
    if not (inspect.isfunction(known) and inspect.isfunction(function)):
        return False
    parts = ("__code__", "__defaults__", "__kwdefaults__", "__closure__", "__module__")
    return all(getattr(known, part) == getattr(function, part) for part in parts)

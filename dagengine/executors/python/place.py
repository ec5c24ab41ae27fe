"""Where a function is, and how to get it: `load` imports it, `search` only looks whether its module is there.

Used by `catalogue` in the engine, and in worker processes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec

import msgspec

__all__ = ["FunctionMissing", "Place", "find_in", "load", "place_of", "search"]


class FunctionMissing(Exception):  # noqa: N818 - the type of the failure, as journals show it
    """There is no such function, or it may not be called in this way. The message completes "the function 'f' …"."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A function by the module and the name that it was defined with.

    `named` is set when a document named it: then it has to be one that its module offers, not one that is there because
    the module has imported it.
    """

    module: str
    name: str
    named: bool = False

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def load(place: Place) -> Callable[..., object]:
    """Import the function. Runs its module, which may take its time. Raises FunctionMissing."""
    try:
        module = importlib.import_module(place.module)
    except BaseException as error:  # a module may raise anything, SystemExit included, while it is imported
        raise FunctionMissing(f"cannot be imported: {type(error).__name__}: {error}") from error
    return find_in(module, place)


def find_in(module: object, place: Place) -> Callable[..., object]:
    """The function in its module. Raises FunctionMissing."""
    found: object = module
    for part in place.name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise FunctionMissing(f"is not there: the module '{place.module}' has no function '{place.name}'")
    if place.named and not _offers(module, place, found):
        raise FunctionMissing(
            f"is not defined in '{place.module}', nor in its `__all__`: name the module that defines it"
        )
    return found


def place_of(function: Callable[..., object]) -> Place:
    """Where another process finds `function`. Raises FunctionMissing when it cannot be found by a name."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise FunctionMissing("is an object without a name, which a worker process cannot import")
    if module == "__main__":
        raise FunctionMissing(
            "is defined in the script that was started, which a worker process cannot import: move it into a module"
        )
    place = Place(module=module, name=name)
    try:
        same = find_in(sys.modules.get(module), place) == function
    except FunctionMissing:
        same = False
    if not same:
        raise FunctionMissing(
            f"is not '{name}' of the module '{module}', so that a worker process cannot import it: "
            "define it at the top of a module"
        )
    return place


def search(module: str) -> bool:
    """Whether there is such a module, without running any code of its packages: a look at folders at the most."""
    path: Sequence[str] | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        if (loaded := sys.modules.get(name)) is not None:
            path = getattr(loaded, "__path__", None)
        elif name != part and path is None:
            return module in sys.modules  # not a package, but it may have put modules there itself, as `os` does
        elif (spec := _spec(name, path)) is None:
            return False
        else:
            path = spec.submodule_search_locations
    return True


def _spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, path)) is not None:
            return spec  # type: ignore[no-any-return]  # finders are not typed; the protocol says that it is a spec
    return None


def _offers(module: object, place: Place, found: object) -> bool:
    listed = getattr(module, "__all__", ())
    return place.name in listed or getattr(found, "__module__", None) == place.module

"""Load the Python functions that the operator lets `python` nodes call."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from dagengine.errors import SettingsError

__all__ = ["load"]


def load(places: Mapping[str, str]) -> dict[str, Callable[..., object]]:
    """The function at each `package.module:function`, by the same names. SettingsError when one is not there."""
    return {name: _load(place) for name, place in places.items()}


def _load(place: str) -> Callable[..., object]:
    module_name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as exc:
        raise SettingsError(
            f"ENGINE_PYTHON_MODULES: cannot import '{module_name}': {type(exc).__name__}: {exc} "
            "(is its folder on PYTHONPATH?)"
        ) from exc
    function: object = getattr(module, attribute, None)
    if not callable(function):
        raise SettingsError(f"ENGINE_PYTHON_MODULES: the module '{module_name}' has no function '{attribute}'")
    return function

"""The inputs of an execution as the JSON that is kept of them. Called by `service`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from dagengine.errors import InputError, Problem
from dagengine.wire import limits
from orchestrator.errors import RequestError

__all__ = ["encode", "same"]

_MOST_BYTES: Final = limits.MAX_FACT_BYTES - 64 * 1024
"""Bytes of inputs that still fit the first fact of an execution, with all else that is in it."""


def encode(inputs: Mapping[str, Any], options: int = 0) -> bytes:
    """Inputs as JSON. Raises InputError when they are none, RequestError when they are too large."""
    try:
        encoded = orjson.dumps(inputs, option=options)
    except TypeError as error:
        raise InputError("the inputs are not JSON", [Problem(path="inputs", message=str(error))]) from error
    if len(encoded) > _MOST_BYTES:
        raise RequestError(
            f"the inputs take {len(encoded):,} bytes, and {_MOST_BYTES:,} are the most: keep large values elsewhere, "
            "and pass where they are",
            too_large=True,
        )
    return encoded


def same(some: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether both mean the same, in whatever order. Raises as `encode` does."""
    return encode(some, orjson.OPT_SORT_KEYS) == encode(others, orjson.OPT_SORT_KEYS)

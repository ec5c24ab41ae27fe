"""The keyword arguments of the builder's methods that add nodes, and how they become fields of a document.

All methods take those of `NodeOptions`. Used by `node_group` and `builder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from pydantic import BaseModel

from dagengine.spec.executors import BasicAuth, BearerAuth, HeaderAuth
from dagengine.spec.model import Cache, OnPartition, Retry, RunIf
from dagengine.spec.node_ref import Dependencies

__all__ = [
    "HTTPOptions",
    "LuaOptions",
    "NodeOptions",
    "PythonOptions",
    "ShellOptions",
    "Size",
    "Timeout",
    "chosen",
    "plain",
]

Timeout: TypeAlias = str | float | None
"""A text such as `5m` or `1h30m`, or a number of seconds."""

Size: TypeAlias = str | int | None
"""A text such as `64MiB`, or a number of bytes."""


class NodeOptions(TypedDict, total=False):
    """What all nodes have."""

    depends_on: Dependencies | None
    foreach: str | None
    max_parallel: int | None
    fail_after: int | None
    when: str | None
    run_if: RunIf | None
    retry: Retry | Mapping[str, object] | None
    timeout: Timeout
    total_timeout: Timeout
    pool: str | None
    weight: int | None
    rate: str | None
    cache: str | Cache | Mapping[str, object] | None
    on_partition: OnPartition | None
    name: str
    description: str


class LuaOptions(NodeOptions, total=False):
    """The keyword arguments of `Workflow.lua`."""

    memory: Size
    output: Size


class PythonOptions(NodeOptions, total=False):
    """The keyword arguments of `Workflow.python`."""

    args: Mapping[str, object] | None
    pure: bool
    isolation: str | None


class ShellOptions(NodeOptions, total=False):
    """The keyword arguments of `Workflow.shell`."""

    shell: Sequence[str] | None
    env: Mapping[str, str] | None
    secrets: Mapping[str, str] | None
    stdin: object
    output: Size


class HTTPOptions(NodeOptions, total=False):
    """The keyword arguments of `Workflow.http`."""

    method: str | None
    query: Mapping[str, object] | None
    headers: Mapping[str, str] | None
    json: object
    form: Mapping[str, str] | None
    body: str | None
    auth: BearerAuth | BasicAuth | HeaderAuth | Mapping[str, str] | None
    verify: bool
    redirects: int
    expect: Sequence[int | str] | None
    pointers: Mapping[str, str] | None
    select: str | None
    output: Size


def chosen(method: str, known: type[Any], options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of the node and those of its executor that `options` say, as a document has them.

    `known` is the TypedDict of the options that `method` takes. Raises TypeError for any other.
    """
    unknown = [name for name in options if name not in known.__annotations__]
    if unknown:
        raise TypeError(f"{method}() got an unexpected keyword argument {unknown[0]!r}")
    given = {name: plain(value) for name, value in options.items() if value is not None and name != "depends_on"}
    if isinstance(given.get("cache"), str):
        given["cache"] = {"key": given["cache"]}
    shared = NodeOptions.__annotations__
    node = {name: value for name, value in given.items() if name in shared and value != ""}
    return node, {name: value for name, value in given.items() if name not in shared}


def plain(value: Any) -> Any:
    """A model as plain values, also where it is the value of a mapping; anything else as it is."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if isinstance(value, Mapping):
        return {name: plain(item) if isinstance(item, BaseModel) else item for name, item in value.items()}
    return value

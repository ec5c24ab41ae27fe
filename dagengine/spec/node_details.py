"""Fields of a node that need or exclude each other, and the patterns of its retries. Called by `document`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from dagengine.spec.duration import format_duration, parse_duration
from dagengine.spec.outline import NodeOutline, Outline, mapping
from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import show

__all__ = ["findings"]

_NOT_WHILE_WAITING: Final = {
    "timeout": "a wait node has no attempts to time; say how long it waits with `timeout` in its signal or approval",
    "cache": "a wait node has no result worth keeping; remove it",
    "pool": "a wait node holds nothing while it waits, and takes no room in a pool; remove it",
    "weight": "a wait node holds nothing while it waits, and takes no room in a pool; remove it",
    "rate": "a wait node holds nothing while it waits, and has no rate; remove it",
    "on_partition": "a wait node has no attempts that an engine could lose; remove it",
}
_GLOB: Final = re.compile(r"[^\s\[\]{}]+")


def findings(outline: Outline) -> Iterator[Finding]:
    """What does not go together in each node."""
    for node in outline.nodes:
        for field in ("max_parallel", "fail_after"):
            if node.fields.get(field) is not None and node.fields.get("foreach") is None:
                yield Finding((*node.path, field), "is for the items of `foreach`, and this node has none")
        if node.kind == "wait":
            for field, complaint in _NOT_WHILE_WAITING.items():
                if node.fields.get(field) is not None:
                    yield Finding((*node.path, field), complaint)
        elif node.fields.get("weight") is not None and node.fields.get("pool") is None:
            yield Finding((*node.path, "weight"), "is how much room an attempt takes in its `pool`, and there is none")
        yield from _timeouts(node)
        yield from _patterns(node)


def _timeouts(node: NodeOutline) -> Iterator[Finding]:
    one, all_ = (_duration(node.fields.get(field)) for field in ("timeout", "total_timeout"))
    if one is not None and all_ is not None and all_ < one and node.kind != "wait":
        message = f"must be at least the {format_duration(one)} that one attempt may take (`timeout`)"
        yield Finding((*node.path, "total_timeout"), f"{message}, got {format_duration(all_)}")


def _duration(value: object) -> int | None:
    try:
        return parse_duration(value)
    except ValueError:
        return None  # nothing is given, or `shape` complains


def _patterns(node: NodeOutline) -> Iterator[Finding]:
    retry = mapping(node.fields.get("retry"))
    for conclusion in ("fail", "error"):
        policy = mapping(retry.get(conclusion))
        for field in ("retry_on", "stop_on"):
            patterns = policy.get(field)
            for place, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
                path: Path = (*node.path, "retry", conclusion, field, place)
                if isinstance(pattern, str) and (complaint := _pattern(pattern)):
                    yield Finding(path, complaint)


def _pattern(pattern: str) -> str:
    if not pattern:
        return "must not be empty; to mean every type, write '*'"
    if not _GLOB.fullmatch(pattern):
        words = "expected a pattern of a type of error, such as Timeout or HTTP5*; only * and ? stand for others"
        return f"{words}; got {show(pattern)}"
    return ""

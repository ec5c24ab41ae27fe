"""What can be understood of a document, however wrong the rest of it is.

The checks that look across nodes work on this, so that one broken node hides neither a cycle among the others nor an
unknown name. Made by `document` from plain values; everything that is not what it should be is simply absent here:
`shape` complains about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dagengine.spec.path import Path

__all__ = ["NodeOutline", "Outline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOutline:
    """One entry of `spec.nodes`. `index` is its position there."""

    index: int
    id: str | None
    dependencies: tuple[tuple[int, str], ...]
    foreach: str | None
    when: str | None
    code: str | None
    args: Mapping[str, object] | None

    @property
    def path(self) -> Path:
        return ("spec", "nodes", self.index)

    @property
    def title(self) -> str:
        """How a message names the node."""
        return repr(self.id) if self.id is not None else "this node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The parts of a document that other parts refer to. `inputs` is None when they cannot be understood."""

    nodes: tuple[NodeOutline, ...]
    positions: Mapping[str, int]
    inputs: Mapping[str, object] | None
    outputs: object
    cron: Mapping[str, object]
    http: Mapping[str, object]
    version: object


def outline(document: Mapping[str, object]) -> Outline:
    """The outline of plain values that are meant to be a document."""
    spec = _mapping(document.get("spec"))
    entries = spec.get("nodes")
    nodes = tuple(_node(index, entry) for index, entry in enumerate(entries if isinstance(entries, list) else ()))
    positions: dict[str, int] = {}
    for node in nodes:
        if node.id is not None:
            positions.setdefault(node.id, node.index)
    inputs = spec.get("inputs", {})
    triggers = _mapping(spec.get("triggers"))
    return Outline(
        nodes=nodes,
        positions=positions,
        inputs=inputs if isinstance(inputs, dict) else None,
        outputs=spec.get("outputs"),
        cron=_mapping(triggers.get("cron")),
        http=_mapping(triggers.get("http")),
        version=_mapping(document.get("metadata")).get("version"),
    )


def _node(index: int, entry: object) -> NodeOutline:
    fields = _mapping(entry)
    executor = _mapping(fields.get("executor"))
    dependencies = fields.get("dependencies")
    kind = executor.get("type")
    args = executor.get("args")
    return NodeOutline(
        index=index,
        id=_text(fields.get("id")),
        dependencies=tuple(
            (position, name)
            for position, name in enumerate(dependencies if isinstance(dependencies, list) else ())
            if isinstance(name, str)
        ),
        foreach=_text(fields.get("foreach")),
        when=_text(fields.get("when")),
        code=_text(executor.get("code")) if kind == "lua" else None,
        args=args if isinstance(args, dict) and kind == "python" else None,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

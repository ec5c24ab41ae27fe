"""What can be understood of a document, however wrong the rest of it is.

The checks that look across nodes work on this, so that one broken node hides neither a cycle among the others nor an
unknown name. Made by `document` from plain values; everything that is not what it should be is simply absent here:
`shape` complains about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dagengine.spec.path import Path

__all__ = ["Group", "NodeOutline", "Outline", "mapping", "outline", "text"]

Group = Literal["nodes", "on_exit"]
"""The two lists of nodes in `spec`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOutline:
    """One entry of `spec.nodes` or `spec.on_exit`. `place` is its position there, `index` that in `Outline.nodes`.

    `fields` and `executor` are what the document says, unchecked; `kind` is the type of the executor.
    """

    index: int
    group: Group
    place: int
    id: str | None
    dependencies: tuple[tuple[int, str], ...]
    kind: str | None
    fields: Mapping[str, object]
    executor: Mapping[str, object]

    @property
    def path(self) -> Path:
        return ("spec", self.group, self.place)

    @property
    def title(self) -> str:
        """How a message names the node."""
        return repr(self.id) if self.id is not None else "this node"

    @property
    def foreach(self) -> str | None:
        return text(self.fields.get("foreach"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The parts of a document that other parts refer to. `inputs` is None when they cannot be understood.

    `nodes` are those of `spec.nodes`, then those of `spec.on_exit`. `secrets` are the names in
    `configuration.secrets`, or None when they cannot be understood.
    """

    nodes: tuple[NodeOutline, ...]
    positions: Mapping[str, int]
    inputs: Mapping[str, object] | None
    outputs: object
    concurrency: Mapping[str, object]
    secrets: tuple[object, ...] | None
    cron: Mapping[str, object]
    http: Mapping[str, object]
    version: object


def outline(document: Mapping[str, object]) -> Outline:
    """The outline of plain values that are meant to be a document."""
    spec = mapping(document.get("spec"))
    nodes: list[NodeOutline] = []
    groups: tuple[Group, ...] = ("nodes", "on_exit")
    for group in groups:
        entries = spec.get(group)
        for place, entry in enumerate(entries if isinstance(entries, list) else ()):
            nodes.append(_node(len(nodes), group, place, mapping(entry)))
    positions: dict[str, int] = {}
    for node in nodes:
        if node.id is not None:
            positions.setdefault(node.id, node.index)
    inputs = spec.get("inputs", {})
    triggers = mapping(spec.get("triggers"))
    secrets = mapping(spec.get("configuration")).get("secrets", [])
    return Outline(
        nodes=tuple(nodes),
        positions=positions,
        inputs=inputs if isinstance(inputs, dict) else None,
        outputs=spec.get("outputs"),
        concurrency=mapping(spec.get("concurrency")),
        secrets=tuple(secrets) if isinstance(secrets, list) else None,
        cron=mapping(triggers.get("cron")),
        http=mapping(triggers.get("http")),
        version=mapping(document.get("metadata")).get("version"),
    )


def _node(index: int, group: Group, place: int, fields: Mapping[str, object]) -> NodeOutline:
    executor = mapping(fields.get("executor"))
    dependencies = fields.get("dependencies")
    return NodeOutline(
        index=index,
        group=group,
        place=place,
        id=text(fields.get("id")),
        dependencies=tuple(
            (position, name)
            for position, name in enumerate(dependencies if isinstance(dependencies, list) else ())
            if isinstance(name, str)
        ),
        kind=text(executor.get("type")),
        fields=fields,
        executor=executor,
    )


def mapping(value: object) -> Mapping[str, object]:
    """`value` where it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str | None:
    """`value` where it is a text with something in it, else None."""
    return value if isinstance(value, str) and value else None

"""Where a document holds Lua: every chunk, expression and template, with its path and what it is there for.

One list for all who read the Lua of a document: `scope` (does what it mentions exist) and the check of the Lua executor
(is it Lua at all), so that neither knows a place that the other has forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from dagengine.spec.outline import NodeOutline, Outline, mapping, text
from dagengine.spec.path import Path

__all__ = ["Form", "Passage", "Role", "passages"]

Form = Literal["chunk", "expression", "template"]
Role = Literal["foreach", "when", "code", "args", "cache", "select", "outputs", "concurrency"]

_TEMPLATES: Final[Mapping[str, tuple[Path, ...]]] = {
    "python": (("args",),),
    "shell": (("env",), ("stdin",)),
    "http": (("url",), ("query",), ("headers",), ("json",), ("form",), ("body",)),
    "wait": (("until",), ("signal", "name")),
}
"""The fields of each type of executor whose texts may hold templates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A text with Lua in it. `node` is the one it belongs to; outputs and the key of `concurrency` belong to none."""

    path: Path
    text: str
    form: Form
    role: Role
    node: NodeOutline | None = None


def passages(outline: Outline) -> Iterator[Passage]:
    """All Lua of a document, in its order."""
    for node in outline.nodes:
        yield from _of_node(node)
    for path, found in _texts(outline.outputs, ("spec", "outputs")):
        yield Passage(path=path, text=found, form="template", role="outputs")
    for path, found in _texts(outline.concurrency.get("key"), ("spec", "concurrency", "key")):
        yield Passage(path=path, text=found, form="template", role="concurrency")


def _of_node(node: NodeOutline) -> Iterator[Passage]:
    roles: tuple[Literal["foreach", "when"], ...] = ("foreach", "when")
    for role in roles:
        if (code := text(node.fields.get(role))) is not None:
            yield Passage(path=(*node.path, role), text=code, form="expression", role=role, node=node)
    key: Path = (*node.path, "cache", "key")
    for path, found in _texts(mapping(node.fields.get("cache")).get("key"), key):
        yield Passage(path=path, text=found, form="template", role="cache", node=node)
    where = (*node.path, "executor")
    if node.kind == "lua" and (code := text(node.executor.get("code"))) is not None:
        yield Passage(path=(*where, "code"), text=code, form="chunk", role="code", node=node)
    for steps in _TEMPLATES.get(node.kind or "", ()):
        for path, found in _texts(_at(node.executor, steps), (*where, *steps)):
            yield Passage(path=path, text=found, form="template", role="args", node=node)
    if node.kind == "http" and (code := text(node.executor.get("select"))) is not None:
        yield Passage(path=(*where, "select"), text=code, form="expression", role="select", node=node)


def _at(value: object, steps: Path) -> object:
    for step in steps:
        value = mapping(value).get(str(step))
    return value


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """The texts in a JSON value, with their paths."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str):
        yield path, value

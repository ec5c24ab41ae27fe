"""Whether everything that the Lua of a document mentions is there when it is read.

Looks at `when`, `foreach`, the code of Lua nodes and every `{{ }}` template. A node may read the results of the nodes
upstream of it and nothing else: anything else may or may not have run by then. Called by `document`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from dagengine.errors import SpecError
from dagengine.spec import expression, lua_tokens
from dagengine.spec.expression import Mention, References
from dagengine.spec.lua_tokens import RESERVED
from dagengine.spec.outline import NodeOutline, Outline
from dagengine.spec.path import Finding, Path
from dagengine.spec.suggestion import Suggestions
from dagengine.spec.topology import Upstream

__all__ = ["findings"]

_ITEM_NEEDS_FOREACH: Final = "is there only in a node with `foreach`"
_WHEN_COMES_FIRST: Final = "is not there yet: `when` is decided once for the node, before `foreach`"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """One mention of a node that exists, to be checked against the order in which nodes run."""

    node: NodeOutline
    other: int
    path: Path
    message: str


def findings(outline: Outline) -> list[Finding]:
    """Every mention of what is not there."""
    return _Check(outline).run()


class _Check:
    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._nodes = Suggestions(outline.positions)
        self._inputs = Suggestions(outline.inputs or ())
        self._findings: list[Finding] = []
        self._uses: list[_Use] = []

    def run(self) -> list[Finding]:
        for node in self._outline.nodes:
            self._node(node)
        for path, code in self._templates(self._outline.outputs, ("spec", "outputs")):
            refers = expression.references(code)
            self._mentions(refers, None, path, multiline=False)
            self._item(refers, path, _ITEM_NEEDS_FOREACH)
        missing = Upstream(self._outline).missing([(use.node.index, use.other) for use in self._uses])
        self._findings.extend(
            Finding(use.path, use.message) for use in self._uses if (use.node.index, use.other) in missing
        )
        return self._findings

    def _node(self, node: NodeOutline) -> None:
        if node.foreach is not None:
            path = (*node.path, "foreach")
            refers = self._code(node.foreach, node, path)
            self._item(refers, path, "is not there yet: `foreach` makes it")
        if node.when is not None:
            path = (*node.path, "when")
            refers = self._code(node.when, node, path)
            early = _ITEM_NEEDS_FOREACH if node.foreach is None else _WHEN_COMES_FIRST
            self._item(refers, path, early)
        if node.code is not None:
            self._code(node.code, node, (*node.path, "executor", "code"))
        if node.args is not None:
            for path, code in self._templates(node.args, (*node.path, "executor", "args")):
                refers = self._code(code, node, path)
                if node.foreach is None:
                    self._item(refers, path, _ITEM_NEEDS_FOREACH)

    def _code(self, code: str, node: NodeOutline, path: Path) -> References:
        refers = expression.references(code)
        self._mentions(refers, node, path, multiline="\n" in code.strip("\n"))
        return refers

    def _templates(self, value: object, path: Path) -> Iterator[tuple[Path, str]]:
        """The path and the code of every expression in the texts of a JSON value."""
        if isinstance(value, dict):
            for key, item in value.items():
                yield from self._templates(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self._templates(item, (*path, index))
        elif isinstance(value, str):
            try:
                parts = expression.parse_template(value)
            except SpecError as exc:
                self._findings.append(Finding(path, exc.summary))
                return
            for part in parts:
                if isinstance(part, expression.Code):
                    yield path, part.source

    def _item(self, refers: References, path: Path, complaint: str) -> None:
        for name, used in (("item", refers.item), ("index", refers.index)):
            if used:
                self._findings.append(Finding(path, f"`{name}` {complaint}"))

    def _mentions(self, refers: References, node: NodeOutline | None, path: Path, *, multiline: bool) -> None:
        seen: set[tuple[str, str, str]] = set()
        for mention in refers.mentions:
            if (key := (mention.root, mention.name, mention.joined)) in seen:
                continue
            seen.add(key)
            line = f" (line {mention.line} of the code)" if multiline else ""
            is_input = mention.root == "inputs"
            complaint = self._input(mention) if is_input else self._result(mention, node, path, line)
            if complaint:
                self._findings.append(Finding(path, complaint + line))

    def _input(self, mention: Mention) -> str:
        known = self._outline.inputs
        if not known:
            return ""
        if misread := _misread(mention, known.keys()):
            return misread
        if mention.name in known:
            return ""
        return f"unknown input {mention.name!r}{self._inputs.hint(mention.joined or mention.name)}"

    def _result(self, mention: Mention, node: NodeOutline | None, path: Path, line: str) -> str:
        positions = self._outline.positions
        if misread := _misread(mention, positions.keys()):
            return misread
        other = positions.get(mention.name)
        if other is None:
            return f"unknown node {mention.name!r}{self._nodes.hint(mention.joined or mention.name)}"
        if node is None:
            return ""
        if any(name not in positions for _, name in node.dependencies):
            return ""  # one of them is misspelt, and it may well be this one
        if other == node.index:
            return f"{mention.name!r} reads its own result, which is not there before it ends"
        message = f"{mention.name!r} is not upstream of {node.title}: add it to dependencies{line}"
        self._uses.append(_Use(node=node, other=other, path=path, message=message))
        return ""


def _misread(mention: Mention, known: Collection[str]) -> str:
    """What to write instead, where Lua does not read the name that was probably meant."""
    root, meant = mention.root, mention.joined
    while meant and meant not in known:
        meant = meant.rpartition("-")[0]
    if mention.joined and mention.name in RESERVED and "-" not in meant:
        return f'{mention.name!r} is a reserved word in Lua; write {root}["{mention.name}"]'
    if not meant or lua_tokens.is_name(meant):
        return ""
    kind = "a subtraction in Lua" if "-" in meant else "not Lua"
    return f'{root}.{meant} is {kind}; write {root}["{meant}"]'

"""Whether everything that the Lua of a document mentions is there when it is read.

Looks at all of `passages`. A node may read the results of the nodes upstream of it and nothing else: anything else may
or may not have run by then. The nodes of `on_exit` come after all others, and may read the results of all of those.
Called by `document`.
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
from dagengine.spec.passages import Passage, passages
from dagengine.spec.path import Finding
from dagengine.spec.suggestion import Suggestions
from dagengine.spec.topology import Upstream

__all__ = ["findings"]

_OF_AN_ITEM: Final = ("item", "index", "key")
_NEEDS_FOREACH: Final = "is there only in a node with `foreach`"
_FOREACH_MAKES_IT: Final = "is not there yet: `foreach` makes it"
_WHEN_COMES_FIRST: Final = "is not there yet: `when` is decided once for the node, before `foreach`"
_ONLY_AT_THE_END: Final = "is there only in the nodes of spec.on_exit"
_ONLY_IN_SELECT: Final = "is there only in the `select` of an http node"
_ONLY_INPUTS: Final = "is not there yet: the key is made before anything runs, of inputs alone"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """One mention of a node that exists, to be checked against the order in which nodes run."""

    passage: Passage
    node: NodeOutline
    other: int
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
        for passage in passages(self._outline):
            for code in self._codes(passage):
                refers = expression.references(code)
                self._mentions(refers, passage, multiline="\n" in code.strip("\n"))
                if passage.form != "chunk":  # where such a name may be one that the chunk gave to something else
                    self._values(refers, passage)
        missing = Upstream(self._outline).missing([(use.node.index, use.other) for use in self._uses])
        self._findings.extend(
            Finding(use.passage.path, use.message) for use in self._uses if (use.node.index, use.other) in missing
        )
        return self._findings

    def _codes(self, passage: Passage) -> Iterator[str]:
        """The code of a passage; of a template that of each expression."""
        if passage.form != "template":
            yield passage.text
            return
        try:
            parts = expression.parse_template(passage.text)
        except SpecError as exc:
            self._findings.append(Finding(passage.path, exc.summary))
            return
        yield from (part.source for part in parts if isinstance(part, expression.Code))

    def _values(self, refers: References, passage: Passage) -> None:
        """Names that are there in some places only."""
        if passage.role == "concurrency":
            used = [name for name in (*_OF_AN_ITEM, "execution", "response") if getattr(refers, name)]
            if refers.nodes or refers.dynamic_nodes:
                used.append("nodes")
            self._findings.extend(Finding(passage.path, f"`{name}` {_ONLY_INPUTS}") for name in used)
            return
        complaints = dict.fromkeys(_OF_AN_ITEM, _early(passage))
        complaints["execution"] = "" if passage.node and passage.node.group == "on_exit" else _ONLY_AT_THE_END
        complaints["response"] = "" if passage.role == "select" else _ONLY_IN_SELECT
        for name, complaint in complaints.items():
            if complaint and getattr(refers, name):
                self._findings.append(Finding(passage.path, f"`{name}` {complaint}"))

    def _mentions(self, refers: References, passage: Passage, *, multiline: bool) -> None:
        seen: set[tuple[str, str, str]] = set()
        mentions = refers.mentions
        if passage.role == "concurrency":
            mentions = tuple(mention for mention in mentions if mention.root == "inputs")
        for mention in mentions:
            if (key := (mention.root, mention.name, mention.joined)) in seen:
                continue
            seen.add(key)
            line = f" (line {mention.line} of the code)" if multiline else ""
            is_input = mention.root == "inputs"
            complaint = self._input(mention) if is_input else self._result(mention, passage, line)
            if complaint:
                self._findings.append(Finding(passage.path, complaint + line))

    def _input(self, mention: Mention) -> str:
        known = self._outline.inputs
        if not known:
            return ""
        if misread := _misread(mention, known.keys()):
            return misread
        if mention.name in known:
            return ""
        return f"unknown input {mention.name!r}{self._inputs.hint(mention.joined or mention.name)}"

    def _result(self, mention: Mention, passage: Passage, line: str) -> str:
        positions = self._outline.positions
        if misread := _misread(mention, positions.keys()):
            return misread
        at, node = positions.get(mention.name), passage.node
        if at is None:
            return f"unknown node {mention.name!r}{self._nodes.hint(mention.joined or mention.name)}"
        other = self._outline.nodes[at]
        if node is None:
            late = other.group == "on_exit"
            return f"{mention.name!r} runs at the end (spec.on_exit), after the outputs are made" if late else ""
        if any(name not in positions for _, name in node.dependencies):
            return ""  # one of them is misspelt, and it may well be this one
        if other.group != node.group:
            late = other.group == "on_exit"
            return f"{mention.name!r} runs at the end (spec.on_exit), after all of spec.nodes" if late else ""
        if at == node.index:
            return f"{mention.name!r} reads its own result, which is not there before it ends"
        message = f"{mention.name!r} is not upstream of {node.title}: add it to dependencies{line}"
        self._uses.append(_Use(passage=passage, node=node, other=at, message=message))
        return ""


def _early(passage: Passage) -> str:
    """Why the element of a `foreach` is not there; empty where it is."""
    if passage.role == "foreach":
        return _FOREACH_MAKES_IT
    if passage.node is None or passage.node.foreach is None:
        return _NEEDS_FOREACH
    return _WHEN_COMES_FIRST if passage.role == "when" else ""


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

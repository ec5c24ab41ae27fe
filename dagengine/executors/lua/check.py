"""The Lua of a document: syntax errors, and names that are certainly wrong, each with its path.

The door calls it for a document that is otherwise right, and merges what it finds into the `SpecError`. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from dagengine.errors import Problem, SpecError
from dagengine.events.facts import ErrorInfo
from dagengine.executors.lua import names, runtime, template
from dagengine.spec import model, outline, passages
from dagengine.spec import path as paths

__all__ = ["check"]

_GIVEN: Final = {"select": frozenset({"response"})}
"""More names in scope, by what an expression is there for."""


def check(document: model.Document) -> Iterable[Problem]:
    """Everything that is wrong with the Lua of `document`, in document order; a message names the line in the code."""
    return _Check().document(document)


class _Check:
    """One pass over a document. Code that occurs many times is looked at once."""

    def __init__(self) -> None:
        self._runtime: runtime.Runtime | None = None
        self._seen: dict[tuple[str, bool], ErrorInfo | None] = {}
        self._unknown: dict[tuple[str, frozenset[str], bool], list[names.Unknown]] = {}

    def document(self, document: model.Document) -> Iterator[Problem]:
        for passage in passages.passages(outline.outline(document.to_dict())):
            if passage.form == "template":
                yield from self._text(passage.text, passage.path)
                continue
            expression = passage.form == "expression"
            known = names.EXPRESSION | _GIVEN.get(passage.role, frozenset()) if expression else names.SCRIPT
            yield from self._code(passage.text, passage.path, known, expression=expression)
        for name, code in document.spec.modules.items():
            yield from self._code(code, ("spec", "modules", name), names.MODULE, expression=False)

    def _code(self, code: str, path: paths.Path, known: frozenset[str], *, expression: bool) -> Iterator[Problem]:
        where = paths.format_path(path)
        error = self._error(code, expression=expression)
        if error is not None:
            line = f"line {error.line}: " if error.line else ""
            yield Problem(path=where, message=f"not valid Lua: {line}{error.message}")
            return
        for found in self._names(code, known, expression=expression):
            line = f"line {found.line}: " if "\n" in code.strip() else ""
            yield Problem(path=where, message=f"{line}{found.message}")

    def _text(self, text: str, path: paths.Path) -> Iterator[Problem]:
        try:
            placed = template.expressions(text)
        except SpecError as exc:
            yield Problem(path=paths.format_path(path), message=exc.summary)
            return
        for piece in placed:
            error = self._error(piece.code, expression=True)
            if error is not None:
                message = f"not valid Lua in {{{{ {piece.code} }}}}: {error.message}"
                yield Problem(path=paths.format_path(path), message=message)
                continue
            for found in self._names(piece.code, names.EXPRESSION, expression=True):
                yield Problem(path=paths.format_path(path), message=f"{found.message} in {{{{ {piece.code} }}}}")

    def _names(self, code: str, known: frozenset[str], *, expression: bool) -> list[names.Unknown]:
        key = (code, known, expression)
        if key not in self._unknown:
            self._unknown[key] = names.unknown(code, known, expression=expression)
        return self._unknown[key]

    def _error(self, code: str, *, expression: bool) -> ErrorInfo | None:
        key = (code, expression)
        if key not in self._seen:
            if self._runtime is None:
                self._runtime = runtime.Runtime()
            self._seen[key] = self._runtime.syntax_error(code, expression=expression)
        return self._seen[key]

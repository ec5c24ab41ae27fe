"""Syntax errors of a document: the code of Lua nodes, `when`, `foreach` and templates, each with its path.

The door calls it for a document that is otherwise right, and merges what it finds into the `SpecError`. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dagengine.errors import Problem, SpecError
from dagengine.events.facts import ErrorInfo
from dagengine.executors.lua import runtime, template
from dagengine.spec import model
from dagengine.spec import path as paths

__all__ = ["check"]


def check(document: model.Document) -> Iterable[Problem]:
    """Every syntax error in the Lua of `document`, in document order; a message names the line within the code."""
    return _Check().document(document)


class _Check:
    """One pass over a document. Code that occurs many times is compiled once."""

    def __init__(self) -> None:
        self._runtime: runtime.Runtime | None = None
        self._seen: dict[tuple[str, bool], ErrorInfo | None] = {}

    def document(self, document: model.Document) -> Iterator[Problem]:
        for position, node in enumerate(document.spec.nodes):
            where: paths.Path = ("spec", "nodes", position)
            for name, code in (("foreach", node.foreach), ("when", node.when)):
                if code is not None:
                    yield from self._code(code, (*where, name), expression=True)
            executor = node.executor
            if isinstance(executor, model.LuaExecutor):
                yield from self._code(executor.code, (*where, "executor", "code"), expression=False)
            else:
                yield from self._template(executor.args, (*where, "executor", "args"))
        yield from self._template(document.spec.outputs, ("spec", "outputs"))

    def _code(self, code: str, path: paths.Path, *, expression: bool) -> Iterator[Problem]:
        error = self._error(code, expression=expression)
        if error is not None:
            line = f"line {error.line}: " if error.line else ""
            yield Problem(path=paths.format_path(path), message=f"not valid Lua: {line}{error.message}")

    def _template(self, value: object, path: paths.Path) -> Iterator[Problem]:
        if isinstance(value, str):
            yield from self._text(value, path)
        elif isinstance(value, dict):
            for key, inner in value.items():
                yield from self._template(inner, (*path, key))
        elif isinstance(value, list | tuple):
            for position, inner in enumerate(value):
                yield from self._template(inner, (*path, position))

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

    def _error(self, code: str, *, expression: bool) -> ErrorInfo | None:
        key = (code, expression)
        if key not in self._seen:
            if self._runtime is None:
                self._runtime = runtime.Runtime()
            self._seen[key] = self._runtime.syntax_error(code, expression=expression)
        return self._seen[key]

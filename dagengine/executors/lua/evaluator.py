"""Expressions (`when`, `foreach`) and `{{ }}` templates: the same sandbox, without log, randomness, time or coroutines.

The driver asks for every `Evaluate` command. `LuaEvaluator` answers at once, on the caller's thread: for embedding.
`aside.EvaluatorAside` has one on a thread of its own: for servers, whose loop must not wait for anybody's expression.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from dagengine.errors import SpecError
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua import template as templates
from dagengine.executors.lua.cache import Generations
from dagengine.executors.lua.chunk import Chunk
from dagengine.spec import path as paths

__all__ = ["LuaEvaluator"]

DEFAULT_TIMEOUT: Final = 1_000_000
"""Microseconds that one evaluation may take."""

Given = Mapping[str, base.Value]

_NOTHING: Final[Given] = MappingProxyType({})
_CACHED: Final = 4096
_SHOWN: Final = 120


class _Compiled(NamedTuple):
    """A template that can be evaluated: `chunk` is None when it is `constant`."""

    chunk: Chunk | None
    constant: bytes
    layout: templates.Layout
    alone: bool


class LuaEvaluator:
    """Implements `base.Evaluator`, answering at once. Used by one thread.

    `timeout` is in microseconds, `max_memory` and `max_output` in bytes.
    """

    def __init__(
        self,
        *,
        max_memory: int = runtime.DEFAULT_MAX_MEMORY,
        max_output: int = runtime.DEFAULT_MAX_OUTPUT,
        timeout: int = DEFAULT_TIMEOUT,
    ) -> None:
        self._max_memory = max_memory
        self._max_output = max_output
        self._timeout = timeout
        self._runtime: runtime.Runtime | None = None
        self._expressions: Generations[str, _Compiled | ErrorInfo] = Generations(_CACHED)
        self._templates: Generations[bytes, _Compiled | ErrorInfo] = Generations(_CACHED)

    def ask(self, question: base.Question, answer: base.Answer) -> None:
        """Answer before returning."""
        answer(self.evaluate(question))

    def forget(self, execution: str) -> None:
        """Nothing waits here."""

    async def close(self) -> None:
        """Drop the runtime."""
        self._discard()

    def evaluate(self, question: base.Question) -> base.Evaluation:
        """The answer to a question."""
        if question.code is not None:
            return self.expression(question.code, question.scope, question.given)
        return self.template(question.template, question.scope, question.given)

    def stop(self) -> None:
        """Stop the evaluation that is under way, on whatever thread."""
        lua = self._runtime
        if lua is not None:
            lua.stop()

    def expression(self, code: str, scope: base.Scope, given: Given = _NOTHING) -> base.Evaluation:
        """The JSON value of the Lua expression `code`; nil is null. `given` are more names in scope."""
        compiled = self._expressions.get(code)
        if compiled is None:
            self._expressions.rotate()
            whole = templates.Placed(code, (), False)
            parts = [code.encode("utf-8", "surrogatepass")]
            compiled = self._compile(templates.Layout(b"j", parts, {0: whole}), alone=True)
            self._expressions.put(code, compiled)
        return self._evaluate(compiled, scope, given)

    def template(self, template: object, scope: base.Scope, given: Given = _NOTHING) -> base.Evaluation:
        """The JSON value of `template`, any JSON value whose texts may hold `{{ }}`; `given` as for `expression`."""
        try:
            key = msgspec.json.encode(template)
        except (TypeError, ValueError, RecursionError) as exc:
            return base.Evaluation(error=ErrorInfo(type="TemplateError", message=f"the template is not JSON: {exc}"))
        compiled = self._templates.get(key)
        if compiled is None:
            self._templates.rotate()
            compiled = self._compiled_template(template, key)
            self._templates.put(key, compiled)
        return self._evaluate(compiled, scope, given)

    def _compiled_template(self, value: object, key: bytes) -> _Compiled | ErrorInfo:
        if b"{{" not in key:
            return _Compiled(None, key, templates.Layout(b"l", [key], {}), False)
        try:
            layout = templates.layout(value)
        except SpecError as exc:
            return ErrorInfo(type="TemplateError", message=exc.summary)
        return self._compile(layout, alone=False)

    def _compile(self, layout: templates.Layout, *, alone: bool) -> _Compiled | ErrorInfo:
        if not layout.placed:
            return _Compiled(None, b"".join(layout.parts), layout, alone)
        codes = [placed.code for placed in layout.placed.values()]
        made = self._ready().template(layout.modes, layout.parts, codes)
        if isinstance(made, Chunk):
            return _Compiled(made, b"", layout, alone)
        error, position = made
        return _located(error, _Compiled(None, b"", layout, alone), position)

    def _evaluate(self, compiled: _Compiled | ErrorInfo, scope: base.Scope, given: Given) -> base.Evaluation:
        if isinstance(compiled, ErrorInfo):
            return base.Evaluation(error=compiled)
        if compiled.chunk is None:
            return base.Evaluation(value=compiled.constant)
        lua = self._ready()
        result = lua.run(compiled.chunk, scope, timeout=self._timeout, given=given)
        if isinstance(result, bytes):
            if len(result) <= self._max_output:
                return base.Evaluation(value=result)
            message = f"the value is bigger than {self._max_output} bytes of JSON"
            return base.Evaluation(error=ErrorInfo(type="ResultError", message=message))
        error = _located(result, compiled, lua.position())
        if lua.broken:
            self._discard()
        return base.Evaluation(error=error)

    def _ready(self) -> runtime.Runtime:
        if self._runtime is None:
            self._runtime = runtime.Runtime(max_memory=self._max_memory, max_output=self._max_output)
        return self._runtime

    def _discard(self) -> None:
        """Drop the runtime, and with it everything that was compiled for it."""
        self._runtime = None
        self._expressions = Generations(_CACHED)
        self._templates = Generations(_CACHED)


def _located(error: ErrorInfo, compiled: _Compiled, position: int) -> ErrorInfo:
    """The error, with its line within the expression, and with the expression of the template that it comes from."""
    placed = compiled.layout.placed.get(position)
    if placed is None:
        return error
    line = min(error.line, runtime.lines_of(placed.code))
    if compiled.alone:
        return msgspec.structs.replace(error, line=line)
    code = placed.code if len(placed.code) <= _SHOWN else placed.code[:_SHOWN] + "…"
    where = f" at {paths.format_path(placed.path)}" if placed.path else ""
    return msgspec.structs.replace(error, line=line, message=f"{error.message} (in {{{{ {code} }}}}{where})")

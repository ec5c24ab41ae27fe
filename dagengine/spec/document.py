"""Reading a workflow document: text or values in, a checked `Document` out, or every problem at once.

This is the door of the engine's and the orchestrator's trust: what comes out of here is well-formed, acyclic and refers
only to what exists. Both forms of a document come in here: the plain one, and that of Kubernetes objects (`manifest`).
The rooms that do the checking know nothing of each other; here their findings are put together, given lines, and raised
as one `errors.SpecError`. Called by the registry, the command line, the builder and tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError

from dagengine.errors import Problem, SpecError
from dagengine.spec import (
    details,
    executor_details,
    input_schema,
    manifest,
    node_details,
    older_spelling,
    outline,
    scope,
    shape,
    text,
    topology,
)
from dagengine.spec.model import Document
from dagengine.spec.outline import Outline
from dagengine.spec.path import Finding, Path, format_path, parse_path
from dagengine.spec.plain import describe, plain
from dagengine.spec.source import FatalError, Source

__all__ = ["Check", "error", "from_canonical", "from_dict", "read"]

Check = Callable[[Document], Iterable[Problem]]
"""A check that another layer adds (is the Lua code Lua, can the cron schedule be read).

It gives problems with paths; lines are looked up here. Where other parts of the document are wrong it may see harmless
stand-ins in their place; what it says about those is dropped.
"""


def read(content: str | bytes, *, source: str = "", checks: Sequence[Check] = ()) -> Document:
    """The document that a YAML or JSON text holds. `source` (a file name, say) is named in the error.

    Raises SpecError with every problem, each with its path, line and column.
    """
    try:
        parsed = text.parse(content)
    except FatalError as exc:
        raise error(source, [exc.problem]) from exc.__cause__
    return _checked(parsed, source, checks)


def from_dict(value: object, *, source: str = "", checks: Sequence[Check] = ()) -> Document:
    """The document that plain values (a decoded JSON body, what the builder made) hold. They are copied.

    Raises SpecError with every problem, each with its path; lines and columns are 0.
    """
    copied, findings = plain(value)
    return _checked(Source(value=copied, findings=findings), source, checks)


def from_canonical(data: bytes) -> Document:
    """The document whose `canonical` form `data` is. Checks its shape only: it was checked when it came in.

    For stores and sessions, which carry documents that a registry accepted. Raises SpecError when it is not one.
    """
    try:
        return Document.model_validate_json(data)
    except ValidationError as exc:
        raise SpecError("these bytes are not a workflow document in canonical form") from exc


def _checked(parsed: Source, source: str, checks: Sequence[Check]) -> Document:
    if not isinstance(parsed.value, dict):
        message = f"expected a workflow document (a mapping), got {describe(parsed.value)}{_path_hint(parsed.value)}"
        line, column = parsed.locate(())
        known = [*parsed.problems, *_problems(parsed, parsed.findings)]
        raise error(source, known or [Problem(line=line, column=column, message=message)])
    form = manifest.understood(parsed.value)
    value, outdated = older_spelling.modernized(form.value)
    document, misshapen = shape.validated(value)
    sketch = outline.outline(value)
    broken = [*outdated, *misshapen]
    across = _across(sketch, parsed)
    problems = list(parsed.problems)
    covered = {problem.path for problem in problems}
    found = [*parsed.findings, *form.findings, *map(form.told, [*broken, *across])]
    problems += [p for p in _problems(parsed, found) if p.path not in covered]
    stand_in = document or (shape.repaired(value, [*parsed.findings, *broken]) if checks else None)
    if stand_in is not None:
        problems += _extra(stand_in, checks, parsed, form, {problem.path for problem in problems})
    if problems or document is None:
        raise error(source, list(dict.fromkeys(problems)))
    return document


def _across(sketch: Outline, parsed: Source) -> list[Finding]:
    """What is wrong between the parts of the document."""
    found = [*topology.findings(sketch, lambda path: _where(parsed, path)), *details.findings(sketch)]
    found += [*node_details.findings(sketch), *executor_details.findings(sketch), *scope.findings(sketch)]
    if sketch.inputs:
        path: Path = ("spec", "inputs")
        wrong, validators = input_schema.findings(sketch.inputs, path)
        found += wrong
        if sketch.cron:
            given = sketch.cron.get("inputs", {})
            found += input_schema.misfits(given, sketch.inputs, validators, ("spec", "triggers", "cron", "inputs"))
    return found


def _extra(
    document: Document, checks: Sequence[Check], parsed: Source, form: manifest.Form, wrong: set[str]
) -> list[Problem]:
    """The problems that `checks` find, with lines, but for parts already known to be wrong."""
    found = []
    for check in checks:
        for problem in check(document):
            path = form.where(parse_path(problem.path))
            if any(format_path(path[:length]) in wrong for length in range(1, len(path) + 1)):
                continue
            line, column = (problem.line, problem.column) if problem.line else parsed.locate(path)
            message = problem.message + (_comment_hint(parsed, path) if problem.message.endswith("near <eof>") else "")
            found.append(
                Problem(
                    line=line,
                    column=column,
                    path=format_path(path) if form.is_object else problem.path,
                    message=message,
                )
            )
    return found


def _path_hint(value: object) -> str:
    """For a text where a document was expected, and which is more likely the name of one."""
    if isinstance(value, str) and re.fullmatch(r"[^\s{}]{1,255}(\.ya?ml|\.json)|[^\s{}]{0,255}/[^\s{}]{1,255}", value):
        return f"; to read a file, give its text, or in Python pathlib.Path({value!r})"
    return ""


def _comment_hint(parsed: Source, path: Path) -> str:
    """For code that ends too early: YAML has taken the rest of the line for a comment, perhaps."""
    value = parsed.value
    for step in path:
        value = value[step] if isinstance(value, dict | list) else None  # type: ignore[index]  # a path that was found
    line, _ = parsed.locate(path)
    lines = parsed.text.split("\n")
    if isinstance(value, str) and 0 < line <= len(lines):
        _, code, rest = lines[line - 1].partition(value)
        if code and re.match(r"[ \t]+#", rest):
            return "; ' #' begins a comment in YAML: put the code in quotes, or write it as a block with |"
    return ""


def _problems(parsed: Source, findings: Iterable[Finding]) -> list[Problem]:
    located = []
    for path, message in findings:
        line, column = parsed.locate(path)
        located.append(Problem(line=line, column=column, path=format_path(path), message=message))
    return located


def _where(parsed: Source, path: Path) -> str:
    line, _ = parsed.locate(path)
    return f"on line {line}" if line else f"at {format_path(path)}"


def error(source: str, problems: Sequence[Problem], *, omitted: int = 0) -> SpecError:
    """The error that carries `problems`; `source` says what they are the problems of. `omitted` more are counted."""
    number = len(problems) + omitted
    count = "1 problem" if number == 1 else f"{number:,} problems"
    return SpecError(f"{source or 'the workflow document'} has {count}", problems, omitted=omitted)

"""Inputs as they are typed: `-i limit=5`, `-i data=@weather.csv`, `--inputs-file inputs.yaml`.

What a value is follows from the workflow's own declaration: where it declares a text, `007` stays a text; everywhere
else a value is JSON if it can be read as such. Whether the inputs fit is checked where they are used, not here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagengine import errors
from orchestrator.cli import failures

__all__ = ["gather", "value"]

MAX_FILE = 64 * 1024 * 1024
"""Longest file of inputs, in bytes."""


def gather(pairs: Sequence[str], inputs_file: str | None, declared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All inputs of one execution. `declared` is `spec.inputs` of the workflow.

    Raises InputError with every pair and file that cannot be used.
    """
    values = _from_file(inputs_file) if inputs_file is not None else {}
    problems: list[errors.Problem] = []
    typed: set[str] = set()
    for pair in pairs:
        name, equals, given = pair.partition("=")
        if not equals or not name:
            problems.append(errors.Problem(message=f"-i {pair}: expected NAME=VALUE, NAME=@FILE or NAME=@-"))
            continue
        if name in typed:
            problems.append(errors.Problem(path=name, message="given twice with -i: which value holds?"))
            continue
        typed.add(name)
        try:
            values[name] = _value(given, as_text=_is_text(declared.get(name, {})), what=f"-i {name}")
        except _UnreadableError as exc:
            problems.append(errors.Problem(path=name, message=str(exc)))
    if problems:
        raise errors.InputError("the inputs cannot be read:", problems)
    return values


def value(option: str, given: str) -> Any:
    """One JSON value as it is typed: JSON if it can be read as such, else text; `@FILE`, `@-`. Raises InputError."""
    try:
        return _value(given, as_text=False, what=option)
    except _UnreadableError as exc:
        raise errors.InputError(f"{option}: {exc}") from exc


class _UnreadableError(Exception):
    """A file of inputs cannot be used."""


def _is_text(schema: Mapping[str, Any]) -> bool:
    """Whether an input accepts nothing but a text."""
    if "type" in schema:
        return schema["type"] in ("string", ["string"])
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return bool(choices) and all(isinstance(choice, str) for choice in choices)


def _value(given: str, *, as_text: bool, what: str) -> Any:
    if given.startswith("@@"):
        return given[1:]
    if not given.startswith("@"):
        return given if as_text else _json_or_text(given, what)
    text = _read(given[1:])
    if as_text or not given.endswith(".json"):
        return text
    try:
        return json.loads(text, parse_constant=_not_json)
    except ValueError as exc:
        raise _UnreadableError(f"{given[1:]} is not JSON: {exc}") from exc


def _json_or_text(given: str, what: str) -> Any:
    try:
        return json.loads(given, parse_constant=_not_json)
    except ValueError as exc:
        if given.lstrip().startswith(("{", "[")):
            failures.complain(f"{what} is taken as a text: it begins like JSON and is none ({exc})")
        return given


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON value")


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read(MAX_FILE + 1) if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise _UnreadableError(f"{name} cannot be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE:
        raise _UnreadableError(f"{name} has more than {MAX_FILE // 1024 // 1024} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _UnreadableError(f"{name} is not UTF-8 text (byte {exc.start})") from exc


def _from_file(name: str) -> dict[str, Any]:
    from dagengine.spec import text
    from dagengine.spec.path import format_path
    from dagengine.spec.source import FatalError

    shown = "standard input" if name == "-" else name
    try:
        source = text.parse(_read(name), max_bytes=MAX_FILE)
    except _UnreadableError as exc:
        raise errors.InputError(str(exc)) from exc
    except FatalError as exc:
        raise errors.InputError(f"{shown} cannot be read:", [exc.problem]) from exc
    problems = list(source.problems)
    for finding in source.findings:
        line, column = source.locate(finding.path)
        where = format_path(finding.path)
        problems.append(errors.Problem(line=line, column=column, path=where, message=finding.message))
    if problems:
        raise errors.InputError(f"{shown} cannot be read:", problems)
    if not isinstance(source.value, dict):
        raise errors.InputError(f"{shown} must hold an object: one member per input")
    return dict(source.value)

"""Workflows as people name them on the command line: a file, standard input, or a variable of a Python file.

A Python file is run to get at the variable: it is trusted like any program.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dagengine import errors

if TYPE_CHECKING:
    from dagengine.spec.builder import Workflow
    from dagengine.spec.document import Check
    from dagengine.spec.model import Document

__all__ = ["Loaded", "expand", "is_file", "load"]

_SUFFIXES: Final = (".yaml", ".yml", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checked workflow. `runnable` is what the engine takes: the builder, where there is one, knows its functions."""

    name: str
    document: Document
    runnable: Document | Workflow


def load(name: str, *, registrable: bool = False) -> Loaded:
    """The workflow in `name`: a file, `-` for standard input, or `module.py:variable` (`workflow` if left out).

    Raises SpecError with every error of it; with `registrable`, also with what an orchestrator would refuse whatever
    else is registered there.
    """
    checks = _checks(registrable)
    path, _, variable = name.partition(".py:")
    if variable or name.endswith(".py"):
        return _from_python(name, Path(f"{path}.py" if variable else name), variable or "workflow", checks)
    from dagengine.spec import document as reading

    shown = "standard input" if name == "-" else name
    content = _read(name)
    if name.endswith(".json"):
        _check_json(content, name)
    document = reading.read(content, source=shown, checks=checks)
    return Loaded(name=shown, document=document, runnable=document)


def is_file(name: str) -> bool:
    """Whether `name` is the name of a document or Python file that is there."""
    return name.endswith((*_SUFFIXES, ".py")) and Path(name).is_file()


def expand(names: Sequence[str]) -> Iterator[str]:
    """`names` with every directory replaced by the documents in it, by name. Raises SpecError when it has none."""
    for name in names:
        if name == "-" or not Path(name).is_dir():
            yield name
            continue
        inside = sorted(str(path) for path in Path(name).iterdir() if path.suffix in _SUFFIXES and path.is_file())
        if not inside:
            raise errors.SpecError(f"{name}: there is no {', '.join(_SUFFIXES)} file in this directory")
        yield from inside


def _check_json(content: str, name: str) -> None:
    """Whoever reads a file of that name elsewhere reads JSON: what only YAML allows is refused."""
    from dagengine.spec import document as reading
    from dagengine.spec import json_text
    from dagengine.spec.source import FatalError

    try:
        json_text.parse(content.removeprefix("\ufeff"))
    except FatalError as exc:
        raise reading.error(name, [exc.problem]) from exc


def _checks(registrable: bool) -> Sequence[Check]:
    from dagengine.executors.lua.check import check as lua

    if not registrable:
        return (lua,)
    from orchestrator.triggers import cron, http

    return (lua, cron.check, http.check)


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except OSError as exc:
        raise errors.SpecError(f"{name} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise errors.SpecError(f"{name} is not UTF-8 text (byte {exc.start})") from exc


def _from_python(name: str, path: Path, variable: str, checks: Sequence[Check]) -> Loaded:
    from dagengine.spec import document as reading
    from dagengine.spec.builder import Workflow
    from dagengine.spec.model import Document

    if not path.is_file():
        raise errors.SpecError(f"{path} cannot be read: no such file")
    found = vars(_run(path)).get(variable)
    if isinstance(found, Workflow):
        return Loaded(name=name, document=found.build(checks=checks), runnable=found)
    if isinstance(found, Document):
        document = reading.from_dict(found.to_dict(), source=name, checks=checks)
        return Loaded(name=name, document=document, runnable=found)
    what = "has no variable" if found is None else f"has a {type(found).__name__}, not a workflow, as"
    raise errors.SpecError(f"{path} {what} `{variable}`; name another one with {path}:VARIABLE")


def _run(path: Path) -> object:
    """The module that a file becomes, its own directory being importable as it is for `python FILE`."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise errors.SpecError(f"{path} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.resolve()))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except errors.DAGEngineError:
        raise
    except SyntaxError as exc:
        problem = errors.Problem(line=exc.lineno or 0, message=exc.msg)
        raise errors.SpecError(f"{path} is not Python:", [problem]) from exc
    except Exception as exc:
        problem = errors.Problem(line=_line(exc, path), message=f"{type(exc).__name__}: {exc}")
        raise errors.SpecError(f"{path} cannot be run:", [problem]) from exc
    return module


def _line(exc: BaseException, path: Path) -> int:
    """The innermost line of the file itself that an exception passed through."""
    line, traceback = 0, exc.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line

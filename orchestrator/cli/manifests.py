"""What `dagctl manifest` writes: workflow documents as objects that `kubectl apply` takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import yaml

from dagengine import errors
from dagengine.spec import document as reading
from dagengine.spec import manifest
from dagengine.spec.path import format_path
from orchestrator.cli import documents, failures, printing
from orchestrator.cli.options import Format
from orchestrator.errors import RequestError

__all__ = ["write"]

_LARGE: Final = 256 * 1024
"""Bytes beyond which `kubectl apply` cannot keep what it applied in an annotation."""


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that code stays readable."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def write(files: Sequence[str], *, name: str, form: Format) -> None:
    """Print the objects of all documents: YAML documents one after another, or one JSON document.

    Raises SpecError with everything that is wrong with the first document that is, or cannot be an object; RequestError
    when two would have one name.
    """
    names = list(documents.expand(files))
    if name and len(names) != 1:
        raise RequestError(f"--name is for one document, and these are {len(names)}")
    objects: dict[str, dict[str, Any]] = {}
    first: dict[str, str] = {}
    for file in names:
        made = _object(file, name)
        key = made["metadata"]["name"]
        if key in objects:
            raise RequestError(
                f"{first[key]} and {file} would both be the object {key!r}: give one of them another name with --name, "
                "in a call of its own"
            )
        objects[key], first[key] = made, file
        if len(json.dumps(made)) > _LARGE:
            failures.complain(f"{file} is larger than 256 KiB: apply it with `kubectl apply --server-side`")
    _print(list(objects.values()), form)


def _object(file: str, name: str) -> dict[str, Any]:
    loaded = documents.load(file, registrable=True)
    if findings := manifest.unfit(loaded.document, name=name):
        problems = [errors.Problem(path=format_path(path), message=message) for path, message in findings]
        raise reading.error(f"{loaded.name}, as an object of Kubernetes,", problems)
    return manifest.written(loaded.document, name=name)


def _print(objects: Sequence[dict[str, Any]], form: Format) -> None:
    if form is Format.JSON:
        single = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        printing.structured(single, form)
        return
    written = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    printing.write(written)

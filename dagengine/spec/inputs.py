"""The inputs of one execution against `spec.inputs`: defaults put in, everything wrong reported at once.

Called by whoever starts executions, for each of them: what can be worked out once per document is. `check_payload` does
the same for what comes with a signal; called by whoever lets signals in.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from dagengine.errors import InputError, Problem
from dagengine.spec import input_schema
from dagengine.spec.input_schema import InputValidator
from dagengine.spec.model import Document
from dagengine.spec.path import Finding, format_path
from dagengine.spec.plain import plain

__all__ = ["check_inputs", "check_payload"]

K = TypeVar("K")
V = TypeVar("V")

_MAX_DEPTH: Final = 200
_MAX_DOCUMENTS: Final = 256
_SIMPLE: Final = (str, bool, type(None))


def check_inputs(document: Document, inputs: Mapping[str, object]) -> dict[str, object]:
    """`inputs` with the defaults of `document`, made of JSON values only. `inputs` itself is not changed.

    A document that declares no inputs takes any. Raises InputError with every problem: unknown names, missing ones,
    values that do not fit their schema or are not JSON (paths such as `inputs.date`).
    """
    findings: list[Finding] = []
    values = {name: _named(name, value, findings) for name, value in inputs.items()}
    declared = document.spec.inputs
    if declared and not findings:
        findings = input_schema.misfits(values, declared, _validators(document), ("inputs",))
        for name, schema in declared.items():
            if name not in values and "default" in schema:
                values[name] = copy.deepcopy(schema["default"])
    if findings:
        raise _misfit(f"the inputs do not fit workflow {document.reference}", findings)
    return values


def check_payload(schema: Mapping[str, object], value: object) -> object:
    """`value`, a copy made of JSON values only, as the payload of a signal whose `payload` schema is `schema`.

    An empty schema takes any JSON value. The schema is one of a document that was read. Raises InputError with every
    problem (paths such as `payload.amount`).
    """
    payload, findings = plain(value, ("payload",), max_depth=_MAX_DEPTH)
    if schema and not findings:
        findings = _validator(schema).findings(payload, ("payload",))
    if findings:
        raise _misfit("the payload does not fit the signal", findings)
    return payload


def _misfit(summary: str, findings: list[Finding]) -> InputError:
    return InputError(summary, [Problem(path=format_path(path), message=message) for path, message in findings])


def _named(name: object, value: object, findings: list[Finding]) -> object:
    if type(name) is not str:
        findings.append(Finding(("inputs",), f"names of inputs must be texts, got {name!r}"))
    elif type(value) not in _SIMPLE or not (value.isascii() if type(value) is str else True):
        value, wrong = plain(value, ("inputs", name), max_depth=_MAX_DEPTH)
        findings.extend(wrong)
    return value


_compiled: Final[dict[str, dict[str, InputValidator]]] = {}
_compiled_payloads: Final[dict[bytes, InputValidator]] = {}


def _validators(document: Document) -> dict[str, InputValidator]:
    """The validators of a document, made once per digest and kept for the latest documents."""
    digest = document.digest
    found = _compiled.get(digest)
    if found is None:
        found = {name: input_schema.validator(schema) for name, schema in document.spec.inputs.items()}
        _keep(_compiled, digest, found)
    return found


def _validator(schema: Mapping[str, object]) -> InputValidator:
    """The validator of a payload's schema, made once and kept for the latest schemas."""
    key = msgspec.json.encode(schema, order="deterministic")
    found = _compiled_payloads.get(key)
    if found is None:
        found = input_schema.validator(schema)
        _keep(_compiled_payloads, key, found)
    return found


def _keep(compiled: dict[K, V], key: K, value: V) -> None:
    while len(compiled) >= _MAX_DOCUMENTS:
        compiled.pop(list(compiled)[0], None)  # noqa: RUF015 - one step: threads cannot interfere
    compiled[key] = value

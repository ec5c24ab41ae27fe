"""Whether what somebody asks of an execution can be meant: looked at before it is durable, from the document alone.

What depends on how far the execution is, its machine decides: it sees operations and facts in one order, and answers
what cannot be done with a fact (`CommandRefused`). Called by `service`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NoReturn, assert_never

import msgspec
from msgspec import UNSET

from dagengine.errors import InputError, Problem
from dagengine.machine import operations
from dagengine.spec import input_schema
from dagengine.spec.model import Document, Node, WaitExecutor
from dagengine.spec.path import Finding, format_path
from dagengine.spec.suggestion import did_you_mean
from orchestrator.errors import Forbidden, NotFound, RequestError
from orchestrator.operating import as_json

__all__ = ["check", "read", "require_node"]

_MOST_BYTES: Final = 4 << 20
"""Bytes that a value may take as JSON: as much as the result of a node, which it becomes."""
_MOST_TEXT: Final = 4_096
"""Characters of an author, and of a reason."""


def read(kind: str, members: Mapping[str, Any]) -> operations.Operation:
    """The operation of a kind with these members, plain values. Raises RequestError."""
    try:
        return operations.decode(as_json({"kind": kind, **members}, "what is asked for"))
    except msgspec.ValidationError as error:
        raise RequestError(f"what is asked for is not as it should be: {error}") from error


def check(operation: operations.Operation, document: Document) -> None:
    """Raise unless `operation` can be meant for executions of `document`.

    NotFound for a node that there is not; RequestError, InputError or Forbidden for the rest.
    """
    if max(len(operation.author), len(operation.reason)) > _MOST_TEXT:
        raise RequestError(f"an author and a reason have at most {_MOST_TEXT:,} characters each")
    match operation:
        case operations.Cancel():
            if operation.grace < 0:
                raise RequestError("a grace is 0 or more")
        case operations.Pause() | operations.Unpause():
            if operation.node:
                require_node(document, operation.node)
        case operations.Rerun():
            for node in operation.nodes:
                require_node(document, node)
        case operations.Skip():
            require_node(document, operation.node)
            if operation.result is not UNSET:
                _value(operation.result, "the result")
        case operations.Signal():
            _check_signal(operation, document)
        case operations.Decide():
            _check_decision(operation, require_node(document, operation.node))
        case operations.EditInputs():
            require_node(document, operation.node)
            _check_inputs(operation, document)
        case _:
            assert_never(operation)


def require_node(document: Document, node: str) -> Node:
    """The node of a document. Raises NotFound."""
    nodes = {known.id: known for known in (*document.spec.nodes, *document.spec.on_exit)}
    found = nodes.get(node)
    if found is None:
        raise NotFound(f"{document.reference} has no node '{node}'{did_you_mean(node, nodes)}")
    return found


def _check_signal(operation: operations.Signal, document: Document) -> None:
    payload = _value(operation.payload, "the payload")
    waiting = [node for node in (*document.spec.nodes, *document.spec.on_exit) if _signal_of(node) is not None]
    able = [node for node in waiting if _takes(node, operation.name)]
    if not waiting:
        raise RequestError(f"no node of {document.reference} waits for a signal")
    if not able:
        names = sorted({signal.name for node in waiting if (signal := _signal_of(node)) is not None})
        raise RequestError(
            f"no node of {document.reference} waits for a signal '{operation.name}'"
            f"{did_you_mean(operation.name, names)}; there are: {', '.join(names)}"
        )
    findings: list[Finding] = []
    for node in able:
        signal = _signal_of(node)
        schema = signal.payload if signal is not None else {}
        findings = _validator(msgspec.json.encode(schema)).findings(payload, ("payload",))
        if not findings:
            return
    _misfit(f"the payload does not fit what node '{able[-1].id}' waits for", findings)


def _signal_of(node: Node) -> Any:
    return node.executor.signal if isinstance(node.executor, WaitExecutor) else None


def _takes(node: Node, name: str) -> bool:
    """Whether a node could wait for a signal: one whose name is a template for any."""
    signal = _signal_of(node)
    return signal is not None and (signal.name == name or "{{" in signal.name)


def _check_decision(operation: operations.Decide, node: Node) -> None:
    approval = node.executor.approval if isinstance(node.executor, WaitExecutor) else None
    if approval is None:
        raise RequestError(f"node '{node.id}' does not wait for an approval")
    if operation.index is not None and (node.foreach is None or operation.index < 0):
        raise RequestError(f"node '{node.id}' has no item {operation.index}")
    if operation.index is None and node.foreach is not None:
        raise RequestError(f"node '{node.id}' waits for an approval of each item: say which one (`index`, from 0)")
    if not operation.author:
        raise RequestError("a decision needs an author: say who decides")
    if approval.who and operation.author not in approval.who:
        raise Forbidden(f"'{operation.author}' may not decide about '{node.id}'; these may: {', '.join(approval.who)}")


def _check_inputs(operation: operations.EditInputs, document: Document) -> None:
    values = _value(operation.inputs, "the inputs")
    if not isinstance(values, dict):
        raise RequestError("the inputs are an object: the value of each input that the node is to see, by name")
    if not values:
        raise RequestError("the inputs are empty: give the value of each input that the node is to see, by name")
    declared = document.spec.inputs
    findings: list[Finding] = []
    for name, value in values.items():
        if not declared:
            break  # a document that declares no inputs takes any
        if name not in declared:
            hint = did_you_mean(name, declared) or f" (declared: {', '.join(declared)})"
            findings.append(Finding(("inputs", name), f"unknown input {name!r}{hint}"))
        else:
            findings += _validator(msgspec.json.encode(declared[name])).findings(value, ("inputs", name))
    if findings:
        _misfit(f"the inputs do not fit workflow {document.reference}", findings)


def _value(raw: msgspec.Raw, what: str) -> Any:
    """The JSON value in `raw`."""
    data = bytes(raw)
    if len(data) > _MOST_BYTES:
        raise RequestError(
            f"{what} takes {len(data):,} bytes as JSON, and {_MOST_BYTES:,} are the most: keep large values elsewhere, "
            "and pass where they are",
            too_large=True,
        )
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RequestError(f"{what} is not JSON: {exc}") from exc


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> input_schema.InputValidator:
    known: Mapping[str, object] = msgspec.json.decode(schema)
    return input_schema.validator(known)


def _misfit(summary: str, findings: Iterable[Finding]) -> NoReturn:
    problems = [Problem(path=format_path(path), message=message) for path, message in findings]
    raise InputError(summary, problems)

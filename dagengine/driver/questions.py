"""What the machine wants to have evaluated, as questions to the evaluator. Part of the driver."""

from __future__ import annotations

from typing import assert_never

from dagengine.executors.base import Question, Scope
from dagengine.graph.compiled import Graph
from dagengine.machine.commands import Evaluate

__all__ = ["of"]


def of(command: Evaluate, graph: Graph, scope: Scope) -> Question:
    """The question that a command is about, in the scope of its unit."""
    if command.purpose == "outputs":
        return Question(scope=scope, template=dict(graph.document.spec.outputs))
    node = graph.nodes[command.node]
    match command.purpose:
        case "when":
            return Question(scope=scope, code=node.when or "nil")
        case "foreach":
            return Question(scope=scope, code=node.foreach or "nil")
        case "args":
            return Question(scope=scope, template=dict(node.args or {}))
        case "cache":
            return Question(scope=scope, template=node.cache.key if node.cache is not None else "")
        case _:
            assert_never(command.purpose)

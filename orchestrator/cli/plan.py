"""What the command line shows of a workflow: its nodes, in document order, with what each waits for.

Read from the plain JSON of a document, which a local file and an orchestrator both give; so drawing and progress are
the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Plan", "Step", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One node. `code` is the user's own source, `function` the Python function it calls; empty where it has none."""

    id: str
    executor: str
    dependencies: tuple[str, ...] = ()
    foreach: str = ""
    when: str = ""
    code: str = ""
    function: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One version of a workflow: `reference` is `id@version`, `inputs` the JSON Schema of each input."""

    reference: str
    steps: tuple[Step, ...]
    inputs: Mapping[str, Mapping[str, Any]]

    @property
    def functions(self) -> tuple[str, ...]:
        """The Python functions that the nodes call, each once."""
        return tuple(dict.fromkeys(step.function for step in self.steps if step.function))

    def code(self, node: str) -> str:
        """The source of a node, empty when it has none."""
        return next((step.code for step in self.steps if step.id == node), "")


def read(document: Mapping[str, Any]) -> Plan:
    """The plan of a checked document, given as plain values (`Document.to_dict()`, `WorkflowView.document`)."""
    metadata, spec = document["metadata"], document["spec"]
    return Plan(
        reference=f"{metadata['id']}@{metadata['version']}",
        steps=tuple(_step(node) for node in spec["nodes"]),
        inputs=spec.get("inputs", {}),
    )


def _step(node: Mapping[str, Any]) -> Step:
    executor = node["executor"]
    return Step(
        id=node["id"],
        executor=executor["type"],
        dependencies=tuple(node.get("dependencies", ())),
        foreach=node.get("foreach") or "",
        when=node.get("when") or "",
        code=executor.get("code", ""),
        function=executor.get("function", "") if executor["type"] == "python" else "",
    )

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
    """One node. `code` is the user's own source, `function` the Python function it calls; empty where it has none.

    `wait` says in words what a wait node waits for. `at_exit`: it is one of `on_exit`, which come after all others.
    """

    id: str
    executor: str
    dependencies: tuple[str, ...] = ()
    foreach: str = ""
    when: str = ""
    code: str = ""
    function: str = ""
    wait: str = ""
    at_exit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One version of a workflow: `reference` is `id@version`, `inputs` the JSON Schema of each input.

    `steps` are the nodes, those of `on_exit` last.
    """

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
        steps=(
            *(_step(node) for node in spec["nodes"]),
            *(_step(node, at_exit=True) for node in spec.get("on_exit", ())),
        ),
        inputs=spec.get("inputs", {}),
    )


def _step(node: Mapping[str, Any], *, at_exit: bool = False) -> Step:
    executor = node["executor"]
    return Step(
        id=node["id"],
        executor=executor["type"],
        dependencies=tuple(node.get("dependencies", ())),
        foreach=node.get("foreach") or "",
        when=node.get("when") or "",
        code=executor.get("code", ""),
        function=executor.get("function", "") if executor["type"] == "python" else "",
        wait=_wait(executor) if executor["type"] == "wait" else "",
        at_exit=at_exit,
    )


def _wait(executor: Mapping[str, Any]) -> str:
    """What a wait node waits for: `1h`, `until …`, `for signal paid`, `for 2 approvals`."""
    if "duration" in executor:
        return str(executor["duration"])
    if "until" in executor:
        return f"until {executor['until']}"
    if "signal" in executor:
        return f"for signal {executor['signal']['name']}"
    quorum = executor["approval"].get("quorum", 1)
    return "for an approval" if quorum == 1 else f"for {quorum} approvals"

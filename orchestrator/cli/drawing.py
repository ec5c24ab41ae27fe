"""A workflow's graph as text: Mermaid for documents, a tree for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.cli.plan import Plan, Step

__all__ = ["mermaid", "tree"]


def mermaid(plan: Plan) -> str:
    """A Mermaid flowchart. Nodes are numbered, because an id such as `end` means something to Mermaid."""
    number = {step.id: position for position, step in enumerate(plan.steps)}
    lines = ["---", f"title: {plan.reference}", "---", "flowchart TD"]
    lines.extend(f"    n{number[step.id]}{_box(step)}" for step in plan.steps if not step.at_exit)
    if at_exit := [f"        n{number[step.id]}{_box(step)}" for step in plan.steps if step.at_exit]:
        lines.extend(['    subgraph exit["on_exit"]', *at_exit, "    end"])
    lines.extend(
        f"    n{number[dependency]} --> n{number[step.id]}" for step in plan.steps for dependency in step.dependencies
    )
    return "\n".join(lines) + "\n"


def tree(plan: Plan) -> str:
    """A tree in which every node stands once: under the dependency that is furthest from the start.

    The other dependencies of a node are named beside it. The nodes of `on_exit` are a tree of their own.
    """
    depth = _depths(plan)
    parents = {step.id: max(step.dependencies, key=depth.__getitem__, default="") for step in plan.steps}
    children: dict[str, list[Step]] = {}
    for step in plan.steps:
        children.setdefault(parents[step.id], []).append(step)
    roots = children.get("", [])
    lines = [plan.reference, *_grown([step for step in roots if not step.at_exit], parents, children)]
    if at_exit := [step for step in roots if step.at_exit]:
        lines.extend(["on_exit", *_grown(at_exit, parents, children)])
    return "\n".join(lines) + "\n"


def _grown(roots: list[Step], parents: Mapping[str, str], children: Mapping[str, list[Step]]) -> Iterator[str]:
    """The lines of the trees over `roots`."""
    pending = _branches(roots, "")
    while pending:
        step, indent, branch, deeper = pending.pop()
        others = [dependency for dependency in step.dependencies if dependency != parents[step.id]]
        after = f"  ← also after {', '.join(others)}" if others else ""
        yield f"{indent}{branch}{step.id}  ({', '.join(_traits(step))}){after}"
        pending.extend(_branches(children.get(step.id, []), deeper))


def _branches(steps: list[Step], indent: str) -> list[tuple[Step, str, str, str]]:
    """`(step, indent, branch, indent of what is under it)`, last first, as a stack wants them."""
    last = len(steps) - 1
    drawn = [
        (step, indent, "└─ ", indent + "   ") if position == last else (step, indent, "├─ ", indent + "│  ")
        for position, step in enumerate(steps)
    ]
    return drawn[::-1]


def _depths(plan: Plan) -> dict[str, int]:
    """The length of the longest way from a start to each node."""
    waiting = {step.id: len(step.dependencies) for step in plan.steps}
    followers: dict[str, list[str]] = {step.id: [] for step in plan.steps}
    for step in plan.steps:
        for dependency in step.dependencies:
            followers[dependency].append(step.id)
    depth = {node: 0 for node, count in waiting.items() if not count}
    ready = list(depth)
    for node in ready:
        for follower in followers[node]:
            depth[follower] = max(depth.get(follower, 0), depth[node] + 1)
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return depth


def _box(step: Step) -> str:
    """The node in Mermaid: what runs many times has a double frame, what may not run or only waits is round."""
    opening, closing = (
        ("[[", "]]") if step.foreach else ("([", "])") if step.wait else ("(", ")") if step.when else ("[", "]")
    )
    text = "<br/>".join(_escape(part) for part in (step.id, *_traits(step)))
    return f'{opening}"{text}"{closing}'


def _traits(step: Step) -> Iterator[str]:
    yield f"{step.executor} {_short(step.wait)}" if step.wait else step.executor
    if step.foreach:
        yield f"foreach {_short(step.foreach)}"
    if step.when:
        yield f"when {_short(step.when)}"


def _short(expression: str) -> str:
    text = " ".join(expression.split())
    return text if len(text) <= 48 else text[:47] + "…"


def _escape(text: str) -> str:
    """`text` inside a quoted Mermaid label."""
    return text.replace("&", "&amp;").replace('"', "#quot;").replace("<", "&lt;").replace(">", "&gt;")

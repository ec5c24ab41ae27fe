"""What `dagctl describe` prints: everything known of one workflow version or one execution."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from orchestrator.cli import drawing, following, lists, plan, printing, progress, report, waiting
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import AttemptView, ExecutionView, WorkflowView

__all__ = ["execution", "workflow"]

_ATTEMPTS: Final = 100
"""Attempts at one node that are told."""


def workflow(client: Client, reference: str, form: Format) -> None:
    """Print one version of a workflow."""

    async def fetch() -> WorkflowView:
        async with client:
            return await client.workflow(reference)

    view = asyncio.run(fetch())
    if form is not Format.TABLE:
        printing.structured(view, form)
        return
    document: dict[str, Any] = msgspec.json.decode(view.document)
    spec = document["spec"]
    facts = [
        ("Workflow", f"{view.id}@{view.version}"),
        ("Name", view.name),
        ("Description", view.description),
        ("Versions", ", ".join(view.versions)),
        ("Digest", view.digest),
        ("Registered", _when(view.registered_at)),
        ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(view.labels.items()))),
        ("Triggers", "; ".join(_triggers(spec.get("triggers", {})))),
        ("Engines", ", ".join(_engines(spec.get("engine", {})))),
        ("Kept", "; ".join(_kept(spec.get("retention", {})))),
    ]
    blocks = [_pairs(facts)]
    if inputs := spec.get("inputs"):
        blocks.append(
            "Inputs:\n" + _indent(printing.table(("NAME", "TYPE", "DEFAULT", "DESCRIPTION"), _inputs(inputs)))
        )
    if outputs := spec.get("outputs"):
        blocks.append("Outputs:\n" + _indent(_pairs((name, printing.text(value)) for name, value in outputs.items())))
    blocks.append("Graph:\n" + _indent(drawing.tree(plan.read(document))))
    printing.write("\n".join(blocks))


def _triggers(triggers: Mapping[str, Any]) -> Iterable[str]:
    if http := triggers.get("http"):
        yield f"http {http.get('method', 'POST')} {http['path']}"
    if cron := triggers.get("cron"):
        yield f"cron {cron['schedule']} {cron.get('timezone', 'UTC')}"


def _engines(engine: Mapping[str, Any]) -> Iterable[str]:
    """What an engine must have to run it."""
    pool = {"pool": engine["pool"]} if "pool" in engine else {}
    yield from (f"{key}={value}" for key, value in (pool | engine.get("labels", {})).items())
    if engine.get("exclusive"):
        yield "one for each execution alone"


def _kept(retention: Mapping[str, Any]) -> Iterable[str]:
    """What the document says of that; the server says the rest."""
    for what, otherwise in (("executions", "all"), ("logs", "as long as their execution")):
        if (kept := retention.get(what)) is not None:
            bounds = {"ttl": "for {}", "keep": "the newest {}"}
            said = [words.format(kept[bound]) for bound, words in bounds.items() if bound in kept]
            yield f"{what} {', '.join(said) or otherwise}"


def _inputs(inputs: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            printing.text(schema.get("type", "any")),
            printing.text(schema["default"]) if "default" in schema else "(required)",
            str(schema.get("description", "")),
        )
        for name, schema in inputs.items()
    ]


def execution(client: Client, identity: str, form: Format) -> None:
    """Print one execution with the state of each of its nodes."""

    async def fetch() -> tuple[ExecutionView, progress.Board, str, list[AttemptView]]:
        async with client:
            view = await client.execution(identity)
            board, why = await following.load_board(client, view), await waiting.explained(client, view)
            tried = [node.id for node in board.nodes.values() if node.attempt > 1 or form is not Format.TABLE]
            attempts = [one for node in tried for one in await client.attempts(view.id, node, limit=_ATTEMPTS)]
            return view, board, why, attempts

    view, board, why, attempts = asyncio.run(fetch())
    if form is not Format.TABLE:
        cancelled = {"cancel_reason": board.cancelled_because} if board.cancelled_because else {}
        told = {"execution": view, **cancelled, "nodes": _plain_nodes(board), "attempts": attempts}
        printing.structured(told, form)
        return
    blocks = [_pairs(_execution_facts(view, board, why)), _nodes(board)]
    if attempts:
        blocks.append("Attempts at nodes that took several:\n" + _indent(_attempts(attempts)))
    if view.inputs:
        blocks.append("Inputs:\n" + _indent(_pairs((name, _short(value)) for name, value in view.inputs.items())))
    if view.outputs:
        blocks.append("Outputs:\n" + _indent(printing.value_block(view.outputs)))
    if view.status == "failed":
        blocks.append("Failure:\n" + _indent(report.explain(board)))
    printing.write("\n".join(blocks))


def _execution_facts(view: ExecutionView, board: progress.Board, why: str) -> list[tuple[str, str]]:
    return [
        ("Execution", view.id),
        ("Workflow", f"{view.workflow}@{view.version}"),
        ("Status", printing.colored(view.status)),
        ("Waiting", why),
        ("Paused", _paused(board)),
        ("Cancel reason", board.cancelled_because),
        ("Engine", f"{view.engine} (epoch {view.epoch})" if view.engine else ""),
        ("Trigger", view.trigger),
        ("Created", _when(view.created_at)),
        ("Started", _when(view.started_at)),
        ("Finished", _when(view.finished_at)),
        ("Duration", lists.execution_duration(view)),
        ("Facts", str(view.last_seq)),
    ]


def _nodes(board: progress.Board) -> str:
    rows = [
        (
            node.id,
            node.phase,
            _took(node),
            "" if node.items is None else _items(node),
            str(node.attempt or ""),
            node.note,
        )
        for node in board.nodes.values()
    ]
    return "Nodes:\n" + _indent(printing.table(("NODE", "STATE", "DURATION", "ITEMS", "ATTEMPT", "NOTE"), rows))


def _attempts(attempts: Iterable[AttemptView]) -> str:
    rows = [
        (
            progress.label(one.node, one.index),
            str(one.attempt),
            one.outcome,
            "" if one.started_at is None else printing.moment(one.started_at),
            progress.duration(one.elapsed) if one.elapsed else "",
            "" if one.error is None else f"{one.error.type}: {progress.first_line(one.error.message)}",
        )
        for one in attempts
    ]
    return printing.table(("NODE", "ATTEMPT", "OUTCOME", "STARTED", "DURATION", "ERROR"), rows)


def _paused(board: progress.Board) -> str:
    if board.ended or not board.paused:
        return ""
    return "all of it" if "" in board.paused else ", ".join(sorted(board.paused))


def _items(node: progress.NodeProgress) -> str:
    failed = f", {node.items_failed} failed" if node.items_failed else ""
    return f"{node.items_succeeded}/{node.items}{failed}"


def _took(node: progress.NodeProgress) -> str:
    elapsed = node.elapsed(lists.now())
    return "" if elapsed is None else progress.duration(elapsed)


def _plain_nodes(board: progress.Board) -> list[dict[str, Any]]:
    return [
        {
            "id": node.id,
            "state": node.phase,
            "attempt": node.attempt,
            "started_at": node.started_at,
            "finished_at": node.finished_at,
            "items": node.items,
            "items_succeeded": node.items_succeeded,
            "items_failed": node.items_failed,
            "note": node.note,
        }
        for node in board.nodes.values()
    ]


def _when(at: int | None) -> str:
    return "" if at is None else f"{printing.moment(at)} ({printing.ago(at, lists.now())})"


def _short(value: Any) -> str:
    shown = printing.text(value)
    return shown if len(shown) <= 200 and "\n" not in shown else f"{shown[:60]!r}… ({len(shown):,} characters)"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns; what is empty is left out."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0) + 1
    return "".join(f"{name + ':':<{width}} {value}\n" for name, value in shown)


def _indent(block: str) -> str:
    return "".join(f"  {line}\n" for line in block.splitlines())

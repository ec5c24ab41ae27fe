"""Six real scientific workflows, run again: all at once, over two engines, each task as long as it was, to scale.

    python traces.py                    on an orchestrator and two engines of its own
    python traces.py --scale 0.001      longer: a thousandth of the recorded time instead of 1/2500
    python traces.py --server http://127.0.0.1:8080      on a running orchestrator; its token from DAGENGINE_TOKEN

A trace says which task waited for which, and how long each one took. Every task becomes a Lua node that keeps a
processor busy for its share of the recorded time. The documents hold the recorded seconds; how many loops make a
second is an input, so that the documents are the same on every machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from dagengine.app import DAGEngine
from dagengine.errors import DAGEngineError
from dagengine.events import facts
from orchestrator.cli.cluster import Cluster
from orchestrator.client.client import Client
from orchestrator.errors import OrchestratorError
from orchestrator.verbs import ExecutionView

TRACES = Path(__file__).parent / "traces"
SCALE = 1 / 2500
LOOP = "local x = 0\nfor i = 1, inputs.loops * {seconds} do x = (x * 31 + i) % 65521 end\nreturn x\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of a trace; `seconds` is how long it took."""

    id: str
    parents: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One recorded run of a workflow."""

    id: str
    name: str
    origin: str
    tasks: tuple[Task, ...]

    @property
    def work(self) -> float:
        """Seconds of all tasks together."""
        return sum(task.seconds for task in self.tasks)

    @property
    def critical_path(self) -> float:
        """Seconds it takes at least, however many processors there are."""
        ends: dict[str, float] = {}
        waiting = {task.id: task for task in self.tasks}
        while waiting:
            ready = [task for task in waiting.values() if all(parent in ends for parent in task.parents)]
            if not ready:
                raise ValueError(f"{self.id}: the tasks wait for each other: {', '.join(sorted(waiting))}")
            for task in ready:
                ends[task.id] = task.seconds + max((ends[parent] for parent in task.parents), default=0.0)
                del waiting[task.id]
        return max(ends.values(), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one execution ended."""

    trace: Trace
    view: ExecutionView
    nodes: int


def read(file: Path) -> Trace:
    """The trace in a file. Raises ValueError when a task waits for one that is not there."""
    content = json.loads(file.read_text())
    names = node_ids([task["id"] for task in content["tasks"]])
    tasks = []
    for task in content["tasks"]:
        if unknown := [parent for parent in task["parents"] if parent not in names]:
            raise ValueError(f"{file.name}: task {task['id']} waits for unknown tasks: {', '.join(unknown)}")
        parents = tuple(names[parent] for parent in task["parents"])
        tasks.append(Task(id=names[task["id"]], parents=parents, seconds=float(task["runtime_s"])))
    return Trace(id=file.stem.rpartition("__")[2], name=content["name"], origin=content["origin"], tasks=tuple(tasks))


def node_ids(names: Sequence[str]) -> dict[str, str]:
    """A node id for each name of a task: letters, digits, `_` and `-`; different for different names."""
    ids: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = unique = re.sub(r"[^a-zA-Z0-9_-]+", "-", name)
        number = 1
        while unique in taken:
            number += 1
            unique = f"{plain}-{number}"
        taken.add(unique)
        ids[name] = unique
    return ids


def document(trace: Trace) -> dict[str, Any]:
    """The workflow that does again what the trace recorded."""
    loops = {"type": "number", "minimum": 0, "description": "Loops for one second of recorded time."}
    last = {task.id for task in trace.tasks}.difference(*(task.parents for task in trace.tasks))
    return {
        "apiVersion": "workflows/v1",
        "kind": "Workflow",
        "metadata": {
            "id": trace.id,
            "name": trace.name,
            "version": "1.0.0",
            "labels": {"example": "real-traces"},
            "annotations": {"origin": trace.origin},
        },
        "spec": {
            "inputs": {"loops": loops},
            "outputs": {"last": [f'{{{{ nodes["{task.id}"] }}}}' for task in trace.tasks if task.id in last]},
            "nodes": [node(task) for task in trace.tasks],
        },
    }


def node(task: Task) -> dict[str, Any]:
    """The node that keeps a processor busy as long as the task did."""
    return {
        "id": task.id,
        "dependencies": list(task.parents),
        "executor": {"type": "lua", "code": LOOP.format(seconds=task.seconds)},
    }


async def loops_per_second() -> float:
    """How many loops an engine's Lua makes on this machine."""
    probe = Trace(id="calibration", name="", origin="", tasks=(Task(id="loop", parents=(), seconds=1.0),))
    loops = 100_000
    async with DAGEngine() as engine:
        while True:
            began = time.perf_counter()
            await engine.run(document(probe), {"loops": loops})
            if (elapsed := time.perf_counter() - began) > 0.25:
                return loops / elapsed
            loops *= 2


@contextlib.asynccontextmanager
async def orchestrator_at(server: str | None) -> AsyncIterator[Client]:
    """A client of the given orchestrator, or of one that is there as long as the block, with two engines."""
    if server is not None:
        async with Client(server, token=os.environ.get("DAGENGINE_TOKEN")) as client:
            yield client
    else:
        async with Cluster(engines=2) as cluster, Client(cluster.url, token=cluster.token) as client:
            yield client


async def run(client: Client, trace: Trace, loops: float, progress: Progress) -> Outcome:
    """Start one workflow and follow it to its end."""
    bar = progress.add_task(trace.id, total=len(trace.tasks))
    started = await client.start(f"{trace.id}@1.0.0", {"loops": loops})
    nodes = 0
    async for view in client.events(started.id):
        if isinstance(facts.decode(bytes(view.fact)), facts.NodeSucceeded):
            nodes += 1
            progress.update(bar, completed=nodes)
    return Outcome(trace=trace, view=await client.execution(started.id), nodes=nodes)


async def run_all(server: str | None, scale: float, console: Console) -> int:
    """All traces at once; the exit code."""
    traces = [read(file) for file in sorted(TRACES.glob("*.json"))]
    speed = await loops_per_second()
    console.print(
        f"{len(traces)} workflows, {sum(len(trace.tasks) for trace in traces)} nodes; "
        f"one recorded second takes {scale * 1e3:g} ms; {speed / 1e6:.1f} million loops a second here",
        highlight=False,
        soft_wrap=True,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("nodes"))
    async with orchestrator_at(server) as client:
        for trace in traces:
            await client.apply(document(trace))
        began = time.perf_counter()
        with Progress(*columns, console=console) as progress:
            outcomes = await asyncio.gather(*(run(client, trace, speed * scale, progress) for trace in traces))
        elapsed = time.perf_counter() - began
    report(outcomes, scale)
    failed = [outcome for outcome in outcomes if outcome.view.status != "succeeded"]
    for outcome in failed:
        why = f": {outcome.view.error.message}" if outcome.view.error else ""
        console.print(f"{outcome.trace.id} has {outcome.view.status}{why}", style="red", highlight=False)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} succeeded in {elapsed:.1f} s")
    return 1 if failed else 0


def report(outcomes: Sequence[Outcome], scale: float) -> None:
    """One line for each workflow, on standard output. Times are in seconds, to scale."""
    table = Table(box=None, pad_edge=False)
    table.add_column("workflow", no_wrap=True)
    table.add_column("engine", no_wrap=True)
    for name in ("nodes", "work s", "critical path s", "wall s"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        trace, view = outcome.trace, outcome.view
        wall = ((view.finished_at or 0) - (view.started_at or 0)) / 1e6
        table.add_row(
            trace.id,
            view.engine or "",
            str(outcome.nodes),
            f"{trace.work * scale:.2f}",
            f"{trace.critical_path * scale:.2f}",
            f"{wall:.2f}",
        )
    Console(width=110).print(table)


def main() -> int:
    """Read the command line and run; the exit code."""
    parser = argparse.ArgumentParser(description="Run six recorded scientific workflows again, to scale.")
    parser.add_argument("--scale", type=float, default=SCALE, help="share of the recorded time (default: 1/2500)")
    parser.add_argument("--server", help="URL of a running orchestrator (default: one is started, with two engines)")
    arguments = parser.parse_args()
    if not 0 < arguments.scale <= 1:
        parser.error("--scale must be more than 0 and at most 1")
    try:
        return asyncio.run(run_all(arguments.server, arguments.scale, Console(stderr=True)))
    except (DAGEngineError, OrchestratorError) as error:
        print(f"traces.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""What waiting costs in memory: bytes for each node, each `foreach` item and each fact of an execution.

The whole of a node that waits is its part of the document, of the compiled graph and of the machine's state, as they
are after reading the document, compiling it and beginning the execution:

- for a dependency: a node whose dependency runs
- for a time, a signal: a `wait` node that has begun to wait

Items are those of one node: what the machine keeps of one that has not begun, runs or has ended. At most 1,024 of them
run at once. A fact is one that the journal in memory keeps, decoded.

Bytes are those that Python's allocator hands out (`tracemalloc`). What the process takes from the system for them is
told apart, for an engine that runs the execution, by its resident size. Every case runs in a process of its own.
Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks import figure
from benchmarks.figure import Figure

if TYPE_CHECKING:
    from dagengine.events.facts import Fact
    from dagengine.graph.compiled import Graph
    from dagengine.journal.memory import MemoryJournal
    from dagengine.machine.machine import Machine

SIZES = (10_000, 100_000)
NODES = ("for a dependency", "for a time", "for a signal")
ITEMS = ("not begun", "running", "ended")
RUNNING = 1_024
_NOW = 1_700_000_000_000_000
GOAL = "≤ 2,000"
ROOT = Path(__file__).parents[1]

T = TypeVar("T")


def figures(*, quick: bool) -> Iterator[Figure]:
    """Bytes per waiting node (its parts, and the whole), per item and per fact; then the resident size per node."""
    for size in (1_000,) if quick else SIZES:
        for kind in NODES:
            parts = _case("node", kind, size)
            for part, value in parts.items():
                yield _figure("memory of a waiting node", f"{kind}, {size:,} nodes: {part}", value)
            whole = sum(parts.values())
            yield _figure("memory of a waiting node", f"{kind}, {size:,} nodes: all of it", whole, goal=GOAL)
        for kind in ITEMS:
            items = RUNNING if kind == "running" else size
            yield _figure("memory of an item", f"{kind}, {items:,} items", _case("item", kind, items)["item"])
        for name, value in _case("fact", "", size).items():
            yield _figure("memory of a fact", f"{name}, {size:,} facts", value)
        for kind in NODES:
            resident = _case("engine", kind, size)["resident"]
            yield _figure("resident size", f"engine, node waits {kind}, {size:,} nodes", resident)


def document(kind: str, size: int) -> str:
    """A document of `size` nodes that wait, and of what they wait for, as JSON.

    Too long a text to be accepted as it is when there are very many: it is read as the values it holds.
    """
    waiting: dict[str, Any]
    match kind:
        case "for a dependency":
            waiting = {"dependencies": ["first"], "executor": {"type": "lua", "code": "return 1"}}
        case "for a time":
            waiting = {"executor": {"type": "wait", "duration": "1h"}}
        case "for a signal":
            waiting = {"executor": {"type": "wait", "signal": {"name": "go"}}}
        case _:
            raise ValueError(f"unknown kind of waiting {kind!r}")
    first = {"id": "first", "executor": {"type": "wait", "signal": {"name": "first"}}}
    nodes = [first, *({"id": f"n{number}", **waiting} for number in range(size))]
    return _text(nodes)


def _text(nodes: list[dict[str, Any]]) -> str:
    metadata = {"id": "bench", "version": "1.0.0"}
    spec = {"nodes": nodes, "outputs": {"done": True}}
    return json.dumps({"apiVersion": "workflows/v1", "kind": "Workflow", "metadata": metadata, "spec": spec})


def _measure_node(kind: str, size: int) -> dict[str, float]:
    from dagengine.app import read_workflow
    from dagengine.graph.compiled import compile_document
    from dagengine.machine.machine import Machine
    from dagengine.machine.stimuli import Begin

    text = document(kind, size)
    _warm(text=document(kind, 10))

    def begun(graph: Graph) -> Machine:
        machine = Machine(graph, execution="e")
        machine.handle(Begin(at=1, inputs=b"{}"))
        return machine

    read, in_document = _grown(lambda: read_workflow(json.loads(text)))
    _, in_digest = _grown(lambda: read.digest)
    graph, in_graph = _grown(lambda: compile_document(read))
    _, in_state = _grown(lambda: begun(graph))
    return {"document": (in_document + in_digest) / size, "graph": in_graph / size, "state": in_state / size}


def _measure_item(kind: str, size: int) -> dict[str, float]:
    from dagengine.machine.stimuli import AttemptEnded

    each: dict[str, Any] = {"id": "each", "foreach": "inputs.list", "executor": {"type": "lua", "code": "return item"}}
    if kind == "not begun":
        each["max_parallel"] = 1
    _expanded(each, 10, all_end=True, ended=AttemptEnded)  # what is there once for each process
    _, grown = _grown(lambda: _expanded(each, size, all_end=kind == "ended", ended=AttemptEnded))
    return {"item": grown / size}


def _expanded(each: dict[str, Any], size: int, *, all_end: bool, ended: type[Any]) -> Machine:
    """A machine with the items begun, or all of them ended."""
    from dagengine.app import read_workflow
    from dagengine.graph.compiled import compile_document
    from dagengine.machine.commands import Evaluate, Run
    from dagengine.machine.machine import Machine
    from dagengine.machine.stimuli import Begin, Evaluated

    machine = Machine(compile_document(read_workflow(_text([each]))), execution="e")
    (question,) = machine.handle(Begin(at=1, inputs=b"{}")).commands
    if not isinstance(question, Evaluate):
        raise TypeError(f"expected a question, got {question}")
    value = json.dumps(list(range(size))).encode()
    serial = question.serial
    commands = machine.handle(Evaluated(at=1, purpose="foreach", node=0, index=-1, serial=serial, value=value)).commands
    while all_end and commands:
        run = commands.pop()
        if isinstance(run, Run):
            result = b"%d" % run.index
            commands += machine.handle(ended(1, run.node, run.index, run.attempt, "success", result, None, 1)).commands
    return machine


def _measure_fact(size: int) -> dict[str, float]:
    import msgspec

    from dagengine.events.facts import NodeStarted, NodeSucceeded, encode

    result = msgspec.Raw(b'{"value":1}')
    made: dict[str, Callable[[int], Fact]] = {
        "NodeStarted": lambda number: NodeStarted(at=_NOW + number, node=f"n{number}"),
        "NodeSucceeded": lambda number: NodeSucceeded(at=_NOW + number, node=f"n{number}", result=result, elapsed=3),
    }
    found = {}
    for name, make in made.items():
        # As they come from a store: every fact with its own texts.
        texts = [encode(make(number)) for number in range(size)]
        _, grown = _grown(lambda texts=texts: _kept(texts))  # type: ignore[misc]  # a default binds it now
        found[name] = grown / size
    return found


def _kept(texts: list[bytes]) -> MemoryJournal:
    from dagengine.events.facts import decode
    from dagengine.journal.memory import MemoryJournal

    journal = MemoryJournal(keep=True)
    for text in texts:
        journal.append([decode(text)])
    return journal


def _measure_engine(kind: str, size: int) -> dict[str, float]:
    return {"resident": asyncio.run(_resident(kind, size)) / size}


async def _resident(kind: str, size: int) -> int:
    """Bytes by which the process grows until every node waits. Nothing else of the process is measured."""
    from dagengine.app import DAGEngine, read_workflow

    text = document(kind, size)
    waits = 1 if kind == "for a dependency" else size + 1
    async with DAGEngine() as engine:
        cancel, everything = asyncio.Event(), asyncio.Event()
        left = waits

        def note(_position: int, fact: object) -> None:
            nonlocal left
            left -= type(fact).__name__ == "NodeWaiting"
            if not left:
                everything.set()

        before = _resident_now()
        running = asyncio.ensure_future(engine.run(read_workflow(json.loads(text)), on_fact=note, cancel=cancel))
        await everything.wait()
        gc.collect()
        grown = _resident_now() - before
        cancel.set()
        await asyncio.gather(running, return_exceptions=True)
    return grown


def _resident_now() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _warm(*, text: str) -> None:
    """Import and make once whatever is there once for each process."""
    from dagengine.app import read_workflow
    from dagengine.graph.compiled import compile_document

    compile_document(read_workflow(text))


def _grown(make: Callable[[], T]) -> tuple[T, int]:
    """What `make` gives, and how many bytes are in use for it."""
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    made = make()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    return made, after - before


def _case(what: str, kind: str, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--case", what, kind, str(size)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {ran.returncode}:\n{ran.stderr}")
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _figure(benchmark: str, measure: str, value: float, *, goal: str = "") -> Figure:
    return figure.of([value], benchmark=benchmark, measure=measure, unit="B", goal=goal)


def main() -> None:
    """Measure everything, or (for our own subprocesses) one case."""
    if sys.argv[1:2] != ["--case"]:
        figure.main(figures, "What waiting costs in memory.")
        return
    what, kind, size = sys.argv[2], sys.argv[3], int(sys.argv[4])
    if what == "engine":
        found = _measure_engine(kind, size)
    else:
        tracemalloc.start()
        match what:
            case "node":
                found = _measure_node(kind, size)
            case "item":
                found = _measure_item(kind, size)
            case _:
                found = _measure_fact(size)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()

"""The recorded workflows: read and turned into documents as recorded, and run over two real engines."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dagengine.app import DAGEngine, read_workflow
from dagengine.spec.model import LuaExecutor

FOLDER = Path(__file__).parents[2] / "examples" / "02-real-traces"
FILES = sorted(FOLDER.glob("traces/*.json"))


@pytest.fixture(scope="module")
def traces() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_traces", FOLDER / "traces.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def recorded(file: Path) -> dict[str, dict[str, Any]]:
    return {task["id"]: task for task in json.loads(file.read_text())["tasks"]}


def test_there_are_six_traces() -> None:
    assert [len(recorded(file)) for file in FILES] == [104, 197, 52, 41, 103, 42]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_trace_becomes_a_workflow_of_the_same_shape(file: Path, traces: ModuleType) -> None:
    tasks = recorded(file)
    trace = traces.read(file)
    document = read_workflow(traces.document(trace))
    assert len(document.spec.nodes) == len(tasks)
    for task, node in zip(tasks.values(), document.spec.nodes, strict=True):
        assert node.id == re.sub(r"[^\w-]+", "-", task["id"])
        assert list(node.dependencies) == [re.sub(r"[^\w-]+", "-", parent) for parent in task["parents"]]
        assert isinstance(node.executor, LuaExecutor)
        assert f"inputs.loops * {float(task['runtime_s'])} do" in node.executor.code
    assert document.metadata.annotations["origin"].startswith("wfcommons/WfInstances ")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_work_and_critical_path_are_those_of_the_recorded_tasks(file: Path, traces: ModuleType) -> None:
    tasks = recorded(file)

    @functools.cache
    def end(name: str) -> float:
        return float(tasks[name]["runtime_s"]) + max(map(end, tasks[name]["parents"]), default=0.0)

    trace = traces.read(file)
    assert trace.work == pytest.approx(sum(task["runtime_s"] for task in tasks.values()))
    assert trace.critical_path == pytest.approx(max(map(end, tasks)))


def test_names_that_would_be_the_same_id_stay_apart(traces: ModuleType) -> None:
    assert traces.node_ids(["a.b", "a b", "a-b", "c"]) == {"a.b": "a-b", "a b": "a-b-2", "a-b": "a-b-3", "c": "c"}


def test_a_task_that_waits_for_an_unknown_one_is_refused(traces: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    tasks = [{"id": "a", "parents": ["b"], "runtime_s": 1}]
    file.write_text(json.dumps({"name": "n", "origin": "o", "tasks": tasks}))
    with pytest.raises(ValueError, match=r"broken\.json: task a waits for unknown tasks: b"):
        traces.read(file)


def test_a_node_loops_as_often_as_its_seconds_say(traces: ModuleType) -> None:
    task = traces.Task(id="one", parents=(), seconds=2.5)
    document = traces.document(traces.Trace(id="t", name="t", origin="o", tasks=(task,)))
    x = 0
    for i in range(1, 26):
        x = (x * 31 + i) % 65521
    assert DAGEngine().run_sync(document, {"loops": 10}) == {"last": [x]}


@pytest.mark.e2e
def test_all_traces_run_at_once_over_two_engines() -> None:
    command = [sys.executable, str(FOLDER / "traces.py"), "--scale", "0.00002"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert {row[0]: row[2] for row in rows if row[1].startswith("engine-")} == {
        file.stem.rpartition("__")[2]: str(len(recorded(file))) for file in FILES
    }
    assert {row[1] for row in rows if row[1].startswith("engine-")} == {"engine-1", "engine-2"}
    assert "6 of 6 succeeded" in ran.stdout


def test_an_orchestrator_that_is_not_there_is_named() -> None:
    command = [sys.executable, str(FOLDER / "traces.py"), "--server", "http://127.0.0.1:9"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 1
    assert "http://127.0.0.1:9" in ran.stderr
    assert "Traceback" not in ran.stderr

"""`DAGEngine.run`: what a workflow can be given as, what comes out, what is seen on the way."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from dagengine import DAGEngine, DAGEngineError, InputError, SpecError, Workflow, read_workflow
from dagengine.app import LuaIsolation
from dagengine.errors import ExecutorError
from dagengine.events.facts import ExecutionStarted, ExecutionSucceeded

TEXT = """
metadata: {id: sums, version: 1.0.0}
spec:
  inputs: {rows: {type: array, items: {type: integer}}, factor: {type: integer, default: 2}}
  outputs: {total: "{{ nodes.total }}", first: "{{ nodes.scaled[1] }}"}
  nodes:
    - {id: scaled, foreach: inputs.rows, executor: {type: lua, code: return item * inputs.factor}}
    - id: total
      dependencies: [scaled]
      executor:
        type: lua
        code: |
          local sum = 0
          for _, value in ipairs(nodes.scaled) do sum = sum + value end
          return sum
"""
INPUTS = {"rows": [1, 2, 3]}
OUTPUTS = {"total": 12, "first": 2}


def built() -> Workflow:
    workflow = Workflow(
        "sums",
        "1.0.0",
        inputs={"rows": {"type": "array"}, "factor": {"type": "integer", "default": 2}},
        outputs={"total": "{{ nodes.total }}", "first": "{{ nodes.scaled[1] }}"},
    )
    scaled = workflow.lua("scaled", "return item * inputs.factor", foreach="inputs.rows")

    @workflow.python
    def total(scaled: list[int]) -> int:
        return sum(scaled)

    scaled >> total
    return workflow


@pytest.mark.parametrize("kind", ["text", "bytes", "path", "mapping", "document", "builder"])
async def test_a_workflow_can_be_given_in_many_ways(engine: DAGEngine, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "sums.yaml"
    path.write_text(TEXT, encoding="utf-8")
    sources: dict[str, Any] = {
        "text": TEXT,
        "bytes": TEXT.encode(),
        "path": path,
        "mapping": read_workflow(TEXT).to_dict(),
        "document": read_workflow(TEXT),
        "builder": built(),
    }
    assert await engine.run(sources[kind], INPUTS) == OUTPUTS


async def test_the_same_workflow_runs_again_and_again(engine: DAGEngine) -> None:
    workflow = built()
    assert await engine.run(workflow, INPUTS) == OUTPUTS
    assert await engine.run(workflow, {"rows": [5], "factor": 3}) == {"total": 15, "first": 15}


def test_it_runs_from_code_that_is_not_asynchronous() -> None:
    assert DAGEngine().run_sync(TEXT, INPUTS) == OUTPUTS
    assert DAGEngine().run_sync(built(), INPUTS) == OUTPUTS


async def test_run_sync_inside_a_loop_says_what_to_do_instead() -> None:
    with pytest.raises(RuntimeError, match="await the asynchronous method instead of run_sync"):
        DAGEngine().run_sync(TEXT, INPUTS)


async def test_what_is_wrong_with_a_workflow_is_told_with_its_line(engine: DAGEngine) -> None:
    with pytest.raises(SpecError) as caught:
        await engine.run(TEXT.replace("local sum = 0", "local sum = = 0"))
    assert "line 12" in str(caught.value)


async def test_a_file_that_is_not_there_is_named(engine: DAGEngine, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        await engine.run(tmp_path / "nowhere.yaml")


class TestInputs:
    async def test_everything_wrong_is_told_at_once(self, engine: DAGEngine) -> None:
        with pytest.raises(InputError) as caught:
            await engine.run(TEXT, {"rows": "x", "factor": 1.5, "more": 1})
        assert [problem.path for problem in caught.value.problems] == ["inputs.factor", "inputs.more", "inputs.rows"]

    @pytest.mark.parametrize(
        "value", [float("nan"), {1, 2}, 2**64, b"x", object()], ids=lambda value: type(value).__name__
    )
    async def test_what_is_not_json_is_refused(self, engine: DAGEngine, lua, value: object) -> None:
        document = {"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": [lua("a")]}}
        with pytest.raises(DAGEngineError) as caught:
            await engine.run(document, {"x": [value]})
        assert isinstance(caught.value, InputError)
        assert caught.value.problems[0].path == "inputs.x[0]"

    async def test_they_reach_the_nodes_as_they_were_given(self, engine: DAGEngine, document, lua) -> None:
        inputs = {"text": "ü\n\"'", "list": [], "object": {}, "none": None, "big": 2**53 + 1, "float": 1.0}
        outputs = await engine.run(document([lua("a", "return inputs")]), inputs)
        assert outputs == {"a": inputs}
        assert isinstance(outputs["a"]["float"], float)

    async def test_they_are_not_changed(self, engine: DAGEngine) -> None:
        inputs: dict[str, Any] = {"rows": [1]}
        await engine.run(TEXT, inputs)
        assert inputs == {"rows": [1]}


class TestWhatIsSeen:
    async def test_facts_are_seen_in_order_with_their_positions(self, engine: DAGEngine) -> None:
        seen: list[tuple[int, Any]] = []
        await engine.run(TEXT, INPUTS, execution="e-5", on_fact=lambda at, fact: seen.append((at, fact)))
        assert [at for at, _ in seen] == list(range(1, len(seen) + 1))
        first, last = seen[0][1], seen[-1][1]
        assert isinstance(first, ExecutionStarted)
        assert (first.execution, first.workflow, first.version) == ("e-5", "sums", "1.0.0")
        assert json.loads(bytes(first.inputs)) == {"rows": [1, 2, 3], "factor": 2}
        assert isinstance(last, ExecutionSucceeded)

    async def test_an_observer_that_raises_ends_the_run_with_its_error(self, engine: DAGEngine) -> None:
        def observer(at: int, fact: object) -> None:
            if at == 3:
                raise LookupError("seen enough")

        with pytest.raises(LookupError, match="seen enough"):
            await engine.run(TEXT, INPUTS, on_fact=observer)
        assert await engine.run(TEXT, INPUTS) == OUTPUTS

    @pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
    async def test_lines_of_lua_and_python_nodes_are_seen(self, document, lua, python, isolation: LuaIsolation) -> None:
        lines: list[Any] = []

        def log(context: Any) -> None:
            context.log("from python")

        plan = document([lua("a", "print('from', 'lua') log.warning('careful')"), python("b", "log", "a")])
        async with DAGEngine(functions={"log": log}, lua=isolation) as engine:
            await engine.run(plan, execution="e-1", on_log=lines.append)
        assert [(line.node, line.line, line.level, line.text) for line in lines] == [
            ("a", 1, "info", "from\tlua"),
            ("a", 2, "warning", "careful"),
            ("b", 1, "info", "from python"),
        ]
        assert {line.execution for line in lines} == {"e-1"}

    async def test_without_on_log_lines_go_to_the_engines_sink(self, document, lua) -> None:
        common: list[Any] = []
        own: list[Any] = []
        async with DAGEngine(log=common.append) as engine:
            await engine.run(document([lua("a", "print(1)")]))
            await engine.run(document([lua("a", "print(2)")]), on_log=own.append)
            await engine.run(document([lua("a", "print(3)")]))
        assert ([line.text for line in common], [line.text for line in own]) == (["1", "3"], ["2"])


class TestWhatTheEngineLacks:
    async def test_functions_that_are_not_registered_are_named(self, engine: DAGEngine, document, python) -> None:
        plan = document([python("a", "f"), python("b", "g")])
        engine.register("f", print)
        with pytest.raises(ExecutorError) as caught:
            await engine.run(plan)
        assert str(caught.value) == (
            "this engine cannot run w@1.0.0: node 'b' needs the Python function 'g', which is not registered here"
        )

    async def test_a_closed_engine_runs_nothing(self, document) -> None:
        engine = DAGEngine()
        await engine.close()
        with pytest.raises(ExecutorError, match="this engine is closed"):
            await engine.run(document([{"id": "a"}]))

    def test_an_engine_that_was_used_by_run_sync_is_closed(self, document) -> None:
        engine = DAGEngine()
        engine.run_sync(document([{"id": "a"}]))
        with pytest.raises(ExecutorError, match="this engine is closed: make another DAGEngine"):
            engine.run_sync(document([{"id": "a"}]))

    async def test_it_tells_what_it_can_do(self, engine: DAGEngine) -> None:
        assert engine.executors == ["lua", "python", "wait", "http"]
        assert DAGEngine(shell=True, http=False).executors == ["lua", "python", "wait", "shell"]


async def test_an_engine_may_be_made_on_one_thread_and_used_by_the_loop_of_another(document) -> None:
    engine, found = DAGEngine(), []
    thread = threading.Thread(target=lambda: found.append(engine.run_sync(document([{"id": "a"}]))))
    thread.start()
    thread.join(30)
    assert found == [{"a": 1}]


def test_a_way_to_run_lua_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="lua='jit' is none of the ways to run Lua: inline, thread, process"):
        DAGEngine(lua="jit")  # type: ignore[arg-type]  # that is what is tested

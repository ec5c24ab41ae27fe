"""Python nodes as people write them: functions of all kinds, bound by name, next to Lua nodes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from dagengine import DAGEngine, ExecutionFailed, SpecError, Workflow
from dagengine.errors import ExecutorError
from dagengine.executors.python import Context


async def add_later(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


async def test_synchronous_asynchronous_and_pure_functions_work_together(document, lua, python) -> None:
    functions = {"add": lambda a, b: a + b, "add_later": add_later, "pure": lambda total: total * 2}
    plan = document(
        [
            lua("a", "return 1"),
            lua("b", "return 2"),
            python("sum", "add", "a", "b", args={"a": "{{ nodes.a }}", "b": "{{ nodes.b }}"}),
            python("later", "add_later", "sum", args={"a": "{{ nodes.sum }}", "b": "{{ inputs.more }}"}),
            python("total", "pure", "later", args={"total": "{{ nodes.later }}"}, pure=True),
        ],
        outputs={"total": "{{ nodes.total }}", "text": "{{ nodes.sum }} and {{ nodes.later }}"},
    )
    async with DAGEngine(functions=functions) as engine:
        assert await engine.run(plan, {"more": 10}) == {"total": 26, "text": "3 and 13"}


async def test_parameters_are_bound_by_name_in_a_document(document, lua, python) -> None:
    def report(inputs: Any, nodes: Any, load: Any, context: Any, missing: int = 7) -> list[Any]:
        return [inputs, nodes, load, context.node, context.attempt, missing]

    plan = document([lua("start", "return 0"), lua("load", "return {1}", "start"), python("report", "report", "load")])
    async with DAGEngine(functions={"report": report}) as engine:
        outputs = await engine.run(plan, {"x": 1})
    assert outputs["report"] == [{"x": 1}, {"start": 0, "load": [1]}, [1], "report", 1, 7]


async def test_item_and_index_are_the_same_in_a_document_in_the_builder_and_in_lua(
    engine, document, lua, python
) -> None:
    engine.register("pair", lambda item, index: [item, index])
    plan = document([python("p", "pair", foreach="{'a', 'b'}"), lua("l", "return {item, index}", foreach="{'a', 'b'}")])
    workflow = Workflow("built", "1.0.0")
    workflow.python("p", lambda item, index: [item, index], foreach="{'a', 'b'}")
    expected = [["a", 1], ["b", 2]]
    assert await engine.run(plan) == {"p": expected, "l": expected}
    assert await engine.run(workflow) == {"p": expected}


async def test_a_function_that_takes_any_argument_gets_all_of_args(engine, document, python) -> None:
    engine.register("f", lambda **given: given)
    outputs = await engine.run(document([python("a", "f", args={"x": 1, "y": "{{ inputs.y }}"})]), {"y": [2]})
    assert outputs == {"a": {"x": 1, "y": [2]}}


async def test_a_skipped_dependency_leaves_a_default(engine, document, lua, python) -> None:
    engine.register("f", lambda maybe=None, sure=None: [maybe, sure])
    plan = document(
        [
            lua("maybe", when="false"),
            lua("sure"),
            python("a", "f", "maybe", "sure", run_if="none_failed"),
        ]
    )
    assert await engine.run(plan) == {"a": [None, 1]}


class TestTheBuilder:
    async def test_functions_need_not_be_registered(self, engine) -> None:
        workflow = Workflow("built", "1.0.0", inputs={"limit": {"type": "integer"}})

        @workflow.python
        def rows(limit: int) -> list[int]:
            return list(range(limit))

        @workflow.python
        async def total(rows: list[int]) -> int:
            return sum(rows)

        assert await engine.run(workflow, {"limit": 5}) == {"total": 10}
        assert total.id == "total"
        assert rows(3) == [0, 1, 2]

    async def test_another_function_under_the_same_name_and_version_is_refused(self, engine) -> None:
        def made(by: int) -> Workflow:
            workflow = Workflow("built", "1.0.0")
            workflow.python("f", lambda: by)
            return workflow

        assert await engine.run(made(1)) == {"f": 1}
        with pytest.raises(ExecutorError, match=r"another function is registered as 'built@1\.0\.0\.f' already"):
            await engine.run(made(2))

    async def test_a_parameter_that_nothing_is_bound_to_is_refused_before_anything_runs(self, engine) -> None:
        workflow = Workflow("built", "1.0.0")
        workflow.python("f", lambda nothing: nothing)
        with pytest.raises(SpecError, match="nothing is bound to parameter 'nothing'"):
            await engine.run(workflow)


class TestFailures:
    @pytest.mark.parametrize(
        ("result", "why"),
        [(float("nan"), "Out of range float values"), ({1}, "set"), (2**70, "64-bit")],
        ids=["nan", "set", "huge"],
    )
    async def test_a_result_that_is_not_json(self, engine, document, python, result: object, why: str) -> None:
        engine.register("f", lambda: result)
        with pytest.raises(ExecutionFailed) as caught:
            await engine.run(document([python("a", "f")]))
        assert "node 'a' failed: the function returned something that is not JSON: " in str(caught.value)
        assert why in str(caught.value)

    async def test_an_exception_keeps_its_type_line_and_the_users_frames_in_the_journal(
        self, engine, document, python
    ) -> None:
        def check(rows: list[int]) -> None:
            raise ValueError(f"only {len(rows)} rows")

        def load() -> None:
            check([1, 2])

        engine.register("load", load)
        facts: list[Any] = []
        with pytest.raises(ExecutionFailed, match="node 'a' failed: only 2 rows"):
            await engine.run(document([python("a", "load")]), on_fact=lambda *seen: facts.append(seen[1]))
        (error,) = [fact.error for fact in facts if type(fact).__name__ == "NodeFailed"]
        assert (error.type, error.message) == ("ValueError", "only 2 rows")
        assert error.line == check.__code__.co_firstlineno + 1
        assert [line.split("in ")[-1] for line in error.traceback.splitlines() if "File" in line] == ["load", "check"]

    @pytest.mark.parametrize("kind", ["lua", "async", "sync"])
    async def test_an_attempt_that_takes_too_long_breaks_down_and_is_tried_again(
        self, document, lua, python, kind: str
    ) -> None:
        release = threading.Event()

        async def later() -> None:
            await asyncio.sleep(600)

        functions = {"async": later, "sync": lambda: release.wait(30)}
        retry = {"error": {"max_attempts": 2, "backoff": {"initial": "1ms"}}}
        node = (
            lua("a", "while true do end", timeout="30ms", retry=retry)
            if kind == "lua"
            else python("a", kind, timeout="30ms", retry=retry)
        )
        facts: list[Any] = []
        async with DAGEngine(functions=functions, lua="thread") as engine:
            with pytest.raises(ExecutionFailed) as caught:
                await engine.run(document([node]), on_fact=lambda *seen: facts.append(seen[1]))
            release.set()
        failed = [fact for fact in facts if type(fact).__name__ == "NodeFailed"]
        assert [(fact.attempt, fact.conclusion, fact.error.type) for fact in failed] == [
            (1, "error", "Timeout"),
            (2, "error", "Timeout"),
        ]
        assert "0.03" in caught.value.nodes["a"] or "30" in caught.value.nodes["a"]


async def test_a_function_of_a_builder_may_ask_for_its_context() -> None:
    workflow = Workflow("w", "1.0.0")
    lines: list[str] = []

    @workflow.python
    def tell(context: Context) -> str:
        context.log("here")
        return context.node

    async with DAGEngine() as engine:
        outputs = await engine.run(workflow, on_log=lambda line: lines.append(line.text))
    assert outputs == {"tell": "tell"}
    assert lines == ["here"]


async def test_a_notebook_cell_that_is_run_again_registers_nothing_new() -> None:
    def cell(answer: str = "one") -> Workflow:
        workflow = Workflow("w", "1.0.0")

        @workflow.python
        def tell() -> str:
            return "told"

        tell.function.__defaults__ = (answer,) if answer != "one" else None
        return workflow

    async with DAGEngine() as engine:
        assert await engine.run(cell()) == {"tell": "told"}
        assert await engine.run(cell()) == {"tell": "told"}
        with pytest.raises(ExecutorError, match="another function is registered"):
            await engine.run(cell("two"))

"""How a run can end otherwise than well, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from dagengine import DAGEngine, ExecutionFailed
from dagengine.app import LuaIsolation
from dagengine.errors import ExecutorError
from dagengine.machine.state import State


class TestExecutionFailed:
    async def test_it_names_the_execution_its_status_and_every_failed_node(self, engine, document, lua) -> None:
        plan = document(
            [
                lua("fine"),
                lua("a", "error('no rows', 0)"),
                lua("b", "return nil + 1"),
                lua("below", "return 1", "a"),
            ]
        )
        with pytest.raises(ExecutionFailed) as caught:
            await engine.run(plan, execution="e-4")
        failed = caught.value
        assert (failed.execution, failed.status) == ("e-4", "failed")
        assert failed.nodes["a"] == "no rows"
        assert "arithmetic on a nil value" in failed.nodes["b"]
        assert set(failed.nodes) == {"a", "b"}
        assert str(failed) == "node 'a' failed: no rows (and 1 more)"

    async def test_outputs_that_cannot_be_evaluated(self, engine, document) -> None:
        with pytest.raises(ExecutionFailed) as caught:
            await engine.run(document([{"id": "a"}], outputs={"x": "{{ nodes.a.b.c }}"}))
        assert str(caught.value).startswith("the outputs cannot be evaluated: ")
        assert (caught.value.status, caught.value.nodes) == ("failed", {})

    async def test_a_failed_list_of_items(self, engine, document, lua) -> None:
        plan = document([lua("a", "if item > 1 then error('too big', 0) end", foreach="{1, 2, 3}")])
        with pytest.raises(ExecutionFailed) as caught:
            await engine.run(plan)
        assert caught.value.nodes == {"a": "2 of 3 items failed; item 1: too big"}


class TestCancelling:
    async def test_the_event_stops_the_execution(self, engine, document, python) -> None:
        begun, cancel = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            await asyncio.sleep(600)

        engine.register("wait", wait)
        running = asyncio.ensure_future(engine.run(document([python("a", "wait")]), cancel=cancel))
        await begun.wait()
        cancel.set()
        with pytest.raises(ExecutionFailed, match="the execution was cancelled: the caller asked for it") as caught:
            await running
        assert (caught.value.status, caught.value.nodes) == ("cancelled", {})

    async def test_an_event_that_is_set_already_stops_it_at_once(self, engine, document, python) -> None:
        async def wait() -> None:
            await asyncio.sleep(600)

        engine.register("wait", wait)
        cancel = asyncio.Event()
        cancel.set()
        with pytest.raises(ExecutionFailed) as caught:
            await engine.run(document([python("a", "wait")]), cancel=cancel)
        assert caught.value.status == "cancelled"

    async def test_nodes_that_run_always_run_before_it_ends(self, engine, document, python) -> None:
        begun, cancel, cleaned = asyncio.Event(), asyncio.Event(), []

        async def wait() -> None:
            begun.set()
            await asyncio.sleep(600)

        engine.register("wait", wait)
        engine.register("clean", lambda: cleaned.append(True))
        plan = document([python("a", "wait"), python("b", "clean", "a", run_if="always")])
        running = asyncio.ensure_future(engine.run(plan, cancel=cancel))
        await begun.wait()
        cancel.set()
        with pytest.raises(ExecutionFailed):
            await running
        assert cleaned == [True]

    async def test_cancelling_the_task_that_runs_it_stops_what_runs(self, engine, document, python) -> None:
        begun, told = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            try:
                await asyncio.sleep(600)
            finally:
                told.set()

        engine.register("wait", wait)
        running = asyncio.ensure_future(engine.run(document([python("a", "wait")])))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.wait_for(told.wait(), 5)


class TestClosing:
    async def test_whoever_waits_for_a_run_is_told(self, document, python) -> None:
        begun = asyncio.Event()

        async def wait() -> None:
            begun.set()
            await asyncio.sleep(600)

        engine = DAGEngine(functions={"wait": wait})
        running = asyncio.ensure_future(engine.run(document([python("a", "wait")]), execution="e-1"))
        await begun.wait()
        await engine.close()
        with pytest.raises(ExecutorError, match="execution e-1 was given up: the engine was closed while it ran"):
            await asyncio.wait_for(running, 5)

    async def test_it_may_be_closed_twice_and_before_it_was_used(self) -> None:
        engine = DAGEngine(lua="process")
        await engine.close()
        await engine.close()

    @pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
    async def test_no_task_and_no_thread_is_left(self, document, lua, python, isolation: LuaIsolation) -> None:
        threads = set(threading.enumerate())
        retry = {"fail": {"max_attempts": 2, "backoff": {"initial": "1ms"}}}

        async def later() -> int:
            return 1

        functions = {"sync": lambda: 1, "later": later}
        plan = document([lua("a", "error()", retry=retry), python("b", "sync"), python("c", "later", timeout="1h")])
        async with DAGEngine(functions=functions, lua=isolation) as engine:
            with pytest.raises(ExecutionFailed):
                await engine.run(plan, cancel=asyncio.Event())
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        own = [
            thread
            for thread in set(threading.enumerate()) - threads
            if not thread.name.startswith("asyncio")  # the loop's own pool, which `close` waited in
        ]
        for thread in own:
            await asyncio.to_thread(thread.join, 10)
        assert not any(thread.is_alive() for thread in own)

    async def test_an_ended_run_does_not_wait_for_the_garbage_collector(self, engine, document, lua) -> None:
        plan = document([lua("a", "return item", foreach="{1, 2}"), lua("b", "return 1", "a")])
        await engine.run(plan)
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                await engine.run(plan)
            assert states() <= 1  # the Lua executor remembers its last job
        finally:
            gc.enable()


def states() -> int:
    return sum(isinstance(found, State) for found in gc.get_objects())


class TestManyAtOnce:
    async def test_runs_do_not_mix(self, engine, document, lua, python) -> None:
        async def echo(inputs: dict[str, Any], a: int) -> list[int]:
            await asyncio.sleep(0)
            return [inputs["x"], a]

        engine.register("echo", echo)
        plan = document([lua("a", "return inputs.x * 10"), python("b", "echo", "a")])
        found = await asyncio.gather(*(engine.run(plan, {"x": x}) for x in range(50)))
        assert found == [{"b": [x, x * 10]} for x in range(50)]

    async def test_one_that_fails_does_not_touch_the_others(self, engine, document, lua) -> None:
        plan = document([lua("a", "if inputs.x == 3 then error('three', 0) end return inputs.x")])
        found = await asyncio.gather(*(engine.run(plan, {"x": x}) for x in range(6)), return_exceptions=True)
        assert [type(result).__name__ for result in found] == ["dict"] * 3 + ["ExecutionFailed"] + ["dict"] * 2

    async def test_a_thousand_small_runs(self, engine, document, lua) -> None:
        plan = document([lua("a", "return inputs.x"), lua("b", "return nodes.a + 1", "a")])
        found = await asyncio.gather(*(engine.run(plan, {"x": x}) for x in range(1_000)))
        assert [result["b"] for result in found] == list(range(1, 1_001))

    async def test_two_that_are_named_alike_do_not_run_at_once(self, engine, document, python) -> None:
        begun, release = asyncio.Event(), asyncio.Event()

        async def wait() -> int:
            begun.set()
            await release.wait()
            return 1

        engine.register("wait", wait)
        plan = document([python("a", "wait")])
        first = asyncio.ensure_future(engine.run(plan, execution="e-1"))
        await begun.wait()
        with pytest.raises(ExecutorError, match="an execution named e-1 is running here already"):
            await engine.run(plan, execution="e-1")
        release.set()
        assert await first == {"a": 1}
        assert await engine.run(plan, execution="e-1") == {"a": 1}


class TestLargeOnes:
    async def test_a_chain_of_ten_thousand_nodes(self, engine, document, lua) -> None:
        size = 10_000
        chain = [lua(f"n{at}", f"return nodes.n{at - 1} + 1", f"n{at - 1}") for at in range(1, size)]
        plan = document([lua("n0", "return 1"), *chain])
        assert await engine.run(plan) == {f"n{size - 1}": size}

    async def test_a_failure_at_the_head_of_it_is_passed_down_to_its_end(self, engine, document, lua) -> None:
        size = 10_000
        chain = [lua(f"n{at}", "return 1", f"n{at - 1}") for at in range(1, size)]
        with pytest.raises(ExecutionFailed, match="node 'n0' failed: no"):
            await engine.run(document([lua("n0", "error('no', 0)"), *chain]))

    async def test_five_thousand_items(self, engine, document, lua) -> None:
        plan = document([lua("a", "return item + 1", foreach="inputs.rows")])
        rows = list(range(5_000))
        assert await engine.run(plan, {"rows": rows}) == {"a": [row + 1 for row in rows]}

    async def test_functions_wider_than_all_threads(self, engine, document, python) -> None:
        engine.register("f", lambda index: index)
        plan = document([python("a", "f", foreach="inputs.rows")])
        assert await engine.run(plan, {"rows": [0] * 500}) == {"a": list(range(1, 501))}

"""Functions in worker processes: what they get and give, how they are stopped, what their crashes cost."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psutil
import pytest

from dagengine.executors.base import MAX_RESULT, Outcome

SECOND = 1_000_000
WORKERS = 2

Processes = Any

ENGINE = """
import asyncio, sys
sys.path[:] = {path!r}
import uvloop
from dagengine.clock import SystemClock
from dagengine.executors.base import Job, Scope
from dagengine.executors.python import PythonFunctions
from dagengine.spec.executors import PythonExecutor

python = PythonFunctions(clock=SystemClock(), log=lambda line: print(line.text, flush=True), allow=["*:*"])

def submit(function, done):
    scope = Scope(execution="e", workflow="w", version="1", digest="", inputs=b"{{}}", nodes={{}}, env={{}})
    spec = PythonExecutor(function=function, isolation="process")
    python.submit([Job(position=0, node="n", index=None, attempt=1, spec=spec, scope=scope)], done)

async def main():
    {main}

with asyncio.Runner(loop_factory={factory}) as runner:
    runner.run(main())
"""
"""A program that has workers."""


@pytest.fixture
async def processes(calls_with: Callable[..., Any]) -> AsyncIterator[Processes]:
    """Calls of `module(source)`, each by default in a process."""
    made = calls_with(allow=["*:*"], workers=WORKERS, reuse=1_000)
    made.outcome = functools.partial(made.outcome, isolation="process")
    yield made
    await made.executor.close()


@pytest.fixture
def begin(processes: Processes, job: Callable[..., Any]) -> Callable[..., Any]:
    def submit(function: str, **options: Any) -> Any:
        made = job(function, isolation="process", **options)
        processes.submit(made)
        return made

    return submit


def result(outcome: Outcome) -> Any:
    assert outcome.conclusion == "success", outcome
    return json.loads(outcome.result)


def told(outcome: Outcome) -> tuple[str, str]:
    assert outcome.error is not None
    return outcome.conclusion, outcome.error.type


class TestCalling:
    async def test_it_runs_in_another_process_that_is_used_again(self, processes, module) -> None:
        name = module("import os\ndef pid(): return os.getpid()")
        first, second = [result(await processes.outcome(f"{name}:pid")) for _ in range(2)]
        assert first == second != os.getpid()

    async def test_parameters_are_bound_as_everywhere(self, processes, module) -> None:
        name = module("""
            def f(inputs, nodes, load, item, index, context, given, missing=7):
                return [inputs, nodes, load, item, index, context.node, given, missing]
        """)
        outcome = await processes.outcome(
            f"{name}:f", inputs={"x": 1}, nodes={"load": [1], "b-c": None}, item="i", index=0, args={"given": "ü"}
        )
        assert result(outcome) == [{"x": 1}, {"load": [1], "b-c": None}, [1], "i", 1, "n", "ü", 7]

    async def test_a_parameter_without_value_is_named(self, processes, module) -> None:
        name = module("def f(a): return a")
        outcome = await processes.outcome(f"{name}:f")
        assert told(outcome) == ("fail", "BindingError")
        assert outcome.error.message == "parameter 'a' is neither in `args` nor an upstream node that succeeded"

    async def test_asynchronous_functions_get_a_loop_there(self, processes, module) -> None:
        name = module("""
            import asyncio
            async def f(a):
                await asyncio.sleep(0)
                return a + 1
        """)
        assert [result(await processes.outcome(f"{name}:f", args={"a": a})) for a in (1, 2)] == [2, 3]

    async def test_registered_functions_of_modules_run_there(self, processes, module) -> None:
        name = module("def twice(a): return a * 2")
        processes.executor.register("double", __import__(name).twice)
        assert result(await processes.outcome("double", args={"a": 21})) == 42

    @pytest.mark.parametrize("kind", ["lambda", "local", "partial", "method", "main"])
    async def test_what_has_no_name_in_a_module_is_refused(self, processes, kind: str) -> None:
        def local() -> None: ...

        def main() -> None: ...

        main.__module__, main.__qualname__ = "__main__", "main"
        functions = {
            "lambda": lambda: None,
            "local": local,
            "partial": functools.partial(result),
            "method": [].copy,
            "main": main,
        }
        processes.executor.register("f", functions[kind])
        outcome = await processes.outcome("f")
        assert told(outcome) == ("fail", "FunctionMissing")
        assert "which a worker process cannot" in outcome.error.message or "so that a worker" in outcome.error.message
        assert processes.executor.missing("f", isolation="process") in outcome.error.message
        assert processes.executor.missing("f") is None

    async def test_large_values_go_both_ways(self, processes, module) -> None:
        name = module("def f(load): return load")
        value = "x" * (MAX_RESULT - 2)
        assert result(await processes.outcome(f"{name}:f", nodes={"load": value})) == value

    async def test_a_result_has_a_most(self, processes, module) -> None:
        name = module(f"def f(): return 'x' * {MAX_RESULT}")
        outcome = await processes.outcome(f"{name}:f")
        assert told(outcome) == ("fail", "ResultError")

    async def test_exceptions_tell_the_users_frames_only(self, processes, module) -> None:
        name = module("def refuse():\n    raise ValueError('no')\n\ndef f():\n    refuse()\n")
        outcome = await processes.outcome(f"{name}:f")
        assert (outcome.conclusion, outcome.error.type, outcome.error.message) == ("fail", "ValueError", "no")
        assert outcome.error.line == 2
        assert [line.split(", in ")[1] for line in outcome.error.traceback.splitlines() if ", in " in line] == [
            "f",
            "refuse",
        ]

    async def test_those_of_asynchronous_functions_too(self, processes, module) -> None:
        name = module("async def f():\n    raise ValueError('no')\n")
        outcome = await processes.outcome(f"{name}:f")
        assert [line.split(", in ")[1] for line in outcome.error.traceback.splitlines() if ", in " in line] == ["f"]

    async def test_fail_keeps_its_type_and_details(self, processes, module) -> None:
        name = module("""
            from dagengine import Fail
            def f(): raise Fail('none left', type='OutOfStock', details={'left': 0})
        """)
        error = (await processes.outcome(f"{name}:f")).error
        assert (error.type, error.message, bytes(error.details)) == ("OutOfStock", "none left", b'{"left":0}')

    async def test_attempt_tells_which_it_is(self, processes, module) -> None:
        name = module("""
            from dagengine import attempt
            def f(): return [attempt.execution, attempt.workflow, attempt.version, attempt.node, attempt.index,
                             attempt.number, attempt.idempotency_key, attempt.cancelled]
        """)
        outcome = await processes.outcome(f"{name}:f", execution="e-9", index=3, attempt=2, key="e-9/n[3]/1")
        assert result(outcome) == ["e-9", "w", "1.0.0", "n", 3, 2, "e-9/n[3]/1", False]

    async def test_calls_beyond_the_workers_wait(self, processes, module, begin) -> None:
        name = module("import os\ndef f(): return os.getpid()")
        for number in range(20):
            begin(f"{name}:f", node=f"n{number}")
        outcomes = await processes.wait(20)
        assert 1 <= len({result(outcome) for outcome in outcomes}) <= WORKERS

    async def test_a_worker_makes_way_for_a_fresh_one(self, calls_with, module) -> None:
        calls = calls_with(allow=["*:*"], workers=1, reuse=2)
        name = module("import os\ndef f(): return os.getpid()")
        pids = [result(await calls.outcome(f"{name}:f", isolation="process")) for _ in range(5)]
        await calls.executor.close()
        assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


class TestLogs:
    async def test_prints_and_logs_are_lines_and_nothing_printed_before_comes_after(self, processes, module) -> None:
        name = module("""
            import sys
            from dagengine import attempt
            def f():
                print('one')
                attempt.log('two', 'warning')
                print('three\\nfour')
                sys.stderr.write('five')
        """)
        await processes.outcome(f"{name}:f", node="load", attempt=3)
        assert [line.line for line in processes.lines] == [1, 2, 3, 4, 5]
        assert {line.text: line.level for line in processes.lines}["two"] == "warning"
        assert [text for text in processes.texts if text != "two"] == ["one", "three", "four", "five"]
        assert processes.texts.index("one") < processes.texts.index("two")
        assert {(line.node, line.attempt) for line in processes.lines} == {("load", 3)}

    async def test_what_programs_print_is_there_too(self, processes, module) -> None:
        name = module("import os\ndef f(): os.system('echo from a program')")
        await processes.outcome(f"{name}:f")
        assert processes.texts == ["from a program"]

    async def test_lines_come_while_the_function_runs(self, processes, module, begin) -> None:
        name = module("import time\ndef f():\n    print('begun')\n    time.sleep(60)")
        job = begin(f"{name}:f")
        await processes.logged("begun")
        assert processes.outcomes == []
        processes.cancel(job)
        await processes.wait()

    async def test_a_line_without_end_is_cut(self, processes, module) -> None:
        name = module("def f(): print('x' * 200_000)")
        await processes.outcome(f"{name}:f")
        assert "".join(processes.texts) == "x" * 200_000
        assert max(map(len, processes.texts)) <= 65_536

    async def test_what_a_thread_prints_after_its_call_is_nobodys(self, processes, module) -> None:
        name = module("""
            import threading
            go = threading.Event()
            def late():
                go.wait()
                print('late', flush=True)
            def f(): threading.Thread(target=late, daemon=True).start()
            def g(): go.set()
        """)
        await processes.outcome(f"{name}:f", node="first")
        await processes.outcome(f"{name}:g", node="second")
        assert "first" not in {line.node for line in processes.lines}


class TestStopping:
    async def test_a_timeout_ends_what_hangs(self, processes, module) -> None:
        name = module("""
            import signal, time
            def f():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                while True: pass
        """)
        outcome = await processes.outcome(f"{name}:f", timeout=SECOND // 5)
        assert told(outcome) == ("error", "Timeout")
        assert outcome.error.message == "the attempt took longer than its timeout of 0.2 s"
        assert SECOND // 5 <= outcome.elapsed < 5 * SECOND

    async def test_a_function_may_clean_up_after_its_timeout(self, processes, module, tmp_path) -> None:
        name = module("""
            import pathlib, time
            def f(path):
                try:
                    time.sleep(60)
                finally:
                    pathlib.Path(path).write_text('clean')
        """)
        outcome = await processes.outcome(f"{name}:f", timeout=SECOND // 5, args={"path": str(tmp_path / "told")})
        assert told(outcome) == ("error", "Timeout")
        assert (tmp_path / "told").read_text() == "clean"

    async def test_what_it_returns_after_its_timeout_does_not_count(self, processes, module) -> None:
        name = module("""
            import os, time
            def f():
                try:
                    time.sleep(60)
                except BaseException:
                    return 'late'
            def pid(): return os.getpid()
        """)
        before = result(await processes.outcome(f"{name}:pid"))
        outcome = await processes.outcome(f"{name}:f", timeout=SECOND // 5)
        assert told(outcome) == ("error", "Timeout")
        assert result(await processes.outcome(f"{name}:pid")) != before

    async def test_a_module_that_does_not_end_to_be_imported_is_stopped_too(self, processes, module) -> None:
        name = module("import time\ntime.sleep(60)\ndef f(): pass")
        outcome = await processes.outcome(f"{name}:f", timeout=SECOND // 5)
        assert told(outcome) == ("error", "Timeout")

    async def test_cancelling_without_grace_kills_at_once(self, processes, module, begin) -> None:
        name = module("""
            import os, time
            def f():
                try:
                    print(os.getpid())
                    print('begun')
                    time.sleep(60)
                finally:
                    print('never')
        """)
        job = begin(f"{name}:f")
        await processes.logged("begun")
        processes.cancel(job)
        (outcome,) = await processes.wait()
        assert told(outcome) == ("error", "Cancelled")
        assert not psutil.pid_exists(int(processes.texts[0]))
        assert "never" not in processes.texts

    @pytest.mark.parametrize("how", ["return 'in time'", "attempt.raise_if_cancelled()"])
    async def test_a_function_that_looks_ends_within_its_grace(self, processes, module, begin, how: str) -> None:
        name = module(f"""
            import os, time
            from dagengine import attempt
            def f():
                print('begun')
                while not attempt.cancelled: time.sleep(0.005)
                {how}
            def pid(): return os.getpid()
        """)
        before = result(await processes.outcome(f"{name}:pid", node="before"))
        job = begin(f"{name}:f")
        await processes.logged("begun")
        processes.cancel(job, grace=60 * SECOND)
        outcome = (await processes.wait(2))[1]
        if how.startswith("return"):
            assert result(outcome) == "in time"
        else:
            assert told(outcome) == ("error", "Cancelled")
        assert result(await processes.outcome(f"{name}:pid", node="after")) == before

    async def test_one_that_does_not_look_is_killed_after_its_grace(self, processes, module, begin) -> None:
        name = module("import time\ndef f():\n    print('begun')\n    time.sleep(60)")
        job = begin(f"{name}:f")
        await processes.logged("begun")
        processes.cancel(job, grace=SECOND // 10)
        (outcome,) = await processes.wait()
        assert told(outcome) == ("error", "Cancelled")

    async def test_grace_can_be_shortened(self, processes, module, begin) -> None:
        name = module("import time\ndef f():\n    print('begun')\n    time.sleep(60)")
        job = begin(f"{name}:f")
        await processes.logged("begun")
        processes.cancel(job, grace=3_600 * SECOND)
        processes.cancel(job)
        (outcome,) = await processes.wait()
        assert told(outcome) == ("error", "Cancelled")

    async def test_an_asynchronous_function_is_cancelled(self, processes, module, begin) -> None:
        name = module("""
            import asyncio
            async def f():
                print('begun')
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    return 'told'
        """)
        job = begin(f"{name}:f")
        await processes.logged("begun")
        processes.cancel(job, grace=60 * SECOND)
        (outcome,) = await processes.wait()
        assert result(outcome) == "told"

    async def test_a_call_that_no_worker_has_is_dropped(self, processes, module, begin) -> None:
        name = module("import time\ndef f():\n    print('begun')\n    time.sleep(60)")
        jobs = [begin(f"{name}:f", node=f"n{number}") for number in range(WORKERS + 1)]
        processes.cancel(jobs[-1], grace=60 * SECOND)
        (outcome,) = await processes.wait()
        assert told(outcome) == ("error", "Cancelled")
        assert [job.node for job, _ in processes.outcomes] == [f"n{WORKERS}"]

    async def test_programs_that_a_function_has_started_die_with_it(self, processes, module, begin) -> None:
        name = module("""
            import subprocess
            def f():
                program = subprocess.Popen(['sleep', '60'])
                print(program.pid)
                print('begun')
                program.wait()
        """)
        job = begin(f"{name}:f")
        await processes.logged("begun")
        program = psutil.Process(int(processes.texts[0]))
        processes.cancel(job)
        await processes.wait()
        program.wait(10)
        assert not program.is_running()


class TestCrashes:
    @pytest.mark.parametrize(
        ("crash", "how"),
        [
            ("os._exit(3)", "exit code 3"),
            ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL; the system may be short of memory"),
            ("ctypes.string_at(0)", "SIGSEGV"),
        ],
        ids=["exit", "kill", "segfault"],
    )
    async def test_they_cost_that_attempt_and_no_other(self, processes, module, begin, crash: str, how: str) -> None:
        name = module(f"""
            import ctypes, os, signal
            def crash():
                print('last words')
                {crash}
            def f(a): return a
        """)
        begin(f"{name}:crash", node="crash")
        for number in range(10):
            begin(f"{name}:f", node=f"n{number}", args={"a": number})
        await processes.wait(11)
        outcomes = {job.node: outcome for job, outcome in processes.outcomes}
        assert [result(outcomes[f"n{number}"]) for number in range(10)] == list(range(10))
        assert told(outcomes["crash"]) == ("error", "Killed")
        assert outcomes["crash"].error.message == f"the function's worker process died while it ran: {how}"
        assert "last words" in processes.texts

    async def test_a_segfault_tells_where_in_the_log(self, processes, module) -> None:
        name = module("import ctypes\ndef crash():\n    ctypes.string_at(0)")
        await processes.outcome(f"{name}:crash")
        assert any(f'{name}.py", line 3 in crash' in text for text in processes.texts)

    async def test_an_exception_that_ends_programs_does_not_end_the_worker(self, processes, module) -> None:
        name = module("import os, sys\ndef f(): sys.exit(2)\ndef pid(): return os.getpid()")
        before = result(await processes.outcome(f"{name}:pid"))
        assert told(await processes.outcome(f"{name}:f")) == ("fail", "SystemExit")
        assert result(await processes.outcome(f"{name}:pid")) == before

    async def test_a_child_that_comes_back_is_not_taken_for_the_worker(self, processes, module) -> None:
        name = module("""
            import os
            def f():
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
                return 'parent' if child else 'child'
        """)
        assert result(await processes.outcome(f"{name}:f")) == "parent"

    async def test_an_idle_worker_that_is_killed_is_replaced(self, processes, module) -> None:
        name = module("import os\ndef f(): return os.getpid()")
        pid = result(await processes.outcome(f"{name}:f"))
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while pid in processes.executor.worker_pids():  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0)
        assert result(await processes.outcome(f"{name}:f")) != pid

    async def test_workers_that_cannot_start_are_told_with_what_they_said(
        self, processes, module, monkeypatch: pytest.MonkeyPatch, tmp_path
    ) -> None:
        interpreter = tmp_path / "python"
        interpreter.write_text("#!/bin/sh\necho no such snake >&2\nexit 7\n")
        interpreter.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(interpreter))
        outcome = await processes.outcome(f"{module('def f(): pass')}:f")
        assert told(outcome) == ("error", "WorkerFailed")
        assert outcome.error.message == "a worker process could not start: exit code 7: no such snake"

    async def test_without_an_interpreter_the_attempt_breaks_down(self, processes, module, monkeypatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        outcome = await processes.outcome(f"{module('def f(): pass')}:f")
        assert told(outcome) == ("error", "Overloaded")
        assert "a worker process could not be started" in outcome.error.message


class TestEnding:
    def test_it_works_on_the_servers_loop_too(self, module) -> None:
        """In a process of its own: the loop keeps a pipe for good."""
        name = module("import os\ndef f(): return 1\ndef crash(): os._exit(3)")
        code = ENGINE.format(
            path=sys.path,
            main=f"""
    for function in ("f", "crash", "f"):
        ended = asyncio.get_running_loop().create_future()
        submit("{name}:" + function, lambda _, outcome: ended.set_result(outcome.conclusion))
        print(await ended)
    await python.close()
""",
            factory="uvloop.new_event_loop",
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.split() == ["success", "error", "success"]

    async def test_closing_ends_the_workers_and_nobody_is_told(self, processes, module, begin) -> None:
        name = module("import os, time\ndef f():\n    print(os.getpid())\n    print('begun')\n    time.sleep(60)")
        begin(f"{name}:f")
        await processes.logged("begun")
        await processes.executor.close()
        assert not psutil.pid_exists(int(processes.texts[0]))
        assert processes.outcomes == []

    @pytest.fixture
    def engine(self, module: Callable[..., str]) -> Iterator[subprocess.Popen[str]]:
        """An engine's process, whose function prints its process id and hangs."""
        name = module("import os, time\ndef f():\n    print(os.getpid())\n    time.sleep(600)")
        main = f"""
    submit("{name}:f", print)
    await asyncio.sleep(600)
"""
        code = ENGINE.format(path=sys.path, main=main, factory="asyncio.new_event_loop")
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            yield process
            process.kill()

    async def test_workers_end_with_an_engine_that_is_killed(self, engine: subprocess.Popen[str]) -> None:
        assert engine.stdout is not None
        worker = psutil.Process(int(await asyncio.to_thread(engine.stdout.readline)))
        engine.kill()
        await asyncio.to_thread(worker.wait, 10)
        assert not worker.is_running()

"""The processes themselves: how many, what they may do, how they go, and what happens when they cannot come."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from dagengine.app import DAGEngine
from dagengine.clock import SystemClock
from dagengine.executors.lua.process import nursery, pool
from dagengine.executors.lua.process.executor import LuaProcesses


async def until(found: Any, *, seconds: float = 10) -> None:
    """Wait until `found()`: what other processes do cannot be awaited."""
    async with asyncio.timeout(seconds):
        while not found():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)


def _proc(process: psutil.Process, name: str) -> bytes:
    return Path(f"/proc/{process.pid}/{name}").read_bytes()


def _alive(process: psutil.Process) -> bool:
    """Whether it runs. One whose parent is gone may remain as a zombie until init looks."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _files(process: psutil.Process) -> list[str]:
    return sorted(os.readlink(path) for path in Path(f"/proc/{process.pid}/fd").iterdir())


class TestHowManyThereAre:
    async def test_none_before_there_is_work(self, start, processes) -> None:
        start()
        assert processes.zygotes() == []

    async def test_warming_up_starts_what_workers_come_from(self, start, processes, job, crowd) -> None:
        executor = start()
        executor.warm()
        executor.warm()
        assert len(processes.zygotes()) == 1
        crowd.submit(executor, [job("return 1")])
        await crowd.wait(1)

    async def test_one_for_work_that_one_can_do(self, start, processes, job, crowd) -> None:
        executor = start(workers=4)
        for count in range(1, 50):
            crowd.submit(executor, [job("return 1")])
            await crowd.wait(count)
        assert len(processes.workers()) == 1

    async def test_as_many_as_may_be_for_work_that_takes_long(self, start, processes, job, crowd) -> None:
        executor = start(workers=3)
        crowd.submit(executor, [job("while true do end", index=i, timeout=300_000) for i in range(6)])
        await until(lambda: len(processes.workers()) == 3)
        await crowd.wait(6)
        assert len(processes.workers()) <= 3

    async def test_as_many_as_there_are_processors_unless_told_otherwise(self, start, processes, job, crowd) -> None:
        executor = start()
        crowd.submit(executor, [job("while true do end", index=i, timeout=300_000) for i in range(20)])
        await until(lambda: len(processes.workers()) == len(os.sched_getaffinity(0)))

    async def test_many_are_not_asked_for_all_at_once(self, start, processes, job, crowd, monkeypatch) -> None:
        """More requests than a socket holds would be lost, and the process that they are for with them."""
        asked = 0
        fork = nursery.Nursery.fork

        def counted(self: nursery.Nursery, number: int, *ends: Any) -> None:
            nonlocal asked
            asked += 1
            fork(self, number, *ends)

        monkeypatch.setattr(nursery.Nursery, "fork", counted)
        executor = start(workers=40)
        crowd.submit(executor, [job("while true do end", index=i) for i in range(60)])
        await until(lambda: asked > 0)
        assert asked == 16
        await until(lambda: len(processes.workers()) == 40, seconds=30)

    def test_no_worker_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one worker is needed to run Lua, not 0"):
            LuaProcesses(log=print, clock=SystemClock(), workers=0)

    @pytest.mark.parametrize("options", [{"lua_workers": 2}, {"lua": "thread", "lua_cpu": 5}])
    def test_limits_of_processes_are_refused_where_there_are_none(self, options) -> None:
        with pytest.raises(ValueError, match="lua_workers and lua_cpu are for Lua in processes, not for lua="):
            DAGEngine(**options)


class TestWhatAWorkerMayDo:
    @pytest.fixture
    async def worker(self, start, processes, job, crowd, monkeypatch) -> psutil.Process:
        monkeypatch.setenv("SECRET_OF_THE_ENGINE", "hidden")
        crowd.submit(start(workers=1, max_memory=32 << 20), [job("return 1")])
        await crowd.wait(1)
        (worker,) = processes.workers()
        return worker

    async def test_its_limits_are_as_low_as_they_can_be(self, worker) -> None:
        limits = _proc(worker, "limits").decode()
        found = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
        for name in ("Max open files", "Max file size", "Max core file size", "Max processes"):
            assert found[name] == ["0", "0"], name
        assert int(found["Max address space"][1]) < 1 << 30
        assert 3_600 <= int(found["Max cpu time"][0]) < 3_610

    async def test_it_has_no_file_of_the_engine(self, worker) -> None:
        targets = _files(worker)
        assert [target for target in targets if target.startswith("socket:")] == targets[-2:]
        assert len(targets) == 5
        assert targets.count("/dev/null") >= 2

    async def test_it_knows_nothing_of_the_engines_environment(self, worker) -> None:
        assert b"hidden" not in _proc(worker, "environ")

    async def test_it_cannot_gain_rights_and_goes_first_when_memory_is_short(self, worker) -> None:
        status = _proc(worker, "status").decode()
        assert "NoNewPrivs:\t1" in status
        assert "Threads:\t1" in status
        assert _proc(worker, "oom_score_adj") == b"900\n"

    async def test_it_has_loaded_little(self, worker) -> None:
        maps = _proc(worker, "maps").decode()
        for library in ("grpc", "uvloop", "pydantic", "sqlite", "libssl"):
            assert library not in maps

    async def test_signals_to_everybody_do_not_end_it(self, worker, crowd, job) -> None:
        for process in (worker, worker.parent()):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                process.send_signal(number)
        assert os.getsid(worker.pid) != os.getsid(0)
        await asyncio.sleep(0.05)
        assert worker.status() in {"sleeping", "running"}


class TestHowTheyGo:
    async def test_closing_ends_them_all_even_while_they_work(self, start, processes, job, crowd) -> None:
        executor = start(workers=2)
        hostile = "return ('a'):rep(50):find(('a?'):rep(50) .. ('a'):rep(50))"
        crowd.submit(executor, [job(hostile, index=i) for i in range(5)])
        await until(lambda: len(processes.workers()) == 2)
        everybody = processes.everybody()
        begun = time.monotonic()
        await executor.close()
        assert time.monotonic() - begun < 3
        assert not any(process.is_running() for process in everybody)
        assert crowd.ended == []

    async def test_closing_before_anything_was_told_of_them_ends_them_all(self, start, processes, job, crowd) -> None:
        executor = start(workers=8)
        crowd.submit(executor, [job("while true do end", index=i) for i in range(8)])
        await until(lambda: bool(processes.zygotes()))
        await asyncio.sleep(0)
        while len(processes.workers()) < 8:
            time.sleep(0.01)  # noqa: ASYNC251 - so that nothing of what they tell is read
        everybody = processes.everybody()
        await executor.close()
        assert not any(process.is_running() for process in everybody)

    async def test_closing_while_they_are_started_leaves_nobody(self, start, processes, job, crowd) -> None:
        executor = start()
        crowd.submit(executor, [job("return 1")])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(processes.zygotes()) == 1
        await executor.close()
        assert processes.everybody() == []

    async def test_when_the_engine_is_killed_nobody_is_left(self, tmp_path: Path) -> None:
        script = tmp_path / "engine.py"
        script.write_text(
            "import asyncio\n"
            "from dagengine import DAGEngine\n"
            "async def main():\n"
            "    node = {'executor': {'type': 'lua', 'code': \"print('up') while true do end\"}}\n"
            "    plan = {'metadata': {'id': 'w', 'version': '1.0.0'}, 'spec': {'nodes': [\n"
            "        node | {'id': 'a'}, node | {'id': 'b'}]}}\n"
            "    plan |= {'apiVersion': 'workflows/v1', 'kind': 'Workflow'}\n"
            "    engine = DAGEngine(lua='process', lua_workers=2, log=lambda line: print(line.text, flush=True))\n"
            "    await engine.run(plan)\n"
            "asyncio.run(main())\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        engine = await asyncio.create_subprocess_exec(
            sys.executable, str(script), stdout=asyncio.subprocess.PIPE, env=environment
        )
        try:
            assert engine.stdout is not None
            for _ in range(2):
                assert await asyncio.wait_for(engine.stdout.readline(), 30) == b"up\n"
            family = psutil.Process(engine.pid).children(recursive=True)
            assert len(family) == 3
        finally:
            engine.kill()
            await engine.communicate()
        await until(lambda: not any(_alive(process) for process in family))

    async def test_when_the_zygote_is_killed_its_workers_go_and_others_come(
        self, start, processes, job, crowd, lines
    ) -> None:
        began = asyncio.Event()

        def log(line: Any) -> None:
            lines.append(line)
            if len(lines) == 2:
                began.set()

        executor = start(workers=2, log=log)
        crowd.submit(executor, [job("print(index) while true do end", index=i) for i in range(2)])
        async with asyncio.timeout(30):
            await began.wait()
        crowd.submit(executor, [job("print(index)", index=i) for i in range(2, 50)])
        before = processes.everybody()
        processes.zygotes()[0].kill()
        await crowd.wait(50)
        for i, outcome in crowd.by_index().items():
            if i < 2:
                assert outcome.error.type == "Killed"
                assert outcome.error.message.endswith(
                    "died while it ran: the process that it was forked from has ended"
                )
            else:
                assert outcome.conclusion == "success"
        assert len(lines) == 50
        await until(lambda: not any(_alive(process) for process in before))

    async def test_a_worker_that_dies_with_nothing_to_do_is_replaced(self, start, processes, job, crowd) -> None:
        executor = start(workers=1)
        for count in range(1, 6):
            crowd.submit(executor, [job("return 1")])
            await crowd.wait(count)
            (worker,) = processes.workers()
            worker.kill()
            await until(lambda: not processes.workers())
        crowd.submit(executor, [job("return 2")])
        assert (await crowd.wait(6))[5].result == b"2"


class TestWhenTheyCannotCome:
    @pytest.mark.parametrize("late", [False, True])
    async def test_what_waits_is_given_up_with_the_reason_and_later_work_as_well(
        self, start, job, crowd, monkeypatch, capfd, late
    ) -> None:
        spawn = nursery.Nursery._spawn

        def spawned(self: nursery.Nursery, theirs: socket.socket) -> Any:
            process = spawn(self, theirs)
            if late:
                process.wait()  # it has ended before anything is asked of it
            return process

        monkeypatch.setattr(nursery.Nursery, "_spawn", spawned)
        monkeypatch.setattr(pool, "_FIRST_REST", 0.001)
        monkeypatch.setattr(nursery, "_MODULE", "dagengine.no_such_module")
        executor = start()
        crowd.submit(executor, [job("return 1", index=i) for i in range(3)])
        outcomes = await crowd.wait(3)
        for outcome in outcomes:
            assert (outcome.conclusion, outcome.error.type) == ("error", "InternalError")
            assert outcome.error.message == (
                "no Lua worker process could be started in 5 tries: "
                "the process that workers are forked from has ended (exit code 1)"
            )
        assert capfd.readouterr().err.count("No module named dagengine.no_such_module") == 5
        monkeypatch.undo()
        crowd.submit(executor, [job("return 4", index=4)])
        assert (await crowd.wait(4))[3].result == b"4", "and it works again as soon as it can"

    async def test_an_interpreter_that_is_not_there_is_told(self, start, job, crowd, monkeypatch) -> None:
        monkeypatch.setattr(pool, "_FIRST_REST", 0.001)
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        crowd.submit(start(), [job("return 1")])
        (outcome,) = await crowd.wait(1)
        assert "cannot start the process that Lua workers come from" in outcome.error.message
        assert "/no/such/python" in outcome.error.message

    async def test_workers_that_die_at_once_are_not_forked_for_ever(self, start, job, crowd, monkeypatch) -> None:
        monkeypatch.setattr(pool, "_FIRST_REST", 0.001)
        forked = 0
        fork = nursery.Nursery.fork

        def doomed(self: nursery.Nursery, number: int, *ends: Any) -> None:
            nonlocal forked
            forked += 1
            ends[0].shutdown(socket.SHUT_RDWR)  # it has nobody to tell that it is ready
            fork(self, number, *ends)

        monkeypatch.setattr(nursery.Nursery, "fork", doomed)
        crowd.submit(start(workers=1), [job("return 1")])
        (outcome,) = await crowd.wait(1)
        assert outcome.error.type == "InternalError"
        assert outcome.error.message.startswith("no Lua worker process could be started in 5 tries: ")
        assert forked == 5


async def test_an_engine_runs_workflows_in_processes(document) -> None:
    nodes = [
        {"id": "rows", "executor": {"type": "lua", "code": "return {1, 2, 3}"}},
        {
            "id": "each",
            "dependencies": ["rows"],
            "foreach": "nodes.rows",
            "executor": {"type": "lua", "code": "return item * index"},
        },
        {"id": "sum", "dependencies": ["each"], "executor": {"type": "lua", "code": "return json(nodes.each)"}},
    ]
    async with DAGEngine(lua="process", lua_workers=2) as engine:
        outputs = await engine.run(document(nodes, outputs={"sum": "{{ nodes.sum }}"}))
    assert json.loads(outputs["sum"]) == [1, 4, 9]


@pytest.mark.e2e
async def test_dag_engine_has_its_lua_processes_ready_and_takes_them_along() -> None:
    engine = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from dagengine.cli import main; main()",
        "--port=0",
        "--announce",
        "--lua-workers=1",
        "--lua-memory=64",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert engine.stdout is not None
        assert b"address" in await asyncio.wait_for(engine.stdout.readline(), 30)
        (zygote,) = psutil.Process(engine.pid).children()
        await until(zygote.cmdline)  # it may be about to become what it is
        assert zygote.cmdline()[-1] == '{"max_memory":67108864,"max_output":4194304,"cpu":3600}'
        engine.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(engine.communicate(), 30)
        assert engine.returncode == 0, errors
        assert not _alive(zygote)
    finally:
        if engine.returncode is None:
            engine.kill()
            await engine.communicate()

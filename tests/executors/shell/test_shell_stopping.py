"""Timeouts, cancellation and deaths: nothing of a program is left, whoever ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

MILLISECOND = 1_000
SECOND = 1_000_000

FAMILY = """
echo $$
sleep 600 &
echo $!
setsid sleep 600 &
echo $!
(setsid sh -c 'echo $$; touch "$TMPDIR/born"; sleep 600' &)
"""
"""Four processes: the script, a child, a child in a session of its own, and one whose parent is gone."""


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid)]


async def family_of(shell) -> list[int]:
    """Process ids that a script prints as its first lines."""
    await shell.until(lambda: len(shell.lines) >= 4)
    return [int(text) for text in shell.printed[:4]]


async def test_a_timeout_ends_the_program_and_all_that_it_started(shell) -> None:
    shell.begin(FAMILY + "wait", timeout=300 * MILLISECOND)
    pids = await family_of(shell)
    (outcome,) = await shell.ended()
    assert (outcome.conclusion, outcome.error.type) == ("error", "Timeout")
    assert outcome.error.message == "the attempt took longer than its timeout of 0.3 s"
    assert alive(pids) == []


async def test_what_a_program_leaves_in_the_background_ends_with_it(shell) -> None:
    shell.begin(FAMILY + 'while [ ! -e "$TMPDIR/born" ]; do sleep 0.01; done; echo mine')
    pids = await family_of(shell)
    (outcome,) = await shell.ended()
    assert outcome.result == b'"mine"'
    assert alive(pids) == []


async def test_a_program_that_ignores_the_request_is_killed_after_the_grace(new_shell) -> None:
    shell = new_shell(grace=100 * MILLISECOND)
    outcome = await shell.run("trap 'echo asked' TERM; while :; do sleep 0.01 || :; done", timeout=200 * MILLISECOND)
    assert outcome.error.type == "Timeout"
    assert outcome.elapsed >= 300 * MILLISECOND
    assert "asked" in shell.printed


async def test_a_program_that_ends_well_after_its_timeout_has_timed_out_all_the_same(shell) -> None:
    outcome = await shell.run("trap 'echo 1; exit 0' TERM; while :; do sleep 0.01; done", timeout=200 * MILLISECOND)
    assert outcome.error.type == "Timeout"


class TestCancel:
    async def test_without_grace_it_is_killed_at_once(self, shell) -> None:
        job = shell.begin("trap 'echo asked' TERM; echo ready; while :; do sleep 0.01; done")
        await shell.until(lambda: shell.lines)
        shell.cancel(job)
        (outcome,) = await shell.ended()
        assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")
        assert shell.printed == ["ready"]

    async def test_success_within_the_grace_counts(self, shell) -> None:
        job = shell.begin("trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.01; done")
        await shell.until(lambda: shell.lines)
        shell.cancel(job, grace=60 * SECOND)
        (outcome,) = await shell.ended()
        assert (outcome.conclusion, outcome.result) == ("success", b'"saved"')

    async def test_failure_within_the_grace_is_a_cancellation(self, shell) -> None:
        job = shell.begin("echo ready; while :; do sleep 0.01; done")
        await shell.until(lambda: shell.lines)
        shell.cancel(job, grace=60 * SECOND)
        (outcome,) = await shell.ended()
        assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")

    async def test_a_second_request_shortens_the_grace_and_none_lengthens_it(self, shell) -> None:
        job = shell.begin("trap '' TERM; echo ready; while :; do sleep 0.01; done")
        await shell.until(lambda: shell.lines)
        shell.cancel(job, grace=600 * SECOND)
        shell.cancel(job, grace=50 * MILLISECOND)
        shell.cancel(job, grace=600 * SECOND)
        (outcome,) = await shell.ended()
        assert outcome.error.type == "Cancelled"

    async def test_one_that_waits_for_room_is_never_begun(self, new_shell, job) -> None:
        shell = new_shell(programs=1)
        first, second = job("echo ready; read x < /dev/zero", node="a"), job("echo never", node="b")
        shell.submit(first, second)
        await shell.until(lambda: shell.lines)
        shell.cancel(second)
        await shell.ended(1)
        shell.cancel(first)
        await shell.ended(2)
        assert [job.node for job, _ in shell.outcomes] == ["b", "a"]
        assert shell.printed == ["ready"]

    async def test_before_the_program_runs_at_all(self, shell) -> None:
        job = shell.begin("echo never; sleep 600")
        await asyncio.sleep(0)  # its start is asked for now
        shell.cancel(job)
        (outcome,) = await shell.ended()
        assert outcome.error.type == "Cancelled"


async def test_executions_take_turns_when_there_is_no_room(new_shell, job) -> None:
    shell = new_shell(programs=1)
    shell.submit(*(job("true", execution="large", node=f"n{i}") for i in range(10)))
    shell.submit(job("true", execution="small"))
    await shell.ended(11)
    assert [job.scope.execution for job, _ in shell.outcomes].index("small") <= 2


async def test_no_more_programs_run_at_once_than_there_is_room_for(new_shell, job, tmp_path) -> None:
    shell = new_shell(programs=3)
    running = tmp_path / "running"
    running.mkdir()
    script = f"touch {running}/$DAG_INDEX; ls {running} | wc -l; sleep 0.02; rm {running}/$DAG_INDEX"
    shell.submit(*(job(script, index=i) for i in range(20)))
    await shell.ended(20)
    counts = [int(text) for text in shell.printed]
    assert len(counts) == 20
    assert max(counts) <= 3


async def test_closing_kills_everything_and_tells_nobody(shell) -> None:
    shell.begin(FAMILY + "trap '' TERM; wait")
    pids = await family_of(shell)
    await shell.executor.close()
    assert alive(pids) == []
    assert shell.outcomes == []


class TestDeaths:
    async def test_a_guard_that_somebody_kills_takes_the_program_along(self, shell) -> None:
        shell.begin(FAMILY + "wait")
        pids = await family_of(shell)
        psutil.Process(pids[0]).parent().kill()
        (outcome,) = await shell.ended()
        assert (outcome.conclusion, outcome.error.type) == ("error", "Killed")
        await asyncio.to_thread(_wait_for_all, pids)

    async def test_a_keeper_that_somebody_kills_is_replaced_and_its_programs_go_on(self, shell) -> None:
        job = shell.begin("echo ready; while [ ! -e go ]; do sleep 0.01; done; echo 1", node="old")
        await shell.until(lambda: shell.lines)
        keeper = next(child for child in psutil.Process().children() if "keeper.py" in " ".join(child.cmdline()))
        keeper.kill()
        await asyncio.to_thread(keeper.wait)
        assert await shell.value("echo 2", node="new") == 2
        shell.cancel(job)
        assert (await shell.ended(2))[1].error.type == "Cancelled"

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_an_engine_that_dies_leaves_no_process_and_no_file(self, number, tmp_path) -> None:
        engine = subprocess.Popen(
            [sys.executable, "-c", ENGINE, FAMILY + "trap '' TERM; wait"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )
        with engine:
            pids = [int(engine.stdout.readline()) for _ in range(4)]
            guard = psutil.Process(pids[0]).parent()
            assert len(list(tmp_path.iterdir())) == 1
            engine.send_signal(number)
            engine.wait()
        guard.wait(30)
        _wait_for_all(pids)
        assert list(tmp_path.iterdir()) == []


def _wait_for_all(pids: list[int]) -> None:
    for pid in pids:
        try:
            psutil.Process(pid).wait(30)
        except psutil.NoSuchProcess:
            continue


ENGINE = """
import asyncio, sys
from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.shell import Programs
from dagengine.spec.model import ShellExecutor

async def main():
    programs = Programs(log=lambda line: print(line.text, flush=True), clock=SystemClock())
    scope = base.Scope(execution="e", workflow="w", version="1.0.0", digest="d", inputs=b"{}", nodes={}, env={})
    spec = ShellExecutor(script=sys.argv[1])
    job = base.Job(position=0, node="n", index=None, attempt=1, spec=spec, scope=scope)
    programs.submit([job], lambda job, outcome: print("ended", flush=True))
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_keeper_needs_nothing_but_the_standard_library() -> None:
    from dagengine.executors.shell import keeper

    imported = {
        line.split()[1] for line in Path(keeper.__file__).read_text().splitlines() if line.startswith("import ")
    }
    assert imported <= sys.stdlib_module_names

"""Journals of executions on real orchestrators: the examples, and processes that die in the middle."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from dagengine import DAGEngine
from dagengine.executors.http.policy import Policy
from orchestrator import Orchestrator
from orchestrator.cli import exporting
from orchestrator.cli.cluster import Cluster
from orchestrator.client import Client
from orchestrator.verbs import Verbs

EXAMPLES = Path(__file__).parents[2] / "examples"
WEATHER = EXAMPLES / "01-weather" / "seattle-weather.csv"
DAYS = 40
"""Lines of weather: enough of them for a journal that says something, and is not large."""


async def _journal(verbs: Verbs, execution: str) -> bytes:
    return b"".join([line async for line in exporting.exported(verbs, execution)])


async def _example(document: str, inputs: Mapping[str, Any]) -> bytes:
    async with Orchestrator() as orchestrator:
        orchestrator.register_engine("engine-1", DAGEngine())
        registered = await orchestrator.apply(document)
        view = await orchestrator.wait((await orchestrator.start(registered.id, inputs)).id, timeout=60)
        return await _journal(orchestrator, view.id)


async def hello() -> bytes:
    """One node that greets."""
    return await _example((EXAMPLES / "00-hello" / "hello.yaml").read_text(), {"name": "Ada"})


async def weather() -> bytes:
    """The weather of some weeks."""
    data = "".join(WEATHER.read_text().splitlines(keepends=True)[: DAYS + 1])
    return await _example((EXAMPLES / "01-weather" / "workflow.yaml").read_text(), {"data": data})


async def trace() -> bytes:
    """A real graph of tasks."""
    traces = _module(EXAMPLES / "02-real-traces" / "traces.py")
    read = traces.read(next((EXAMPLES / "02-real-traces" / "traces").glob("*montage*")))
    async with Orchestrator() as orchestrator:
        orchestrator.register_engine("engine-1", DAGEngine())
        registered = await orchestrator.apply(traces.document(read))
        view = await orchestrator.wait((await orchestrator.start(registered.id, {"loops": 1})).id, timeout=60)
        return await _journal(orchestrator, view.id)


def _sign_off(answer: str) -> Callable[[], Awaitable[bytes]]:
    async def run() -> bytes:
        example = _module(EXAMPLES / "03-sign-off" / "run.py")
        data = "".join(WEATHER.read_text().splitlines(keepends=True)[: DAYS + 1])
        with example.press() as at:
            async with Orchestrator() as orchestrator:
                orchestrator.register_engine("engine-1", DAGEngine(http=Policy(allow=("127.0.0.1",))))
                await orchestrator.apply((EXAMPLES / "03-sign-off" / "workflow.yaml").read_text())
                execution = (await orchestrator.start("sign-off", {"data": data, "press": at.url})).id
                await _until(orchestrator, execution, "NodeWaiting")
                await example.sign_off(orchestrator, execution, answer)
                await orchestrator.wait(execution, timeout=60)
                return await _journal(orchestrator, execution)

    return run


async def _until(verbs: Verbs, execution: str, kind: str, *, times: int = 1) -> None:
    async for view in verbs.events(execution):
        times -= bytes(view.fact).startswith(b'{"type":"%s"' % kind.encode())
        if times <= 0:
            return


LONG = """
metadata: {id: long, version: 1.0.0}
spec:
  nodes:
    - id: pure
      executor: {type: lua, code: "return {1, 2, 3}"}
    - id: work
      dependencies: [pure]
      foreach: nodes.pure
      retry: {error: {max_attempts: 3, backoff: {initial: 10ms}}}
      executor: {type: shell, command: [sh, -c, 'test -e "$0" || sleep 60; echo done', "FILE"]}
    - id: pause
      dependencies: [pure]
      executor: {type: wait, duration: 2s}
    - id: go
      dependencies: [work, pause]
      executor: {type: wait, signal: {name: go}}
  on_exit:
    - id: tell
      executor: {type: lua, code: "return execution.status"}
"""


PATIENT = """
metadata: {id: patient, version: 1.0.0}
spec:
  nodes:
    - id: later
      executor: {type: wait, duration: 1s}
    - id: check
      executor: {type: wait, approval: {timeout: 1h}}
    - id: done
      dependencies: [later, check]
      executor: {type: lua, code: "return nodes.check.by"}
"""


async def engine_killed() -> bytes:
    """An engine dies while effects run on it; another one goes on."""
    flag = Path(tempfile.gettempdir()) / "dagengine-recorded"
    flag.unlink(missing_ok=True)
    settings = {"ENGINE_SHELL": "true", "ENGINE_LOST_TIMEOUT": "1"}
    async with Cluster(engines=2, environment=settings) as cluster, Client(cluster.url, token=cluster.token) as to:
        await to.apply(LONG.replace("FILE", str(flag)))
        execution = (await to.start("long")).id
        await _until(to, execution, "NodeStarted", times=4)
        view = await to.execution(execution)
        flag.touch()
        os.kill(next(engine.pid for engine in cluster.engines if engine.id == view.engine), signal.SIGKILL)
        await _until(to, execution, "NodeWaiting", times=2)
        await to.pause(execution, reason="not yet", author="ada")
        await to.signal(execution, "go", {"at": "once"}, author="grace")
        await to.resume(execution, author="ada")
        await to.wait(execution, timeout=60)
        flag.unlink()
        return await _journal(to, execution)


async def orchestrator_restarted() -> bytes:
    """Everything stops and comes back: timers, a wait for people, and a retry after the end."""
    with tempfile.TemporaryDirectory() as folder:
        url, execution = f"sqlite:///{folder}/state.db", ""
        for answers in (None, False, True):
            async with Orchestrator(url) as orchestrator:
                orchestrator.register_engine("engine-1", DAGEngine())
                if answers is None:
                    await orchestrator.apply(PATIENT)
                    execution = (await orchestrator.start("patient")).id
                    await _until(orchestrator, execution, "NodeWaiting", times=2)
                elif not answers:
                    await orchestrator.reject(execution, "check", author="ada", reason="look again")
                    await orchestrator.wait(execution, timeout=60)
                else:
                    await orchestrator.retry(execution, author="grace")
                    await _until(orchestrator, execution, "NodeWaiting", times=3)
                    await orchestrator.approve(execution, "check", author="ada")
                    await orchestrator.wait(execution, timeout=60)
                    return await _journal(orchestrator, execution)
    raise AssertionError("the last turn returns")


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RUNS: dict[str, Callable[[], Awaitable[bytes]]] = {
    "example-hello": hello,
    "example-weather": weather,
    "example-trace": trace,
    "example-sign-off-approved": _sign_off("approve"),
    "example-sign-off-rejected": _sign_off("reject"),
    "engine-killed": engine_killed,
    "orchestrator-restarted": orchestrator_restarted,
}

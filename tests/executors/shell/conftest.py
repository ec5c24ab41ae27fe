"""What the tests of shell nodes share: jobs, and an executor whose outcomes and log lines can be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagengine.clock import SystemClock
from dagengine.executors import base
from dagengine.executors.secrets import EngineSecrets
from dagengine.executors.shell import Limits, Programs
from dagengine.spec.model import ShellExecutor


@pytest.fixture(scope="session")
def job() -> Callable[..., base.Job]:
    """`job(script, …)` or `job(command=[…], …)`: one attempt; options of the executor and of the attempt alike."""

    def make(
        script: str = "",
        *,
        node: str = "n",
        execution: str = "e-1",
        index: int | None = None,
        attempt: int = 1,
        timeout: int | None = None,
        inputs: object = None,
        env_of_workflow: Mapping[str, str] | None = None,
        args: Mapping[str, object] | None = None,
        **executor: Any,
    ) -> base.Job:
        scope = base.Scope(
            execution=execution,
            workflow="w",
            version="1.2.0",
            digest="sha256:0",
            inputs=msgspec.json.encode(inputs or {}),
            nodes={},
            env=env_of_workflow or {},
            index=index,
        )
        return base.Job(
            position=0,
            node=node,
            index=index,
            attempt=attempt,
            spec=ShellExecutor(script=script, **executor),
            scope=scope,
            timeout=timeout,
            args=None if args is None else msgspec.json.encode(args),
            key=f"{execution}/{node}/1",
        )

    return make


class Shell:
    """An executor and what it gave."""

    def __init__(self, make_job: Callable[..., base.Job], secrets: Mapping[str, str], limits: Limits) -> None:
        self.lines: list[base.LogLine] = []
        self.outcomes: list[tuple[base.Job, base.Outcome]] = []
        environment = {f"DAG_SECRET_{name}": value for name, value in secrets.items()}
        self.executor = Programs(
            log=self._line, clock=SystemClock(), secrets=EngineSecrets(environment=environment), limits=limits
        )
        self._make_job = make_job
        self._changed = asyncio.Event()

    @property
    def printed(self) -> list[str]:
        return [line.text for line in self.lines]

    def submit(self, *jobs: base.Job) -> None:
        self.executor.submit(jobs, self._done)

    def begin(self, script: str = "", **options: Any) -> base.Job:
        job = self._make_job(script, **options)
        self.submit(job)
        return job

    def cancel(self, job: base.Job, *, grace: int = 0) -> None:
        self.executor.cancel(job.scope.execution, job.node, job.index, job.attempt, grace=grace)

    async def until(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def ended(self, count: int = 1) -> list[base.Outcome]:
        await self.until(lambda: len(self.outcomes) >= count)
        return [outcome for _, outcome in self.outcomes]

    async def run(self, script: str = "", **options: Any) -> base.Outcome:
        """The outcome of one attempt."""
        self.begin(script, **options)
        return (await self.ended(len(self.outcomes) + 1))[-1]

    async def value(self, script: str = "", **options: Any) -> Any:
        outcome = await self.run(script, **options)
        assert outcome.conclusion == "success", outcome
        return msgspec.json.decode(outcome.result)

    async def error(self, script: str = "", **options: Any) -> tuple[str, str, str]:
        """Conclusion, type and message of an attempt that does not succeed."""
        outcome = await self.run(script, **options)
        assert outcome.error is not None, outcome
        return outcome.conclusion, outcome.error.type, outcome.error.message

    def _line(self, line: base.LogLine) -> None:
        self.lines.append(line)
        self._changed.set()

    def _done(self, job: base.Job, outcome: base.Outcome) -> None:
        self.outcomes.append((job, outcome))
        self._changed.set()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the directories of attempts are made."""
    path = tmp_path / "attempts"
    path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(path))
    return path


@pytest.fixture
async def new_shell(job: Callable[..., base.Job], temporary: Path) -> AsyncIterator[Callable[..., Shell]]:
    """`new_shell(secrets={"TOKEN": "…"}, programs=1, …)`: an executor; `secrets` are named as in the environment."""
    made: list[Shell] = []

    def make(secrets: Mapping[str, str] | None = None, **limits: Any) -> Shell:
        made.append(Shell(job, secrets or {}, Limits(**limits)))
        return made[-1]

    yield make
    for shell in made:
        await shell.executor.close()
    assert not any(temporary.iterdir()), "an attempt left its directory"  # noqa: ASYNC240 - nothing else runs by now


@pytest.fixture
def shell(new_shell: Callable[..., Shell]) -> Shell:
    return new_shell()

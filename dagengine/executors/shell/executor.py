"""The `shell` executor: runs programs and scripts on the engine's machine, where whoever runs the engine allows it.

The engine never forks. A small process of its own starts the programs (`keeper`), each with a guard that sees to it
that nothing of a program is left when it has ended, was cancelled, or when the engine is gone. Here is what waits and
what runs: no task, no thread; all of it happens in callbacks of the event loop. `app` builds it, the driver calls it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from typing import Final

from dagengine.clock import Clock
from dagengine.errors import ExecutorError
from dagengine.executors.base import Done, Job, LogSink, Outcome
from dagengine.executors.secrets import NO_SECRETS, Secrets
from dagengine.executors.shell import environment, outcome
from dagengine.executors.shell.attempt import Attempt
from dagengine.executors.shell.custody import Custody
from dagengine.executors.shell.limits import Limits, most_programs
from dagengine.executors.shell.order import RefusedError, prepare
from dagengine.executors.shell.queue import Queue, Waiting

__all__ = ["REFUSAL", "Programs"]

REFUSAL: Final = (
    "and this engine runs none: allow it with --shell (of `dag-engine` and `dagctl run`), ENGINE_SHELL=true or "
    "DAGEngine(shell=True)"
)
"""Why an engine without this executor cannot run a shell node, in words."""

_MOST_STARTS: Final = 16
"""Starts under way at once: so many orders always fit the socket to the keeper."""

Key = tuple[str, str, int | None, int]


class Programs:
    """Implements `base.Executor` for nodes whose spec is a `model.ShellExecutor`.

    `passed` are the names of further variables of the engine's environment that programs see.
    """

    def __init__(
        self,
        *,
        log: LogSink,
        clock: Clock,
        secrets: Secrets = NO_SECRETS,
        limits: Limits | None = None,
        passed: Collection[str] = (),
    ) -> None:
        self._log = log
        self._clock = clock
        self._secrets = secrets
        self._limits = limits or Limits()
        self._most = self._limits.programs or most_programs()
        self._inherited = environment.inherited(os.environ, passed)
        self._custody = Custody()
        self._waiting = Queue()
        self._running: set[Attempt] = set()
        self._attempts: dict[Key, Attempt] = {}
        """Those that run, by name. The same attempt may be given again, by whoever took its execution over."""
        self._starting = 0
        self._pumping = False
        self._closed = False

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        """Take `jobs`; see `base.Executor.submit`. Call it on the event loop's thread."""
        if not self._closed and jobs:
            self._waiting.add(jobs[0].scope.execution, [(job, done) for job in jobs])
            self._pump_soon()

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        """Stop an attempt: one that waits is not begun, one that runs gets SIGTERM, and after `grace` SIGKILL."""
        removed = self._waiting.remove(execution, node, index, attempt)
        if removed:
            asyncio.get_running_loop().call_soon(self._drop, removed)
        found = self._attempts.get((execution, node, index, attempt))
        if found is not None:
            found.cancel(grace)

    async def close(self) -> None:
        """Kill all programs; they and their directories are gone afterwards."""
        self._closed = True
        self._waiting.clear()
        self._attempts.clear()
        for attempt in self._running:
            attempt.abandon()
        self._running.clear()
        await self._custody.close()

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Begin what there is room for."""
        self._pumping = False
        while self._waiting and len(self._running) < self._most and self._starting < _MOST_STARTS:
            job, done = self._waiting.pop()
            refused = self._begin(job, done)
            if refused is not None:
                done(job, refused)

    def _begin(self, job: Job, done: Done) -> Outcome | None:
        """Begin an attempt; its outcome, when that cannot be."""
        try:
            order = prepare(job, inherited=self._inherited, secrets=self._secrets, limits=self._limits)
            attempt = Attempt(
                job,
                done,
                order,
                limits=self._limits,
                log=self._log,
                clock=self._clock,
                began=self._began,
                ended=self._ended,
            )
            attempt.begin(self._custody)
        except RefusedError as error:
            return error.outcome
        except (ExecutorError, OSError) as error:
            return outcome.failure("error", "StartFailed", f"the program could not be started: {error}")
        except Exception as error:
            # Its message might quote the environment, and that holds values of secrets.
            return outcome.failure("error", "InternalError", f"the shell executor failed: {type(error).__name__}")
        self._starting += 1
        self._running.add(attempt)
        self._attempts[_key(job)] = attempt
        return None

    def _began(self) -> None:
        self._starting -= 1
        if self._waiting:
            self._pump_soon()

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        self._running.discard(attempt)
        if self._attempts.get(_key(attempt.job)) is attempt:
            del self._attempts[_key(attempt.job)]
        if self._waiting:
            self._pump_soon()
        if not self._closed:
            attempt.done(attempt.job, outcome)

    def _drop(self, removed: list[Waiting]) -> None:
        for job, done in removed:
            if not self._closed:
                done(job, outcome.failure("error", "Cancelled", "the attempt was cancelled before it began"))


def _key(job: Job) -> Key:
    return (job.scope.execution, job.node, job.index, job.attempt)

"""The `http` executor: takes jobs, keeps to the engine's number of requests at a time, and ends attempts in time.

A request is made by `exchange`, on the driver's loop, in a task of its own. Jobs that there is no room for wait without
a task; their time counts from when they begin. The client library is imported with the first job.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from dagengine.clock import Clock
from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import Done, Evaluator, Job, LogSink, Outcome
from dagengine.executors.http.policy import Policy
from dagengine.executors.secrets import NO_SECRETS, Secrets

if TYPE_CHECKING:
    from dagengine.executors.http.exchange import Exchange
    from dagengine.executors.http.network import Network, Resolve

__all__ = ["DEFAULT_TIMEOUT", "HTTPRequests"]

DEFAULT_TIMEOUT: Final = 300_000_000
"""Microseconds that an attempt may take when its node has no `timeout`: a server may never answer."""

_ROOM = "dagengine.executors.http"


class _Attempt:
    """One job, waiting or under way."""

    __slots__ = ("done", "ended", "job", "limit", "lines", "started", "stop", "task")

    def __init__(self, job: Job, done: Done) -> None:
        self.job = job
        self.done = done
        self.ended = False
        self.lines = 0
        self.started = 0.0
        self.limit: asyncio.TimerHandle | None = None
        self.stop: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class HTTPRequests:
    """Performs `http` nodes.

    `evaluator` answers for `select`. `policy` is the engine's part. `resolve` looks names up (the system's resolver
    when it is None). Raises ValueError for a rule of the policy that is none.
    """

    def __init__(
        self,
        *,
        evaluator: Evaluator,
        clock: Clock,
        secrets: Secrets = NO_SECRETS,
        policy: Policy | None = None,
        log: LogSink | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._evaluator = evaluator
        self._clock = clock
        self._secrets = secrets
        self._policy = policy or Policy()
        self._log = log
        self._resolve = resolve
        self._attempts: dict[tuple[str, str, int | None, int], _Attempt] = {}
        self._waiting: deque[_Attempt] = deque()
        self._running = 0
        self._network: Network | None = None
        self._exchange: Exchange | None = None

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        """Queue a request per job."""
        for job in jobs:
            attempt = _Attempt(job, done)
            self._attempts[_key(job)] = attempt
            self._waiting.append(attempt)
        asyncio.get_running_loop().call_soon(self._begin)

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        """Drop a request that waits. One under way gets `grace` to be answered, for it may have been obeyed already."""
        found = self._attempts.get((execution, node, index, attempt))
        if found is None:
            return
        if found.stop is not None:
            found.stop.cancel()
        left = grace / 1e6 if found.task is not None else 0
        stopped = _error("Cancelled", "the attempt was cancelled")
        found.stop = asyncio.get_running_loop().call_later(left, self._end, found, stopped)

    async def close(self) -> None:
        """Abort everything and close all connections."""
        attempts, self._attempts = list(self._attempts.values()), {}
        self._waiting.clear()
        tasks = []
        for attempt in attempts:
            _disarm(attempt)
            if attempt.task is not None:
                attempt.task.cancel()
                tasks.append(attempt.task)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._network is not None:
            await self._network.close()

    # --- one attempt ---

    def _begin(self) -> None:
        """Begin what there is room for."""
        while self._waiting and self._running < self._policy.connections:
            attempt = self._waiting.popleft()
            if attempt.ended:
                continue
            loop = asyncio.get_running_loop()
            self._running += 1
            attempt.started = time.perf_counter()
            timeout = DEFAULT_TIMEOUT if attempt.job.timeout is None else attempt.job.timeout
            late = _error("Timeout", f"the attempt took longer than its timeout of {timeout / 1e6:g} s")
            attempt.limit = loop.call_later(timeout / 1e6, self._end, attempt, late)
            attempt.task = loop.create_task(self._perform(attempt))

    async def _perform(self, attempt: _Attempt) -> None:
        try:
            exchange = await self._ready()
            outcome = await exchange.perform(attempt.job)
        except asyncio.CancelledError:
            # Told to, by what has ended the attempt already, or by a loop that is being shut down.
            outcome = _error("Cancelled", "its task was cancelled")
        except Exception as exc:  # a bug of ours costs one attempt; its words may quote anything, so they are not shown
            outcome = _error(type(exc).__name__, "the request could not be made: the engine made a mistake")
        self._end(attempt, outcome)

    async def _ready(self) -> Exchange:
        if self._exchange is None:
            # On a thread: the import takes a tenth of a second, and the loop has other things to do.
            await asyncio.to_thread(importlib.import_module, f"{_ROOM}.exchange")
        if self._exchange is None:
            from dagengine.executors.http import exchange, network

            self._network = network.Network(self._policy, resolve=self._resolve or network.look_up)
            self._exchange = exchange.Exchange(
                connections=self._network,
                evaluator=self._evaluator,
                secrets=self._secrets,
                max_response=self._policy.max_response,
                now=self._clock.now,
                say=self._say,
            )
        return self._exchange

    def _end(self, attempt: _Attempt, outcome: Outcome) -> None:
        # Not by its key alone: the same attempt may have been given again, by whoever took the execution over.
        if attempt.ended or self._attempts.get(_key(attempt.job)) is not attempt:
            return
        del self._attempts[_key(attempt.job)]
        _disarm(attempt)
        elapsed = 0
        if attempt.task is not None:
            self._running -= 1
            elapsed = round((time.perf_counter() - attempt.started) * 1e6)
            if attempt.task is not asyncio.current_task():
                attempt.task.cancel()
        attempt.done(attempt.job, msgspec.structs.replace(outcome, elapsed=elapsed))
        self._begin()

    def _say(self, job: Job, text: str) -> None:
        attempt = self._attempts.get(_key(job))
        if self._log is None or attempt is None:
            return
        attempt.lines += 1
        self._log(job.printed(text, line=attempt.lines, at=self._clock.now()))


def _key(job: Job) -> tuple[str, str, int | None, int]:
    return job.scope.execution, job.node, job.index, job.attempt


def _disarm(attempt: _Attempt) -> None:
    attempt.ended = True
    for timer in (attempt.limit, attempt.stop):
        if timer is not None:
            timer.cancel()


def _error(type: str, message: str) -> Outcome:
    return Outcome(conclusion="error", error=ErrorInfo(type=type, message=message))

"""One call under way, as the executor keeps it. For a worker process it is the `Customer`. Used by `executor`."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol, cast

import orjson

from dagengine import context as contexts
from dagengine.executors.base import Done, Job, LogLine, LogSink, Outcome
from dagengine.executors.python import binding
from dagengine.executors.python.place import Place
from dagengine.executors.python.process.messages import Call as ProcessCall
from dagengine.executors.python.threads import Call

if TYPE_CHECKING:
    from dagengine.clock import Clock
    from dagengine.spec.executors import PythonExecutor

__all__ = ["Attempt", "Keeper", "Key", "context_of", "key_of", "sink_to"]

Key = tuple[str, str, int | None, int]


class Keeper(Protocol):
    """Who is told what becomes of a call in a worker process."""

    def started(self, attempt: Attempt) -> None:
        """The call has really begun."""

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """It has come to this."""


class Attempt:
    """One call, from `submit` until its `done`; `over` afterwards."""

    __slots__ = (
        "_call",
        "_keeper",
        "context",
        "done",
        "job",
        "over",
        "returned",
        "since",
        "stop",
        "task",
        "thread",
        "timer",
        "verdict",
    )

    def __init__(self, keeper: Keeper, job: Job, done: Done, context: contexts.Context) -> None:
        self.job = job
        self.done = done
        self.context = context
        self.over = False
        self.returned = False
        """Whether its thread is through with it."""
        self.since = time.perf_counter()
        self.timer: asyncio.TimerHandle | None = None
        """For its timeout."""
        self.stop: asyncio.TimerHandle | None = None
        """For the end of its grace."""
        self.task: asyncio.Task[None] | None = None
        self.thread: Call | None = None
        self.verdict: Outcome | None = None
        """What it ends with, whatever its process may still say."""
        self._keeper = keeper
        self._call: ProcessCall | None = None

    @property
    def key(self) -> Key:
        """Names it among those of one executor."""
        return key_of(self.job)

    @property
    def spec(self) -> PythonExecutor:
        """Its node's executor."""
        return cast("PythonExecutor", self.job.spec)  # the driver routes jobs by executor type

    @property
    def given(self) -> dict[str, Any]:
        """The arguments that the node gives."""
        args: dict[str, Any] = orjson.loads(self.job.args) if self.job.args is not None else {}
        return args

    @property
    def in_process(self) -> bool:
        """Whether it is for a worker process."""
        return self._call is not None

    @property
    def begun(self) -> bool:
        """Whether a task or a thread has it."""
        return self.task is not None or (self.thread is not None and self.thread.running)

    def for_process(self, place: Place) -> None:
        """Have it be one for a worker process."""
        context = self.context
        self._call = ProcessCall(
            place=place,
            args=self.job.args or b"{}",
            execution=context.execution,
            workflow=context.workflow,
            version=context.version,
            node=context.node,
            index=context.index,
            number=context.number,
            idempotency_key=context.idempotency_key,
        )

    def stop_timers(self) -> None:
        """It is over."""
        for timer in (self.timer, self.stop):
            if timer is not None:
                timer.cancel()

    # --- as a customer of a worker process ---

    @property
    def call(self) -> ProcessCall:
        """See `desk.Customer`."""
        if self._call is None:
            raise RuntimeError("this attempt is not for a worker process")
        return self._call

    def began(self) -> None:
        """See `desk.Customer`."""
        self._keeper.started(self)

    def find(self, name: str) -> bytes | None:
        """The JSON value that a parameter gets from what the job may read, or None."""
        return binding.from_scope(self.job.scope, name)

    def logged(self, level: contexts.Level, text: str) -> None:
        """See `desk.Customer`."""
        self.context.log(text, level)

    def ended(self, outcome: Outcome) -> None:
        """See `desk.Customer`."""
        self._keeper.end(self, outcome if self.verdict is None else self.verdict)


def key_of(job: Job) -> Key:
    """Names an attempt among those of one executor."""
    return job.scope.execution, job.node, job.index, job.attempt


def context_of(job: Job, sink: contexts.Sink | None) -> contexts.Context:
    """What the function of a job can know and do; its lines go to `sink`."""
    return contexts.Context(
        execution=job.scope.execution,
        workflow=job.scope.workflow,
        version=job.scope.version,
        node=job.node,
        index=job.index,
        number=job.attempt,
        idempotency_key=job.key,
        sink=sink,
    )


def sink_to(log: LogSink | None, clock: Clock) -> contexts.Sink | None:
    """What makes lines for `log`."""
    if log is None:
        return None

    def sink(context: contexts.Context, line: int, level: contexts.Level, text: str) -> None:
        log(
            LogLine(
                execution=context.execution,
                node=context.node,
                index=context.index,
                attempt=context.number,
                line=line,
                at=clock.now(),
                level=level,
                text=text,
            )
        )

    return sink

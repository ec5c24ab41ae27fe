"""The port between the driver and whatever performs attempts and evaluates expressions.

The driver hands over *batches* of jobs and is called back once per job, on its own event loop's thread. There is no
task and no thread hop per node: an executor decides how much of a batch it performs at a time.

Values cross this port as JSON bytes. A `Scope` is what a job may read; it is cheap to make and is read lazily. The
structs here are not tracked by the garbage collector (ten thousand waiting jobs would have it look at each again and
again), so nothing that they hold may refer back to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from dagengine.events.facts import Conclusion, ErrorInfo
from dagengine.events.logs import Level, LogLine

__all__ = [
    "Answer",
    "Evaluation",
    "Evaluator",
    "Executor",
    "Job",
    "LogLine",
    "LogSink",
    "MAX_RESULT",
    "Outcome",
    "Question",
    "Results",
    "Scope",
    "Value",
]

Value = bytes
"""One JSON value, UTF-8."""

MAX_RESULT: Final = 4 << 20
"""Bytes that the result of an attempt may take. A larger one fails the attempt: it never becomes a fact."""


class Results(Protocol):
    """Results of nodes by id; a node that was skipped or failed is absent."""

    def __getitem__(self, node: str) -> Value:
        """The JSON result of a node. KeyError when it is absent."""

    def get(self, node: str) -> Value | None:
        """The JSON result of a node, or None when it is absent."""

    def __iter__(self) -> Iterator[str]: ...

    def items(self) -> Iterable[tuple[str, Value]]:
        """Ids and results."""


class Scope(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the code of a node, or an expression, can read.

    `inputs` is a JSON object. `nodes` gives the result of every ancestor that succeeded, by node id; a node that was
    skipped or failed is absent. `env` is the workflow's `configuration.env`. `item` and `index` are set in a `foreach`
    item only; `index` counts from 0 here, and from 1 in Lua; `key` is set when the `foreach` is over a map. `digest` is
    the workflow's and names compiled code. `modules` is the workflow's Lua code for `require`, by name. `conclusion` is
    set for the nodes of `on_exit`: a JSON object with `status`, and `error` when it failed; code says `execution`.
    """

    execution: str
    workflow: str
    version: str
    digest: str
    inputs: Value
    nodes: Results
    env: Mapping[str, str]
    item: Value | None = None
    index: int | None = None
    key: str | None = None
    modules: Mapping[str, str] = {}
    conclusion: Value | None = None


class Job(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One attempt at a node (or at one item of it).

    `position` is the node's place in its graph: the driver's own mark, of no use to executors.
    `spec` is the node's executor model (`dagengine.spec.model.LuaExecutor`, …). `timeout` is in microseconds, counted
    from when the attempt really begins. `args` is a JSON object: the executor's evaluated templates. `seed` makes
    randomness inside the attempt repeatable: the same attempt always gets the same. `key` is the idempotency key of
    its effects, `execution/node[index]/generation`: the same for attempts that repeat one that ended as `error`,
    another one after a `fail` or when somebody had the node run again.

    `then` is the attempt that will follow if this one succeeds, and that needs nothing but its result: pure, and the
    only one that waits for it. An executor may perform it right behind this one (`Outcome.ahead`); it may as well leave
    it alone. `ahead` marks such an attempt.
    """

    position: int
    node: str
    index: int | None
    attempt: int
    spec: object
    scope: Scope
    timeout: int | None = None
    args: Value | None = None
    seed: int = 0
    key: str = ""
    then: Job | None = None
    ahead: bool = False

    def printed(self, text: str, *, line: int, at: int, level: Level = "info") -> LogLine:
        """What the attempt has printed as its line number `line`, counted from 1, at the time `at`."""
        return LogLine(
            execution=self.scope.execution,
            node=self.node,
            index=self.index,
            attempt=self.attempt,
            line=line,
            at=at,
            level=level,
            text=text,
        )


class Outcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How an attempt ended. `elapsed` is in microseconds, from when the attempt really began.

    `retry_after` is how long the other side asked to be left alone, in microseconds: the least wait before a retry.
    With `ahead`, `then` of the job is under way already: the next `done` for it is the executor's to call.
    """

    conclusion: Literal["success"] | Conclusion
    result: Value = b"null"
    error: ErrorInfo | None = None
    elapsed: int = 0
    retry_after: int = 0
    ahead: bool = False


LogSink = Callable[[LogLine], None]
"""Takes the log stream. It is beside the facts: bounded, never folded. May be called from any thread."""

Done = Callable[[Job, Outcome], None]


class Executor(Protocol):
    """Performs jobs of one executor type. One that looks at `Job.then` says so by an attribute, `runs_ahead = True`."""

    def submit(self, jobs: Sequence[Job], done: Done) -> None:
        """Take `jobs`, all of one execution.

        Calls `done(job, outcome)` exactly once for each, on the event loop's thread, in any order; never before
        `submit` has returned. Never raises: whatever goes wrong is an outcome.
        """

    def cancel(self, execution: str, node: str, index: int | None, attempt: int, *, grace: int = 0) -> None:
        """Stop an attempt: ask it to end, and after `grace` microseconds make it end. Its `done` is still called.

        May be called again with a shorter grace. What cannot be asked (a Lua script) is stopped at once.
        """

    async def close(self) -> None:
        """Stop everything and give resources back. `done` is not called any more afterwards."""


class Evaluation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an expression or a template came to: a value, or an error."""

    value: Value = b"null"
    error: ErrorInfo | None = None


class Question(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Something to evaluate: the Lua expression `code`, or else `template`, any JSON value.

    In a template every `{{ }}` in its texts is replaced. A text that is one whole `{{ }}` keeps the type of its value;
    otherwise values are put into the text. `given` are more names in scope, with their JSON values (`response`). A
    question of an attempt that runs is answered whatever becomes of the execution: `forget` leaves it alone.
    """

    scope: Scope
    code: str | None = None
    template: object = None
    given: Mapping[str, Value] = {}
    of_attempt: bool = False


Answer = Callable[[Evaluation], None]


class Evaluator(Protocol):
    """Evaluates the one expression language. Evaluations are pure, and stopped when they are not short."""

    def ask(self, question: Question, answer: Answer) -> None:
        """Have `answer(evaluation)` called once, on the event loop's thread, perhaps before this returns.

        Never raises: whatever goes wrong is an evaluation with an error.
        """

    def forget(self, execution: str) -> None:
        """Drop the questions of an execution that were not begun; they are not answered. Not those `of_attempt`."""

    async def close(self) -> None:
        """Give resources back. Nothing is answered any more afterwards."""

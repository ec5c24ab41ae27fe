"""What a Python function can know and do about the attempt that it is: the names `attempt` and `Fail`.

`attempt` is whatever attempt the calling code runs in, on a thread, on the event loop or in a worker process alike; a
function with a parameter `context` is given the same. It imports next to nothing: worker processes load it, too.

Executors make a `Context` for each attempt and `enter` it; people's functions use the rest.
"""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

__all__ = ["Cancelled", "Context", "Current", "Fail", "Level", "Sink", "attempt", "enter", "leave"]

Level = Literal["debug", "info", "warning", "error"]

_LEVELS = frozenset({"debug", "info", "warning", "error"})

_numbering = threading.Lock()
"""Of lines: one for all attempts, as there may be very many that say nothing."""


class Fail(Exception):  # noqa: N818 - it names a conclusion, as the journal does
    """Raised by a function to end its attempt as `fail`, on purpose::

        raise Fail("3 of 5 are left", type="OutOfStock", details={"left": 3})

    `type` is what `retry_on` and `stop_on` look at; `details` are kept with the error and must be JSON, at most 64 KiB.
    """

    def __init__(self, reason: str, *, type: str = "Failed", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.type = type
        self.details = None if details is None else dict(details)

    def __reduce__(self) -> tuple[Callable[..., Fail], tuple[object, ...]]:
        return _fail_again, (self.reason, self.type, self.details)


class Cancelled(BaseException):
    """The attempt was asked to end, and its function does: see `Context.raise_if_cancelled`.

    As asyncio's, it is no Exception, so that `except Exception` lets it pass.
    """


class Sink(Protocol):
    """Takes the log lines of attempts, each numbered from 1 in its own. May be called from any thread."""

    def __call__(self, context: Context, line: int, level: Level, text: str, /) -> None: ...


class Context:
    """One attempt, as its function sees it."""

    __slots__ = (
        "_lines",
        "_sink",
        "_told",
        "execution",
        "idempotency_key",
        "index",
        "node",
        "number",
        "version",
        "workflow",
    )

    def __init__(
        self,
        *,
        execution: str,
        workflow: str,
        version: str,
        node: str,
        index: int | None,
        number: int,
        idempotency_key: str,
        sink: Sink | None = None,
    ) -> None:
        self.execution = execution
        self.workflow = workflow
        self.version = version
        self.node = node
        self.index = index
        """Position of the `foreach` item, counted from 0, or None."""
        self.number = number
        """Which attempt at the node this is, counted from 1."""
        self.idempotency_key = idempotency_key
        """Names the effect, for services that do the same request only once: it is the same for attempts that repeat
        one whose end nobody saw, and another one after a `fail` or when somebody has the node run again."""
        self._sink = sink
        self._told = False
        self._lines = 0

    @property
    def attempt(self) -> int:
        """The older name of `number`."""
        return self.number

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was asked to end. A function that goes on all the same is not waited for."""
        return self._told

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when the attempt was asked to end."""
        if self._told:
            raise Cancelled("the attempt was asked to end")

    def log(self, text: object, level: Level = "info") -> None:
        """Put one line into the node's log. May be called from any thread. Raises ValueError for another level."""
        if level not in _LEVELS:
            raise ValueError(f"there is no level '{level}': it is one of debug, info, warning and error")
        if self._sink is not None:
            with _numbering:
                self._lines = line = self._lines + 1
            self._sink(self, line, level, str(text))

    def tell(self) -> None:
        """Ask the function to end. Called by executors."""
        self._told = True


class Current:
    """The attempt that the calling code runs in.

    Outside of any attempt (in a test of the function, say) nothing is ever cancelled, `log` writes to standard error,
    and the rest raises RuntimeError. A thread that a function starts itself is outside, too, unless it is run in a copy
    of the function's `contextvars` context.
    """

    __slots__ = ()

    @property
    def execution(self) -> str:
        """Id of the execution."""
        return _current().execution

    @property
    def workflow(self) -> str:
        """Id of the workflow."""
        return _current().workflow

    @property
    def version(self) -> str:
        """Version of the workflow."""
        return _current().version

    @property
    def node(self) -> str:
        """Id of the node."""
        return _current().node

    @property
    def index(self) -> int | None:
        """Position of the `foreach` item, counted from 0, or None."""
        return _current().index

    @property
    def number(self) -> int:
        """Which attempt at the node this is, counted from 1."""
        return _current().number

    @property
    def idempotency_key(self) -> str:
        """Names the effect; see `Context.idempotency_key`."""
        return _current().idempotency_key

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was asked to end."""
        context = _entered.get(None)
        return context is not None and context.cancelled

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled when the attempt was asked to end."""
        context = _entered.get(None)
        if context is not None:
            context.raise_if_cancelled()

    def log(self, text: object, level: Level = "info") -> None:
        """Put one line into the node's log."""
        context = _entered.get(None)
        if context is not None:
            context.log(text, level)
        else:
            sys.stderr.write(f"{text}\n")

    def __repr__(self) -> str:
        context = _entered.get(None)
        if context is None:
            return "<no attempt>"
        item = "" if context.index is None else f"[{context.index}]"
        return f"<attempt {context.number} at {context.node}{item} of {context.execution}>"


attempt = Current()

_entered: contextvars.ContextVar[Context] = contextvars.ContextVar("dagengine_attempt")


def enter(context: Context) -> contextvars.Token[Context]:
    """Make `attempt` mean this one, for what is called from here until `leave`."""
    return _entered.set(context)


def leave(token: contextvars.Token[Context]) -> None:
    """Undo the `enter` that gave `token`."""
    _entered.reset(token)


def _current() -> Context:
    context = _entered.get(None)
    if context is None:
        raise RuntimeError("no attempt runs here: `attempt` is for functions that a workflow's node has called")
    return context


def _fail_again(reason: str, type: str, details: Mapping[str, Any] | None) -> Fail:
    return Fail(reason, type=type, details=details)

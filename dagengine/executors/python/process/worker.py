"""A worker process: performs one call after the other, on its main thread, until the engine closes the channel.

It begins as `python -c` with the engine's `sys.path` (see `desk`), so that it finds what the engine finds, and it is a
fresh interpreter: it inherits no thread, no loop and no connection. SIGTERM asks the call to end: its `attempt` tells
so, and an asynchronous function is cancelled. SIGINT says that its time is over: a synchronous one is then interrupted
by an exception, so that it can clean up. What does not listen is killed by the engine. When the engine ends in whatever
way, so does the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import functools
import inspect
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, NoReturn

import msgspec
import orjson

from dagengine import context as contexts
from dagengine.executors.base import Outcome
from dagengine.executors.python import outcomes
from dagengine.executors.python import place as places
from dagengine.executors.python.binding import Binding, BindingError
from dagengine.executors.python.process import messages
from dagengine.executors.python.process.messages import Call, Ended, FromWorker, Given, Line, Ready, ToWorker, Wanted

__all__ = ["main"]

_SET_PARENT_DEATH_SIGNAL: Final = 1
_CHUNK: Final = 1 << 18


class Worker:
    """Does what comes over the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._frames = self._receive()
        self._sending = threading.Lock()
        self._process = os.getpid()
        self._bindings: dict[places.Place, Binding] = {}
        self._attempt: contexts.Context | None = None
        self._task: _Task | None = None

    def serve(self) -> None:
        """Perform calls until the engine closes the channel."""
        signal.signal(signal.SIGTERM, self._asked_to_end)
        signal.signal(signal.SIGINT, self._asked_to_end)
        self._send(Ready())
        for message in self._frames:
            if isinstance(message, Call):
                self._answer(self._perform(message))

    def _perform(self, call: Call) -> Outcome:
        attempt = self._attempt = contexts.Context(
            execution=call.execution,
            workflow=call.workflow,
            version=call.version,
            node=call.node,
            index=call.index,
            number=call.number,
            idempotency_key=call.idempotency_key,
            sink=self._line,
        )
        entered = contexts.enter(attempt)
        try:
            return self._call(call, attempt)
        except (BindingError, places.FunctionMissing) as problem:
            message = str(problem)
            if isinstance(problem, places.FunctionMissing):
                message = f"the function '{call.place}' {message}"
            return outcomes.fail(type(problem).__name__, message)
        finally:
            contexts.leave(entered)
            self._attempt = None

    def _call(self, call: Call, attempt: contexts.Context) -> Outcome:
        binding = self._bindings.get(call.place)
        if binding is None:
            binding = self._bindings[call.place] = _bind(call.place)
        given: dict[str, Any] = orjson.loads(call.args)
        arguments = binding.arguments(given, self._ask(binding.wanted(given)).get, attempt)
        function = functools.partial(binding.function, **arguments)
        try:
            if not binding.is_async:
                result = function()
                return outcomes.never_awaited(result) if inspect.iscoroutine(result) else outcomes.succeed(result)
            self._task = _Task(function, attempt)
            return self._task.run()
        except BaseException as raised:  # there is nobody above: SystemExit is the function's failure, too
            return outcomes.from_exception(raised, told=attempt.cancelled)
        finally:
            self._task = None

    def _ask(self, names: list[str]) -> dict[str, bytes]:
        if not names:
            return {}
        self._send(Wanted(names=names))
        message = next(self._frames, None)
        if not isinstance(message, Given):
            raise ConnectionError("the engine is gone")
        return message.values

    def _asked_to_end(self, number: int, _frame: FrameType | None) -> None:
        if self._attempt is None:
            return
        self._attempt.tell()
        if self._task is not None:
            self._task.cancel()
        elif number == signal.SIGINT:
            raise contexts.Cancelled("the attempt took longer than its timeout")

    # --- the channel ---

    def _receive(self) -> Iterator[ToWorker]:
        frames = messages.Frames()
        decoder = msgspec.msgpack.Decoder(ToWorker)
        while data := self._channel.recv(_CHUNK):
            yield from map(decoder.decode, frames.feed(data))

    def _line(self, _attempt: contexts.Context, _number: int, level: contexts.Level, text: str) -> None:
        _flush()  # what was printed before goes before
        self._send(Line(level=level, text=text.encode("utf-8", "replace").decode()))

    def _answer(self, outcome: Outcome) -> None:
        _flush()
        error = None if outcome.error is None else msgspec.json.encode(outcome.error)
        self._send(Ended(conclusion=outcome.conclusion, result=outcome.result, error=error))

    def _send(self, message: FromWorker) -> None:
        if os.getpid() != self._process:
            os._exit(0)  # the function has forked, and its child came back here: only one of them is the worker
        with self._sending:
            self._channel.sendall(messages.pack(message))


class _Task:
    """An asynchronous function on a loop of its own."""

    def __init__(self, function: functools.partial[Any], attempt: contexts.Context) -> None:
        self._function = function
        self._attempt = attempt
        self._runner = asyncio.Runner()
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> Outcome:
        with self._runner as runner:
            return runner.run(self._main())

    def cancel(self) -> None:
        """Called by a signal, between any two instructions of the loop's own."""
        if self._task is not None:
            self._runner.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _main(self) -> Outcome:
        self._task = asyncio.current_task()
        try:
            if self._attempt.cancelled:
                raise asyncio.CancelledError
            return outcomes.succeed(await self._function())
        except BaseException as raised:  # as above
            return outcomes.from_exception(raised, told=self._attempt.cancelled)


def _bind(place: places.Place) -> Binding:
    function = places.load(place)
    try:
        return Binding(function)
    except (TypeError, ValueError) as error:
        raise places.FunctionMissing(f"cannot be called by nodes: {error}") from error


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A function may have put anything in their place, or closed them.
        with contextlib.suppress(Exception):
            stream.flush()


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends. Elsewhere it ends when it reads the channel again."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def main(channel: int, parent: int) -> NoReturn:
    """Be a worker of the process `parent`, which has the other end of the socket `channel`."""
    _end_with(parent)
    faulthandler.enable()  # a crash tells where, in the node's log
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")  # when memory is short, a function goes before the engine
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    connection = socket.socket(fileno=channel)
    with contextlib.suppress(ConnectionError):
        Worker(connection).serve()
    connection.detach()  # it stays open until the very end, which the engine may know by it
    sys.exit(0)

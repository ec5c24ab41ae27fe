"""Starts that wait for the writer at the same time are recorded by one statement.

Executions are started one by one, so a write each would cost a round trip each, which is most of what recording one
takes. Used by `postgres` alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from orchestrator import errors
from orchestrator.store import base, membership, postgres_journal
from orchestrator.store.postgres_connection import Connection

__all__ = ["Starts"]

_MAX_STARTS: Final = 500
_MAX_WEIGHT: Final = 1 << 20
"""Starts, and bytes of their inputs, that a statement takes before another one is begun."""

_Created: TypeAlias = tuple[base.ExecutionRecord, bool]
_Answers: TypeAlias = list[_Created | errors.OrchestratorError]


class _Group:
    """Starts of one replica that will be written together. It takes no more once it is `closed`."""

    __slots__ = ("closed", "futures", "news", "replica", "weight")

    def __init__(self, replica: str | None) -> None:
        self.replica = replica
        self.news: list[base.NewExecution] = []
        self.futures: list[asyncio.Future[_Created]] = []
        self.weight = 0
        self.closed = False

    def add(self, new: base.NewExecution, future: asyncio.Future[_Created]) -> None:
        self.news.append(new)
        self.futures.append(future)
        self.weight += len(new.inputs)
        if len(self.news) >= _MAX_STARTS or self.weight >= _MAX_WEIGHT:
            self.closed = True

    def answer(self, done: asyncio.Future[_Answers]) -> None:
        self.closed = True  # also when the writer had no connection, and never came to it
        error = done.exception()
        answers = [error] * len(self.news) if error is not None else done.result()
        for future, answer in zip(self.futures, answers, strict=True):
            if future.done():  # whoever waited has given up
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class Starts:
    """Collects starts; `submit` has a write performed."""

    def __init__(self, submit: Callable[[Callable[[Connection], _Answers]], asyncio.Future[_Answers]]) -> None:
        self._submit: Callable[..., Any] = submit
        self._group = _Group(None)
        self._group.closed = True
        self._lock = threading.Lock()  # the loop's thread adds, the writer's takes
        self._registered: set[str] = set()

    def add(self, new: base.NewExecution, replica: str | None) -> asyncio.Future[_Created]:
        """Have an execution of `replica` recorded. Raises StoreError at once for what is no text."""
        _require_texts(new)
        future: asyncio.Future[_Created] = asyncio.get_running_loop().create_future()
        with self._lock:
            group = self._group
            joins = not group.closed and group.replica == replica
            if joins:
                group.add(new, future)
        if not joins:
            group = _Group(replica)
            group.add(new, future)
            self._submit(lambda connection: self._write(connection, group)).add_done_callback(group.answer)
            self._group = group
        return future

    def _write(self, connection: Connection, group: _Group) -> _Answers:
        with self._lock:
            group.closed = True
        if group.replica is not None and connection.replica != group.replica:
            raise membership.fenced()
        answers = postgres_journal.create_executions(connection, group.news, group.replica, self._registered)
        if any(not isinstance(answer, Exception) and answer[1] and answer[0].owner is None for answer in answers):
            connection.tell("claimable")
        return answers


def _require_texts(new: base.NewExecution) -> None:
    """A statement fails as a whole, so what it cannot hold must not get into one with other starts."""
    texts = (new.id, new.workflow, new.version, new.digest, new.trigger)
    names = (new.idempotency_key, new.occurrence, new.concurrency_key)
    together = "".join((*texts, *(name for name in names if name is not None)))
    try:
        together.encode()
    except UnicodeEncodeError as error:
        raise errors.StoreError(f"An execution cannot be recorded: part of it is no text ({error.reason}).") from error
    if "\x00" in together:
        raise errors.StoreError("An execution cannot be recorded: PostgreSQL takes no text with a NUL.")

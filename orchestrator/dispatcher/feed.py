"""Tells whoever follows an execution that something about it was committed. Nothing else passes through here: readers
take facts from the store, so a slow one costs no memory and sees exactly what is durable.

What is committed by this replica comes from the dispatcher, the rest from `following`."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from orchestrator.errors import Unavailable
from orchestrator.store.base import ExecutionRecord

__all__ = ["Feed"]

T = TypeVar("T")


class Feed:
    """Wake-ups by execution."""

    def __init__(self) -> None:
        # Dicts, not sets, for their order: who asked first is told first.
        self._changes: dict[str, dict[asyncio.Future[None], None]] = {}
        self._ends: dict[str, dict[asyncio.Future[ExecutionRecord], None]] = {}
        self.closed = False

    @property
    def followed(self) -> list[str]:
        """The executions about which somebody wants to know."""
        return list(self._changes.keys() | self._ends.keys())

    def change(self, execution: str) -> asyncio.Future[None]:
        """Done at the next commit of the execution. Ask before reading the store: then nothing is missed."""
        return self._register(self._changes, execution)

    def end(self, execution: str) -> asyncio.Future[ExecutionRecord]:
        """Done when the execution has ended, with its last record. Ask before reading the store."""
        return self._register(self._ends, execution)

    def changed(self, execution: str) -> None:
        """Something of the execution was committed."""
        for future in self._changes.pop(execution, ()):
            if not future.done():
                future.set_result(None)

    def ended(self, record: ExecutionRecord) -> None:
        """The last fact of the execution was committed."""
        self.changed(record.id)
        for future in self._ends.pop(record.id, ()):
            if not future.done():
                future.set_result(record)

    def close(self) -> None:
        """Wake everybody, those to come included, with Unavailable: nothing will change any more."""
        self.closed = True
        for waiting in (self._changes, self._ends):
            for execution, futures in waiting.items():
                for future in futures:
                    if not future.done():
                        future.set_exception(_closed(execution))
            waiting.clear()

    def _register(self, table: dict[str, dict[asyncio.Future[T], None]], execution: str) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.set_exception(_closed(execution))
            future.exception()  # whoever asked may find that it has ended already, and not look at this
            return future
        futures = table.setdefault(execution, {})
        futures[future] = None

        def forget(_: asyncio.Future[T]) -> None:
            futures.pop(future, None)
            if not futures and table.get(execution) is futures:
                del table[execution]

        future.add_done_callback(forget)
        return future


def _closed(execution: str) -> Unavailable:
    return Unavailable(
        f"the orchestrator was closed, or has broken down; execution {execution} goes on when it is opened again"
    )

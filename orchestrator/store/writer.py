"""One thread that performs all writes of a store: what is pending at a moment shares a transaction and its fsync.

A write is a function of the database. The thread takes whatever has been submitted, runs it in one transaction, and
answers after the commit; while it commits, the next ones collect. So a lone write never waits for company, and a
hundred at once cost one fsync.

One refusal never aborts another's write. A write that raises before it has changed anything is simply answered with
its error. One that raises half-way spoils the transaction: that is rolled back and every write of it is run once more
in a transaction of its own. That is safe because nothing was answered yet and a write has no effect but on the
database.

Used by both adapters: SQLite allows one writer anyway, over PostgreSQL replicas write in turns. The database itself is
behind `Database`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from orchestrator import errors

__all__ = ["Database", "GroupCommitWriter"]

_Answer = TypeVar("_Answer")

MAX_WEIGHT: Final = 8 << 20
"""Bytes that one transaction may take before the next write has to wait for the one after it."""
MAX_WRITES: Final = 2_000
"""Writes that one transaction may take."""


class Database(Protocol):
    """What the thread drives. All methods are called on that thread alone."""

    def begin(self) -> None:
        """Open a transaction that may write."""

    def commit(self) -> None:
        """Make it durable."""

    def rollback(self) -> None:
        """Undo it; harmless when there is none."""

    def mark(self) -> int:
        """The state of the transaction, for `untouched_since`."""

    def untouched_since(self, mark: int) -> bool:
        """Whether the transaction is still open and nothing was changed in it since `mark`."""

    def explain(self, error: Exception) -> errors.OrchestratorError:
        """What callers get to see for an exception: a refusal as it is, the rest in a new StoreError caused by it."""


class _Write:
    __slots__ = ("answer", "error", "future", "run", "weight")

    def __init__(self, run: Callable[[], Any], weight: int, future: asyncio.Future[Any]) -> None:
        self.run = run
        self.weight = weight
        self.future = future
        self.answer: Any = None
        self.error: errors.OrchestratorError | None = None


class GroupCommitWriter:
    """Runs writes on a thread of its own, as many per transaction as are pending."""

    def __init__(self, database: Database, *, name: str) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._pending: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"{name} writer", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[], _Answer], *, weight: int = 0) -> asyncio.Future[_Answer]:
        """Have `run()` performed in a transaction; the future ends after the commit.

        `run` may be called twice and must not keep anything between the calls. `weight` is about how many bytes it
        writes. To be called on the event loop that made the writer. Raises StoreError when it is closed.
        """
        if self._closed:
            raise errors.StoreError("The store is closed.")
        future: asyncio.Future[_Answer] = self._loop.create_future()
        self._pending.put(_Write(run, weight, future))
        return future

    async def close(self) -> None:
        """Perform what is pending and end the thread."""
        if not self._closed:
            self._closed = True
            self._pending.put(None)
        await asyncio.to_thread(self._thread.join)

    # --- on the thread ---

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._take()
            if not self._together(batch):
                for write in batch:
                    self._alone(write)
            # A loop that was closed without closing the store has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_answer, batch)

    def _take(self) -> tuple[list[_Write], bool]:
        """What is pending now, once something is; False with the last of all."""
        batch: list[_Write] = []
        weight = 0
        following = self._pending.get()
        while following is not None:
            batch.append(following)
            weight += following.weight
            if weight >= MAX_WEIGHT or len(batch) >= MAX_WRITES:
                return batch, True
            try:
                following = self._pending.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _together(self, batch: list[_Write]) -> bool:
        """Run all in one transaction; False, with nothing written, when one of them spoiled it."""
        database = self._database
        try:
            database.begin()
            for write in batch:
                mark = database.mark()
                try:
                    write.answer = write.run()
                except Exception as error:
                    if not database.untouched_since(mark):
                        database.rollback()
                        return False
                    write.error = database.explain(error)
            database.commit()
        except Exception as error:
            self._fail(batch, error)
        return True

    def _alone(self, write: _Write) -> None:
        write.answer = write.error = None
        try:
            self._database.begin()
            write.answer = write.run()
            self._database.commit()
        except Exception as error:
            self._fail([write], error)

    def _fail(self, batch: list[_Write], error: Exception) -> None:
        self._database.rollback()
        for write in batch:
            if write.error is None:
                write.error = self._database.explain(error)


def _answer(batch: list[_Write]) -> None:
    for write in batch:
        if write.future.done():  # whoever waited has given up
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.answer)

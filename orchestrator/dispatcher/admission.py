"""The limits of the admission queue: how many executions this replica lets wait, and how much their inputs may take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from orchestrator.dispatcher.ledger import Ledger
from orchestrator.errors import Overloaded

__all__ = ["Admission"]


class Admission:
    """Says whether there is room for one more."""

    def __init__(self, ledger: Ledger, *, limit: int, limit_bytes: int) -> None:
        """`limit` counts executions that wait for an engine, `limit_bytes` bounds what their inputs take."""
        self._ledger = ledger
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._admitted = 0
        """Executions that were let in, but are not recorded yet; and the bytes of their inputs."""
        self._admitted_bytes = 0

    @property
    def room(self) -> int:
        """How many more executions may wait here."""
        if self._ledger.waiting_size + self._admitted_bytes >= self._limit_bytes:
            return 0
        return max(0, self._limit - self._ledger.waiting - self._admitted)

    @contextlib.contextmanager
    def place(self, size: int) -> Iterator[None]:
        """A place in the queue, kept for the block that fills it; `size` is how many bytes the inputs take.

        Raises Overloaded when there is none.
        """
        waiting = self._ledger.waiting
        if waiting + self._admitted >= self._limit:
            raise Overloaded(f"{waiting} executions wait for an engine already; try again later")
        held = self._ledger.waiting_size + self._admitted_bytes
        if held and held + size > self._limit_bytes:
            raise Overloaded(f"the executions that wait for an engine have {held:,} bytes of inputs; try again later")
        self._admitted += 1
        self._admitted_bytes += size
        try:
            yield
        finally:
            self._admitted -= 1
            self._admitted_bytes -= size

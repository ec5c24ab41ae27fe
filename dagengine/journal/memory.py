"""A journal in this process's memory: for embedding and tests. What is appended is committed at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dagengine.events.facts import Fact

__all__ = ["MemoryJournal"]


class MemoryJournal:
    """Counts facts and hands each on to `observe(position, fact)`; keeps them in `facts` when asked to.

    For an execution that is resumed, `committed` is the number of facts that it is resumed from.
    """

    def __init__(
        self, *, observe: Callable[[int, Fact], None] | None = None, keep: bool = False, committed: int = 0
    ) -> None:
        self.facts: list[Fact] = []
        self._keep = keep
        self._observe = observe
        self._count = committed

    @property
    def committed(self) -> int:
        """Position of the last fact."""
        return self._count

    @property
    def congested(self) -> bool:
        """Never: memory takes facts as fast as they come."""
        return False

    def append(self, facts: Sequence[Fact]) -> None:
        """Take facts in order."""
        if self._keep:
            self.facts.extend(facts)
        if self._observe is not None:
            for offset, fact in enumerate(facts, 1):
                self._observe(self._count + offset, fact)
        self._count += len(facts)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Nothing to call back for: `append` returns with the facts committed."""

"""The port to results that were found before: what a node with `cache` asks before its first attempt.

An entry becomes visible when the fact that holds the result is committed (the store writes it in the same transaction),
so nobody ever uses a result that could still change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Raw

from dagengine.clock import Clock
from dagengine.events.facts import Fact, NodeSucceeded

__all__ = ["Answer", "KnownResults", "RememberedResults"]

Answer = Callable[[bytes | None, str], None]
"""`answer(result, execution)`: the JSON result and the execution that found it, or `(None, "")`."""

_KEPT: Final = 64 << 20
"""Bytes of results that are remembered."""


class KnownResults(Protocol):
    """Where results are looked for."""

    def look_up(self, execution: str, digest: str, answer: Answer) -> None:
        """Have `answer` called once, on the event loop's thread, perhaps before this returns.

        A look-up that fails or takes long is answered with None: the node is run. Never raises.
        """

    def forget(self, execution: str) -> None:
        """Drop the questions of an execution; they are not answered."""


class RememberedResults:
    """Implements `KnownResults` for an engine that runs alone: in memory, the ones used least lately dropped first."""

    def __init__(self, clock: Clock, *, capacity: int = _KEPT) -> None:
        self._clock = clock
        self._capacity = capacity
        self._size = 0
        self._known: OrderedDict[str, tuple[bytes, int | None, str]] = OrderedDict()

    def look_up(self, execution: str, digest: str, answer: Answer) -> None:  # noqa: ARG002 - of the port
        """Answer before returning."""
        known = self._known.get(digest)
        if known is None:
            answer(None, "")
            return
        result, until, source = known
        if until is not None and until <= self._clock.now():
            self._drop(digest)
            answer(None, "")
            return
        self._known.move_to_end(digest)
        answer(result, source)

    def forget(self, execution: str) -> None:
        """Nothing waits here."""

    def note(self, execution: str, fact: Fact) -> None:
        """A fact is committed: remember its result when it may be used again."""
        if not isinstance(fact, NodeSucceeded) or not fact.cache or not isinstance(fact.result, Raw):
            return
        self._drop(fact.cache)
        self._known[fact.cache] = (bytes(fact.result), fact.cache_until, execution)
        self._size += len(fact.result)
        while self._size > self._capacity:
            self._drop(next(iter(self._known)))

    def _drop(self, digest: str) -> None:
        known = self._known.pop(digest, None)
        if known is not None:
            self._size -= len(known[0])

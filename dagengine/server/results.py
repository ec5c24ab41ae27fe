"""Results that were found before, over the whole system: the engine's half of what sessions say about them.

`SessionResults` implements `dagengine.driver.results.KnownResults` for the executions that a host holds. A look-up goes
out in the session that the execution answers to. It is a question, not an effect: whatever becomes of it (no session,
one that dies, an answer that does not come in time), the node is simply run.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Final

from dagengine.driver.results import Answer
from dagengine.server.outbox import Outbox
from dagengine.wire.v1 import session_pb2

__all__ = ["SessionResults"]

PATIENCE_SECONDS: Final = 5.0
"""How long an answer may take."""


class _Asked:
    """One question that is not answered."""

    __slots__ = ("answer", "execution", "limit", "outbox")

    def __init__(self, execution: str, answer: Answer, outbox: Outbox, limit: asyncio.TimerHandle) -> None:
        self.execution = execution
        self.answer = answer
        self.outbox = outbox
        self.limit = limit


class SessionResults:
    """Asks orchestrators. `outbox_of(execution)` is that of the session that an execution answers to, or None."""

    def __init__(self, outbox_of: Callable[[str], Outbox | None]) -> None:
        self._outbox_of = outbox_of
        self._counter = itertools.count(1)
        self._asked: dict[int, _Asked] = {}

    def look_up(self, execution: str, digest: str, answer: Answer) -> None:
        """Ask for a result; answered with None at once when there is nobody to ask."""
        outbox = self._outbox_of(execution)
        if outbox is None:
            answer(None, "")
            return
        number = next(self._counter)
        limit = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._answered, number, None, "")
        self._asked[number] = _Asked(execution, answer, outbox, limit)
        outbox.look_up(session_pb2.ResultLookup(number=number, digest=digest))

    def answered(self, answers: Iterable[session_pb2.ResultAnswer]) -> None:
        """Answers have come. Those that nobody waits for any more are ignored."""
        for answer in answers:
            self._answered(answer.number, answer.result if answer.found else None, answer.execution)

    def left(self, outbox: Outbox) -> None:
        """A session has ended: nothing that was asked in it will be answered."""
        for number in [number for number, asked in self._asked.items() if asked.outbox is outbox]:
            self._answered(number, None, "")

    def forget(self, execution: str) -> None:
        """Drop the questions of an execution; they are not answered."""
        for number in [number for number, asked in self._asked.items() if asked.execution == execution]:
            self._asked.pop(number).limit.cancel()

    def _answered(self, number: int, result: bytes | None, execution: str) -> None:
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked.limit.cancel()
            asked.answer(result, execution)

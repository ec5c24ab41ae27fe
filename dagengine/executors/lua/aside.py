"""Expressions and templates on a thread of their own, so that nobody's expression holds up a server's event loop.

One evaluation at a time, in the order of the questions. One that runs too long is stopped; until then it holds up other
expressions here, but neither sessions nor nodes.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Final

from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua.evaluator import LuaEvaluator

__all__ = ["EvaluatorAside"]

_JOIN_SECONDS: Final = 2.0
"""How long the thread may take to end. It is a daemon: one that does not end cannot hold up the process."""

_FLUSH: Final = 64
"""Answers that are handed over together at most."""

Asked = tuple[base.Question, base.Answer]
Answered = tuple[base.Answer, base.Evaluation]


class EvaluatorAside:
    """Implements `base.Evaluator`. All but the evaluating happens on the event loop's thread."""

    def __init__(self, evaluator: LuaEvaluator) -> None:
        self._evaluator = evaluator
        self._waiting: deque[Asked] = deque()
        self._changed = threading.Condition()
        """Guards `_waiting` and `_stopped`."""
        self._stopped = False
        self._thread: threading.Thread | None = None

    def ask(self, question: base.Question, answer: base.Answer) -> None:
        """Answer later, on the event loop's thread."""
        with self._changed:
            self._waiting.append((question, answer))
            self._changed.notify()
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._work, args=(loop,), name="dagengine-expressions", daemon=True)
            self._thread.start()

    def forget(self, execution: str) -> None:
        """Drop the questions of an execution that were not begun."""
        with self._changed:
            if self._waiting:
                self._waiting = deque(
                    asked for asked in self._waiting if asked[0].of_attempt or asked[0].scope.execution != execution
                )

    async def close(self) -> None:
        """Stop what is under way, and the thread."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify()
        self._evaluator.stop()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _JOIN_SECONDS)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        answered: list[Answered] = []
        while (asked := self._next()) is not None:
            question, answer = asked
            try:
                evaluation = self._evaluator.evaluate(question)
            except Exception as exc:
                message = f"the expression could not be evaluated: {type(exc).__name__}: {exc}"
                evaluation = base.Evaluation(error=ErrorInfo(type="InternalError", message=message))
            answered.append((answer, evaluation))
            if len(answered) >= _FLUSH or not self._waiting:
                try:
                    loop.call_soon_threadsafe(self._deliver, answered)
                except RuntimeError:
                    return  # the loop was closed: nobody is there to be told
                answered = []

    def _next(self) -> Asked | None:
        """The next question, as soon as there is one; None when it is time to stop."""
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
            return None if self._stopped else self._waiting.popleft()

    def _deliver(self, answered: list[Answered]) -> None:
        for answer, evaluation in answered:
            if not self._stopped:
                answer(evaluation)

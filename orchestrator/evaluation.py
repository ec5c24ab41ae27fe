"""Templates that the orchestrator evaluates itself: the keys of workflows' `concurrency`, over inputs alone.

The same sandbox as on engines, on a thread of its own. `app` hands `Expressions.evaluate` down to the rooms below,
which know no executors.
"""

from __future__ import annotations

import asyncio

from dagengine.errors import InputError, Problem
from dagengine.executors.base import Evaluation, Question, Scope
from dagengine.executors.lua.aside import EvaluatorAside
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.spec.model import Document

__all__ = ["Expressions"]


class Expressions:
    """Evaluates templates over inputs."""

    def __init__(self) -> None:
        self._evaluator = EvaluatorAside(LuaEvaluator())

    async def evaluate(self, document: Document, template: object, inputs: bytes) -> bytes:
        """The JSON value of a template with the workflow's `env` and `inputs` (JSON) in scope. Raises InputError."""
        answered: asyncio.Future[Evaluation] = asyncio.get_running_loop().create_future()

        def answer(evaluation: Evaluation) -> None:
            if not answered.done():
                answered.set_result(evaluation)

        scope = Scope(
            execution="",
            workflow=document.id,
            version=document.version,
            digest=document.digest,
            inputs=inputs,
            nodes={},
            env=document.spec.configuration.env,
            modules=document.spec.modules,
        )
        self._evaluator.ask(Question(scope=scope, template=template), answer)
        evaluation = await answered
        if evaluation.error is not None:
            problem = Problem(path="spec.concurrency.key", message=evaluation.error.message)
            raise InputError("the inputs give no usable key for spec.concurrency", [problem])
        return evaluation.value

    async def close(self) -> None:
        """Stop the thread, if one was started. Nothing is answered any more."""
        await self._evaluator.close()

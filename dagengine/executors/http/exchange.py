"""One attempt: a request, the redirects that it may follow, and the value that the response comes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import httpcore
import msgspec

from dagengine.executors.base import MAX_RESULT, Evaluation, Evaluator, Job, Outcome, Question, Value
from dagengine.executors.http import kept, network, pointer, request, response
from dagengine.executors.http.failure import Failure, from_exception
from dagengine.executors.secrets import SecretMissing, Secrets
from dagengine.spec.executors import HTTPExecutor

__all__ = ["Exchange"]

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_ASKS_TO_WAIT: Final = (429, 503)


class Exchange:
    """What all attempts of an engine share. `say(job, text)` puts a line into a node's log."""

    def __init__(
        self,
        *,
        connections: network.Network,
        evaluator: Evaluator,
        secrets: Secrets,
        max_response: int,
        now: Callable[[], int],
        say: Callable[[Job, str], None],
    ) -> None:
        self._connections = connections
        self._evaluator = evaluator
        self._secrets = secrets
        self._max_response = max_response
        self._now = now
        self._say = say

    async def perform(self, job: Job) -> Outcome:
        """How the attempt ends. It may be cancelled at any time."""
        spec = job.spec
        assert isinstance(spec, HTTPExecutor)  # noqa: S101 - the driver routes jobs by executor type
        try:
            first = request.build(spec, job.args, key=job.key, secrets=self._secrets)
        except SecretMissing as error:
            return Failure("SecretMissing", str(error), conclusion="error").outcome()
        except Failure as failure:
            return failure.outcome()
        current = first
        try:
            for _ in range(spec.redirects + 1):
                outcome = await self._send(job, spec, current)
                if isinstance(outcome, Outcome):
                    return outcome
                current = outcome
            raise Failure("RedirectError", f"the response redirects again after {spec.redirects} redirects")
        except Failure as failure:
            ended = failure
        except Exception as exc:
            ended = from_exception(exc)
        ended.message = first.mask.text(ended.message)
        return ended.outcome(where=first.mask.text(f"{current.method} {request.shown(current.url)}"))

    async def _send(self, job: Job, spec: HTTPExecutor, sent: request.Request) -> Outcome | request.Request:
        """The outcome, or the next request."""
        sender = await self._connections.sender(sent, verify=spec.verify)
        async with kept.sent(sender, sent.on_the_wire(timeout=network.CONNECT_TIMEOUT)) as received:
            status = received.status
            self._say(job, sent.mask.text(f"{sent.method} {request.shown(sent.url)} {status}"))
            location = response.header(received, "Location")
            if status in _REDIRECTS and location and spec.redirects:
                return request.redirected(sent, status, location)
            if not _expected(spec, status):
                raise await self._unexpected(received, sent, location)
            body = await response.read(received, min(spec.output or MAX_RESULT, self._max_response))
        return await self._result(job, spec, received, sent, body)

    async def _unexpected(self, received: httpcore.Response, sent: request.Request, location: str) -> Failure:
        status = received.status
        said = await response.excerpt(received, sent.mask)
        message = f"the status is {status}"
        if status in _REDIRECTS and location:
            message += ", and `redirects` says to follow none"
        return Failure(
            f"HTTP{status}",
            f"{message}: {said}" if said else message,
            status=status,
            retry_after=response.retry_after(received, now=self._now()) if status in _ASKS_TO_WAIT else 0,
        )

    async def _result(
        self, job: Job, spec: HTTPExecutor, received: httpcore.Response, sent: request.Request, body: bytes
    ) -> Outcome:
        if spec.pointers:
            result = _pointed(spec, sent.mask.json(response.json_value(body)))
        else:
            result = sent.mask.json(response.value(received, body))
        if spec.select is not None:
            headers = sent.mask.json(msgspec.json.encode(response.headers(received)))
            given = b'{"status":%d,"headers":%b,"body":%b}' % (received.status, headers, result)
            question = Question(scope=job.scope, code=spec.select, given={"response": given}, of_attempt=True)
            answer = await self._ask(question)
            if answer.error is not None:
                return Outcome(conclusion="fail", error=answer.error)
            result = answer.value
        if len(result) > MAX_RESULT:
            message = f"the result has {len(result):,} bytes of JSON, and {MAX_RESULT:,} are the most"
            raise Failure("ResultError", f"{message}: take what is needed, with `pointers` or `select`")
        return Outcome(conclusion="success", result=result)

    async def _ask(self, question: Question) -> Evaluation:
        answered: asyncio.Future[Evaluation] = asyncio.get_running_loop().create_future()

        def answer(evaluation: Evaluation) -> None:
            if not answered.done():  # the attempt may have been given up meanwhile
                answered.set_result(evaluation)

        self._evaluator.ask(question, answer)
        return await answered


def _expected(spec: HTTPExecutor, status: int) -> bool:
    return status in spec.expect or f"{status // 100}xx" in spec.expect


def _pointed(spec: HTTPExecutor, body: Value) -> Value:
    found = {}
    for name, path in spec.pointers.items():
        try:
            found[name] = msgspec.Raw(pointer.find(body, path))
        except pointer.PointerError as exc:
            raise Failure("PointerError", f"`pointers.{name}`: {exc}") from exc
    return msgspec.json.encode(found)

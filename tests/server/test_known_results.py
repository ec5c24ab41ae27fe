"""Questions about results that were found before: asked in the execution's session, given up without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dagengine.server import results
from dagengine.server.outbox import Outbox
from dagengine.server.results import SessionResults
from dagengine.wire.v1 import session_pb2

Told = list[tuple[bytes | None, str]]


@pytest.fixture
async def outbox():
    made = Outbox(session_pb2.Load)
    yield made
    made.close()


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def ask(outbox: Outbox, told: Told) -> Callable[..., SessionResults]:
    def make(execution: str = "e-1", digest: str = "d") -> SessionResults:
        asking = SessionResults({"e-1": outbox}.get)
        asking.look_up(execution, digest, lambda *answer: told.append(answer))
        return asking

    return make


async def number_of(outbox: Outbox) -> int:
    while True:
        message = await outbox.next()
        assert message is not None
        if message.result_lookups:
            return message.result_lookups[0].number


def answer(number: int, result: bytes | None, execution: str = "e-0") -> session_pb2.ResultAnswer:
    return session_pb2.ResultAnswer(number=number, found=result is not None, result=result or b"", execution=execution)


async def test_a_result_that_is_known_is_given(ask, outbox, told) -> None:
    asking = ask()
    number = await number_of(outbox)
    asking.answered([answer(number, b"[1]"), answer(number, b"[2]"), answer(99, b"3")])
    assert told == [(b"[1]", "e-0")]


async def test_one_that_is_not_known_is_none(ask, outbox, told) -> None:
    asking = ask()
    asking.answered([answer(await number_of(outbox), None, "")])
    assert told == [(None, "")]


async def test_without_a_session_it_is_none_at_once(ask, told) -> None:
    ask("e-2")
    assert told == [(None, "")]


async def test_a_session_that_ends_answers_nothing(ask, outbox, told) -> None:
    asking = ask()
    number = await number_of(outbox)
    asking.left(outbox)
    asking.answered([answer(number, b"1")])
    assert told == [(None, "")]


async def test_what_an_execution_asked_that_has_ended_is_not_answered(ask, outbox, told) -> None:
    asking = ask()
    number = await number_of(outbox)
    asking.forget("e-1")
    asking.answered([answer(number, b"1")])
    asking.left(outbox)
    assert told == []


async def test_an_answer_that_does_not_come_is_none(outbox, monkeypatch) -> None:
    monkeypatch.setattr(results, "PATIENCE_SECONDS", 0.0)
    answered = asyncio.get_running_loop().create_future()
    asking = SessionResults({"e-1": outbox}.get)
    asking.look_up("e-1", "d", lambda *answer: answered.set_result(answer))
    assert await asyncio.wait_for(answered, 10) == (None, "")

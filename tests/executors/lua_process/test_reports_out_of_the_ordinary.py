"""Reports of attempts that were ahead of their time: several that come at once, and some that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from dagengine.executors import base
from dagengine.executors.lua.process.desk import Desk, Report
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.executors.lua.process.messages import RESULT

LARGE = "return string.rep('x', 1 << 18)"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, too, nothing is taken back from a worker because it takes long."""
    monkeypatch.setattr(Desk, "long", lambda self, now: False)


@pytest.fixture
def chain(job: Callable[..., base.Job]) -> Callable[..., base.Job]:
    """`chain(executor, first, second, known)`: a job, and behind it one that reads what is `known` by then. Both are
    known to be cheap, so that they are handed over together."""

    def make(executor: LuaProcesses, first: str, second: str, known: Mapping[str, bytes]) -> base.Job:
        for code in (first, second):
            executor._handing._codes.of(code).cost = 1.0
        behind = job(second, node="b", ahead=True)
        behind = msgspec.structs.replace(behind, scope=msgspec.structs.replace(behind.scope, nodes=known))
        return msgspec.structs.replace(job(first, node="a"), then=behind)

    return make


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result is read together with the report that follows it."""
    read = Desk.read

    def with_the_next(self: Desk) -> list[Report]:
        reports = read(self)
        while reports and reports[-1][0] == RESULT and len(reports[-1][2]) > 1 << 18:
            assert select.select([self._channel], [], [], 30)[0]
            reports += read(self)
        return reports

    monkeypatch.setattr(Desk, "read", with_the_next)


@pytest.mark.usefixtures("together")
async def test_what_must_begin_anew_sees_the_result_that_it_comes_after(start: Any, chain: Any) -> None:
    """A result that is too large to be kept in the worker comes together with the news that nothing followed it."""
    known: dict[str, bytes] = {}
    executor, ended = start(workers=1), Ended(known)
    executor.submit([chain(executor, LARGE, "return #nodes.a", known)], ended)
    assert [outcome.result for outcome in await ended.wait(2)][1] == b"262144"


async def test_an_attempt_that_dies_with_a_worker_that_raves_is_told_of_after_the_one_before_it(
    start: Any, chain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody waits for it yet, and then somebody waits for good."""
    executor, ended = start(workers=1), Ended({})
    read = Desk.read

    def raving(self: Desk) -> list[Report]:
        reports = read(self)
        if not any(kind == RESULT for kind, *_ in reports):
            return reports
        with contextlib.suppress(BlockingIOError):
            while self._their_tokens.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK):
                """The second attempt has not begun."""
        return [*reports, (99, 0, b"", 0, 0)]

    monkeypatch.setattr(Desk, "read", raving)
    executor.submit([chain(executor, "return 1", "while true do end", {})], ended)
    outcomes = await ended.wait(2)
    assert [job.node for job, _ in ended.told] == ["a", "b"]
    assert outcomes[0].ahead
    assert outcomes[1].error is not None


class Ended:
    """Takes ends in, as the driver does."""

    def __init__(self, known: dict[str, bytes]) -> None:
        self.told: list[tuple[base.Job, base.Outcome]] = []
        self._known = known
        self._changed = asyncio.Event()

    def __call__(self, job: base.Job, outcome: base.Outcome) -> None:
        self._known[job.node] = outcome.result
        self.told.append((job, outcome))
        self._changed.set()

    async def wait(self, count: int) -> list[base.Outcome]:
        async with asyncio.timeout(30):
            while len(self.told) < count:
                self._changed.clear()
                await self._changed.wait()
        return [outcome for _, outcome in self.told]

"""Who gets a worker: executions take turns, nobody waits behind a long attempt, and values are sent once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from dagengine.clock import SystemClock
from dagengine.executors.lua.process import desk
from dagengine.executors.lua.process.desk import Desk
from dagengine.executors.lua.process.executor import LuaProcesses
from dagengine.executors.lua.process.handing import Handing
from dagengine.executors.lua.process.messages import REPORT
from dagengine.executors.lua.process.orders import Code, Codes, Draft, Stock

BUSY = "local sum = 0 for i = 1, 3000000 do sum = sum + i end return sum"


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_short_execution_does_not_wait_for_a_long_one(start, job, crowd, workers) -> None:
    executor = start(workers=workers)
    crowd.submit(executor, [job(BUSY, index=i, execution="long") for i in range(40)])
    await crowd.wait(1)
    crowd.submit(executor, [job("return 1", index=100 + i, execution="short") for i in range(50)])
    await crowd.wait(90)
    order = [ended.scope.execution for ended, _ in crowd.ended]
    last_short = len(order) - 1 - order[::-1].index("short")
    assert order[:last_short].count("long") < 20


async def test_cheap_attempts_behind_a_long_one_are_done_by_somebody_else(start, job, crowd) -> None:
    """The code is known to be cheap, so that hundreds are handed over at a time; one of them does not end."""
    executor = start(workers=2)
    code = "if inputs.long then while true do end end return index"
    crowd.submit(executor, [job(code, index=i) for i in range(200)])
    await crowd.wait(200)
    for _ in range(3):
        crowd.ended.clear()
        crowd.submit(executor, [job(code, index=i, inputs={"long": True} if i == 5 else {}) for i in range(200)])
        await crowd.wait(199)
        executor.cancel("e-1", "n", 5, 1)
        await crowd.wait(200)
        assert crowd.by_index()[5].error.type == "Cancelled"


@pytest.mark.parametrize("at_once", [1, 10, 1000])
async def test_cheap_attempts_are_handed_over_by_the_hundred(start, job, crowd, monkeypatch, at_once) -> None:
    """However few reports are read at once: that is what a busy machine decides.

    A worker that has something to do, while more waits, is handed half of the most that it may have, or three
    milliseconds' work: it is for attempts that got no processor that they may seem to cost more than they do.
    """
    executor = start(workers=1)
    crowd.submit(executor, [job("return 1", index=i) for i in range(100)])
    await crowd.wait(100)
    monkeypatch.setattr(desk, "_READ", at_once * 4 * (REPORT.size + 1))  # each report is one byte of JSON; 4: of tokens
    batches = _watch_hand_offs(monkeypatch)
    more: list[tuple[int, float]] = []
    fill = Handing.fill

    def watched(self: Handing, to: Desk, waiting: Any, budget: float) -> Any:
        busy, load, count = bool(to.handed), to.load, len(batches)
        broken = fill(self, to, waiting, budget)
        if busy and waiting and len(batches) > count:
            more.append((batches[-1], to.load - load))
        return broken

    monkeypatch.setattr(Handing, "fill", watched)
    crowd.submit(executor, [job("return 1", index=i) for i in range(100, 3100)])
    await crowd.wait(3100)
    assert more
    assert [(count, load) for count, load in more if count < 128 and load < 3_000] == []


async def test_long_attempts_are_handed_over_one_by_one(executor, job, crowd, monkeypatch) -> None:
    crowd.submit(executor, [job(BUSY, index=i) for i in range(4)])
    await crowd.wait(4)
    batches = _watch_hand_offs(monkeypatch)
    crowd.submit(executor, [job(BUSY, index=i) for i in range(4, 12)])
    await crowd.wait(12)
    assert batches == [1] * 8


async def test_nothing_is_handed_to_and_fro(executor, job, crowd, monkeypatch) -> None:
    """What is taken back because a worker is idle goes to that worker."""
    cheap = "return 'cheap'"
    crowd.submit(executor, [job(BUSY, index=i) for i in range(4)] + [job(cheap, index=4)])
    await crowd.wait(5)
    for _ in range(20):
        crowd.ended.clear()
        batches = _watch_hand_offs(monkeypatch)
        crowd.submit(executor, [job(cheap, index=0), job(BUSY, index=1)])
        await crowd.wait(2)
        monkeypatch.undo()
        assert len(batches) <= 4
        assert crowd.by_index()[0].result == b'"cheap"'


async def test_a_worker_that_gets_no_processor_mixes_nothing_up(start, job, crowd, lines, processes) -> None:
    executor = start(workers=1)
    crowd.submit(executor, [job("return 1", index=0)])
    await crowd.wait(1)
    (worker,) = processes.workers()
    for batch in range(1, 6):
        worker.suspend()
        for i in range(batch * 100, batch * 100 + 50):
            crowd.submit(executor, [job("print(index) return index", index=i)])
            await asyncio.sleep(0.003 if i % 10 == 0 else 0)
        executor.cancel("e-1", "n", batch * 100 + 7, 1)
        await asyncio.sleep(0.01)
        worker.resume()
        await crowd.wait(1 + batch * 50)
    done = {i: outcome.result for i, outcome in crowd.by_index().items() if i and outcome.error is None}
    assert done == {i: str(i + 1).encode() for i in done}
    assert len(done) == 5 * 49
    assert sorted(line.index for line in lines if line.index is not None) == sorted(done)


async def test_what_a_worker_has_not_begun_keeps_its_order(start, job, crowd, processes) -> None:
    """What is taken back, because it lies behind something that does not get on, comes after that."""
    executor = start(workers=1)
    crowd.submit(executor, [job("return 1", index=0)])
    await crowd.wait(1)
    (worker,) = processes.workers()
    worker.suspend()
    crowd.submit(executor, [job("return index", index=i) for i in range(1, 30)])
    await asyncio.sleep(0.1)  # no event: it is noticed that the first one takes long
    worker.resume()
    await crowd.wait(30)
    assert [job.index for job, _ in crowd.ended] == list(range(30))


async def test_a_worker_that_tells_of_something_else_is_killed(start, job, crowd, monkeypatch) -> None:
    """Should there ever be a mistake in who does what, no result is given to the wrong attempt."""
    executor = start(workers=1)
    crowd.submit(executor, [job("return 0", index=0)])
    await crowd.wait(1)
    send = Desk.send

    def wrong(self: Desk, handed: Any) -> None:
        monkeypatch.setattr(Desk, "send", send)
        self.handed[-1] = self.handed[-1]._replace(number=self.handed[-1].number + 7)
        send(self, handed)

    monkeypatch.setattr(Desk, "send", wrong)
    crowd.submit(executor, [job("return 1", index=1)])
    await crowd.wait(2)
    error = crowd.by_index()[1].error
    assert (error.type, error.message) == (
        "Killed",
        "the script's worker process was killed: it told what it was not asked",
    )
    crowd.submit(executor, [job("return 2", index=2)])
    assert (await crowd.wait(3))[2].result == b"2"


@pytest.mark.parametrize(
    "report", [(1, 0, b"1", 5, 0), (2, 2, b"not JSON", 5, 0), (3, 2, b"9x", 0, 0), (3, 2, b"", 0, 0)]
)
async def test_a_worker_that_says_what_no_worker_says_is_killed(start, job, crowd, monkeypatch, report) -> None:
    """A result of nobody's, an error that is none, a line without a level: every attempt ends all the same."""
    executor = start(workers=1)
    crowd.submit(executor, [job("return 0", index=0)])
    await crowd.wait(1)
    read = Desk.read

    def wrong(self: Desk) -> list[Any]:
        monkeypatch.setattr(Desk, "read", read)
        self.read()
        return [report]

    monkeypatch.setattr(Desk, "read", wrong)
    crowd.submit(executor, [job("while true do print(1) end", index=1, timeout=5_000_000), job("return 2", index=2)])
    await crowd.wait(3)
    assert crowd.by_index()[1].error.type == "Killed"
    assert crowd.by_index()[2].result == b"2"


def _watch_hand_offs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    batches: list[int] = []
    send = Desk.send

    def watched(self: Desk, handed: Any) -> None:
        batches.append(len(handed.orders))
        send(self, handed)

    monkeypatch.setattr(Desk, "send", watched)
    return batches


async def test_the_loop_stays_free_while_scripts_compute(executor, job, crowd) -> None:
    crowd.submit(executor, [job("while true do end", index=i, timeout=1_000_000) for i in range(2)])
    longest, before = 0.0, time.monotonic()
    while len(crowd.ended) < 2:
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    assert longest < 0.5  # half of what a script takes that holds the loop


class TestValues:
    BIG: ClassVar[dict[str, list[str]]] = {"rows": ["x" * 100] * 1000}

    async def test_a_big_value_reaches_every_script_that_reads_it(self, executor, job, crowd) -> None:
        crowd.submit(executor, [job("return #nodes.a.rows + index", index=i, nodes={"a": self.BIG}) for i in range(99)])
        await crowd.wait(99)
        assert {i: outcome.result for i, outcome in crowd.by_index().items()} == {
            i: str(1001 + i).encode() for i in range(99)
        }

    async def test_values_beyond_what_is_kept_are_sent_again(self, start, job, crowd) -> None:
        """More than two generations of what a worker keeps, and back to the first."""
        executor = start(workers=1, max_memory=256 << 20)
        values = [{"n": n, "x": "x" * 3_000_000} for n in range(9)]
        jobs = [job("return nodes.a.n", index=i, nodes={"a": values[i % 9]}) for i in range(27)]
        crowd.submit(executor, jobs)
        await crowd.wait(27)
        assert {i: outcome.result for i, outcome in crowd.by_index().items()} == {
            i: str(i % 9).encode() for i in range(27)
        }

    async def test_results_of_any_size_come_back(self, executor, job, crowd) -> None:
        crowd.submit(executor, [job("return ('x'):rep(index * 100000)", index=i) for i in range(40)])
        await crowd.wait(40)
        for i, outcome in crowd.by_index().items():
            assert len(outcome.result) == (i + 1) * 100_000 + 2

    async def test_a_value_that_takes_a_while_to_send_is_not_the_scripts_time(self, start, job, crowd) -> None:
        executor = start(workers=1, max_memory=256 << 20)
        crowd.submit(executor, [job("return 1", index=0, inputs={})])
        await crowd.wait(1)
        big = {"x": "x" * 30_000_000}
        crowd.submit(executor, [job("return #inputs.x", index=1, inputs=big, timeout=2_000_000)])
        crowd.submit(executor, [job("return 3", index=2)])
        await crowd.wait(3)
        assert crowd.by_index()[1].result == b"30000000"

    def test_only_what_code_reads_is_sent(self, job) -> None:
        draft = _draft(Stock())
        everything = {
            "inputs": {"a": 1},
            "nodes": {"a": 1, "b": 2},
            "env": {"E": "1"},
            "item": 5,
            "index": 2,
            "seed": 9,
        }
        _add(draft, Code("return 1"), job("return 1", **everything))
        _add(draft, Code("return nodes.b"), job("return 1", **everything))
        _add(draft, Code("return item, inputs, env, math.random(), index"), job("return 1", **everything))
        bare, one, most = draft.handed.orders
        assert (bare.inputs, bare.nodes, bare.env, bare.item, bare.seed) == (None, None, None, None, 0)
        assert (one.inputs, one.nodes) == (None, {"b": b"2"})
        assert (most.inputs, most.nodes, most.env, most.item) == (b'{"a":1}', None, b'{"E":"1"}', b"5")
        assert (most.index, most.seed) == (2, 9)

    def test_code_and_big_values_are_sent_once(self, job) -> None:
        stock, code = Stock(), Code("return nodes.a")
        first = _draft(stock)
        for i in range(3):
            _add(first, code, job("return 1", nodes={"a": self.BIG}, index=i))
        again = _draft(stock)
        _add(again, code, job("return 1", nodes={"a": self.BIG}))
        (number,) = first.handed.values
        assert [order.nodes for order in first.handed.orders + again.handed.orders] == [{"a": number}] * 4
        assert list(first.handed.codes.values()) == [b"return nodes.a"]
        assert (again.handed.codes, again.handed.values, again.size) == ({}, {}, 0)

    def test_what_a_worker_keeps_is_bounded(self, job) -> None:
        stock, code, kept = Stock(), Code("return nodes.a"), set()
        for i in range(60):
            draft = _draft(stock)
            kept -= set(draft.handed.forgotten_values)
            _add(draft, code, job("return 1", nodes={"a": [i, "x" * 1_000_000]}))
            kept |= set(draft.handed.values)
        assert 8 <= len(kept) <= 20

    def test_what_no_script_could_hold_is_not_sent(self, job) -> None:
        draft = Draft(Stock(), clock=SystemClock(), max_memory=1 << 20, at=0)
        with pytest.raises(MemoryError):
            _add(
                draft, Code("return nodes.a, nodes.b"), job("return 1", nodes={"a": "x" * 600_000, "b": "y" * 600_000})
            )
        assert draft.handed.orders == []

    def test_what_code_costs_is_learned(self) -> None:
        codes = Codes()
        code = codes.of("return 1")
        assert code.cost == 1_000
        code.learn(4)
        assert code.cost == 5
        for _ in range(50):
            code.learn(99)
        assert code.cost == pytest.approx(100, rel=0.01)
        assert codes.of("return 1") is code

    def test_one_attempt_that_got_no_processor_does_not_make_its_code_a_long_one(self) -> None:
        code = Code("return 1")
        code.learn(4)
        code.learn(20_000)
        assert code.cost < 10
        for _ in range(100):
            code.learn(20_000)
        assert code.cost > 10_000
        for _ in range(20):
            code.learn(4)
        assert code.cost < 10


def _add(draft: Draft, code: Code, job: Any) -> int:
    return draft.add(code, job, job.spec)


def _draft(stock: Stock) -> Draft:
    return Draft(stock, clock=SystemClock(), max_memory=64 << 20, at=0)


@pytest.fixture(scope="session")
def another_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop, which servers run on. Its first loop opens files that stay open, so that one is made beforehand."""
    import uvloop

    uvloop.new_event_loop().close()
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


async def test_a_loop_of_another_kind_will_do(job, another_loop) -> None:
    async def run() -> list[bytes]:
        executor = LuaProcesses(log=lambda _line: None, clock=SystemClock(), workers=2)
        results: list[bytes] = []
        finished = asyncio.Event()

        def done(_job: Any, outcome: Any) -> None:
            results.append(outcome.result if outcome.error is None else outcome.error.type.encode())
            if len(results) == 52:
                finished.set()

        executor.submit([job("while true do end", index=0, timeout=100_000), job(BUSY, index=1)], done)
        executor.submit([job("return inputs.x", index=i, inputs={"x": "y" * 2_000}) for i in range(50)], done)
        async with asyncio.timeout(30):
            await finished.wait()
        await executor.close()
        return results

    def inside() -> list[bytes]:
        with asyncio.Runner(loop_factory=another_loop) as runner:
            return runner.run(run())

    results = await asyncio.to_thread(inside)
    assert (results.count(b"Timeout"), results.count(b'"' + b"y" * 2_000 + b'"')) == (1, 50)

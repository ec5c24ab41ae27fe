"""Effects wait for the commit of their own start; pure code runs ahead; nothing ends before it is committed."""

from __future__ import annotations

import asyncio

import pytest

from dagengine import DAGEngine
from dagengine.events.facts import NodeSucceeded
from dagengine.machine.operations import Cancel


async def test_an_effect_waits_for_the_commit_of_its_own_start(drive, journal, scripted, effect) -> None:
    driver = drive([{"id": "a"}, {"id": "b", "dependencies": ["a"]}, effect("send", "b")])
    driver.start(b"{}")
    start = await journal.holds("NodeStarted", "send")
    assert scripted.begun == []
    for position in range(1, start):
        journal.commit(position)
        assert scripted.begun == []
    journal.commit(start)
    assert scripted.begun == ["send 1"]


async def test_an_effect_at_the_beginning_waits_too(drive, journal, scripted, effect) -> None:
    drive([effect("send")]).start(b"{}")
    assert journal.kinds == ["ExecutionStarted", "NodeStarted send"]
    journal.commit(1)
    assert scripted.begun == []
    journal.commit(2)
    assert scripted.begun == ["send 1"]


async def test_pure_lua_runs_ahead_of_every_commit(drive, journal) -> None:
    chain = [{"id": f"n{at}", "dependencies": [f"n{at - 1}"] if at else []} for at in range(200)]
    driver = drive(chain)
    driver.start(b"{}")
    await journal.holds("ExecutionSucceeded")
    assert journal.committed == 0
    assert sum(isinstance(fact, NodeSucceeded) for fact in journal.facts) == 200


async def test_a_function_that_is_declared_pure_runs_ahead(drive, journal, scripted, effect) -> None:
    drive([effect("compute", pure=True)]).start(b"{}")
    assert scripted.begun == ["compute 1"]
    assert journal.committed == 0


async def test_pure_nodes_beside_an_effect_do_not_wait_for_it(drive, journal, scripted, effect) -> None:
    drive([effect("send"), {"id": "a"}, {"id": "b", "dependencies": ["a"]}]).start(b"{}")
    await journal.holds("NodeSucceeded", "b")
    assert scripted.begun == []


async def test_pure_nodes_below_an_effect_run_on_its_uncommitted_result(drive, journal, scripted, effect) -> None:
    drive([effect("fetch"), {"id": "a", "dependencies": ["fetch"]}]).start(b"{}")
    journal.commit()
    before = journal.committed
    scripted.end("fetch")
    await journal.holds("NodeSucceeded", "a")
    assert journal.committed == before


async def test_every_further_effect_waits_for_its_own_commit(drive, journal, scripted, effect) -> None:
    drive([effect("first"), effect("second", "first")]).start(b"{}")
    journal.commit()
    scripted.end("first")
    assert scripted.begun == ["first 1"]
    journal.commit(journal.position("NodeSucceeded", "first"))
    assert scripted.begun == ["first 1"]
    journal.commit(journal.position("NodeStarted", "second"))
    assert scripted.begun == ["first 1", "second 1"]


async def test_effects_of_different_steps_are_let_go_one_by_one(drive, journal, scripted, effect) -> None:
    drive([effect("x"), effect("y"), effect("after-x", "x"), effect("after-y", "y")]).start(b"{}")
    journal.commit()
    scripted.end("y")
    scripted.end("x")
    journal.commit(journal.position("NodeStarted", "after-y"))
    assert scripted.begun == ["x 1", "y 1", "after-y 1"]
    journal.commit()
    assert scripted.begun == ["x 1", "y 1", "after-y 1", "after-x 1"]


async def test_an_effect_is_performed_once_however_often_the_journal_reports(drive, journal, scripted, effect) -> None:
    drive([effect("send")]).start(b"{}")
    for _ in range(3):
        journal.commit()
    assert scripted.begun == ["send 1"]


async def test_all_items_with_effects_wait(drive, journal, scripted, effect) -> None:
    drive([effect("send", foreach="{1, 2, 3}")]).start(b"{}")
    assert journal.position("NodeExpanded", "send")
    assert scripted.jobs == []
    journal.commit()
    assert [job.index for job in scripted.jobs] == [0, 1, 2]
    assert scripted.batches == [3]


async def test_what_was_cancelled_before_its_commit_is_never_performed(drive, journal, scripted, effect) -> None:
    driver = drive([effect("send"), effect("keep", run_if="always")])
    driver.start(b"{}")
    driver.operate(Cancel(), command="c-1")
    journal.commit()
    assert scripted.begun == ["keep 1"]


class TestTheEnd:
    async def test_wait_returns_when_the_last_fact_is_committed(self, drive, journal) -> None:
        driver = drive([{"id": "a"}])
        driver.start(b"{}")
        last = await journal.holds("ExecutionSucceeded")
        waiting = asyncio.ensure_future(driver.wait())
        journal.commit(last - 1)
        await asyncio.sleep(0)
        assert not waiting.done()
        journal.commit(last)
        await asyncio.wait_for(waiting, 5)

    async def test_several_may_wait_and_one_may_give_up(self, drive, journal) -> None:
        driver = drive([{"id": "a"}])
        driver.start(b"{}")
        first, second = asyncio.ensure_future(driver.wait()), asyncio.ensure_future(driver.wait())
        await asyncio.sleep(0)
        first.cancel()
        await journal.holds("ExecutionSucceeded")
        journal.commit()
        await asyncio.wait_for(second, 5)
        assert first.cancelled()


class TestCongestion:
    @pytest.mark.parametrize("pure", [True, False], ids=["pure", "effect"])
    async def test_nothing_is_begun_while_the_journal_is_congested(
        self, drive, journal, scripted, effect, pure: bool
    ) -> None:
        journal.congested = True
        drive([effect("a", pure=pure), effect("b", pure=pure)]).start(b"{}")
        journal.commit()
        assert scripted.begun == []
        journal.congested = False
        assert scripted.begun == ["a 1", "b 1"]

    async def test_what_runs_may_finish_and_what_follows_is_held_back(self, drive, journal, scripted, effect) -> None:
        drive([effect("a", pure=True), effect("b", "a", pure=True)]).start(b"{}")
        journal.congested = True
        scripted.end("a")
        assert journal.position("NodeSucceeded", "a")
        assert scripted.begun == ["a 1"]
        journal.congested = False
        assert scripted.begun == ["a 1", "b 1"]

    async def test_what_was_held_back_keeps_its_order_and_nothing_is_lost_or_doubled(
        self, drive, journal, scripted, effect
    ) -> None:
        drive([effect(f"n{at}", pure=bool(at % 2)) for at in range(40)]).start(b"{}")
        journal.congested = True
        journal.commit()
        odd = [f"n{at} 1" for at in range(40) if at % 2]
        assert scripted.begun == odd  # begun before
        journal.congested = False
        journal.congested = False
        assert scripted.begun == odd + [f"n{at} 1" for at in range(40) if not at % 2]

    async def test_what_was_cancelled_while_it_was_held_back_is_not_begun(
        self, drive, journal, scripted, effect
    ) -> None:
        journal.congested = True
        driver = drive([effect("a", pure=True), effect("keep", pure=True, run_if="always")])
        driver.start(b"{}")
        driver.operate(Cancel(), command="c-1")
        journal.congested = False
        assert scripted.begun == ["keep 1"]

    async def test_a_chain_goes_through_a_journal_that_is_congested_again_and_again(self, drive, held_journal) -> None:
        """Congested from eight uncommitted facts on; it commits whenever nothing else happens."""

        class Narrow(held_journal):
            @property
            def congested(self) -> bool:
                return self.appended - self.committed >= 8

            def append(self, facts) -> None:
                super().append(facts)
                most.append(self.appended - self.committed)
                if self.congested:
                    asyncio.get_running_loop().call_soon(self.commit)

        most: list[int] = []
        journal = Narrow()
        wide = [{"id": f"w{at}", "dependencies": ["start"]} for at in range(100)]
        chain = [{"id": f"c{at}", "dependencies": [f"c{at - 1}" if at else "start"]} for at in range(100)]
        driver = drive([{"id": "start"}, *wide, *chain], journal=journal)
        driver.start(b"{}")
        last = asyncio.ensure_future(driver.wait())
        await journal.holds("ExecutionSucceeded")
        journal.commit()
        await asyncio.wait_for(last, 30)
        assert sum(isinstance(fact, NodeSucceeded) for fact in journal.facts) == 201
        assert max(most) <= 8 + 101 + 8  # what one step makes is not cut


async def test_the_rule_holds_with_real_functions_and_real_lua(journal, graph) -> None:
    performed = []

    async def send(b: int) -> int:
        performed.append(b)
        return b

    nodes = [
        {"id": "a", "executor": {"type": "lua", "code": "return 20"}},
        {"id": "b", "dependencies": ["a"], "executor": {"type": "lua", "code": "return nodes.a * 2"}},
        {"id": "send", "dependencies": ["b"], "executor": {"type": "python", "function": "send"}},
        {"id": "c", "dependencies": ["send"], "executor": {"type": "lua", "code": "return nodes.send + 2"}},
    ]
    async with DAGEngine(functions={"send": send}) as engine:
        driver = engine.open(graph(nodes), execution="e-1", journal=journal, seed=1)
        driver.start(b"{}")
        start = await journal.holds("NodeStarted", "send")
        journal.commit(start - 1)
        await asyncio.sleep(0)
        assert performed == []
        journal.commit(start)
        await journal.holds("ExecutionSucceeded")
        assert performed == [40]
        assert driver.state.outputs == b'{"c":42}'
        journal.commit()
        await driver.wait()
        engine.release("e-1")


async def test_no_more_attempts_are_handed_over_than_are_worth_waiting_in_memory(drive, scripted, effect) -> None:
    many = 5_000
    driver = drive([effect(f"n{number}", pure=True) for number in range(many)])
    driver.start(b"{}")
    assert len(scripted.jobs) == 4_096
    for number in range(3_000):
        scripted.end(f"n{number}")
    assert sorted(job.node for job in scripted.jobs) == sorted(f"n{number}" for number in range(many))

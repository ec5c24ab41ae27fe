"""Giving up: `stop` makes no more facts, `cancel` stops what runs, and what breaks is told to whoever waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dagengine import DAGEngine
from dagengine.errors import ExecutorError, JournalError, MachineError
from dagengine.events.facts import ErrorInfo, ExecutionCancelled, NodeFailed
from dagengine.executors.base import LogLine, Outcome
from dagengine.machine.operations import Cancel


class TestStop:
    async def test_it_makes_no_more_facts(self, drive, journal, scripted, effect) -> None:
        driver = drive([effect("a"), effect("b", "a")])
        driver.start(b"{}")
        journal.commit()
        driver.stop()
        made = len(journal.facts)
        scripted.end("a")
        driver.operate(Cancel(), command="c-1")
        journal.commit()
        assert len(journal.facts) == made
        assert scripted.begun == ["a 1"]

    async def test_it_tells_what_runs_to_stop_and_lets_go_of_whoever_waits(
        self, drive, journal, scripted, effect
    ) -> None:
        driver = drive([effect("a"), effect("b"), effect("c", "b")])
        driver.start(b"{}")
        journal.commit()
        scripted.end("b")
        waiting = asyncio.ensure_future(driver.wait())
        driver.stop()
        driver.stop()
        await asyncio.wait_for(waiting, 5)
        assert scripted.cancelled == [("a", None, 1), ("c", None, 1)]

    async def test_what_was_given_up_does_not_look_as_if_it_only_waited(self, drive, journal) -> None:
        """It would be parked by what comes in after that, although it may have broken down."""
        driver = drive([{"id": "a", "executor": {"type": "wait", "signal": {"name": "go"}}}])
        driver.start(b"{}")
        journal.commit()
        assert driver.only_waits
        driver.stop()
        assert not driver.only_waits

    async def test_what_was_held_for_a_commit_is_never_performed(self, drive, journal, scripted, effect) -> None:
        driver = drive([effect("a")])
        driver.start(b"{}")
        driver.stop()
        journal.commit()
        assert scripted.begun == []

    async def test_within_a_step_it_ends_that_step(self, drive, held_journal, scripted, effect) -> None:
        """A journal may find out while it takes facts that somebody else has taken the execution over."""

        class Fenced(held_journal):
            def append(self, facts) -> None:
                super().append(facts)
                driver.stop()

        journal = Fenced()
        driver = drive([effect("a", pure=True, when="true")], journal=journal)
        driver.start(b"{}")
        journal.commit()
        assert journal.kinds == ["ExecutionStarted"]
        await asyncio.wait_for(driver.wait(), 5)

    async def test_a_retry_that_is_due_later_keeps_nobody_waiting(self, drive, journal, scripted, effect) -> None:
        driver = drive([effect("a", retry={"fail": {"max_attempts": 2, "backoff": {"initial": "1h"}}})])
        driver.start(b"{}")
        journal.commit()
        scripted.end("a", "fail")
        driver.stop()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


class TestCancel:
    async def test_a_second_delivery_makes_no_fact(self, drive, journal, scripted, effect) -> None:
        driver = drive([effect("a"), effect("keep", run_if="always")])
        driver.start(b"{}")
        driver.operate(Cancel(author="ada"), command="c-1")
        made = list(journal.kinds)
        driver.operate(Cancel(author="ada"), command="c-1")
        assert journal.kinds == made
        assert journal.position("CancelRequested")
        assert journal.position("NodeCancelled", "a")

    async def test_an_attempt_that_was_decided_but_not_handed_over_is_not_handed_over(
        self, drive, held_journal, scripted, effect
    ) -> None:
        """The cancel comes while the step that starts the node is still being worked off."""

        class Nosy(held_journal):
            def append(self, facts) -> None:
                super().append(facts)
                if self.position("NodeStarted", "a"):
                    driver.operate(Cancel(), command="c-1")

        journal = Nosy()
        driver = drive([effect("a", pure=True), effect("keep", pure=True, run_if="always")], journal=journal)
        driver.start(b"{}")
        assert journal.position("NodeCancelled", "a")
        assert scripted.begun == ["keep 1"]

    async def test_a_lua_script_that_runs_is_stopped(self, journal, graph) -> None:
        endless = [{"id": "a", "executor": {"type": "lua", "code": "print('begun') while true do end"}}]
        begun, loop = asyncio.Event(), asyncio.get_running_loop()

        def log(line: LogLine) -> None:
            loop.call_soon_threadsafe(begun.set)

        async with DAGEngine(lua="thread", log=log) as engine:
            driver = engine.open(graph(endless), execution="e-1", journal=journal, seed=1)
            driver.start(b"{}")
            await asyncio.wait_for(begun.wait(), 30)
            driver.operate(Cancel(reason="enough"), command="c-1")
            assert isinstance(journal.facts[-1], ExecutionCancelled)
            journal.commit()
            await driver.wait()
            engine.release("e-1")
            # The engine is free for the next one: the script has really ended.
            outputs = await asyncio.wait_for(engine.run(graph([{"id": "b"}]).document), 30)
            assert outputs == {"b": 1}

    async def test_an_asynchronous_function_that_runs_is_stopped(self, journal, graph) -> None:
        begun, told = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            begun.set()
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                told.set()
                raise

        nodes = [{"id": "a", "executor": {"type": "python", "function": "wait", "pure": True}}]
        async with DAGEngine(functions={"wait": wait}) as engine:
            driver = engine.open(graph(nodes), execution="e-1", journal=journal, seed=1)
            driver.start(b"{}")
            await asyncio.wait_for(begun.wait(), 30)
            driver.operate(Cancel(), command="c-1")
            await asyncio.wait_for(told.wait(), 30)
            assert isinstance(journal.facts[-1], ExecutionCancelled)

    async def test_a_function_on_a_thread_goes_on_but_the_execution_ends(self, journal, graph) -> None:
        begun, release, ended = threading.Event(), threading.Event(), threading.Event()

        def wait() -> str:
            begun.set()
            release.wait(30)
            ended.set()
            return "late"

        nodes = [{"id": "a", "executor": {"type": "python", "function": "wait", "pure": True}}]
        async with DAGEngine(functions={"wait": wait}) as engine:
            driver = engine.open(graph(nodes), execution="e-1", journal=journal, seed=1)
            driver.start(b"{}")
            await asyncio.to_thread(begun.wait, 30)
            driver.operate(Cancel(), command="c-1")
            made = list(journal.kinds)
            release.set()
            await asyncio.to_thread(ended.wait, 30)
            await asyncio.sleep(0)
            assert journal.kinds == made
            assert isinstance(journal.facts[-1], ExecutionCancelled)


class TestWhatBreaks:
    async def test_a_journal_that_takes_no_more_is_told_to_whoever_waits(
        self, drive, journal, scripted, effect
    ) -> None:
        driver = drive([effect("a", pure=True), effect("b", pure=True)])
        driver.start(b"{}")
        waiting = asyncio.ensure_future(driver.wait())
        await asyncio.sleep(0)
        journal.fault = JournalError("the disk is full")
        made = len(journal.facts)
        scripted.end("a")
        with pytest.raises(JournalError, match="the disk is full"):
            await waiting
        journal.fault = None
        scripted.end("b")
        assert len(journal.facts) == made
        assert ("b", None, 1) in scripted.cancelled

    async def test_a_journal_that_is_broken_from_the_start(self, drive, journal, scripted, effect) -> None:
        journal.fault = JournalError("the disk is full")
        driver = drive([effect("a", pure=True)])
        driver.start(b"{}")
        with pytest.raises(JournalError, match="the disk is full"):
            await driver.wait()
        assert scripted.begun == []

    async def test_an_executor_that_there_is_not(self, drive, journal, effect) -> None:
        driver = drive([effect("a", pure=True)], executors={})
        driver.start(b"{}")
        with pytest.raises(ExecutorError, match="this engine has no executor 'python'"):
            await driver.wait()

    async def test_a_history_that_makes_no_sense_is_refused_at_once(self, drive, journal, scripted, effect) -> None:
        driver = drive([effect("a")])
        driver.start(b"{}")
        history = [*journal.facts, *journal.facts]
        with pytest.raises(MachineError, match="it has started already"):
            drive([effect("a")]).resume(history)

    async def test_a_failed_expression_breaks_nothing(self, drive, journal) -> None:
        drive([{"id": "a", "when": "inputs.x.y"}]).start(b"{}")
        await journal.holds("ExecutionFailed")
        (failed,) = [fact for fact in journal.facts if isinstance(fact, NodeFailed)]
        assert "attempt to index" in failed.error.message


async def test_it_tells_when_it_only_waits(drive, journal, scripted, effect) -> None:
    hold = {"id": "hold", "dependencies": ["a"], "executor": {"type": "wait", "signal": {"name": "go"}}}
    driver = drive([effect("a", pure=True), hold])
    driver.start(b"{}")
    assert not driver.only_waits
    scripted.end("a")
    assert driver.only_waits
    driver.operate(Cancel(), command="c-1")
    assert not driver.only_waits


async def test_a_late_end_does_not_free_the_room_of_whoever_runs_it_now(drive, journal, held_journal, scripted, effect):
    """An execution that was dropped here and given back runs the same pure attempt again, in room of its own."""
    node = effect("a", pure=True, pool="one")
    first = drive([node])
    first.start(b"{}")
    job, done = scripted._done["a", None, 1]
    first.stop()
    second = drive([node], journal=held_journal(committed=len(journal.facts)))
    second.resume(journal.facts)
    other = drive([node], journal=held_journal(), execution="e-2")
    other.start(b"{}")
    assert scripted.begun == ["a 1", "a 1"]
    done(job, Outcome(conclusion="error", error=ErrorInfo(type="Cancelled", message="it was stopped")))
    await asyncio.sleep(0)
    assert scripted.begun == ["a 1", "a 1"]
    scripted.end("a")
    await asyncio.sleep(0)
    assert scripted.begun == ["a 1", "a 1", "a 1"]

"""Attempts of nodes with a pool or a rate ask the gate first, and give their room back whatever becomes of them."""

from __future__ import annotations

import pytest

from dagengine.machine.operations import Cancel, Pause, Skip, Unpause


@pytest.fixture
def pooled(effect):
    """`pooled(id, …)`: a node that takes all the room of the pool `one`."""

    def make(id: str, *dependencies: str, **fields):
        return effect(id, *dependencies, pure=True, pool="one", **fields)

    return make


async def turns(journal, node: str, attempt: int = 1) -> None:
    await journal.holds("NodeStarted", node, attempt)


async def test_one_begins_when_the_other_has_ended(drive, journal, scripted, pooled) -> None:
    driver = drive([pooled("a"), pooled("b")])
    driver.start(b"{}")
    assert scripted.begun == ["a 1"]
    assert journal.position("NodeQueued", "b")
    scripted.end("a")
    await turns(journal, "b")
    assert scripted.begun == ["a 1", "b 1"]


async def test_a_retry_gives_its_room_to_others_and_asks_again(drive, journal, scripted, pooled) -> None:
    quick = {"fail": {"max_attempts": 2, "backoff": {"initial": "1ms", "jitter": 0}}}
    driver = drive([pooled("a", retry=quick), pooled("b")])
    driver.start(b"{}")
    scripted.end("a", "fail")
    await turns(journal, "b")
    assert not journal.position("NodeStarted", "a", 2)
    scripted.end("b")
    await turns(journal, "a", 2)


async def test_room_is_given_back_when_the_attempt_is_really_over_and_not_when_it_was_abandoned(
    drive, journal, scripted, pooled
) -> None:
    driver = drive([pooled("a"), pooled("b")])
    driver.start(b"{}")
    driver.operate(Skip(node="a"), command="c-1")
    assert scripted.cancelled == [("a", None, 1)]
    assert scripted.begun == ["a 1"]
    scripted.end("a")
    await turns(journal, "b")


async def test_an_attempt_that_waits_for_its_commit_and_is_cancelled_gives_its_room_back(
    drive, journal, scripted, effect, pooled
) -> None:
    driver = drive([effect("a", pool="one"), pooled("b")])
    driver.start(b"{}")
    assert scripted.begun == []
    driver.operate(Skip(node="a"), command="c-1")
    journal.commit()
    await turns(journal, "b")
    assert scripted.begun == ["b 1"]


async def test_who_is_paused_while_it_queues_lets_others_pass_and_queues_again(
    drive, journal, scripted, pooled
) -> None:
    driver = drive([pooled("a"), pooled("b"), pooled("c")])
    driver.start(b"{}")
    driver.operate(Pause(node="b"), command="c-1")
    scripted.end("a")
    await turns(journal, "c")
    driver.operate(Unpause(node="b"), command="c-2")
    assert scripted.begun == ["a 1", "c 1"]
    scripted.end("c")
    await turns(journal, "b")


async def test_an_execution_that_is_stopped_holds_nothing(drive, held_journal, journal, scripted, pooled) -> None:
    first = drive([pooled("a"), pooled("b")])
    first.start(b"{}")
    other = held_journal()
    second = drive([pooled("z")], journal=other, execution="e-2")
    second.start(b"{}")
    assert scripted.begun == ["a 1"]
    first.stop()
    await turns(other, "z")


async def test_nodes_that_fail_fast_gives_up_block_nobody(drive, held_journal, scripted, pooled, effect) -> None:
    journal, other = held_journal(), held_journal()
    nodes = [pooled("a"), pooled("b"), effect("c", pure=True)]
    driver = drive(nodes, journal=journal, failure_policy="fail_fast")
    driver.start(b"{}")
    second = drive([pooled("z")], journal=other, execution="e-2")
    second.start(b"{}")
    scripted.end("c", "fail")
    assert journal.position("NodeSkipped", "b")
    scripted.end("a")
    await turns(other, "z")
    assert sorted(scripted.begun) == ["a 1", "c 1", "z 1"]


async def test_a_cancel_withdraws_what_queues(drive, journal, scripted, pooled) -> None:
    driver = drive([pooled("a"), pooled("b")])
    driver.start(b"{}")
    driver.operate(Cancel(), command="c-1")
    scripted.end("a")
    journal.commit()
    await driver.wait()
    assert scripted.begun == ["a 1"]
    assert journal.kinds[-1] == "ExecutionCancelled"

"""Answers that come when what they are about is over: room, turns, commits, ends."""

from __future__ import annotations

import asyncio

from dagengine.admission.declaration import Declared
from dagengine.clock import SystemClock
from dagengine.driver.admissions import Admissions
from dagengine.driver.gate import Request, Ticket
from dagengine.driver.local_gate import LocalGate
from dagengine.machine.machine import Machine
from dagengine.machine.operations import Cancel, Rerun
from dagengine.machine.stimuli import Begin, Operate


async def test_an_effect_that_was_not_handed_over_does_not_begin_within_the_grace_of_a_cancel(
    drive, journal, scripted, effect
) -> None:
    driver = drive([effect("a")])
    driver.start(b"{}")  # its start is not committed yet
    driver.operate(Cancel(grace=60_000_000), command="c-1")
    journal.commit()
    assert scripted.begun == []
    assert journal.kinds[-1] == "ExecutionCancelled"


async def test_room_that_comes_too_late_is_given_back(drive, journal, scripted, effect) -> None:
    # Both items are evaluated in one sweep: the second fails the node before the first learns that it was admitted.
    call = {"type": "python", "function": "f", "args": {"a": "{{ item.x.y }}"}}
    each = {"id": "each", "foreach": "{ {x = {y = 1}}, {} }", "fail_after": 0, "pool": "one", "executor": call}
    nodes = [each, effect("next", dependencies=["each"], run_if="any_failed", pool="one")]
    driver = drive(nodes)
    driver.start(b"{}")
    await journal.holds("NodeStarted", "next")


async def test_withdrawing_may_grant_others_that_are_withdrawn_too(graph) -> None:
    machine = Machine(graph([{"id": "big", "pool": "db", "weight": 2}, {"id": "small", "pool": "db"}]), execution="e")
    clock = SystemClock()
    gate = LocalGate({"db": Declared(2)}, clock)
    admissions = Admissions(machine, gate=gate, clock=clock, priority=0)
    gate.ask(Request(ticket=Ticket("other", 0, -1, 1), pool="db"), lambda: None, lambda pool, rate: None)
    for admit in machine.handle(Begin(at=1, inputs=b"{}")).commands:
        admissions.ask(admit, lambda answer: machine.handle(answer))
    machine.handle(Operate(at=clock.now(), operation=Cancel(), command="c-1"))
    admissions.withdraw()  # `big` leaves, so there is room for `small`, which nobody needs either
    gate.close()


async def test_wait_returns_when_a_retry_that_ends_at_once_is_committed(drive, journal) -> None:
    driver = drive([{"id": "a", "when": "false"}])
    driver.start(b"{}")
    journal.commit()
    await driver.wait()
    driver.operate(Rerun(nodes=("a",)), command="c-1")
    waiting = asyncio.ensure_future(driver.wait())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done(), f"committed {journal.committed} of {journal.appended}"
    journal.commit()
    await waiting

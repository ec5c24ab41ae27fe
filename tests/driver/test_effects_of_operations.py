"""What operations mean for attempts that the outside can see: grace, and the keys that name them."""

from __future__ import annotations

from dagengine.machine.operations import Cancel, Rerun


def keys(scripted, node: str) -> list[str]:
    return [job.key for job in scripted.jobs if job.node == node]


async def test_a_cancel_with_grace_asks_effects_to_end_and_takes_what_they_end_with(
    drive, journal, scripted, effect
) -> None:
    driver = drive([effect("a"), effect("p", pure=True)])
    driver.start(b"{}")
    journal.commit()
    driver.operate(Cancel(grace=60_000_000), command="c-1")
    assert sorted(zip(scripted.cancelled, scripted.graces, strict=True)) == [
        (("a", None, 1), 60_000_000),
        (("p", None, 1), 0),
    ]
    assert not journal.position("NodeCancelled", "a")
    assert journal.position("NodeCancelled", "p")
    scripted.end("a")
    assert journal.position("NodeSucceeded", "a")
    assert journal.kinds[-1] == "ExecutionCancelled"


async def test_after_the_grace_they_are_stopped(drive, journal, scripted, effect) -> None:
    driver = drive([effect("a")])
    driver.start(b"{}")
    journal.commit()
    driver.operate(Cancel(grace=1_000), command="c-1")
    await journal.holds("ExecutionCancelled")
    assert scripted.graces == [1_000, 0]


async def test_the_key_of_an_effect_stays_after_an_error_and_changes_after_a_fail(
    drive, journal, scripted, effect
) -> None:
    quick = {"backoff": {"initial": "0s"}, "max_attempts": 3}
    driver = drive([effect("a", retry={"fail": quick, "error": quick})])
    driver.start(b"{}")
    for attempt, conclusion in enumerate(["error", "fail", "success"], 1):
        await journal.holds("NodeStarted", "a", attempt)
        journal.commit()
        scripted.end("a", conclusion, attempt=attempt)
    assert keys(scripted, "a") == ["e-1/a/0", "e-1/a/0", "e-1/a/1"]


async def test_the_key_changes_when_somebody_has_the_node_run_again_after_the_end(
    drive, journal, scripted, effect
) -> None:
    driver = drive([effect("a"), effect("b")])
    driver.start(b"{}")
    journal.commit()
    scripted.end("a")
    scripted.end("b", "fail")
    journal.commit()
    await driver.wait()
    driver.operate(Rerun(author="ada"), command="c-1")
    journal.commit()
    assert scripted.begun == ["a 1", "b 1", "b 2"]
    assert keys(scripted, "b") == ["e-1/b/0", "e-1/b/2"]  # one for the fail, one for the retry
    scripted.end("b", attempt=2)
    journal.commit()
    await driver.wait()
    assert driver.state.status == "succeeded"


async def test_items_have_keys_of_their_own(drive, journal, scripted, effect) -> None:
    driver = drive([effect("a", foreach="{1, 2}")])
    driver.start(b"{}")
    journal.commit()
    assert sorted(keys(scripted, "a")) == ["e-1/a[0]/0", "e-1/a[1]/0"]

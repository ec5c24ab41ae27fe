"""What a purge deletes, what it leaves, and what it says of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from dagengine.clock import SystemClock
from dagengine.testing import VirtualClock
from orchestrator.errors import NotFound, RequestError, StoreError
from orchestrator.reports import PurgeReport
from orchestrator.store.base import Batch, InboxItem

DAY = 86_400_000_000


def _counts(report: PurgeReport) -> dict[str, int]:
    return {purged.workflow: purged.executions for purged in report.workflows}


async def test_nothing_goes_unless_somebody_says_so(house: Any) -> None:
    await house.ended("old", days=3_000)
    assert await house.purger().purge() == PurgeReport(dry_run=False, workflows=[], executions=0)
    assert await house.left() == ["old"]


async def test_documents_say_what_goes_and_the_server_where_they_do_not(house: Any) -> None:
    await house.register("short", retention={"executions": {"ttl": "1d"}})
    await house.register("few", retention={"executions": {"keep": 2}})
    await house.register("all", retention={"executions": {}})
    for workflow in ("w", "short", "few", "all"):
        for days in (0.5, 5, 50):
            await house.ended(f"{workflow}-{days}", workflow, days=days)
    report = await house.purger(ttl=10 * DAY).purge()
    assert _counts(report) == {"few": 1, "short": 2, "w": 1}
    assert report.executions == 4
    assert await house.left() == [
        "all-0.5", "all-5", "all-50", "few-0.5", "few-5", "short-0.5", "w-0.5", "w-5",
    ]  # fmt: skip


async def test_the_latest_version_decides_for_executions_of_all_versions(house: Any) -> None:
    await house.ended("of-the-first", days=5)
    await house.register("w", "2.0.0", retention={"executions": {"ttl": "1d"}})
    await house.purger().purge()
    assert await house.left() == []


async def test_of_a_workflow_that_was_deleted_the_server_decides(house: Any) -> None:
    await house.register("gone", retention={"executions": {}})
    await house.ended("old", "gone", days=5)
    await house.registry.remove("gone")
    assert _counts(await house.purger().purge()) == {}
    assert _counts(await house.purger(ttl=DAY).purge()) == {"gone": 1}


async def test_what_has_not_ended_stays(house: Any) -> None:
    await house.begun("running", at=1)
    await house.ended("ended", days=1)
    await house.purger().purge(older_than=0)
    assert await house.left() == ["running"]


async def test_everything_of_an_execution_goes_with_it(house: Any) -> None:
    await house.ended("old", days=5, size=40, lines=30, key="k")
    report = await house.purger().purge(older_than="1d")
    assert report.rows >= 70
    assert (report.executions, report.workflows[0].facts, report.more) == (1, 40, False)
    assert await house.store.execution("old") is None
    assert await house.store.facts("old") == []
    assert await house.store.logs("old") == []
    assert house.monitor.purged == 1
    assert house.monitor.purged_rows == report.rows


async def test_its_idempotency_key_is_forgotten_with_it(house: Any) -> None:
    await house.ended("first", days=5, key="order-1")
    await house.purger().purge(keep=0)
    assert await house.store.known_execution("w", idempotency_key="order-1") is None


async def test_log_lines_may_go_before_their_execution(house: Any) -> None:
    await house.register("quiet", retention={"logs": {"ttl": "1d"}})
    for workflow in ("w", "quiet"):
        await house.ended(f"{workflow}-old", workflow, days=5, lines=3)
        await house.ended(f"{workflow}-new", workflow, days=0.5, lines=3)
    report = await house.purger(log_ttl=10 * DAY).purge()
    assert (report.log_lines, report.executions) == (3, 0)
    assert await house.store.logs("quiet-old") == []
    assert len(await house.store.logs("quiet-new")) == len(await house.store.logs("w-old")) == 3


async def test_what_is_said_at_once_stands_in_place_of_all_rules(house: Any) -> None:
    await house.register("all", retention={"executions": {}})
    for days in (1, 2, 3):
        await house.ended(f"all-{days}", "all", days=days)
        await house.ended(f"w-{days}", "w", days=days)
    purger = house.purger(ttl=DAY)
    assert _counts(await purger.purge(workflow="all", keep=1, older_than="100d")) == {"all": 2}
    assert await house.left() == ["all-1", "w-1", "w-2", "w-3"]
    assert _counts(await purger.purge(keep=2)) == {"w": 1}


async def test_a_dry_run_counts_and_deletes_nothing(house: Any) -> None:
    for days in (1, 2, 3):
        await house.ended(f"w-{days}", days=days, size=days + 1)
    report = await house.purger().purge(keep=1, dry_run=True)
    assert (report.dry_run, report.executions, report.rows) == (True, 2, 0)
    assert report.workflows[0].facts == 7
    assert report.workflows[0].oldest < report.workflows[0].newest
    assert await house.left() == ["w-1", "w-2", "w-3"]


async def test_what_makes_no_sense_is_refused(house: Any) -> None:
    purger = house.purger()
    with pytest.raises(NotFound, match="no workflow 'v'"):
        await purger.purge(workflow="v")
    with pytest.raises(RequestError, match="`older_than`: expected a duration"):
        await purger.purge(older_than="a month")
    with pytest.raises(RequestError, match="`keep` is a number of executions"):
        await purger.purge(keep=-1)


async def test_a_purge_that_was_interrupted_leaves_no_half_executions_and_goes_on_later(house: Any) -> None:
    await house.ended("long", days=5, size=5_000)
    await house.store.purge(["long"], rows=1_000)
    assert await house.store.execution("long") is None
    retry = InboxItem(id="i", execution="long", kind="retry", payload=b'{"kind":"retry"}', created_at=1)
    assert await house.store.reopen(retry) is None
    assert (await house.purger().purge(keep=0)).executions == 1
    assert await house.store.expired(keep=0) == []


async def test_a_purge_ends_when_its_time_is_over_and_the_next_one_goes_on(house: Any) -> None:
    for number in range(3):
        await house.ended(f"e{number}", days=number, size=4_000)
    purger, turns = house.purger(), 0
    report = await purger.purge(keep=0, within=0.0)
    assert (report.executions, report.more) == (0, True)
    while report.more:
        report, turns = report.plus(await purger.purge(keep=0, within=0.001)), turns + 1
    assert (report.executions, turns >= 2) == (3, True)
    assert report.workflows[0].executions == 3


async def test_writers_get_their_turn_between_any_two_steps(house: Any) -> None:
    for number in range(150):
        await house.ended(f"e{number}", days=5, size=101)
    await house.begun("running")
    house.store.written.clear()
    purging = asyncio.ensure_future(house.purger().purge(keep=0))
    seq = 0
    while not purging.done():
        seq += 1
        await house.store.append([Batch(execution="running", epoch=1, first_seq=seq, facts=[b'{"type":"x"}'])])
    assert (await purging).executions == 150
    steps = [rows for kind, rows in house.store.written if kind == "purge"]
    assert len(steps) >= 15
    assert max(steps) <= 1_500
    order = "".join(kind[0] for kind, _ in house.store.written).strip("a")
    assert max(map(len, order.split("a"))) <= 3, order


async def test_it_looks_every_minute_and_outlives_a_store_that_fails(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock(at=SystemClock().now())
    await house.ended("one", days=5)
    running = asyncio.ensure_future(house.purger(clock=clock, ttl=DAY).run())
    try:
        while await house.left():
            await clock.asleep()
            clock.advance(1_000_000)
        await house.ended("two", days=5)

        async def broken() -> list[str]:
            raise StoreError("the disk is full")

        with structlog.testing.capture_logs() as logs:
            monkeypatch.setattr(house.store, "ended_workflows", broken)
            while not any(line["event"] == "purge_failed" for line in logs):
                await clock.asleep()
                clock.advance(10_000_000)
                await asyncio.sleep(0)
        monkeypatch.undo()
        while await house.left():
            await clock.asleep()
            clock.advance(10_000_000)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

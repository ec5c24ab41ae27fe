"""Cron triggers at work, over a real store and with time under control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dagengine.errors import InputError
from dagengine.spec.model import Document
from dagengine.testing import START, VirtualClock
from orchestrator.errors import AtLimit, Overloaded, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import ExecutionRecord, NewExecution, Store, VersionRecord
from orchestrator.store.sqlite import SQLiteStore
from orchestrator.triggers.cron import CronService, check

Register = Callable[..., VersionRecord]
SECOND = 1_000_000
MINUTE = 60 * SECOND


class Starts:
    """Starts executions in the store as the orchestrator does; `fault` is raised instead, before or after."""

    def __init__(self, store: Store, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.before: Exception | None = None
        self.after: BaseException | None = None
        self.made = asyncio.Queue[ExecutionRecord]()

    async def __call__(self, reference: str, inputs: Mapping[str, Any], *, trigger: str, occurrence: str) -> object:
        self.asked.append((reference, dict(inputs), occurrence))
        if self.before is not None:
            raise self.before
        workflow, _, version = reference.partition("@")
        registered = await self.store.version(workflow, version)
        assert registered is not None
        record, created = await self.store.create_execution(
            NewExecution(
                id=f"e-{len(self.asked)}-{occurrence.replace(':', '-')}",
                workflow=workflow,
                version=version,
                digest=registered.digest,
                inputs=b"{}",
                created_at=self.clock.now(),
                seed=1,
                trigger=trigger,
                occurrence=occurrence,
            )
        )
        if created:
            self.made.put_nowait(record)
        if self.after is not None:
            raise self.after
        return record


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


@pytest.fixture
def starts(store: SQLiteStore, clock: VirtualClock) -> Starts:
    return Starts(store, clock)


@pytest.fixture
def service(starts: Starts, store: SQLiteStore, clock: VirtualClock, monitor: Monitor) -> CronService:
    return CronService(starts, store, clock, monitor=monitor)


@asynccontextmanager
async def _running(service: CronService) -> AsyncIterator[None]:
    task = asyncio.create_task(service.run())
    try:
        yield
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def _occurrences(store: Store) -> list[int]:
    """Seconds from the start of each execution's occurrence, oldest first."""
    records = await store.executions(limit=1_000)
    times = [int((record.occurrence or "").rpartition(":")[2]) for record in records]
    return sorted((at - START) // SECOND for at in times)


async def test_every_occurrence_starts_one_execution(
    service: CronService, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register
) -> None:
    await store.add_version(version("w@1.0.0", cron={"schedule": "*/20 * * * * *", "inputs": {"limit": 3}}))
    async with _running(service):
        for _ in range(6):
            await clock.asleep()
            clock.advance(20 * SECOND)
            record = await asyncio.wait_for(starts.made.get(), timeout=10)
            assert (record.trigger, record.workflow, record.version) == ("cron", "w", "1.0.0")
        await clock.asleep()
    assert await _occurrences(store) == [20, 40, 60, 80, 100, 120]
    assert {str(inputs) for _, inputs, _ in starts.asked} == {"{'limit': 3}"}


async def test_a_registration_takes_effect_at_once(
    service: CronService, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register
) -> None:
    async with _running(service):
        await clock.asleep()
        clock.advance(5 * SECOND)
        await store.add_version(version("w@1.0.0", at=5, cron="* * * * * *"))
        service.refresh()
        await clock.asleep(until=START + 6 * SECOND)
        clock.advance(SECOND)
        assert (await asyncio.wait_for(starts.made.get(), timeout=10)).occurrence == f"cron:w:{START + 6 * SECOND}"


async def test_a_higher_version_takes_over_and_a_pre_release_does_not(
    service: CronService, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register
) -> None:
    await store.add_version(version("w@1.0.0", cron="* * * * *"))
    await store.add_version(version("w@2.0.0-rc.1", at=10, cron="* * * * *"))
    await store.add_version(version("w@1.1.0", at=90, cron="* * * * *"))
    clock.advance(3 * MINUTE)
    await service.tick()
    assert [reference for reference, _, _ in starts.asked] == ["w@1.0.0", "w@1.1.0", "w@1.1.0"]


async def test_a_removed_workflow_starts_nothing_more(
    service: CronService, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register
) -> None:
    await store.add_version(version("w@1.0.0", cron="* * * * *"))
    clock.advance(MINUTE)
    await service.tick()
    await store.remove_versions("w", None, force=True)
    service.refresh()
    clock.advance(5 * MINUTE)
    await service.tick()
    assert await _occurrences(store) == [60]


async def test_removing_a_version_does_not_bring_back_what_the_one_below_was_not_to_start(
    service: CronService, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register
) -> None:
    await store.add_version(version("w@1.0.0", cron="* * * * *"))
    await store.add_version(version("w@2.0.0", at=90))
    for _ in range(10):
        clock.advance(MINUTE)
        await service.tick()
    await store.remove_versions("w", "2.0.0", force=True)
    service.refresh()
    await service.tick()
    clock.advance(MINUTE)
    await service.tick()
    assert await _occurrences(store) == [60, 600, 660]


class TestAcrossRestarts:
    async def test_what_fell_due_meanwhile_is_started_once(
        self, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register, monitor: Monitor
    ) -> None:
        await store.add_version(version("w@1.0.0", cron="* * * * *"))
        for _ in range(4):
            clock.advance(2 * MINUTE + 30 * SECOND)
            await CronService(starts, store, clock, monitor=monitor).tick()
        assert await _occurrences(store) == [60 * minute for minute in range(1, 11)]
        assert len(starts.asked) == 10

    async def test_a_crash_between_start_and_record_doubles_nothing(
        self, tmp_path: Path, clock: VirtualClock, version: Register, monitor: Monitor
    ) -> None:
        url = f"sqlite:///{tmp_path}/crash.db"
        first = SQLiteStore(url)
        await first.open()
        await first.add_version(version("w@1.0.0", cron="* * * * *"))
        crashing = Starts(first, clock)
        crashing.after = asyncio.CancelledError()
        clock.advance(MINUTE)
        with pytest.raises(asyncio.CancelledError):
            await CronService(crashing, first, clock, monitor=monitor).tick()
        assert await first.last_occurrence("cron:w") is None
        await first.close()

        second = SQLiteStore(url)
        await second.open()
        again = Starts(second, clock)
        await CronService(again, second, clock, monitor=monitor).tick()
        assert len(again.asked) == 1
        assert await _occurrences(second) == [60]
        assert await second.last_occurrence("cron:w") == START + MINUTE
        await second.close()

    async def test_what_is_older_than_the_window_is_skipped_for_good(
        self, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register, monitor: Monitor
    ) -> None:
        await store.add_version(version("w@1.0.0", cron="*/10 * * * *"))
        clock.advance(180 * MINUTE)
        short = CronService(starts, store, clock, monitor=monitor, window=25 * MINUTE)
        await short.tick()
        await short.tick()
        await CronService(starts, store, clock, monitor=monitor).tick()
        assert await _occurrences(store) == [60 * minute for minute in (160, 170, 180)]
        assert monitor.occurrences == {"skipped": 1, "started": 3}

    async def test_a_long_backlog_is_worked_off_in_turns(
        self, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register, monitor: Monitor
    ) -> None:
        await store.add_version(version("busy@1.0.0", cron="* * * * * *"))
        await store.add_version(version("calm@1.0.0", cron="* * * * *"))
        clock.advance(150 * SECOND)
        service = CronService(starts, store, clock, monitor=monitor)
        assert await service.tick() == clock.now()
        assert [reference for reference, _, _ in starts.asked[-2:]] == ["calm@1.0.0", "calm@1.0.0"]
        assert await service.tick() == clock.now() + SECOND
        assert len(await _occurrences(store)) == 152


class TestFaults:
    @pytest.mark.parametrize(
        ("fault", "counted"),
        [
            (InputError("the inputs do not fit"), "refused"),
            (AtLimit("1 of 1 executions are under way"), "skipped"),
        ],
        ids=["inputs that do not fit", "skipped by the workflow's concurrency"],
    )
    async def test_what_cannot_be_started_is_over_and_the_rest_goes_on(
        self,
        fault: Exception,
        counted: str,
        service: CronService,
        starts: Starts,
        store: SQLiteStore,
        clock: VirtualClock,
        version: Register,
        monitor: Monitor,
    ) -> None:
        await store.add_version(version("w@1.0.0", cron="* * * * *"))
        starts.before = fault
        clock.advance(MINUTE)
        await service.tick()
        starts.before = None
        clock.advance(MINUTE)
        await service.tick()
        assert await _occurrences(store) == [120]
        assert monitor.occurrences == {counted: 1, "started": 1}

    @pytest.mark.parametrize("fault", [Overloaded("full"), StoreError("disk full"), RuntimeError("unexpected")])
    async def test_what_may_pass_is_tried_again(
        self,
        service: CronService,
        starts: Starts,
        store: SQLiteStore,
        clock: VirtualClock,
        version: Register,
        fault: Exception,
    ) -> None:
        await store.add_version(version("w@1.0.0", cron="* * * * *"))
        starts.before = fault
        clock.advance(2 * MINUTE)
        assert await service.tick() == clock.now() + 2 * SECOND
        assert len(starts.asked) == 1
        starts.before = None
        clock.advance(2 * SECOND)
        await service.tick()
        assert await _occurrences(store) == [60, 120]

    async def test_one_workflow_in_trouble_does_not_hold_up_another(
        self, starts: Starts, store: SQLiteStore, clock: VirtualClock, version: Register, monitor: Monitor
    ) -> None:
        await store.add_version(version("bad@1.0.0", cron="* * * * *"))
        await store.add_version(version("good@1.0.0", cron="* * * * *"))

        async def start(reference: str, inputs: Mapping[str, Any], *, trigger: str, occurrence: str) -> object:
            if reference == "bad@1.0.0":
                raise Overloaded("full")
            return await starts(reference, inputs, trigger=trigger, occurrence=occurrence)

        clock.advance(MINUTE)
        await CronService(start, store, clock, monitor=monitor).tick()
        assert [record.workflow for record in await store.executions()] == ["good"]

    async def test_a_store_that_cannot_be_read_is_asked_again(
        self, tmp_path: Path, clock: VirtualClock, monitor: Monitor
    ) -> None:
        closed = SQLiteStore(f"sqlite:///{tmp_path}/closed.db")
        await closed.open()
        await closed.close()
        service = CronService(Starts(closed, clock), closed, clock, monitor=monitor)
        assert await service.tick() == clock.now() + 2 * SECOND


class TestDoor:
    def test_a_wrong_schedule_is_a_problem_with_its_path(self, document: Callable[..., Document]) -> None:
        made = document([{"id": "a"}], triggers={"cron": {"schedule": "61 * * * *"}})
        (problem,) = check(made)
        assert str(problem) == "spec.triggers.cron.schedule: not a valid minute '61' (expected 0-59)"

    def test_a_right_schedule_and_none_at_all_are_fine(self, document: Callable[..., Document]) -> None:
        assert list(check(document([{"id": "a"}], triggers={"cron": {"schedule": "@daily"}}))) == []
        assert list(check(document([{"id": "a"}]))) == []

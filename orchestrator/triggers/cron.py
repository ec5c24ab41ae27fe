"""Cron triggers at work: `CronService` starts one execution for every occurrence.

**Replicas.** Of several orchestrators, one runs the service. The next one reads from the store what was dealt with.
Should two of them run it for a moment, the store still takes each occurrence once.

**Exactly once.** Occurrence t of workflow w is `cron:w:t`. The store takes an execution with a given occurrence once;
starting comes first, remembering that the occurrence was dealt with second. After a crash in between, the start is
tried again, finds the execution that is there, and makes none. The service is level-triggered: it compares what is
due with what was dealt with, so it does not matter why it did not look earlier.

**Missed occurrences.** What fell due while no orchestrator ran (or while the store or the admission queue refused) is
started as soon as possible, oldest first, as long as it is younger than the *catch-up window* (one hour by default);
what is older is skipped for good, and logged. A new schedule has no occurrences before its registration.

**Refusals.** When the workflow cannot be started with the trigger's inputs at all, the occurrence is logged as refused
and is over. When as many executions as the workflow's `concurrency` allows are under way, and it says `skip`, the
occurrence is skipped. Anything else (an overloaded queue, a store that cannot write) is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import structlog

from dagengine.clock import Clock
from dagengine.errors import InputError, Problem, SpecError
from dagengine.spec.model import Document
from orchestrator import defaults
from orchestrator.errors import AtLimit, NotFound, RequestError, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import Store
from orchestrator.triggers import declared
from orchestrator.triggers.schedule import parse_fields
from orchestrator.triggers.timeline import Occurrence, Timeline

__all__ = ["CATCH_UP", "CronService", "Starter", "check"]

_log = structlog.get_logger(__name__)

SECOND: Final = 1_000_000
CATCH_UP: Final = int(defaults.CRON_CATCH_UP) * SECOND
"""How late an occurrence may be started, in microseconds."""

_LOOK_AGAIN: Final = 60 * SECOND
"""Longest time between two looks at the registered versions: a wake-up call that was lost costs no more than this."""
_TRY_AGAIN: Final = 2 * SECOND
"""Wait after a refusal that may pass."""
_AT_ONCE: Final = 100
"""Occurrences of one workflow that are started before it is the next one's turn."""


class Starter(Protocol):
    """Starts an execution; with an occurrence that is known already, it finds the execution that has it instead."""

    async def __call__(self, reference: str, inputs: Mapping[str, Any], *, trigger: str, occurrence: str) -> object:
        """`reference` is `id@version`. NotFound, InputError, Overloaded, StoreError."""


def check(document: Document) -> Iterator[Problem]:
    """What is wrong with a document's cron schedule. The zone is checked where the document is read."""
    cron = document.spec.triggers.cron
    if cron is None:
        return
    try:
        parse_fields(cron.schedule)
    except ValueError as exc:
        yield Problem(path="spec.triggers.cron.schedule", message=str(exc))


class CronService:
    """Starts executions at the times of the cron triggers in force. `run` it as a task; cancel that to stop.

    `window` is the catch-up window in microseconds.
    """

    def __init__(self, start: Starter, store: Store, clock: Clock, *, monitor: Monitor, window: int = CATCH_UP) -> None:
        self._start = start
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._window = window
        self._timelines: dict[str, Timeline] = {}
        self._done: dict[str, int | None] = {}
        self._read_at: int | None = None
        self._poked = asyncio.Event()

    def refresh(self) -> None:
        """Look at the registered versions now: one was added or removed."""
        self._read_at = None
        self._poked.set()

    async def run(self) -> None:
        """Start what is due, sleep until something is, and so on."""
        self._done.clear()  # another replica may have dealt with more since
        self._read_at = None
        while True:
            wake = await self.tick()
            await self._sleep(wake)

    async def tick(self) -> int:
        """Start what is due now; the time to look again. Never raises: what goes wrong is logged and tried again."""
        now = self._clock.now()
        self._poked.clear()
        try:
            if self._read_at is None or now - self._read_at >= _LOOK_AGAIN:
                await self._read(now)
        except StoreError as exc:
            _log.error("cron_versions_unreadable", error=str(exc))
            return now + _TRY_AGAIN
        wake = now + _LOOK_AGAIN
        for workflow, timeline in list(self._timelines.items()):
            try:
                wake = min(wake, await self._work(workflow, timeline))
            except StoreError as exc:
                _log.error("cron_store_failed", workflow=workflow, error=str(exc))
                wake = min(wake, now + _TRY_AGAIN)
            except Exception:
                _log.exception("cron_failed", workflow=workflow)
                wake = min(wake, now + _TRY_AGAIN)
        return wake

    async def _read(self, now: int) -> None:
        # Set before the versions are read: a refresh() while they are must not be forgotten.
        self._read_at = now
        try:
            records = await self._store.versions()
        except StoreError:
            self._read_at = None
            raise
        timelines: dict[str, Timeline] = {}
        for workflow, versions in declared.by_workflow(records).items():
            try:
                timeline = Timeline(versions)
            except ValueError as exc:
                _log.error("cron_schedule_unreadable", workflow=workflow, error=str(exc))
                continue
            if not timeline.is_empty:
                timelines[workflow] = timeline
        self._timelines = timelines
        self._done = {workflow: at for workflow, at in self._done.items() if workflow in timelines}

    async def _work(self, workflow: str, timeline: Timeline) -> int:
        """Start what is due of one workflow; the time to look at it again."""
        if workflow not in self._done:
            self._done[workflow] = await self._store.last_occurrence(_key(workflow))
        now = self._clock.now()
        due = timeline.due(done=self._done[workflow], now=now, window=self._window, limit=_AT_ONCE)
        if due.missed is not None:
            await self._skip(due.missed, now - self._window)
        for occurrence in due.occurrences:
            if not await self._begin(occurrence):
                return now + _TRY_AGAIN
            await self._deal_with(workflow, occurrence.at)
        if len(due.occurrences) == _AT_ONCE:
            return now
        self._move_on(workflow)
        upcoming = timeline.upcoming(now)
        return upcoming if upcoming is not None else now + _LOOK_AGAIN

    def _move_on(self, workflow: str) -> None:
        """Everything up to the last look at the versions is over, also where no schedule was in force.

        Else removing a version would bring back, as missed, what the version below it was not to start then.
        """
        if self._read_at is not None:
            self._done[workflow] = max(self._done[workflow] or 0, self._read_at - SECOND)

    async def _begin(self, occurrence: Occurrence) -> bool:
        """Start one execution; False when that is to be tried again."""
        try:
            await self._start(
                occurrence.reference,
                occurrence.trigger.inputs,
                trigger="cron",
                occurrence=occurrence.id,
            )
        except AtLimit as exc:
            self._monitor.occurrence("skipped")
            _log.info("cron_occurrence_skipped", occurrence=occurrence.id, reason=str(exc))
            return True
        except (InputError, NotFound, RequestError, SpecError) as exc:
            self._monitor.occurrence("refused")
            _log.error("cron_occurrence_refused", occurrence=occurrence.id, error=str(exc))
            return True
        except Exception as exc:
            _log.warning("cron_start_failed", occurrence=occurrence.id, error=f"{type(exc).__name__}: {exc}")
            return False
        self._monitor.occurrence("started")
        return True

    async def _skip(self, first: Occurrence, until: int) -> None:
        self._monitor.occurrence("skipped")
        _log.warning(
            "cron_occurrences_skipped",
            workflow=first.workflow,
            first=first.at,
            until=until,
            reason="older than the catch-up window",
        )
        await self._deal_with(first.workflow, until)

    async def _deal_with(self, workflow: str, at: int) -> None:
        await self._store.record_occurrence(_key(workflow), at)
        self._done[workflow] = at

    async def _sleep(self, until: int) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep_until(until))
        poked = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait((sleeping, poked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            poked.cancel()
            await asyncio.gather(sleeping, poked, return_exceptions=True)


def _key(workflow: str) -> str:
    return f"cron:{workflow}"

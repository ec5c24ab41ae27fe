"""Deleting what need not be kept, in steps so small that nobody waits for one.

A step is one write of at most `STEP` rows. Writers of the store take turns, so whoever appends facts beside a purge
waits for one step at most; and after each step the purge rests for as long as the step took, so that it never has more
than half of the store's time. It can be stopped between any two steps, and goes on from there: an execution goes last,
after all that belongs to it, and is found again until then.

`Purger.run` does so now and then, by `policy`: where there are several replicas, one of them runs it. The verb `purge`
does it at once, and by another measure if one is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

import structlog

from dagengine.clock import Clock
from dagengine.spec.duration import parse_duration
from orchestrator.errors import NotFound, RequestError, StoreError
from orchestrator.monitor.monitor import Monitor
from orchestrator.registry.registry import Registry
from orchestrator.reports import Purged, PurgeReport
from orchestrator.retention import policy
from orchestrator.retention.policy import Kept
from orchestrator.store.base import Expired, Store

__all__ = ["STEP", "Purger"]

_log = structlog.get_logger(__name__)

Rule = tuple[str | None, Kept]
"""A workflow (None: every one) and what is kept of it."""

STEP: Final = 1_000
"""Rows that one write deletes at most, or little more."""

_PAGE: Final = 100
"""Executions that are looked up at a time."""
_COUNTED: Final = 100_000
"""Executions of one workflow that a dry run counts."""
_LOOK_AGAIN: Final = 60_000_000
"""Microseconds between two looks for what need not be kept any more."""
_REST: Final = 2_000
"""Microseconds that a rest takes at least."""


class Purger:
    """Deletes by what documents say of retention, and by `defaults` where those say nothing."""

    def __init__(self, store: Store, registry: Registry, clock: Clock, *, defaults: Kept, monitor: Monitor) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._defaults = defaults
        self._monitor = monitor

    async def run(self) -> None:
        """Delete what need not be kept, again and again. Cancel it to stop."""
        while True:
            try:
                report = await self._turn(None).go(await self._rules(await self._store.ended_workflows()))
            except StoreError as error:
                _log.warning("purge_failed", reason=str(error))
            else:
                _tell(report)
            await self._clock.sleep_until(self._clock.now() + _LOOK_AGAIN)

    async def purge(
        self,
        *,
        workflow: str | None = None,
        older_than: float | str | None = None,
        keep: int | None = None,
        dry_run: bool = False,
        within: float | None = None,
    ) -> PurgeReport:
        """The verb (`orchestrator.verbs.Verbs.purge`). Raises NotFound, RequestError, StoreError."""
        if keep is not None and keep < 0:
            raise RequestError(f"`keep` is a number of executions, and not {keep}")
        ttl = None if older_than is None else _microseconds(older_than)
        if workflow is not None:
            await self._require(workflow)
        rules: list[Rule]
        if ttl is not None or keep is not None:
            rules = [(workflow, Kept(ttl=ttl, keep=keep))]
        elif workflow is not None:
            rules = await self._rules([workflow])
        else:
            rules = await self._rules(await self._store.ended_workflows())
        turn = self._turn(within)
        if dry_run:
            return await turn.look(rules)
        report = await turn.go(rules)
        _tell(report)
        return report

    def _turn(self, within: float | None) -> _Turn:
        until = None if within is None else self._clock.now() + round(within * 1e6)
        return _Turn(self._store, self._clock, self._monitor, until)

    async def _rules(self, workflows: Iterable[str]) -> list[Rule]:
        """What is kept of each workflow of which not everything is."""
        latest = {version.workflow: version.digest for version in await self._registry.list()}
        rules: list[Rule] = []
        for workflow in workflows:
            document = await self._registry.document(latest[workflow]) if workflow in latest else None
            kept = policy.kept(None if document is None else document.spec.retention, self._defaults)
            if kept != Kept():
                rules.append((workflow, kept))
        return rules

    async def _require(self, workflow: str) -> None:
        if await self._registry.versions(workflow) or await self._store.executions(workflow=workflow, limit=1):
            return
        raise NotFound(f"there is no workflow '{workflow}', and no execution of one")


def _tell(report: PurgeReport) -> None:
    if report.rows or report.log_lines or report.values:
        _log.info(
            "purged",
            executions=report.executions,
            rows=report.rows,
            log_lines=report.log_lines,
            values=report.values,
        )


class _Turn:
    """One purge: what it has deleted so far. Ends at `until` (on the clock), or when nothing is left."""

    def __init__(self, store: Store, clock: Clock, monitor: Monitor, until: int | None) -> None:
        self._store = store
        self._clock = clock
        self._monitor = monitor
        self._until = until
        self._now = clock.now()
        self._of: dict[str, Purged] = {}
        self._rows = self._log_lines = self._values = 0

    async def look(self, rules: Iterable[Rule]) -> PurgeReport:
        """What would go."""
        more = False
        for workflow, kept in rules:
            found = await self._expired(workflow, kept, limit=_COUNTED)
            more = more or len(found) == _COUNTED
            self._count(found)
        return self._report(dry_run=True, more=more)

    async def go(self, rules: Iterable[Rule]) -> PurgeReport:
        """Delete it."""
        left = False
        for workflow, kept in rules:
            left = left or await self._purge_executions(workflow, kept)
            left = left or await self._purge_logs(workflow, kept)
        if not left:
            values, left = await self._steps(lambda: self._store.purge_blobs(rows=STEP))
            self._values += values
        return self._report(dry_run=False, more=left)

    async def _purge_executions(self, workflow: str | None, kept: Kept) -> bool:
        """Whether anything is left, since there was no more time."""
        while found := await self._expired(workflow, kept, limit=_PAGE):
            rows, left = await self._steps(partial(self._store.purge, [one.id for one in found], rows=STEP))
            self._rows += rows
            if not (rows or left):
                return False  # somebody had all of them go on
            # Of those whose turn it was when the time was over, some may have gone, and the others are found again.
            kept_yet = {one.id for one in await self._expired(workflow, kept, limit=_PAGE)} if left else set()
            gone = [one for one in found if one.id not in kept_yet]
            self._count(gone)
            self._monitor.executions_purged(len(gone))
            if left:
                return True
        return False

    async def _purge_logs(self, workflow: str | None, kept: Kept) -> bool:
        if kept.log_ttl is None:
            return False
        before = self._now - kept.log_ttl
        lines, left = await self._steps(
            lambda: self._store.purge_logs(workflow=workflow, ended_before=before, rows=STEP)
        )
        self._log_lines += lines
        return left

    async def _expired(self, workflow: str | None, kept: Kept, *, limit: int) -> list[Expired]:
        if not kept.executions_go:
            return []
        before = None if kept.ttl is None else self._now - kept.ttl
        return await self._store.expired(workflow=workflow, ended_before=before, keep=kept.keep, limit=limit)

    async def _steps(self, step: Callable[[], Awaitable[int]]) -> tuple[int, bool]:
        """Make steps until one deletes nothing: rows that went, and whether there was no more time for that."""
        gone = 0
        while self._until is None or self._clock.now() < self._until:
            began = self._clock.now()
            rows = await step()
            if not rows:
                return gone, False
            gone += rows
            self._monitor.rows_purged(rows)
            now = self._clock.now()
            await self._clock.sleep_until(now + max(_REST, now - began))
        return gone, True

    def _count(self, found: Iterable[Expired]) -> None:
        for one in found:
            gone = Purged(
                workflow=one.workflow, executions=1, facts=one.facts, oldest=one.finished_at, newest=one.finished_at
            )
            self._of[one.workflow] = gone.plus(self._of.get(one.workflow))

    def _report(self, *, dry_run: bool, more: bool) -> PurgeReport:
        workflows = [self._of[workflow] for workflow in sorted(self._of)]
        return PurgeReport(
            dry_run=dry_run,
            workflows=workflows,
            executions=sum(purged.executions for purged in workflows),
            rows=self._rows,
            log_lines=self._log_lines,
            values=self._values,
            more=more,
        )


def _microseconds(older_than: float | str) -> int:
    try:
        return parse_duration(older_than)
    except ValueError as exc:
        raise RequestError(f"`older_than`: {exc}") from exc

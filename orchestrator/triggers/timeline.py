"""What a cron trigger is due for: a pure function of a workflow's versions, what was done, and the time.

Which version's schedule holds changes over time: from a registration on, that of the highest stable version there is.
So an occurrence belongs to the version that was in force *at that moment*, also when it is only looked at later, and
a schedule never has occurrences from before its registration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagengine.spec.model import CronTrigger
from orchestrator.triggers import declared
from orchestrator.triggers.schedule import Schedule

__all__ = ["Due", "Occurrence", "Timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time at which a workflow is to be started. `at` is in microseconds since the epoch."""

    workflow: str
    version: str
    at: int
    trigger: CronTrigger

    @property
    def id(self) -> str:
        """Unique over the store, and the same whenever this occurrence is found again."""
        return f"cron:{self.workflow}:{self.at}"

    @property
    def reference(self) -> str:
        """The version to start: `id@version`."""
        return f"{self.workflow}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is due now: `occurrences`, oldest first, and the first one that was missed for good, if any was."""

    occurrences: Sequence[Occurrence]
    missed: Occurrence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """From `begin` (exclusive) to `end` (inclusive, None: open), `record` is the version in force."""

    record: declared.Declaring
    begin: int
    end: int | None
    trigger: CronTrigger | None
    schedule: Schedule | None


class Timeline:
    """The schedules of one workflow, past and present. `versions` are all its stable ones, in order of registration.

    Raises ValueError when a schedule cannot be read (which the registration door would not have let in).
    """

    def __init__(self, versions: Sequence[declared.Declaring]) -> None:
        self._stretches: list[_Stretch] = []
        in_force: list[declared.Declaring] = []
        for record in versions:
            leader = declared.higher(in_force[-1] if in_force else None, record)
            if not in_force or leader is not in_force[-1]:
                in_force.append(leader)
        for at, record in enumerate(in_force):
            end = in_force[at + 1].registered_at if at + 1 < len(in_force) else None
            self._stretches.append(_stretch(record, end))

    @property
    def is_empty(self) -> bool:
        """Whether no version, past or present, has a cron trigger."""
        return all(stretch.schedule is None for stretch in self._stretches)

    def upcoming(self, after: int) -> int | None:
        """The first occurrence after `after` by the schedule in force now; None without one."""
        schedule = self._stretches[-1].schedule if self._stretches else None
        return schedule.next_after(max(after, self._stretches[-1].begin)) if schedule is not None else None

    def due(self, *, done: int | None, now: int, window: int, limit: int) -> Due:
        """The first `limit` occurrences after `done` and up to `now`.

        `done` is the time up to which everything has been dealt with (None: nothing yet). What is `window`
        microseconds or more in the past is missed for good.
        """
        since = done if done is not None else 0
        horizon = now - window
        missed = self._between(since, min(horizon, now), limit=1) if since < horizon else []
        found = self._between(max(since, horizon), now, limit=limit)
        return Due(occurrences=found, missed=missed[0] if missed else None)

    def _between(self, after: int, until: int, *, limit: int) -> list[Occurrence]:
        found: list[Occurrence] = []
        for stretch in self._stretches:
            if stretch.schedule is None or stretch.trigger is None:
                continue
            last = until if stretch.end is None else min(until, stretch.end)
            times = stretch.schedule.between(max(after, stretch.begin), last, limit=limit - len(found))
            found += [
                Occurrence(
                    workflow=stretch.record.workflow,
                    version=stretch.record.version,
                    at=at,
                    trigger=stretch.trigger,
                )
                for at in times
            ]
        return found


def _stretch(record: declared.Declaring, end: int | None) -> _Stretch:
    cron = declared.triggers_of(record).cron
    schedule = Schedule.parse(cron.schedule, cron.timezone) if cron is not None else None
    return _Stretch(record=record, begin=record.registered_at, end=end, trigger=cron, schedule=schedule)

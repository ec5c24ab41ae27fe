"""What a cron trigger is due for, from the versions of its workflow."""

from __future__ import annotations

from collections.abc import Callable

from dagengine.testing import START
from orchestrator.store.base import VersionRecord
from orchestrator.triggers.timeline import Due, Timeline

Register = Callable[..., VersionRecord]
MINUTE = 60_000_000
HOUR = 60 * MINUTE


def _due(timeline: Timeline, *, now: int, done: int | None = None, window: int = HOUR) -> Due:
    since = None if done is None else START + done
    return timeline.due(done=since, now=START + now, window=window, limit=1_000)


def _times(due: Due) -> list[tuple[str, int]]:
    return [(occurrence.version, (occurrence.at - START) // MINUTE) for occurrence in due.occurrences]


def test_occurrences_begin_after_the_registration(version: Register) -> None:
    timeline = Timeline([version("w@1.0.0", at=600, cron="*/5 * * * *")])
    assert _times(_due(timeline, now=25 * MINUTE)) == [("1.0.0", 15), ("1.0.0", 20), ("1.0.0", 25)]


def test_what_was_done_is_not_due_again(version: Register) -> None:
    timeline = Timeline([version("w@1.0.0", cron="*/5 * * * *")])
    assert _times(_due(timeline, done=15 * MINUTE, now=24 * MINUTE)) == [("1.0.0", 20)]
    assert _times(_due(timeline, done=20 * MINUTE, now=24 * MINUTE)) == []


def test_an_occurrence_belongs_to_the_version_in_force_at_its_time(version: Register) -> None:
    timeline = Timeline(
        [
            version("w@1.0.0", cron="*/10 * * * *"),
            version("w@2.0.0", at=25 * 60, cron="*/15 * * * *"),
            version("w@1.5.0", at=26 * 60, cron="* * * * *"),
            version("w@3.0.0", at=50 * 60),
        ]
    )
    assert _times(_due(timeline, now=HOUR - 1)) == [("1.0.0", 10), ("1.0.0", 20), ("2.0.0", 30), ("2.0.0", 45)]
    assert timeline.upcoming(START + HOUR) is None


def test_what_is_older_than_the_window_is_missed(version: Register) -> None:
    timeline = Timeline([version("w@1.0.0", cron="*/10 * * * *")])
    due = _due(timeline, now=100 * MINUTE, window=30 * MINUTE)
    assert _times(due) == [("1.0.0", 80), ("1.0.0", 90), ("1.0.0", 100)]
    assert due.missed is not None
    assert due.missed.at == START + 10 * MINUTE


def test_nothing_is_missed_within_the_window(version: Register) -> None:
    timeline = Timeline([version("w@1.0.0", cron="0 0 * * *")])
    assert _due(timeline, now=20 * HOUR).missed is None
    assert _due(timeline, done=24 * HOUR, now=40 * HOUR).missed is None


def test_an_occurrence_names_itself_and_what_it_starts(version: Register) -> None:
    trigger = {"schedule": "@hourly", "inputs": {"limit": 5}}
    (occurrence,) = _due(Timeline([version("w@1.2.0", cron=trigger)]), now=HOUR).occurrences
    assert occurrence.id == f"cron:w:{START + HOUR}"
    assert occurrence.reference == "w@1.2.0"
    assert occurrence.trigger.inputs == {"limit": 5}


def test_upcoming_follows_the_schedule_in_force(version: Register) -> None:
    timeline = Timeline([version("w@1.0.0", at=90, cron="* * * * *")])
    assert timeline.upcoming(START) == START + 2 * MINUTE
    assert timeline.upcoming(START + 2 * MINUTE) == START + 3 * MINUTE

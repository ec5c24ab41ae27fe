"""What follows when facts are committed, or refused: for the engine that made them, the ledger, and who follows.

Called by `commits` for what engines have made, and by `ending` for the last facts that are made here.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from orchestrator.dispatcher import messages
from orchestrator.dispatcher.commits import Commit
from orchestrator.dispatcher.feed import Feed
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.tracked import Tracked
from orchestrator.monitor.monitor import Monitor
from orchestrator.store.base import TERMINAL, Appended, Batch, Terminal
from orchestrator.transport.base import Link

__all__ = ["Answers"]


class Answers:
    """Acts on what the store says to facts.

    `refused(link, batch, appended)` is called when facts were not taken, `ended(execution)` when one has
    ended, `missed()` when facts were committed of one that is not in the ledger: it is another replica's, or nobody's.
    """

    def __init__(
        self,
        ledger: Ledger,
        feed: Feed,
        monitor: Monitor,
        *,
        refused: Callable[[Link, Batch, Appended], None],
        ended: Callable[[str], None],
        missed: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._feed = feed
        self._monitor = monitor
        self._refused = refused
        self._ended = ended
        self._missed = missed

    def commit(self, commit: Commit, appended: Appended) -> None:
        """A batch is in the store, or was refused: tell its sender, and whoever follows the execution."""
        batch, link = commit.batch, commit.link
        match appended.outcome:
            case "committed":
                position = appended.first_position + appended.last_seq - appended.new_from if appended.new_from else 0
                link.send(messages.ack(batch.execution, batch.epoch, appended.last_seq, position=position))
            case refusal:
                self._monitor.facts_refused(refusal, len(batch.facts))
                self._refused(link, batch, appended)
                return
        tracked = self._ledger.executions.get(batch.execution)
        if not appended.new_from:
            unheard = None if tracked is None else _unheard(tracked, batch, appended)
            if unheard is None:
                return
            appended = unheard
        self._monitor.facts_committed(
            batch.execution, appended.new_from, batch.facts[appended.new_from - batch.first_seq :]
        )
        if tracked is None:
            self._missed()
            return
        if appended.last_seq <= tracked.record.last_seq:  # it was claimed anew, after these facts
            self._feed.changed(batch.execution)
            return
        tracked.committed(batch, appended)
        if tracked.record.status in TERMINAL:
            self._end(tracked)
            return
        if batch.terminal is not None:
            # A retry came while it ended. Whoever had it may have forgotten it already: it is dispatched anew.
            link.send(messages.drop(batch.execution, batch.epoch))
            self._count_end(tracked, batch.terminal)
            self._monitor.execution_reopened()
            self._ledger.enqueue(tracked)
        self._feed.changed(batch.execution)

    def made_here(self, tracked: Tracked, first_seq: int, payloads: list[bytes]) -> None:
        """An execution was ended here; these are its last facts, the first of them at a position."""
        self._monitor.facts_committed(tracked.record.id, first_seq, payloads)
        self._end(tracked)

    def _end(self, tracked: Tracked) -> None:
        record = tracked.record
        self._count_end(tracked, Terminal(status=record.status, at=record.finished_at or 0))
        self._ledger.forget(tracked)
        self._ended(record.id)
        self._feed.ended(record)

    def _count_end(self, tracked: Tracked, end: Terminal) -> None:
        began = max(tracked.went_on, tracked.record.started_at or tracked.record.created_at)
        self._monitor.execution_ended(end.status, max(0, end.at - began) / 1e6)


def _unheard(tracked: Tracked, batch: Batch, appended: Appended) -> Appended | None:
    """What the store says to a batch that was in it before, as its first answer, which nobody has heard.

    None when the ledger knows of it. Else the connection was lost while it was committed, and it was tried again.
    """
    known, last = tracked.record.last_seq, batch.first_seq + len(batch.facts) - 1
    if known >= last or tracked.record.epoch != batch.epoch:
        return None
    return msgspec.structs.replace(appended, last_seq=last, new_from=max(known + 1, batch.first_seq))

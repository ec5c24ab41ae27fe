"""`Monitor`: counts what the orchestrator does, shows it, and tells subscribers of committed facts.

An orchestrator has one (`Orchestrator(monitor=…)` takes yours). The dispatcher, the triggers and the REST interface
report to it; people read `snapshot()`, Prometheus reads `metrics()`. Reporting is a few additions on plain numbers;
`prometheus_client` is only imported when somebody asks for metrics.

A monitor belongs to the thread of its orchestrator's event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from dagengine.events import facts
from dagengine.events.facts import Fact
from orchestrator.monitor.counts import COMMIT_SECONDS, EXECUTION_SECONDS, Histogram, Levels, Snapshot

if TYPE_CHECKING:
    from orchestrator.monitor.metrics import Exposition

__all__ = ["CommittedFact", "Monitor", "Subscriber"]

_log = structlog.get_logger(__name__)


class CommittedFact(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One fact that has become durable. `seq` is its position in its execution; `payload` is JSON."""

    execution: str
    seq: int
    payload: bytes

    @property
    def fact(self) -> Fact:
        """The fact itself, decoded anew at each access."""
        return facts.decode(self.payload)


Subscriber = Callable[[CommittedFact], None]


class Monitor:
    """Counts, levels and subscriptions of one orchestrator."""

    def __init__(self) -> None:
        self.started = 0
        self.reopened = 0
        self.finished: Counter[str] = Counter()
        self.committed = 0
        self.refused: Counter[str] = Counter()
        self.occurrences: Counter[str] = Counter()
        self.purged = 0
        self.purged_rows = 0
        self.adopted = 0
        self.parked = 0
        self.taken_over = 0
        self.lost = 0
        self.leads = False
        self.leaderships = 0
        self.requests: Counter[tuple[str, int]] = Counter()
        """HTTP requests by method and status."""
        self.execution_seconds = Histogram(EXECUTION_SECONDS)
        self.commit_seconds = Histogram(COMMIT_SECONDS)
        self._levels: Callable[[], Levels] = Levels
        self._subscribers: dict[object, Subscriber] = {}
        self._exposition: Exposition | None = None

    # --- for people and Prometheus ---

    def snapshot(self) -> Snapshot:
        """All counts and levels, now."""
        levels = self.levels()
        return Snapshot(
            running=levels.running,
            queued=levels.queued,
            engines=dict(levels.engines),
            started=self.started,
            reopened=self.reopened,
            finished=dict(self.finished),
            facts_committed=self.committed,
            facts_refused=dict(self.refused),
            facts_lost=self.lost,
            leads=self.leads,
            leaderships=self.leaderships,
            adopted=self.adopted,
            parked=self.parked,
            taken_over=self.taken_over,
            occurrences=dict(self.occurrences),
        )

    def levels(self) -> Levels:
        """What is so right now, asked of the orchestrator; nothing at all before one is attached."""
        return self._levels()

    def metrics(self) -> bytes:
        """Everything in the Prometheus text format (version 0.0.4), UTF-8."""
        if self._exposition is None:
            from orchestrator.monitor.metrics import Exposition

            self._exposition = Exposition(self)
        return self._exposition.text()

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Have `callback(fact)` called for every fact that is committed from now on; call the answer to end that.

        The facts of one execution come in order, each once. The callback runs on the event loop's thread between
        commits: it must be quick, and hand anything longer over to a task. What it raises is logged and goes no
        further.
        """
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    # --- for the orchestrator ---

    def attach(self, levels: Callable[[], Levels]) -> None:
        """Ask `levels()` from now on for what is so right now."""
        self._levels = levels

    def execution_started(self) -> None:
        """An execution was accepted."""
        self.started += 1

    def execution_reopened(self) -> None:
        """An execution that had ended is to go on. It is counted once more when it ends again."""
        self.reopened += 1

    def execution_ended(self, status: str, seconds: float) -> None:
        """An execution ended, `seconds` after its first fact, or after it went on."""
        self.finished[status] += 1
        self.execution_seconds.add(seconds)

    def facts_committed(self, execution: str, first_seq: int, payloads: Sequence[bytes]) -> None:
        """Consecutive facts of an execution became durable, the first at position `first_seq`."""
        self.committed += len(payloads)
        if self._subscribers:
            self._tell(execution, first_seq, payloads)

    def facts_refused(self, reason: str, count: int) -> None:
        """The store did not take `count` facts. `reason` is one of a few fixed words: it becomes a label."""
        self.refused[reason] += count

    def facts_lost(self, count: int) -> None:
        """The store does not have `count` facts that engines were told to be committed."""
        self.lost += count

    def executions_adopted(self, count: int) -> None:
        """Engines go on with `count` executions that they still held."""
        self.adopted += count

    def execution_parked(self) -> None:
        """An execution only waits, and was taken from its engine for that time."""
        self.parked += 1

    def execution_taken_over(self) -> None:
        """An execution that an engine may still have was another owner's until now."""
        self.taken_over += 1

    def led(self, leads: bool) -> None:
        """This orchestrator leads the replicas from now on, or does so no more."""
        self.leads = leads
        self.leaderships += leads

    def commit_took(self, seconds: float) -> None:
        """A transaction that made facts durable took so long."""
        self.commit_seconds.add(seconds)

    def occurrence(self, outcome: str) -> None:
        """A cron occurrence was dealt with: `started`, `refused` or `skipped`."""
        self.occurrences[outcome] += 1

    def executions_purged(self, count: int) -> None:
        """Executions were deleted that had ended, with all that belonged to them."""
        self.purged += count

    def rows_purged(self, count: int) -> None:
        """A step of a purge deleted so many rows of the store."""
        self.purged_rows += count

    def request_answered(self, method: str, status: int) -> None:
        """An HTTP request was answered. `method` is one of a few fixed words: it becomes a label."""
        self.requests[method, status] += 1

    def _tell(self, execution: str, first_seq: int, payloads: Sequence[bytes]) -> None:
        subscribers = list(self._subscribers.values())
        for seq, payload in enumerate(payloads, first_seq):
            fact = CommittedFact(execution=execution, seq=seq, payload=payload)
            for subscriber in subscribers:
                try:
                    subscriber(fact)
                except Exception:
                    _log.exception("subscriber_failed", execution=execution, seq=seq)

"""Rules of the product, broken on purpose: the simulation must notice. `run.py --broken NAME` breaks one of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from simulation import disk

from dagengine.driver.attempts import Attempts
from dagengine.machine import operating, resuming
from dagengine.machine.commands import Run
from dagengine.machine.state import State
from dagengine.server.holdings import Holdings
from dagengine.server.host import Host
from dagengine.server.lease import Lease
from orchestrator.dispatcher.commits import Commits
from orchestrator.dispatcher.concurrency import Limits
from orchestrator.dispatcher.placer import Placer
from orchestrator.kubernetes.lease import LeaseElection
from orchestrator.store import base, heads, membership, ownership, queries, schema, sqlite_journal

__all__ = ["RULES"]


def _effects_run_ahead() -> None:
    """An effect does not wait for the commit of its start."""
    release = Attempts.release

    def release_all(self: Any) -> None:
        self._effects = type(self._effects)((0, run) for _, run in self._effects)
        release(self)

    Attempts.release = release_all  # type: ignore[method-assign]


def _nobody_is_fenced() -> None:
    """The store takes facts under any epoch, and from a replica that is none any more, as long as they follow."""
    refusal = heads.refusal

    def judge(head: heads.Journal, batch: base.Batch) -> base.Appended | None:
        return refusal(head, msgspec.structs.replace(batch, epoch=head.epoch) if head.assigned else batch)

    heads.refusal = judge
    disk._checked = lambda connection, _: connection


def _blind_park() -> None:
    """An execution is parked whatever is in its inbox."""

    def park(
        connection: sa.Connection, _: str | None, execution: str, *, epoch: int, last_seq: int, wake_at: int | None
    ) -> bool:
        rows = schema.executions
        as_said = [rows.c.id == execution, rows.c.epoch == epoch, rows.c.last_seq == last_seq]
        change = rows.update().where(*as_said, rows.c.engine.is_not(None), rows.c.status.in_(queries.UNFINISHED))
        return connection.execute(change.values(engine=None, owner=None, wake_at=wake_at)).rowcount > 0

    ownership.park = park


def _no_orphans() -> None:
    """An effect that was interrupted is begun again as the same attempt."""

    def take_up(machine: Any, position: int, index: int, at: int) -> None:
        machine.command(Run(position, index, machine.state.attempt_of(position, index)))

    resuming._take_up = take_up


def _commands_twice() -> None:
    """A command that is delivered again is carried out again."""
    operate = operating.operate

    def again(machine: Any, operation: Any, command: str, at: int) -> None:
        state: State = machine.state
        state.commands.discard(command)
        operate(machine, operation, command, at)

    operating.operate = again


def _acknowledged_early() -> None:
    """Facts are acknowledged before they are committed."""
    commit = Commits._commit

    async def early(self: Any, group: Any) -> None:
        for each in group:
            last = each.batch.first_seq + len(each.batch.facts) - 1
            self._answer(each, base.Appended(outcome="committed", last_seq=last, epoch=each.batch.epoch))
        await commit(self, group)

    Commits._commit = early  # type: ignore[method-assign]


def _no_keys() -> None:
    """Idempotency keys are not looked at."""
    create = sqlite_journal.create_execution

    def without(db: sqlite3.Connection, new: base.NewExecution, replica: str | None) -> Any:
        return create(db, msgspec.structs.replace(new, idempotency_key=None), replica)

    sqlite_journal.create_execution = without


def _endless_lease() -> None:
    """An engine goes on with its effects however long it is without contact."""
    Lease.check = lambda self: None  # type: ignore[method-assign]


def _forgotten_inbox() -> None:
    """What is asked is sent once, and not again to whoever has the execution next."""
    send = Placer._send

    async def without(self: Any, engine: Any, tracked: Any, *rest: Any) -> None:
        inbox, tracked.inbox = tracked.inbox, {}
        await send(self, engine, tracked, *rest)
        tracked.inbox = inbox

    Placer._send = without  # type: ignore[method-assign]


def _deaf_to_drops() -> None:
    """An engine goes on with what it was told to drop."""
    obey = Host._obey

    def deaf(self: Any, session: Any, message: Any) -> None:
        del message.drops[:]
        obey(self, session, message)

    Host._obey = deaf  # type: ignore[method-assign]


def _not_alone() -> None:
    """An engine takes whatever it is given, who has it for himself or not."""
    Holdings._closed_to = lambda self, wanted: ""  # type: ignore[method-assign]


def _not_outbid() -> None:
    """Who is elected under a term that the store does not take stands by it."""
    LeaseElection.outbid = lambda self, term: None  # type: ignore[method-assign]


def _two_leaders() -> None:
    """A new leader does not end the one before it as a replica."""
    lead, end = membership.lead, membership._end

    def without(*given: Any, **options: Any) -> tuple[base.Membership, bool]:
        membership._end = lambda *_: None
        try:
            return lead(*given, **options)
        finally:
            membership._end = end

    membership.lead = without


def _no_counting() -> None:
    """A new leader takes it that nothing is under way under any key."""
    Limits.restore = lambda self, _: self.clear()  # type: ignore[method-assign]


RULES: Final[Mapping[str, Callable[[], None]]] = {
    "effects-run-ahead": _effects_run_ahead,
    "nobody-is-fenced": _nobody_is_fenced,
    "blind-park": _blind_park,
    "no-orphans": _no_orphans,
    "commands-twice": _commands_twice,
    "acknowledged-early": _acknowledged_early,
    "no-keys": _no_keys,
    "endless-lease": _endless_lease,
    "forgotten-inbox": _forgotten_inbox,
    "deaf-to-drops": _deaf_to_drops,
    "not-alone": _not_alone,
    "not-outbid": _not_outbid,
    "two-leaders": _two_leaders,
    "no-counting": _no_counting,
}

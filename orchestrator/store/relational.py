"""What all stores in relational databases have in common: the port's methods as the Core statements behind them.

An adapter says how a question is asked and how a change is made (`_ask`, `_change`), and brings what is made for its
database alone: opening and closing, replicas, and the writes on the hot path.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import sqlalchemy as sa

from orchestrator import errors
from orchestrator.store import base, blobs, changes, membership, ownership, queries, retention, versions

__all__ = ["RelationalStore"]

_Answer = TypeVar("_Answer")


class RelationalStore(abc.ABC):
    """The part of a `Store` that is the same for every database. `name` is the database as messages call it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._replica: str | None = None
        """The replica that this process has joined as."""

    @abc.abstractmethod
    def _ask(self, run: Callable[[sa.Connection], _Answer]) -> asyncio.Future[_Answer]:
        """Have something read."""

    @abc.abstractmethod
    def _change(
        self, run: Callable[[sa.Connection], _Answer], *, weight: int = 0, tell: Sequence[base.Topic] = ()
    ) -> asyncio.Future[_Answer]:
        """Have about `weight` bytes written; other replicas are told the topics `tell`, unless the answer is false."""

    @abc.abstractmethod
    def _now(self, connection: sa.Connection) -> int:
        """What the store's clock says."""

    def _joined(self) -> str:
        if self._replica is None:
            raise errors.StoreError(f"{self.name}: this process has not joined it as a replica: join first.")
        return self._replica

    # --- what is asked ---

    async def position(self) -> int:
        return await self._ask(queries.position)

    async def replicas(self) -> list[base.Replica]:
        return await self._ask(membership.replicas)

    async def versions(self, workflow: str | None = None) -> list[base.Version]:
        return await self._ask(lambda connection: versions.versions(connection, workflow))

    async def version(self, workflow: str, version: str) -> base.VersionRecord | None:
        return await self._ask(lambda connection: versions.version(connection, workflow, version))

    async def document(self, digest: str) -> bytes | None:
        return await self._ask(lambda connection: versions.document(connection, digest))

    async def known_execution(
        self, workflow: str, *, idempotency_key: str | None = None, occurrence: str | None = None
    ) -> base.ExecutionRecord | None:
        return await self._ask(
            lambda connection: queries.known_execution(connection, workflow, idempotency_key, occurrence)
        )

    async def execution(self, execution: str) -> base.ExecutionRecord | None:
        return await self._ask(lambda connection: queries.execution(connection, execution))

    async def executions(
        self,
        *,
        workflow: str | None = None,
        status: Sequence[base.Status] = (),
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[base.ExecutionRecord]:
        return await self._ask(
            lambda connection: queries.executions(
                connection, workflow=workflow, status=status, before=before, limit=limit
            )
        )

    async def unfinished(self, *, keyed: bool = False) -> list[base.ExecutionRecord]:
        return await self._ask(lambda connection: queries.unfinished(connection, keyed=keyed))

    async def owned(self) -> list[str]:
        replica = self._joined()
        return await self._ask(lambda connection: queries.owned(connection, replica))

    async def heads(self, executions: Collection[str]) -> dict[str, base.Head]:
        return await self._ask(lambda connection: queries.heads(connection, executions))

    async def dispatched(self) -> list[tuple[str, str]]:
        return await self._ask(queries.dispatched)

    async def next_wake(self, *, keyed: bool) -> int | None:
        return await self._ask(lambda connection: ownership.next_wake(connection, keyed=keyed))

    async def outstanding(self, *, now: int) -> list[base.Outstanding]:
        return await self._ask(lambda connection: ownership.outstanding(connection, now=now))

    async def facts(self, execution: str, *, after: int = 0, limit: int = 1_000) -> list[base.StoredFact]:
        return await self._ask(lambda connection: queries.facts(connection, execution, after=after, limit=limit))

    async def former_end(self, execution: str) -> base.Terminal | None:
        return await self._ask(lambda connection: queries.former_end(connection, execution))

    async def inbox(self, execution: str | None = None) -> list[base.InboxItem]:
        replica = self._replica
        return await self._ask(lambda connection: queries.inbox(connection, execution, replica))

    async def inboxes(self, executions: Collection[str]) -> list[base.InboxItem]:
        return await self._ask(lambda connection: queries.inboxes(connection, executions))

    async def known_results(self, digests: Collection[str], *, now: int) -> dict[str, base.KnownResult]:
        return await self._ask(lambda connection: queries.known_results(connection, digests, now=now))

    async def logs(
        self, execution: str, *, node: str | None = None, after: int = 0, limit: int = 1_000
    ) -> list[base.LogRecord]:
        return await self._ask(
            lambda connection: queries.logs(connection, execution, node=node, after=after, limit=limit)
        )

    async def last_occurrence(self, trigger: str) -> int | None:
        return await self._ask(lambda connection: queries.last_occurrence(connection, trigger))

    async def blobs(self, digests: Collection[str]) -> dict[str, bytes]:
        return await self._ask(lambda connection: blobs.values(connection, digests))

    async def expired(
        self, *, workflow: str | None = None, ended_before: int | None = None, keep: int | None = None, limit: int = 100
    ) -> list[base.Expired]:
        return await self._ask(
            lambda connection: retention.expired(
                connection, workflow=workflow, ended_before=ended_before, keep=keep, limit=limit
            )
        )

    async def ended_workflows(self) -> list[str]:
        return await self._ask(lambda connection: list(retention.ended_workflows(connection)))

    # --- what is changed ---

    async def add_version(self, record: base.VersionRecord) -> bool:
        return await self._change(lambda connection: versions.add_version(connection, record), tell=["versions"])

    async def remove_versions(self, workflow: str, version: str | None, *, force: bool) -> int:
        return await self._change(
            lambda connection: versions.remove_versions(connection, workflow, version, force=force),
            tell=["versions"],
        )

    async def claim(self, *, now: int, limit: int, keyed: bool) -> list[base.ExecutionRecord]:
        replica = self._joined()
        return await self._change(
            lambda connection: ownership.claim(connection, replica, now=now, limit=limit, keyed=keyed)
        )

    async def park(self, execution: str, epoch: int, last_seq: int, wake_at: int | None) -> bool:
        replica = self._replica
        return await self._change(
            lambda connection: ownership.park(
                connection, replica, execution, epoch=epoch, last_seq=last_seq, wake_at=wake_at
            ),
            tell=["claimable"],
        )

    async def release(self, execution: str, epoch: int) -> None:
        await self._change(lambda connection: changes.release(connection, execution, epoch))

    async def add_inbox(self, item: base.InboxItem) -> bool:
        return await self._change(lambda connection: changes.add_inbox(connection, item), tell=["inbox", "claimable"])

    async def reopen(self, item: base.InboxItem) -> tuple[base.ExecutionRecord, bool] | None:
        return await self._change(lambda connection: changes.reopen(connection, item), tell=["inbox", "claimable"])

    async def record_occurrence(self, trigger: str, at: int) -> None:
        await self._change(lambda connection: changes.record_occurrence(connection, trigger, at))

    async def put_blobs(self, values: Mapping[str, bytes]) -> None:
        weight = sum(map(len, values.values()))
        await self._change(lambda connection: blobs.put(connection, values, now=self._now(connection)), weight=weight)

    async def purge(self, executions: Sequence[str], *, rows: int) -> int:
        return await self._change(lambda connection: retention.purge(connection, executions, rows=rows))

    async def purge_logs(self, *, workflow: str | None = None, ended_before: int, rows: int) -> int:
        lines = await self._ask(
            lambda connection: retention.old_logs(connection, workflow=workflow, ended_before=ended_before, rows=rows)
        )
        return await self._change(lambda connection: retention.delete_logs(connection, lines)) if lines else 0

    async def purge_blobs(self, *, rows: int) -> int:
        def unused(connection: sa.Connection) -> tuple[list[str], int]:
            before = self._now(connection) - blobs.KEPT
            return retention.unused_blobs(connection, put_before=before, rows=rows), before

        digests, before = await self._ask(unused)
        if not digests:
            return 0
        return await self._change(lambda connection: retention.delete_blobs(connection, digests, put_before=before))

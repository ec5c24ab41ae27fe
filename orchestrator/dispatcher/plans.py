"""The plans of the workflow versions whose executions have not ended: each made once, and shared by all of them."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from typing import Final

import structlog
from pydantic import ValidationError

from dagengine.spec.model import Document
from orchestrator.dispatcher.placement import Needs
from orchestrator.dispatcher.tracked import Plan
from orchestrator.store.base import Store

__all__ = ["Plans"]

_log = structlog.get_logger("orchestrator.plans")

_REMEMBERED: Final = 10_000
"""Versions of which it is remembered what they need."""


class Plans:
    """Plans by the digests of documents. Whoever uses one holds on to it; the others are forgotten."""

    def __init__(self, store: Store, shared_pools: frozenset[str]) -> None:
        """`shared_pools` are the names of the pools over the whole system."""
        self._store = store
        self._shared_pools = shared_pools
        self._plans: MutableMapping[str, Plan] = weakref.WeakValueDictionary()
        self._needs: dict[str, Needs] = {}

    def __len__(self) -> int:
        return len(self._plans)

    def of(self, document: Document) -> Plan:
        """The plan of a document."""
        plan = self._plans.get(document.digest)
        if plan is None:
            plan = self._plans[document.digest] = Plan.of(document, self._shared_pools)
        return plan

    async def get(self, digest: str) -> Plan | None:
        """The plan of the version with a digest; None when the store has none that can be read. StoreError."""
        plan = self._plans.get(digest)
        if plan is None:
            canonical = await self._store.document(digest)
            if canonical is None:
                return None
            try:
                document = Document.model_validate_json(canonical)
            except ValidationError as error:  # of a newer release, which runs beside this one while all are replaced
                _log.error("document_unreadable", digest=digest, error=str(error))
                return None
            plan = self.of(document)
        return plan

    async def needs(self, digest: str) -> Needs | None:
        """What the executions of a version need, those of other replicas too; None as with `get`. StoreError.

        It is asked again and again, and remembered: nobody holds on to the plans of what other replicas run.
        """
        needs = self._needs.get(digest)
        if needs is None:
            plan = await self.get(digest)
            if plan is None:
                return None
            while len(self._needs) >= _REMEMBERED:
                del self._needs[next(iter(self._needs))]
            needs = self._needs[digest] = plan.needs
        return needs

"""Which workflows there are: the way in for documents, and from a reference to the version it names.

The registry checks documents (with the checks of the spec and those that `app` adds), registers versions in the
store, and answers from memory: resolving a reference is part of every start. What it remembers are the records of all
versions and the parsed documents by digest, which never change. Only which versions there are can change elsewhere
(another orchestrator on the same store); `refresh` reads that again.

Called by the orchestrator's verbs, and through them by the REST interface and the triggers.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dagengine.clock import Clock
from dagengine.spec import document as documents
from dagengine.spec.model import Document
from dagengine.spec.reference import VersionRange, WorkflowReference, version_key
from dagengine.spec.suggestion import did_you_mean
from orchestrator import errors
from orchestrator.registry.selector import Selector
from orchestrator.store.base import Store, VersionRecord

__all__ = ["Entry", "Registry"]

_DOCUMENTS: Final = 1_024
"""Parsed documents to keep."""
_REFERENCES: Final = 4_096
"""Resolved references to keep."""
_NAMED: Final = 10
"""How many of the things that exist an error names."""

_LATEST: Final = VersionRange.parse("latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered version: what is stored of it, and its document, parsed."""

    record: VersionRecord
    document: Document


class Registry:
    """The registered versions of all workflows.

    Each of `checks` sees a document before it is registered, on a thread beside the event loop, one document at a
    time: what it reads cannot change between the check and the registration, if only registrations change it.
    """

    def __init__(self, store: Store, *, checks: Sequence[documents.Check] = (), clock: Clock) -> None:
        self._store = store
        self._checks = tuple(checks)
        self._clock = clock
        self._changing = asyncio.Lock()
        self._records: dict[str, dict[str, VersionRecord]] | None = None
        self._resolved: dict[str, Entry] = {}
        self._documents: collections.OrderedDict[str, Document] = collections.OrderedDict()

    async def register(
        self, document: Document | Mapping[str, Any] | str | bytes, *, source: str = ""
    ) -> tuple[Entry, bool]:
        """Register a version; True with it when it is new, False when the same content was registered before.

        Takes a document, plain values, or YAML or JSON text; `source` names it in errors. Raises SpecError with every
        problem of the document, or VersionConflict when the version exists with another content.
        """
        # Shielded: a caller that gives up half-way must not leave the store and the memory with different versions.
        return await asyncio.shield(asyncio.ensure_future(self._register(document, source)))

    async def resolve(self, reference: str) -> Entry:
        """The version that `id`, `id@1.2.0`, `id@^1` or `id@latest` names.

        Raises SpecError when `reference` cannot be read, NotFound (saying what there is) when it names nothing.
        """
        entry = self._resolved.get(reference)
        if entry is None:
            known = await self._known()
            entry = self._find(WorkflowReference.parse(reference), known)
            if len(self._resolved) >= _REFERENCES:
                self._resolved.clear()
            self._resolved[reference] = entry
        return entry

    async def versions(self, workflow: str) -> list[str]:
        """The versions of a workflow, highest first; empty when there is no such workflow."""
        return _highest_first((await self._known()).get(workflow, ()))

    async def list(self, labels: str = "") -> list[VersionRecord]:
        """The latest version of every workflow, by id, whose labels fit the selector. Raises RequestError."""
        selector = Selector.parse(labels)
        latest = (_latest(versions) for _, versions in sorted((await self._known()).items()))
        return [record for record in latest if selector.matches(record.labels)]

    async def records(self) -> Sequence[VersionRecord]:
        """Every version of every workflow; those of one workflow in the order of their registration."""
        return [record for versions in (await self._known()).values() for record in versions.values()]

    async def remove(self, workflow: str, *, version: str | None = None, force: bool = False) -> int:
        """Remove one version, or the whole workflow; how many versions went.

        Raises NotFound, or InUse when executions of it have not ended, unless `force`.
        """
        return await asyncio.shield(asyncio.ensure_future(self._remove(workflow, version, force)))

    async def refresh(self) -> None:
        """Read again which versions there are."""
        async with self._changing:
            self._records = await self._load()
            self._resolved.clear()

    async def _register(self, document: Document | Mapping[str, Any] | str | bytes, source: str) -> tuple[Entry, bool]:
        async with self._changing:
            checked = await asyncio.to_thread(self._read, document, source)
            known = await self._known()
            record = _record(checked, at=self._clock.now())
            created = await self._store.add_version(record)
            if not created:
                record = await self._store.version(record.workflow, record.version) or record
            known.setdefault(record.workflow, {})[record.version] = record
            self._keep(checked)
            self._resolved.clear()
            return Entry(record=record, document=checked), created

    async def _remove(self, workflow: str, version: str | None, force: bool) -> int:
        async with self._changing:
            removed = await self._store.remove_versions(workflow, version, force=force)
            known = await self._known()
            self._resolved.clear()
            if version is not None:
                known.get(workflow, {}).pop(version, None)
            if version is None or not known.get(workflow):
                known.pop(workflow, None)
            if not removed:
                raise _no_version(workflow, version, known)
            return removed

    def _read(self, document: Document | Mapping[str, Any] | str | bytes, source: str) -> Document:
        if isinstance(document, (str, bytes)):
            return documents.read(document, source=source, checks=self._checks)
        # A document that is parsed already may come from anywhere: from a builder, or with a model's checks only.
        values = document.to_dict() if isinstance(document, Document) else document
        return documents.from_dict(values, source=source, checks=self._checks)

    async def _known(self) -> dict[str, dict[str, VersionRecord]]:
        if self._records is None:
            loaded = await self._load()
            if self._records is None:  # else somebody else's, which may have changed since
                self._records = loaded
        return self._records

    async def _load(self) -> dict[str, dict[str, VersionRecord]]:
        known: dict[str, dict[str, VersionRecord]] = {}
        for record in await self._store.versions():
            known.setdefault(record.workflow, {})[record.version] = record
        return known

    def _find(self, reference: WorkflowReference, known: Mapping[str, Mapping[str, VersionRecord]]) -> Entry:
        versions = known.get(reference.id, {})
        best = reference.range.best(versions)
        if best is None:
            raise _no_version(reference.id, str(reference.range), known)
        record = versions[best]
        document = self._documents.get(record.digest)
        if document is None:
            document = documents.from_canonical(record.document)
        self._keep(document)
        return Entry(record=record, document=document)

    def _keep(self, document: Document) -> None:
        self._documents[document.digest] = document
        self._documents.move_to_end(document.digest)
        if len(self._documents) > _DOCUMENTS:
            self._documents.popitem(last=False)


def _record(document: Document, *, at: int) -> VersionRecord:
    return VersionRecord(
        workflow=document.id,
        version=document.version,
        digest=document.digest,
        document=document.canonical,
        labels=dict(document.metadata.labels),
        name=document.metadata.name,
        description=document.metadata.description,
        registered_at=at,
    )


def _highest_first(versions: Iterable[str]) -> list[str]:
    return sorted(versions, key=version_key, reverse=True)


def _latest(versions: Mapping[str, VersionRecord]) -> VersionRecord:
    best = _LATEST.best(versions)
    return versions[best] if best is not None else next(iter(versions.values()))


def _no_version(workflow: str, wanted: str | None, known: Mapping[str, Mapping[str, VersionRecord]]) -> errors.NotFound:
    if workflow in known:
        there = _named(_highest_first(known[workflow]))
        return errors.NotFound(f"Workflow {workflow!r} has no version {wanted!r}: there is {there}.")
    if not known:
        return errors.NotFound(f"There is no workflow {workflow!r}: none is registered yet.")
    hint = did_you_mean(workflow, known) or f": there is {_named(sorted(known))}."
    return errors.NotFound(f"There is no workflow {workflow!r}{hint}")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

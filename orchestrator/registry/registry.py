"""Which workflows there are: the way in for documents, and from a reference to the version it names.

The registry checks documents (with the checks of the spec and those that `app` adds), registers versions in the
store, and answers from memory: resolving a reference is part of every start. What it remembers are all versions without
their documents, and the documents used last, parsed, by digest. Those never change. Only which versions there are can
change elsewhere (another replica on the same store): `follow` reads that again when it hears of it, and now and then.
What is not in memory is looked for in the store before anybody is told that there is no such thing.

Called by the orchestrator's verbs, and through them by the REST interface and the triggers.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from dagengine.clock import Clock
from dagengine.errors import SpecError
from dagengine.spec import document as documents
from dagengine.spec.model import Document
from dagengine.spec.reference import VersionRange, WorkflowReference, version_key
from dagengine.spec.suggestion import did_you_mean
from orchestrator import errors, supervision
from orchestrator.alarm import Alarm
from orchestrator.registry.selector import Selector
from orchestrator.store.base import Store, Version, VersionRecord

__all__ = ["Entry", "Registry", "compare", "parse_reference"]

_log = structlog.get_logger(__name__)

_DOCUMENTS: Final = 1_024
"""Parsed documents to keep."""
_DOCUMENT_BYTES: Final = 32 << 20
"""Bytes that they may have in their canonical form; parsed, they take several times as much."""
_REFERENCES: Final = 4_096
"""Resolved references to keep."""
_REFRESH: Final = 60_000_000
"""Microseconds between two readings of which versions there are, at most, while there are other replicas."""
_RETRY: Final = 1_000_000
"""Microseconds before the next try when the store cannot be read."""
_NAMED: Final = 10
"""How many of the things that exist an error names."""

_LATEST: Final = VersionRange.parse("latest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered version, and its document, parsed."""

    record: Version
    document: Document


class Registry:
    """The registered versions of all workflows.

    Each of `checks` sees a document before it is registered, on a thread beside the event loop, one document at a
    time: what it reads cannot change between the check and the registration, if only registrations change it.
    For things that are made of all versions there is `changed`: it is told of them whenever they are others, before
    the next document is checked.
    """

    def __init__(
        self,
        store: Store,
        *,
        checks: Sequence[documents.Check] = (),
        clock: Clock,
        changed: Callable[[Sequence[Version]], None] | None = None,
    ) -> None:
        self._store = store
        self._checks = tuple(checks)
        self._clock = clock
        self._changed = changed
        self._changing = asyncio.Lock()
        self._alarm = Alarm(clock)
        self._records: dict[str, dict[str, Version]] | None = None
        self._resolved: dict[str, Version] = {}
        self._documents: collections.OrderedDict[str, Document] = collections.OrderedDict()
        self._document_bytes = 0

    async def register(
        self, document: Document | Mapping[str, Any] | str | bytes, *, source: str = "", expected: str | None = None
    ) -> tuple[Entry, bool]:
        """Register a version; True with it when it is new, False when the same content was registered before.

        Takes a document, plain values, or YAML or JSON text; `source` names it in errors. Raises SpecError with every
        problem of the document, RequestError when it is not the one `expected` (`id` or `id@1.2.0`), or VersionConflict
        when the version exists with another content.
        """
        # Shielded: a caller that gives up half-way must not leave the store and the memory with different versions.
        return await supervision.to_its_end(self._register(document, source, expected))

    async def resolve(self, reference: str) -> Entry:
        """The version that `id`, `id@1.2.0`, `id@^1` or `id@latest` names.

        Raises RequestError when `reference` cannot be read, NotFound (saying what there is) when it names nothing.
        """
        version = self._resolved.get(reference)
        if version is None:
            wanted = parse_reference(reference)
            version = _find(wanted, await self._known()) or await self._find_stored(wanted)
            if len(self._resolved) >= _REFERENCES:
                self._resolved.clear()
            self._resolved[reference] = version
        document = await self.document(version.digest)
        if document is None:
            raise _without_document(version.digest)
        return Entry(record=version, document=document)

    async def document(self, digest: str) -> Document | None:
        """The document with a digest, also when its version was removed; None when there never was one."""
        document = self._documents.get(digest)
        if document is None:
            canonical = await self._store.document(digest)
            if canonical is None:
                return None
            document = documents.from_canonical(canonical)
        self._keep(document)
        return document

    async def canonical(self, digest: str) -> bytes:
        """The canonical form of a registered version's document, by its digest."""
        document = self._documents.get(digest)
        canonical = document.canonical if document is not None else await self._store.document(digest)
        if canonical is None:
            raise _without_document(digest)
        return canonical

    async def versions(self, workflow: str) -> list[str]:
        """The versions of a workflow, highest first; empty when there is no such workflow."""
        return _highest_first((await self._known()).get(workflow, ()))

    async def list(self, labels: str = "") -> list[Version]:
        """The latest version of every workflow, by id, whose labels fit the selector. Raises RequestError."""
        selector = Selector.parse(labels)
        latest = (_latest(versions) for _, versions in sorted((await self._known()).items()))
        return [record for record in latest if selector.matches(record.labels)]

    async def records(self) -> Sequence[Version]:
        """Every version of every workflow; those of one workflow in the order of their registration."""
        return _all(await self._known())

    async def remove(self, workflow: str, *, version: str | None = None, force: bool = False) -> int:
        """Remove one version, or the whole workflow; how many versions went.

        Raises NotFound, or InUse when executions of it have not ended, unless `force`.
        """
        return await supervision.to_its_end(self._remove(workflow, version, force))

    async def refresh(self) -> None:
        """Read again which versions there are."""
        async with self._changing:
            records = await self._load()
            if records != self._records:
                self._records = records
                self._tell()

    def heard(self) -> None:
        """Another replica has registered or removed versions."""
        self._alarm.ring()

    async def follow(self, *, shared: Callable[[], bool]) -> None:
        """Keep up with other replicas, while `shared` says that there are any, until cancelled."""
        again = False
        while True:
            heard = await self._alarm.wait(self._clock.now() + (_RETRY if again else _REFRESH))
            if not (heard or again or shared()):
                continue
            try:
                await self.refresh()
                again = False
            except errors.StoreError as error:
                _log.error("versions_not_read", error=str(error))
                again = True

    async def _register(
        self, document: Document | Mapping[str, Any] | str | bytes, source: str, expected: str | None
    ) -> tuple[Entry, bool]:
        async with self._changing:
            checked = await asyncio.to_thread(self._read, document, source)
            compare(checked, expected)
            known = await self._known()
            record = _record(checked, at=self._clock.now())
            created = await self._store.add_version(record)
            if not created:
                record = await self._store.version(record.workflow, record.version) or record
            self._keep(checked)
            version = Version.of(record)
            versions = known.setdefault(version.workflow, {})
            if versions.get(version.version) != version:
                versions[version.version] = version
                self._tell()
            return Entry(record=version, document=checked), created

    async def _remove(self, workflow: str, version: str | None, force: bool) -> int:
        async with self._changing:
            removed = await self._store.remove_versions(workflow, version, force=force)
            known = await self._known()
            if version is not None:
                known.get(workflow, {}).pop(version, None)
            if version is None or not known.get(workflow):
                known.pop(workflow, None)
            self._tell()
            if not removed:
                raise _no_version(workflow, version, known)
            return removed

    def _read(self, document: Document | Mapping[str, Any] | str | bytes, source: str) -> Document:
        if isinstance(document, (str, bytes)):
            return documents.read(document, source=source, checks=self._checks)
        # A document that is parsed already may come from anywhere: from a builder, or with a model's checks only.
        values = document.to_dict() if isinstance(document, Document) else document
        return documents.from_dict(values, source=source, checks=self._checks)

    async def _find_stored(self, reference: WorkflowReference) -> Version:
        """What another replica may have registered just now. Raises NotFound."""
        versions = {version.version: version for version in await self._store.versions(reference.id)}
        known = await self._known()
        if versions != known.get(reference.id, {}):
            await self.refresh()
            known = await self._known()
        found = _find(reference, known)
        if found is None:
            raise _no_version(reference.id, str(reference.range), known)
        return found

    async def _known(self) -> dict[str, dict[str, Version]]:
        if self._records is None:
            loaded = await self._load()
            if self._records is None:  # else somebody else's, which may have changed since
                self._records = loaded
        return self._records

    def _tell(self) -> None:
        """There are other versions now than before."""
        self._resolved.clear()
        if self._changed is not None and self._records is not None:
            self._changed(_all(self._records))

    async def _load(self) -> dict[str, dict[str, Version]]:
        known: dict[str, dict[str, Version]] = {}
        for record in await self._store.versions():
            known.setdefault(record.workflow, {})[record.version] = record
        return known

    def _keep(self, document: Document) -> None:
        if document.digest not in self._documents:
            self._document_bytes += len(document.canonical)
        self._documents[document.digest] = document
        self._documents.move_to_end(document.digest)
        while len(self._documents) > 1 and (
            len(self._documents) > _DOCUMENTS or self._document_bytes > _DOCUMENT_BYTES
        ):
            _, dropped = self._documents.popitem(last=False)
            self._document_bytes -= len(dropped.canonical)


def parse_reference(reference: str) -> WorkflowReference:
    """What `reference` names. Raises RequestError when it cannot be read."""
    try:
        return WorkflowReference.parse(reference)
    except SpecError as exc:  # what is wrong is the request, not a document
        raise errors.RequestError(exc.summary) from exc


def compare(document: Document, expected: str | None) -> None:
    """Raise RequestError unless `document` is the workflow, and the version, that was `expected`, if any was."""
    workflow, _, version = (expected or document.id).partition("@")
    if document.id != workflow:
        raise errors.RequestError(
            f"expected the workflow {workflow!r}, but the document's metadata.id is {document.id!r}"
        )
    if version and document.version != version:
        raise errors.RequestError(
            f"expected version {version!r}, but the document's metadata.version is {document.version!r}"
        )


def _without_document(digest: str) -> errors.StoreError:
    return errors.StoreError(f"the store has a version with the digest {digest}, but not its document")


def _find(reference: WorkflowReference, known: Mapping[str, Mapping[str, Version]]) -> Version | None:
    versions = known.get(reference.id, {})
    best = reference.range.best(versions)
    return None if best is None else versions[best]


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


def _all(known: Mapping[str, Mapping[str, Version]]) -> list[Version]:
    return [record for versions in known.values() for record in versions.values()]


def _highest_first(versions: Iterable[str]) -> list[str]:
    return sorted(versions, key=version_key, reverse=True)


def _latest(versions: Mapping[str, Version]) -> Version:
    best = _LATEST.best(versions)
    return versions[best] if best is not None else next(iter(versions.values()))


def _no_version(workflow: str, wanted: str | None, known: Mapping[str, Mapping[str, Version]]) -> errors.NotFound:
    if workflow in known:
        there = _named(_highest_first(known[workflow]))
        return errors.NotFound(f"workflow {workflow!r} has no version {wanted!r}: there is {there}.")
    if not known:
        return errors.NotFound(f"there is no workflow {workflow!r}: none is registered yet.")
    hint = did_you_mean(workflow, known) or f": there is {_named(sorted(known))}."
    return errors.NotFound(f"there is no workflow {workflow!r}{hint}")


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

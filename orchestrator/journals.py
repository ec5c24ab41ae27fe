"""What the committed journal of an execution tells: its state, how far its nodes are, every attempt at one of them.

Called by `service`. Long journals are read page by page and folded on a thread, so that nobody else waits for that.
Large values are read only where they are looked at: the lists that nodes were expanded to, and what is shown of
attempts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from importlib import metadata as distribution
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from dagengine.errors import MachineError
from dagengine.events import facts
from dagengine.events.facts import Fact
from dagengine.graph.compiled import compile_document
from dagengine.machine import why
from dagengine.machine.machine import fold
from dagengine.machine.state import State
from dagengine.spec.model import Document
from orchestrator.blobs import references, values
from orchestrator.blobs.base import Blobs
from orchestrator.errors import StoreError
from orchestrator.progress import Board
from orchestrator.reports import FORMAT, JournalHeader
from orchestrator.store.base import PAGE_BYTES, ExecutionRecord, Store
from orchestrator.verbs import AttemptView, NodeReason, NodeView

__all__ = ["attempts", "header", "nodes", "page", "reasons", "state"]

T = TypeVar("T")

_PAGE: Final = 10_000
_HERE: Final = 500
"""Facts that are folded right here: handing them to a thread takes longer."""
_EXPANDED: Final = b'{"type":"NodeExpanded"'
_RERUN: Final = b'{"type":"RerunRequested"'
_GIVEN_UP: Final = b'{"type":"ExecutionFailed"'


async def state(store: Store, blobs: Blobs, record: ExecutionRecord, document: Document) -> State:
    """The state that the committed facts of an execution lead to, with null for large values of nodes.

    StoreError when they make no sense.
    """
    payloads = [payload async for payload in _payloads(store, record.id)]
    expanded = [at for at, payload in enumerate(payloads) if payload.startswith(_EXPANDED)]
    for at, payload in zip(expanded, await values.whole(blobs, [payloads[at] for at in expanded]), strict=True):
        payloads[at] = payload

    def folded() -> State:
        graph = compile_document(document)
        journal = map(facts.decode, payloads)
        return fold(graph, journal, execution=record.id, seed=record.seed).state

    try:
        return await _aside(folded, len(payloads))
    except MachineError as error:
        raise StoreError(f"the journal of {record.id} makes no sense: {error}") from error


async def reasons(
    store: Store, blobs: Blobs, record: ExecutionRecord, document: Document, node: str | None = None
) -> list[NodeReason]:
    """Why each node is not running (those that are, are left out), or one node and each of its items."""
    if not record.last_seq:
        return []
    known = await state(store, blobs, record, document)
    found = why.explain(known, node)
    if node is not None:
        found += why.explain_items(known, node)
    return [msgspec.convert(reason, NodeReason, from_attributes=True) for reason in found]


def header(record: ExecutionRecord, document: bytes) -> JournalHeader:
    """What an exported journal begins with; `document` is canonical."""
    return JournalHeader(
        format=FORMAT,
        release=distribution.version("dagengine"),
        execution=record.id,
        workflow=record.workflow,
        version=record.version,
        digest=record.digest,
        status=record.status,
        seed=record.seed,
        epoch=record.epoch,
        last_seq=record.last_seq,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        trigger=record.trigger,
        priority=record.priority,
        inputs=msgspec.Raw(record.inputs),
        document=msgspec.Raw(document),
    )


async def nodes(store: Store, record: ExecutionRecord, document: Document) -> list[NodeView]:
    """How far each node is, in the order of the document."""
    payloads = [payload async for payload in _payloads(store, record.id)]

    def filled() -> Board:
        board = Board()
        board.expect(node.id for node in (*document.spec.nodes, *document.spec.on_exit))
        for payload in payloads:
            board.apply(facts.decode(payload))
        return board

    board = await _aside(filled, len(payloads))
    return [
        NodeView(
            id=node.id,
            state=node.phase,
            attempt=node.attempt,
            started_at=node.started_at,
            finished_at=node.finished_at,
            items=node.items,
            items_succeeded=node.items_succeeded,
            items_failed=node.items_failed,
            paused=node.id in board.paused,
            note=node.note,
        )
        for node in board.nodes.values()
    ]


async def attempts(store: Store, execution: str, node: str, index: int | None) -> list[AttemptView]:
    """Every try at a node (at one item of it), in the order of their beginnings; `page` reads their large values."""
    named = b'"%s"' % node.encode()
    about = (b'"node":' + named, b'"nodes":', b'"items":')
    found = [
        payload
        async for payload in _payloads(store, execution)
        if (named in payload and (about[0] in payload or payload.startswith(_RERUN))) or payload.startswith(_GIVEN_UP)
    ]

    def gathered() -> list[AttemptView]:
        tries = _Tries(node, index)
        tries.take(map(_with_references, found))
        return [AttemptView(**one) for one in tries.made]

    return await _aside(gathered, len(found))


def _with_references(payload: bytes) -> Fact:
    """The fact, what stands in for its large values in their place."""
    fact = facts.decode(payload)
    cited = references.citations(payload)
    if not cited:
        return fact
    raw = {name: msgspec.Raw(references.stand_in(reference)) for name, reference in cited.items()}
    return msgspec.structs.replace(fact, **raw)


async def page(blobs: Blobs, views: list[AttemptView]) -> list[AttemptView]:
    """The first of `views`, and those after it as long as their values fill no more than a page, with those values.

    StoreError when a large one is not there.
    """
    room = PAGE_BYTES
    cited: set[str] = set()
    for number, view in enumerate(views):
        found = [references.reference_of(raw) for raw in _raw(view)]
        pairs = zip(_raw(view), found, strict=True)
        room -= sum(len(raw) if reference is None else reference.size for raw, reference in pairs)
        if room < 0 and number > 0:
            views = views[:number]
            break
        cited |= {reference.digest for reference in found if reference is not None}
    large = await values.get(blobs, cited)
    return [_resolved(view, large) for view in views] if large else views


def _raw(view: AttemptView) -> list[bytes]:
    return [bytes(raw) for raw in (view.args, view.result) if raw is not UNSET]


def _resolved(view: AttemptView, large: Mapping[str, bytes]) -> AttemptView:
    found = {}
    for name in ("args", "result"):
        raw = getattr(view, name)
        if raw is not UNSET and (reference := references.reference_of(bytes(raw))) is not None:
            found[name] = msgspec.Raw(large[reference.digest])
    return msgspec.structs.replace(view, **found) if found else view


class _Tries:
    """The attempts at one node (one item), gathered from its facts."""

    def __init__(self, node: str, index: int | None) -> None:
        self.made: list[dict[str, Any]] = []
        self._node = node
        self._index = index
        self._open: dict[int | None, dict[str, Any]] = {}
        self._queued: dict[int | None, int] = {}

    def take(self, journal: Iterable[Fact]) -> None:
        """Take facts of the node, and those that may end its attempts, in order."""
        for fact in journal:
            match fact:
                case facts.RerunRequested() if self._node in (*fact.nodes, *fact.items):
                    self._end_all("cancelled", fact.at)
                case facts.ExecutionFailed(given_up=True):
                    self._end_all("unknown", None)
                case facts.NodeOverridden():
                    self._end_all("overridden", fact.at)
                case facts.NodeCancelled(index=None):
                    self._end_all("cancelled", fact.at)
                case _ if self._index is None or getattr(fact, "index", None) == self._index:
                    self._take(fact)

    def _take(self, fact: Fact) -> None:
        match fact:
            case facts.NodeQueued():
                self._queued.setdefault(fact.index, fact.at)
            case facts.NodeStarted():
                self._begin(fact, "running", args=fact.args)
            case facts.NodeWaiting():
                self._begin(fact, "waiting")
            case facts.NodeSucceeded() if fact.index in self._open:
                self._end(fact, "success", result=fact.result, elapsed=fact.elapsed)
            case facts.NodeSucceeded() if fact.cached_from:
                self._begin(fact, "success", result=fact.result, cached_from=fact.cached_from, finished_at=fact.at)
                del self._open[fact.index]
            case facts.NodeFailed() if fact.index in self._open:
                self._end(fact, fact.conclusion, error=fact.error, elapsed=fact.elapsed, retry_at=fact.retry_at)
            case facts.NodeFailed():
                self._begin(fact, fact.conclusion, error=fact.error, finished_at=fact.at)
                del self._open[fact.index]
            case facts.NodeCancelled():
                self._end(fact, "cancelled")

    def _begin(
        self,
        fact: facts.NodeStarted | facts.NodeWaiting | facts.NodeSucceeded | facts.NodeFailed,
        outcome: str,
        **more: Any,
    ) -> None:
        one = {"node": self._node, "index": fact.index, "attempt": fact.attempt, "outcome": outcome, **more}
        if isinstance(fact, facts.NodeStarted | facts.NodeWaiting):
            one["started_at"] = fact.at
            one["queued_at"] = self._queued.pop(fact.index, None)
        self._open[fact.index] = one
        self.made.append(one)

    def _end(
        self, fact: facts.NodeSucceeded | facts.NodeFailed | facts.NodeCancelled, outcome: str, **more: Any
    ) -> None:
        one = self._open.pop(fact.index, None)
        if one is not None:
            one.update(more, outcome=outcome, finished_at=fact.at)

    def _end_all(self, outcome: str, at: int | None) -> None:
        for one in self._open.values():
            one.update(outcome=outcome, finished_at=at)
        self._open.clear()
        self._queued.clear()


async def _payloads(store: Store, execution: str) -> AsyncIterator[bytes]:
    after = 0
    while page := await store.facts(execution, after=after, limit=_PAGE):
        for fact in page:
            yield fact.payload
        after = page[-1].seq


async def _aside(work: Callable[[], T], size: int) -> T:
    return work() if size <= _HERE else await asyncio.to_thread(work)

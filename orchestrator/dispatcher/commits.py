"""Facts on their way into the store: batches of all sessions, committed together, answered one by one.

While one transaction is under way the next one gathers, so the busier the engines, the larger the groups. Sessions
wait when too much has gathered; then gRPC's flow control slows the engine down, and nothing is dropped. Large values
go to the blobs first (`orchestrator.blobs`); whoever is answered still sees the facts as they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, get_args

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events import facts
from dagengine.wire.v1 import session_pb2
from orchestrator.blobs import references, values
from orchestrator.blobs.base import Blobs
from orchestrator.dispatcher import results
from orchestrator.errors import Fenced, StoreError, TransportError
from orchestrator.store.base import Appended, Batch, Store, Terminal
from orchestrator.transport.base import Link
from orchestrator.trouble import Trouble

__all__ = ["Commit", "Commits", "is_terminal", "made", "terminal_of"]

_log = structlog.get_logger("orchestrator.commits")

_MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes that may wait for the store before sessions are held up."""
_RETRY: Final = 500_000
"""Microseconds between two tries while the store cannot be written."""


def _beginning(kind: type) -> bytes:
    return b'{"type":"%s"' % kind.__name__.encode()


_TERMINAL: Final = tuple(map(_beginning, facts.TERMINAL))
_CITING: Final = tuple(_beginning(kind) for kind in get_args(facts.Fact) if issubclass(kind, facts.Operation))
_RERUN: Final = _beginning(facts.RerunRequested)


class _Citation(msgspec.Struct):
    command: str = ""


_citation: Final = msgspec.json.Decoder(_Citation)


class Commit(msgspec.Struct, frozen=True):
    """A batch, and the session that waits for its answer. `large` says whether a fact of it may hold a large value."""

    link: Link
    batch: Batch
    large: bool = False


def is_terminal(payload: bytes) -> bool:
    """Whether an encoded fact is the last of its execution."""
    return payload.startswith(_TERMINAL)


def terminal_of(payload: bytes) -> Terminal:
    """How an execution ended, from its encoded last fact."""
    match facts.decode(payload):
        case facts.ExecutionSucceeded(at=at, outputs=outputs):
            return Terminal(status="succeeded", at=at, outputs=bytes(outputs))
        case facts.ExecutionFailed(at=at, error=error):
            return Terminal(status="failed", at=at, error=msgspec.json.encode(error))
        case facts.ExecutionCancelled(at=at, reason=reason):
            why = facts.ErrorInfo(type="Cancelled", message=reason) if reason else None
            return Terminal(status="cancelled", at=at, error=None if why is None else msgspec.json.encode(why))
        case fact:
            raise ValueError(f"{type(fact).__name__} ends no execution")


def made(execution: str, epoch: int, first_seq: int, payloads: Sequence[bytes]) -> Batch:
    """A batch of facts as the store wants it: with what they apply, and whether they end the execution."""
    batch: dict[str, Any] = {
        "execution": execution,
        "epoch": epoch,
        "first_seq": first_seq,
        "facts": payloads,
        "results": results.of_facts(execution, payloads),
    }
    citing = [payload for payload in payloads if payload.startswith(_CITING)]
    if not citing:
        last = payloads[-1]
        return Batch(**batch, terminal=terminal_of(last) if is_terminal(last) else None)
    turn = next((payload for payload in reversed(payloads) if payload.startswith((*_TERMINAL, _RERUN))), b"")
    return Batch(
        **batch,
        terminal=terminal_of(turn) if is_terminal(turn) else None,
        goes_on=turn.startswith(_RERUN),
        applied=[command for payload in citing if (command := _citation.decode(payload).command)],
    )


class Commits:
    """The way of facts into the store.

    `answer(commit, appended)` is called for each batch, in order, once it is committed (or refused);
    `took(seconds)` for each transaction; `fenced()` when this replica may not write any more. Then what is under way
    gets no answer: engines keep it, and send it to whoever owns its execution next.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        clock: Clock,
        *,
        answer: Callable[[Commit, Appended], None],
        took: Callable[[float], None],
        fenced: Callable[[], None],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._answer = answer
        self._trouble = Trouble(_log, "facts_not_committed", over="facts_committed_again")
        self._fenced = fenced
        self._waiting: list[Commit] = []
        self._settled: list[asyncio.Future[None]] = []
        self._bytes = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._took = took
        self._stopped = False

    async def put(self, link: Link, message: session_pb2.FactBatch) -> None:
        """Queue a batch; waits while too much is queued. StoreError when nobody commits any more.

        TransportError when something in it is named as nothing is named: nobody else's facts are to wait for that.
        """
        self._require_running()
        payloads = list(message.facts)
        if not payloads:
            return
        batch = made(message.execution, message.epoch, message.first_seq, payloads)
        if not "".join((batch.execution, *batch.applied, *(known.digest for known in batch.results))).isprintable():
            # The store would take nothing else together with it, and be asked again and again.
            raise TransportError(f"{link.engine_id} sent facts with a name that is none: {batch.execution!r}")
        size = sum(map(len, payloads))
        large = size > references.LIMIT and max(map(len, payloads)) > references.LIMIT
        self._waiting.append(Commit(link, batch, large))
        self._bytes += size
        self._work.set()
        if self._bytes > _MOST_BYTES:
            self._room.clear()
            await self._room.wait()

    async def settled(self) -> None:
        """Wait until all that has been put in before is answered. StoreError when nobody commits any more."""
        self._require_running()
        done = asyncio.get_running_loop().create_future()
        self._settled.append(done)
        self._work.set()
        await done

    async def run(self) -> None:
        """Commit what comes, until cancelled. What is not a StoreError is a fault of ours, and ends it."""
        try:
            while True:
                await self._one_round()
        finally:
            self._stopped = True
            self._room.set()
            for done in self._settled:
                if not done.done():
                    done.set_exception(_stopped())

    def _require_running(self) -> None:
        if self._stopped:
            raise _stopped()

    async def _one_round(self) -> None:
        await self._work.wait()
        self._work.clear()
        group, self._waiting = self._waiting, []
        waiters = len(self._settled)
        self._bytes = 0
        self._room.set()
        if group:
            await self._commit(group)
        settled, self._settled = self._settled[:waiters], self._settled[waiters:]
        for done in settled:
            if not done.done():
                done.set_result(None)

    async def _commit(self, group: Sequence[Commit]) -> None:
        answers = await self._until_stored(group)
        if answers is None:
            return
        for commit, appended in zip(group, answers, strict=True):
            try:
                self._answer(commit, appended)
            except Exception:  # a fault of ours with one execution must not keep the facts of all others waiting
                _log.exception("answer_failed", execution=commit.batch.execution)

    async def _until_stored(self, group: Sequence[Commit]) -> list[Appended] | None:
        """A store that cannot be written holds everything up, and loses nothing: engines keep what is not acked.

        None when this replica is fenced.
        """
        batches = [commit.batch for commit in group]
        large: dict[str, bytes] = {}
        if any(commit.large for commit in group):
            batches, large = await asyncio.to_thread(_lean, batches)
        while True:
            began = self._clock.now()
            try:
                if large:
                    await self._blobs.put(large)
                answers = await self._store.append(batches)
            except Fenced as error:
                _log.warning("commits_fenced", batches=len(batches), error=str(error))
                self._fenced()
                return None
            except StoreError as error:
                self._trouble.met(error)
                await self._clock.sleep_until(self._clock.now() + _RETRY)
            else:
                self._trouble.over()
                self._took((self._clock.now() - began) / 1e6)
                return answers


def _lean(batches: Sequence[Batch]) -> tuple[list[Batch], dict[str, bytes]]:
    """Batches as the store keeps them, and the large values that they then cite."""
    short, large = [], dict[str, bytes]()
    for batch in batches:
        lean, found = values.lean(batch)
        short.append(lean)
        large |= found
    return short, large


def _stopped() -> StoreError:
    return StoreError("facts are not committed any more: the orchestrator is closing, or has broken down")

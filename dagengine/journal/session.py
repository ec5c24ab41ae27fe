"""The journal of an execution that is run for an orchestrator: facts wait here until a session's acks say committed.

The host keeps one `SessionJournal` per execution it runs. The driver appends; a session's writer takes batches to
send; acks from the orchestrator's store move `committed` on. Facts are kept, encoded, until they are acknowledged, so
that a session may die at any time: the next one adopts the journal under a new epoch and sends the rest again.

All journals of an engine share a `Budget`. When too much is unacknowledged, all are `congested`, drivers hold back what
they have not begun, and further facts go to a file (`spool`). Nothing is dropped: when there is no room in the file,
facts stay in memory. Everything here runs on the event loop's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from dagengine.errors import JournalError
from dagengine.events import facts as codec
from dagengine.events.facts import Fact
from dagengine.journal.spool import Spool, Spooled
from dagengine.wire import limits

__all__ = ["Budget", "SessionJournal", "Sendable"]

FACT_OVERHEAD_BYTES: Final = 64
"""What a fact costs in memory besides its own bytes."""


class Budget:
    """How many bytes of unacknowledged facts the executions of one engine may hold together.

    Congestion begins when `limit` bytes are exceeded and ends at half of that, so that it does not flutter. Drivers are
    told of its end only: it begins while one of them appends, and they ask before they begin anything. While there are
    more than `limit` bytes in memory, facts go to `spool`, if there is one.
    """

    def __init__(self, limit: int = 64 * 1024 * 1024, *, spool: Spool | None = None) -> None:
        self.limit = limit
        self.spool = spool
        self.used = 0
        self.spooled = 0
        """How many bytes of `used` are not in memory."""
        self.facts = 0
        self.congested = False
        self._journals: dict[SessionJournal, None] = {}

    def join(self, journal: SessionJournal) -> None:
        """Tell `journal` from now on when congestion ends."""
        self._journals[journal] = None

    def leave(self, journal: SessionJournal) -> None:
        """Tell `journal` no more."""
        self._journals.pop(journal, None)

    def change(self, *, facts: int, size: int) -> None:
        """Count `facts` more (or fewer) unacknowledged facts of `size` bytes together."""
        self.facts += facts
        self.used += size + facts * FACT_OVERHEAD_BYTES
        congested = self.used > (self.limit // 2 if self.congested else self.limit)
        if congested != self.congested:
            self.congested = congested
            if not congested:
                for journal in tuple(self._journals):
                    journal.notify()

    def keep(self, facts: list[bytes]) -> Sequence[bytes | Spooled]:
        """Count encoded facts and find a place for each: here, as it is, or in the spool."""
        size, memory, spool = sum(map(len, facts)), self.used - self.spooled, self.spool
        kept: Sequence[bytes | Spooled] = facts
        if spool is not None and memory + size > self.limit:
            kept = places = list[bytes | Spooled]()
            for fact in facts:
                spooled = spool.put(fact) if memory > self.limit else None
                if spooled is None:
                    memory += len(fact) + FACT_OVERHEAD_BYTES
                else:
                    self.spooled += len(fact)
                places.append(fact if spooled is None else spooled)
        self.change(facts=len(facts), size=size)
        return kept

    def read(self, facts: list[bytes | Spooled]) -> list[bytes]:
        """Facts, wherever they are kept. OSError when one cannot be had back."""
        spool = self.spool
        if spool is None or not self.spooled:
            return cast(list[bytes], facts)
        return [fact if isinstance(fact, bytes) else spool.read(fact) for fact in facts]

    def free(self, facts: Sequence[bytes | Spooled]) -> None:
        """Facts are not needed any more."""
        if self.spooled and self.spool is not None:
            for fact in facts:
                if isinstance(fact, Spooled):
                    self.spooled -= len(fact)
                    self.spool.free(fact)
        self.change(facts=-len(facts), size=-sum(map(len, facts)))


class Sendable(NamedTuple):
    """Consecutive encoded facts, the first at position `first_seq`; `size` is their bytes together."""

    first_seq: int
    facts: list[bytes]
    size: int


class SessionJournal:
    """Implements `dagengine.journal.base.Journal` for one execution under an epoch.

    `on_ready()` is called whenever there is something to send where there was nothing before.
    """

    def __init__(self, *, epoch: int, committed: int, budget: Budget, on_ready: Callable[[], None]) -> None:
        self.epoch = epoch
        self.ended = False
        """Whether the last fact of the execution has been appended."""
        self._committed = committed
        self._sent: deque[bytes | Spooled] = deque()
        self._unsent: deque[bytes | Spooled] = deque()
        self._budget = budget
        self._on_ready = on_ready
        self._callbacks: list[Callable[[], None]] = []
        self._closed = False
        budget.join(self)

    # --- for the driver ---

    @property
    def committed(self) -> int:
        """Position of the last fact that the orchestrator's store has committed."""
        return self._committed

    @property
    def congested(self) -> bool:
        """Whether this engine holds too many unacknowledged facts."""
        return self._budget.congested

    def append(self, facts: Sequence[Fact]) -> None:
        """Encode facts and keep them for the session. JournalError when one is too large to be sent at all."""
        if self._closed or not facts:
            return
        encoded = [codec.encode(fact) for fact in facts]
        for fact, data in zip(facts, encoded, strict=True):
            if len(data) > limits.MAX_FACT_BYTES:
                raise JournalError(
                    f"{type(fact).__name__} takes {len(data):,} bytes, more than the {limits.MAX_FACT_BYTES:,} "
                    "that a session carries: make the value smaller, or pass it by reference"
                )
        idle = not self._unsent
        self.ended = isinstance(facts[-1], codec.TERMINAL)
        self._unsent.extend(self._budget.keep(encoded))
        if idle:
            self._on_ready()

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called each time `committed` has changed, or congestion has ended."""
        self._callbacks.append(callback)

    def notify(self) -> None:
        """Tell the driver that `committed` has changed, or that congestion has ended."""
        for callback in self._callbacks:
            callback()

    # --- for the session ---

    @property
    def last_seq(self) -> int:
        """Position of the last fact that was appended."""
        return self._committed + len(self._sent) + len(self._unsent)

    @property
    def unacknowledged(self) -> int:
        """Number of facts that are not known to be committed."""
        return len(self._sent) + len(self._unsent)

    @property
    def pending(self) -> bool:
        """Whether there are facts to send."""
        return bool(self._unsent)

    @property
    def settled(self) -> bool:
        """Whether the execution has ended and all of it is committed."""
        return self.ended and not self.unacknowledged

    def take(self, *, max_facts: int, max_bytes: int) -> Sendable:
        """The next facts to send, in order: at least one if any is pending, even when it alone is over `max_bytes`.

        JournalError when one that lies in the spool cannot be had back: then this journal cannot go on.
        """
        first_seq = self._committed + len(self._sent) + 1
        unsent, size = self._unsent, 0
        taken: list[bytes | Spooled] = []
        while unsent and len(taken) < max_facts:
            size += len(unsent[0])
            if size > max_bytes and taken:
                size -= len(unsent[0])
                break
            taken.append(unsent.popleft())
        self._sent.extend(taken)
        try:
            return Sendable(first_seq, self._budget.read(taken), size)
        except OSError as exc:
            raise JournalError(f"facts from {first_seq} on cannot be read back from the spool: {exc}") from exc

    def ack(self, epoch: int, seq: int) -> None:
        """Everything up to `seq` is committed. Ignored under another epoch. JournalError when it was never made."""
        if epoch == self.epoch:
            self._commit(seq)

    def adopt(self, epoch: int, committed_seq: int) -> None:
        """Go on under `epoch`: all after `committed_seq` is relabelled and will be sent again.

        JournalError when this journal cannot go on from there: it never made what is said to be committed, or no
        longer has what is not. Epochs lower than the present one must not get here.
        """
        if committed_seq < self._committed:
            raise JournalError(
                f"told to go on after fact {committed_seq}, but the facts up to {self._committed} were "
                "acknowledged and are not kept any more"
            )
        self._commit(committed_seq)
        self.epoch = epoch
        self.resend(epoch, committed_seq + 1)

    def resend(self, epoch: int, from_seq: int) -> None:
        """Send again from `from_seq` on, or from the first fact still kept. Ignored under another epoch."""
        if epoch != self.epoch:
            return
        back = self._committed + len(self._sent) - max(from_seq, self._committed + 1) + 1
        idle = not self._unsent
        for _ in range(back):
            self._unsent.appendleft(self._sent.pop())
        if idle and self._unsent:
            self._on_ready()

    def close(self) -> None:
        """Forget all facts and take no more: the execution is dropped, or settled."""
        if self._closed:
            return
        self._closed = True
        self._budget.leave(self)
        self._discard(self.unacknowledged)

    def _commit(self, seq: int) -> None:
        if seq > self.last_seq:
            raise JournalError(f"fact {seq} is said to be committed, but only {self.last_seq} were made here")
        if seq > self._committed:
            number = seq - self._committed
            self._committed = seq
            self._discard(number)
            self.notify()

    def _discard(self, number: int) -> None:
        self._budget.free([self._sent.popleft() if self._sent else self._unsent.popleft() for _ in range(number)])

"""The engines as sessions show them: who is there, what they can take, what they have."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher.placement import Candidate, EngineState, Fleet
from orchestrator.transport.base import Link
from orchestrator.verbs import EngineView

__all__ = ["Engine", "Notes", "Roster"]


class Notes(msgspec.Struct, frozen=True):
    """What is known of an engine beside what it says itself: by discovery, and by health checks.

    `capacity` is the most that it should get (0: as it says), `draining` why it should get no more, `leaving` why it is
    there only for what it has, `sick` why it is not trusted to do anything well.
    """

    capacity: int = 0
    draining: str = ""
    leaving: str = ""
    sick: str = ""


class Engine:
    """One engine that has said hello at least once. It stays known while it is unreachable."""

    __slots__ = (
        "address",
        "alone",
        "capacity",
        "digests",
        "executors",
        "id",
        "incarnation",
        "labels",
        "link",
        "notes",
        "others",
        "pools",
        "reason",
        "reservable",
        "reserved",
        "running",
        "saved",
        "started",
        "state",
        "version",
    )

    def __init__(self, link: Link, hello: session_pb2.EngineHello) -> None:
        self.id = hello.engine
        self.running: dict[str, str] = {}
        """Executions of this replica that it is meant to have, each with its workflow version."""
        self.alone = ""
        """The exclusive one among them, if any."""
        self.started = 0
        self.notes = Notes()
        self.meet(link, hello)

    def meet(self, link: Link, hello: session_pb2.EngineHello) -> None:
        """A session has begun."""
        self.link = link
        self.address = link.address
        self.incarnation = hello.incarnation
        self.version = hello.version
        self.capacity = hello.capacity
        self.executors = frozenset(hello.executors)
        self.labels = dict(hello.labels)
        self.pools: dict[str, session_pb2.Pool] = {pool.name: pool for pool in hello.pools}
        """Its own, as they stood when it last told."""
        self.state: EngineState = "draining" if hello.draining else "ready"
        self.reason = "it is shutting down" if hello.draining else ""
        self.others = 0
        """Executions of other replicas that it has, as it last told."""
        self.reservable = hello.reservable
        """Whether it can run one execution alone."""
        self.reserved = hello.reserved_for
        """The execution that it is reserved for, as it last told; empty: none."""
        self.saved = ""
        """The exclusive execution that it is to become free for, as it was told in this session; empty: none."""
        self.digests: set[str] = set()
        """Documents it was sent in this session."""

    @property
    def standing(self) -> tuple[EngineState, str]:
        """Its state, and why it is not ready; with what is known beside what it says."""
        if self.state == "ready" and (no_more := self.notes.leaving or self.notes.draining):
            return "draining", no_more
        if self.state == "ready" and self.notes.sick:
            return "unhealthy", self.notes.sick
        return self.state, self.reason

    @property
    def room(self) -> int:
        """The most executions that it should have."""
        return min(self.capacity, self.notes.capacity or self.capacity)

    @property
    def connected(self) -> bool:
        """Whether a session with it is up. Its link may be up with another engine: that is at its address now."""
        return self.link.connected and self.link.engine_id == self.id

    @property
    def held(self) -> int:
        """Executions that it has, those of other replicas included."""
        return len(self.running) + self.others

    def take(self, execution: str, reference: str, *, alone: bool) -> None:
        """It is meant to have an execution of this workflow version, with nothing beside it perhaps."""
        self.running[execution] = reference
        if alone:
            self.alone = execution

    def leave(self, execution: str) -> None:
        """It is not meant to have an execution any more."""
        self.running.pop(execution, None)
        if self.alone == execution:
            self.alone = ""

    def leave_all(self) -> None:
        """It is meant to have nothing of this replica any more."""
        self.running.clear()
        self.alone = ""

    def candidate(self) -> Candidate:
        """What placement sees of it."""
        return Candidate(
            engine=self.id,
            capacity=self.room,
            state=self.standing[0],
            executors=self.executors,
            pools=frozenset(self.pools),
            labels=frozenset(self.labels.items()),
            reservable=self.reservable,
        )

    def view(self) -> EngineView:
        """What people see of it."""
        state, reason = self.standing
        return EngineView(
            id=self.id,
            address=self.address,
            state=state,
            capacity=self.room,
            running=self.held,
            version=self.version,
            executors=sorted(self.executors),
            labels=self.labels,
            workflows=sorted(set(self.running.values())),
            started=self.started,
            reserved_for=self.alone or self.reserved or self.saved,
            reason=reason,
        )


class Roster:
    """All engines, and the fleet that placement sees, made anew only when something about it has changed."""

    def __init__(self) -> None:
        self.engines: dict[str, Engine] = {}
        self.links: dict[str, Link] = {}
        """Every link there should be, by address, whether its engine has answered yet or not."""
        self._notes: dict[str, Notes] = {}
        """By address."""
        self._rivals: dict[Link, session_pb2.EngineHello] = {}
        """Sessions whose engine goes by the id of another one that is connected. They wait for that one to go."""
        self.told_gone: Callable[[], None] = lambda: None
        """Called when a session has ended."""
        self._fleet = Fleet()
        self._stale = False

    @property
    def fleet(self) -> Fleet:
        """The engines as placement sees them."""
        if self._stale:
            self._fleet = Fleet((engine.candidate() for engine in self.engines.values()), previous=self._fleet)
            self._stale = False
        return self._fleet

    @property
    def load(self) -> dict[str, int]:
        """How many executions each engine has, those of other replicas included; its capacity where it is reserved."""
        return {
            engine.id: engine.capacity
            if engine.alone or engine.reserved or engine.saved
            else len(engine.running) + engine.others
            for engine in self.engines.values()
        }

    def has(self, engine: str) -> bool:
        """Whether an engine is connected."""
        known = self.engines.get(engine)
        return known is not None and known.connected

    def notes(self, address: str) -> Notes:
        """What is known of the engine at an address beside what it says."""
        return self._notes.get(address) or Notes()

    def note(self, address: str, notes: Notes) -> None:
        """Something else is known of the engine at an address."""
        self._notes[address] = notes
        for engine in self.engines.values():
            if engine.address == address:
                engine.notes = notes
        self.changed()

    def forget_notes(self, address: str) -> None:
        """Nobody dials that address any more."""
        self._notes.pop(address, None)

    def changed(self) -> None:
        """Something that placement looks at has changed."""
        self._stale = True

    def meet(self, link: Link, hello: session_pb2.EngineHello) -> Engine | None:
        """The engine that has said hello on `link`; None when its id belongs to another one that is connected."""
        engine = self.engines.get(hello.engine)
        is_new = engine is None or engine.incarnation != hello.incarnation
        if engine is None:
            engine = self.engines[hello.engine] = Engine(link, hello)
        elif engine.link is not link and engine.connected:
            self._rivals[link] = hello
            return None
        else:
            engine.meet(link, hello)
        if is_new and (notes := self.notes(link.address)).sick:  # that was said of the process before it
            self._notes[link.address] = msgspec.structs.replace(notes, sick="")
        engine.notes = self.notes(link.address)
        engine.leave_all()
        self.changed()
        return engine

    def gone(self, link: Link) -> tuple[Link, session_pb2.EngineHello] | None:
        """A session has ended: the one that has waited to go by the id that is free now, with its hello."""
        self._rivals.pop(link, None)
        self.told_gone()
        engine = self.engines.get(link.engine_id)
        if engine is not None and engine.connected:
            return None
        for rival, hello in self._rivals.items():
            if hello.engine == link.engine_id:
                return rival, self._rivals.pop(rival)
        return None

    def forget_unlinked(self, engine: str) -> None:
        """Forget an engine that nobody dials any more, or at whose address there is another one now."""
        known = self.engines.get(engine)
        if known is None:
            return
        link = self.links.get(known.address)
        if link is None or link.engine_id != engine:
            del self.engines[engine]
            self.changed()

    def by_link(self, link: Link) -> Engine | None:
        """The engine at the other end of a link."""
        engine = self.engines.get(link.engine_id)
        return engine if engine is not None and engine.link is link else None

    def views(self) -> list[EngineView]:
        """What people see: the engines, and the addresses where none has answered yet."""
        known = [engine.view() for _, engine in sorted(self.engines.items())]
        answered = {engine.address for engine in self.engines.values() if engine.link.engine_id == engine.id}
        taken = {
            link.address: f"its id '{hello.engine}' is that of the engine at {self.engines[hello.engine].address}: "
            "give each engine its own"
            for link, hello in self._rivals.items()
            if hello.engine in self.engines
        }
        silent = [
            EngineView(
                id="",
                address=address,
                state="connecting",
                capacity=0,
                running=0,
                version="",
                executors=[],
                labels={},
                workflows=[],
                started=0,
                reason=taken.get(address) or link.reason or "it has not answered yet",
            )
            for address, link in sorted(self.links.items())
            if address not in answered
        ]
        return known + silent

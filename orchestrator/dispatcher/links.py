"""The links: which engines should be dialled, what is known of them beside what they say, and whether they are well.

A link is for one address. One whose address is named no more gets no more work, and stays until its engine has nothing
left: a pod that is being deleted, or is not ready, may have executions that it finishes or hands back, and it can do so
only over the session.

`describe` tells of an address what discovery knows; `check` asks engines for their health, beside the sessions: a
session that stays up while its engine says that it does not serve, or does not answer twice in a row, is of an engine
that gets no more work until it is well again. What it has stays with it: whether that is lost is told by the session
alone.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.dispatcher.ledger import Ledger
from orchestrator.dispatcher.sessions import Sessions
from orchestrator.errors import TransportError
from orchestrator.supervision import Supervisor
from orchestrator.transport.base import Link, Transport

__all__ = ["UNNAMED", "Links"]

_log = structlog.get_logger("orchestrator.links")

UNNAMED: Final = "it is not among the known engines any more"
"""Why a link is ended, mostly."""

_LOOK_EVERY: Final = 200_000
"""Microseconds between two looks at whether engines that leave have something left."""

_BAD_CHECKS: Final = 2
"""Health checks in a row that may not go well before an engine is passed over."""

_AT_ONCE: Final = 64
"""Engines that are asked at the same time."""

_PATIENCE: Final = 5.0
"""Seconds that an engine has to say how it is."""


class Links:
    """Links by address. `supervisor` watches over them."""

    def __init__(self, ledger: Ledger, sessions: Sessions, supervisor: Supervisor, clock: Clock) -> None:
        self._ledger = ledger
        self._roster = ledger.roster
        self._sessions = sessions
        self._supervisor = supervisor
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._bad: dict[Link, int] = {}
        """Checks in a row that did not go well."""
        self._leaving: set[str] = set()
        """Addresses that are named no more."""
        self._alarm = Alarm(clock)
        self._roster.told_gone = self._alarm.ring  # an engine that has ended should not be dialled again

    def __contains__(self, address: str) -> bool:
        return address in self._roster.links

    def add(self, transport: Transport, address: str) -> None:
        """Keep a session with the engine at `address` from now on; the one that there is, if it has not ended yet."""
        if address in self._leaving:
            self._leaving.discard(address)
            self._note(address, leaving="")
            return
        link = transport.link(address, self._sessions)
        self._roster.links[address] = link
        self._tasks[address] = self._supervisor.start(link.run(), name=f"link {address}")

    def retire(self, address: str, *, reason: str = UNNAMED) -> None:
        """Give the engine at `address` no more work, and end the session when it has nothing left."""
        if address in self._roster.links:
            self._leaving.add(address)
            self._note(address, leaving=reason)
            self._alarm.ring()

    async def run(self) -> None:
        """End the sessions of engines that leave as soon as they have nothing left, until cancelled."""
        while True:
            await self._alarm.wait(self._clock.now() + _LOOK_EVERY if self._leaving else None)
            await asyncio.gather(*map(self._end_if_done, list(self._leaving)))

    async def _end_if_done(self, address: str) -> None:
        if address in self._leaving and self._is_done(self._roster.links[address]):
            await self.remove(address, reason=UNNAMED)

    def _is_done(self, link: Link) -> bool:
        """Whether nothing can come any more over a link that matters to anybody.

        Executions of other replicas count as long as the engine tells of them: they may be this one's soon.
        """
        engine = self._roster.engines.get(link.engine_id)
        if engine is not None and engine.link is not link:
            return True  # there is a session with it at another address
        if link.connected:
            return engine is not None and engine.held == 0  # None: it is just saying hello
        if not link.engine_id and not link.reason:
            return False  # the first attempt is under way
        return not (engine is not None and engine.running) and not self._ledger.meant_for(link.engine_id)

    async def remove(self, address: str, *, reason: str) -> None:
        """End the session with the engine at `address`, and forget the engine unless it still has executions."""
        link = self._roster.links.pop(address, None)
        if link is None:
            return
        engine = self._roster.by_link(link)
        self._sessions.disconnected(link, reason)
        self._roster.forget_notes(address)
        self._leaving.discard(address)
        self._bad.pop(link, None)
        task = self._tasks.pop(address)
        self._supervisor.release(task)
        await link.close()
        await asyncio.gather(task, return_exceptions=True)
        if engine is not None and not engine.running:
            self._roster.forget_unlinked(engine.id)
        _log.debug("engine_unlinked", address=address, reason=reason)

    async def close(self) -> None:
        """End all of them."""
        for address in list(self._tasks):
            await self.remove(address, reason="this orchestrator is closing")

    def describe(self, address: str, *, capacity: int, draining: str) -> None:
        """What discovery knows of the engine there: how much it should get at most (0: as it says); why no more."""
        self._note(address, capacity=capacity, draining=draining)

    async def check(self, *, interval: float) -> None:
        """Ask every engine that has a session for its health, every `interval` seconds, until cancelled.

        Not those that say themselves that they end: they serve no more, as they should.
        """
        while True:
            await self._clock.sleep_until(self._clock.now() + round(interval * 1e6))
            links = [link for link in self._roster.links.values() if link.connected and not self._ends(link)]
            for start in range(0, len(links), _AT_ONCE):
                await asyncio.gather(*(self._ask(link) for link in links[start : start + _AT_ONCE]))

    def _ends(self, link: Link) -> bool:
        engine = self._roster.by_link(link)
        return engine is not None and engine.state == "draining"

    async def _ask(self, link: Link) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                fault = await link.check()
        except (TimeoutError, TransportError) as exc:
            fault = str(exc) or f"it has not answered for {_PATIENCE:g} s"
        if self._roster.links.get(link.address) is not link:
            return  # it was removed meanwhile
        bad = self._bad[link] = self._bad.get(link, 0) + 1 if fault else 0
        if not bad or bad >= _BAD_CHECKS:
            self._note(link.address, sick=f"its health check fails: {fault}" if fault else "")

    def _note(self, address: str, **changes: int | str) -> None:
        before = self._roster.notes(address)
        after = msgspec.structs.replace(before, **changes)
        if after == before:
            return
        self._roster.note(address, after)
        if bool(before.sick) != bool(after.sick):
            _log.warning("engine_unhealthy" if after.sick else "engine_well", address=address, reason=after.sick)
        elif before.leaving != after.leaving:
            _log.info("engine_leaving" if after.leaving else "engine_named_again", address=address)
        elif before.sick == after.sick:
            _log.info("engine_described", address=address, capacity=after.capacity or None, draining=after.draining)
        self._ledger.work.set()

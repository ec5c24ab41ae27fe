"""The Lease by which replicas elect their leader, and an API server that keeps it: late, away for a while, forgetful.

`LeaseService` is the API server; `SimulatedCluster` is how one process reaches it, as far as `LeaseElection` of the
product uses a `Cluster`. A request is carried out when it arrives, whatever has become of who sent it; the answer may
be lost. While a machine is cut off, its leader stays elected, as it sees it, and others elect another one. What the
service forgets (`forget`), as one does that is set up anew or put back from a backup, makes a leader of another one,
too, or gives out a term twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from simulation.loop import Process, SimulatedLoop

from orchestrator.errors import ClusterConflict, ClusterNotFound, ClusterUnavailable
from orchestrator.kubernetes.base import LEASES, Object, Resource

__all__ = ["LeaseService", "SimulatedCluster"]

_MOST_FORMER = 8
"""Former versions that it may be put back to."""

_Perform = Callable[[], Object]


class LeaseService:
    """One Lease. `changed(what)` is told when somebody else has it, or under another term.

    `away` are the names of the machines that do not reach it, `forgetful` is the chance of an answer to be lost,
    `slowness` the seconds that a request takes longer.
    """

    def __init__(self, loop: SimulatedLoop, chance: random.Random, changed: Callable[[str], None]) -> None:
        self.away: set[str] = set()
        self.forgetful = 0.0
        self.slowness = 0.0
        self._loop = loop
        self._chance = chance
        self._changed = changed
        self._kept: bytes | None = None
        self._former: list[bytes] = []
        self._version = 0
        self._told: object = None

    async def ask(self, process: Process, perform: _Perform) -> Object:
        """Have the API server do something. ClusterError; no answer at all while it cannot be reached."""
        answer: asyncio.Future[Object] = asyncio.get_running_loop().create_future()
        self._loop.later(self._delay(), self._arrives, process, perform, answer)
        return await answer

    def forget(self) -> None:
        """Lose what was written last: all of it, or back to a former version."""
        if self._kept is None:
            return
        former = self._chance.choice([None, self._chance.choice(self._former)]) if self._former else None
        self._changed("is deleted" if former is None else "is put back to what it was")
        if former is None:
            self._kept = None
        else:
            self.keep(msgspec.json.decode(former))

    def _arrives(self, process: Process, perform: _Perform, answer: asyncio.Future[Object]) -> None:
        if process.name in self.away:
            if self._chance.random() < 0.5:
                self._loop.later(self._delay(), _settle, answer, None, ClusterUnavailable("the API cannot be reached"))
            return
        result, error = None, None
        try:
            result = perform()
        except (ClusterConflict, ClusterNotFound) as refused:
            error = refused
        if self._chance.random() < self.forgetful:
            if self._chance.random() < 0.5:
                self._loop.later(self._delay(), _settle, answer, None, ClusterUnavailable("the connection was lost"))
            return
        self._loop.later(self._delay(), _settle, answer, result, error)

    def _delay(self) -> float:
        return self._chance.expovariate(300) + self.slowness * self._chance.random()

    # --- what an API server does ---

    def read(self) -> Object:
        """The Lease. ClusterNotFound."""
        if self._kept is None:
            raise ClusterNotFound("there is no Lease", status=404)
        return dict(msgspec.json.decode(self._kept))

    def create(self, body: Mapping[str, Any]) -> Object:
        """ClusterConflict when it is there."""
        if self._kept is not None:
            raise ClusterConflict("the Lease is there already", status=409)
        return self.keep(body)

    def replace(self, body: Mapping[str, Any]) -> Object:
        """ClusterConflict when `body` is made of another version than the present one."""
        if body["metadata"]["resourceVersion"] != self.read()["metadata"]["resourceVersion"]:
            raise ClusterConflict("the Lease has been changed", status=409)
        return self.keep(body)

    def keep(self, body: Mapping[str, Any]) -> Object:
        """Write it, as a new version."""
        self._version += 1
        made = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self._former = [*self._former, *([] if self._kept is None else [self._kept])][-_MOST_FORMER:]
        self._kept = msgspec.json.encode(made)
        spec = made["spec"]
        told = spec.get("holderIdentity"), spec["leaseTransitions"]
        if told != self._told:
            self._told = told
            self._changed(f"is held by {told[0]}, term {told[1]}")
        return self.read()


class SimulatedCluster:
    """A `Cluster` of one process, of which only the Lease is there."""

    namespace = "default"

    def __init__(self, service: LeaseService, process: Process) -> None:
        self._service = service
        self._process = process

    async def open(self) -> None:
        """There is nothing to load."""

    async def close(self) -> None:
        """There is nothing to end: requests end with those who wait for them."""

    async def get(self, resource: Resource, name: str) -> Object:
        assert resource is LEASES
        return await self._service.ask(self._process, self._service.read)

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        return await self._service.ask(self._process, lambda: self._service.create(body))

    async def replace(self, resource: Resource, name: str, body: Mapping[str, Any]) -> Object:
        return await self._service.ask(self._process, lambda: self._service.replace(body))


def _settle(answer: asyncio.Future[Object], result: Object | None, error: Exception | None) -> None:
    if answer.done():
        return
    if result is None:
        answer.set_exception(error or AssertionError("there is neither an answer nor an error"))
    else:
        answer.set_result(result)

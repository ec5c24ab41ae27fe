"""Leader election through a Lease of `coordination.k8s.io/v1`: an adapter of the dispatcher's port `election`.

Candidates write themselves into one object, and the API server lets one writer at a time through: whoever would replace
a version that is not the present one is told to look again (409). The rules are those of the clients that Kubernetes'
own controllers use, so that `kubectl get lease` tells who leads:

- The holder renews the Lease every third of its duration. Who sees it unchanged for as long as it says of itself takes
  it. That time is measured on the own clock, which nobody sets, from when the change was seen: what other machines'
  clocks say (`renewTime`) is for people.
- `leaseTransitions` is the **term**: whoever takes the Lease raises it, also above every term that the store knows of,
  so that a Lease that was deleted, or restored from a backup, starts nothing lower. A term that the store does not take
  is raised at once.
- Who is out of touch with the store can lead nobody: meanwhile it neither takes the Lease nor renews it.
- The holder gives a Lease up that it finds with somebody else, and at no other time. **While the API cannot be
  reached, it stays elected**: nobody else can have been. The store ends its leadership should that be wrong.
- Time in which the API could not be asked counts for nobody: when it is back, the holder has a whole duration to
  renew. Otherwise every restart of an API server would change the leader.
- `release` takes the holder's name off, so that the next one need not wait.

Needed of RBAC: `create` on `leases`, and `get` and `update` on the one of that name.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.errors import ClusterConflict, ClusterError, ClusterNotFound, ClusterUnavailable
from orchestrator.kubernetes.base import LEASES, Cluster, Object
from orchestrator.trouble import Trouble

__all__ = ["LeaseElection"]

_log = structlog.get_logger("orchestrator.election")

_SECOND: Final = 1_000_000
_ATTEMPTS: Final = 3
"""Times that a Lease is looked at again in a row because it has just been changed."""
_RELEASE_SECONDS: Final = 3.0
_MOST_TERMS: Final = 1 << 30
"""From here on a term is nonsense: the API counts to twice as many, and a store goes nowhere below one that it took."""
_LONGEST: Final = 3_600
"""Seconds; no candidate holds a Lease for longer without a sign of life, whatever somebody has written into it."""
_BREATH: Final = _SECOND // 10
"""Between two looks at least, however often somebody asks for one."""


class LeaseElection:
    """One candidate. `identity` is the name under which it holds the Lease: no other process ever has the same."""

    def __init__(
        self,
        cluster: Cluster,
        lease: str,
        *,
        name: str,
        duration: float,
        clock: Clock,
        wall: Clock,
        chance: random.Random | None = None,
    ) -> None:
        """`lease` is the name of the object, `name` that of this replica, for people.

        After `duration` seconds (whole ones, rounded up) without a sign of life others take the Lease. `clock` is one
        that nobody sets, `wall` the one of which people read the times. `chance` spreads what many candidates do.
        """
        self.identity = f"{name}_{uuid.uuid4()}" if name else str(uuid.uuid4())
        self._cluster = cluster
        self._name = lease
        self._duration = max(1, math.ceil(duration))
        self._clock = clock
        self._wall = wall
        self._chance = chance or random.Random()  # noqa: S311 - spreads requests, no secret
        self._alarm = Alarm(clock)
        self._troubles = Trouble(_log, "election_stands_still", over="election_goes_on")
        self._trouble = ""
        self._term: int | None = None
        self._floor = 0
        """Others have led under that term."""
        self._written: Object | None = None
        """The Lease as this candidate wrote it last, unless it may have been changed since."""
        self._seen: Mapping[str, Any] = {}
        """What the Lease of another holder said, since `_seen_at`."""
        self._seen_at = 0
        self._stands = False
        self._changed: Callable[[], None] = lambda: None

    @property
    def term(self) -> int | None:
        """The term that this candidate was elected for; None while somebody else is, or nobody."""
        return self._term

    @property
    def trouble(self) -> str:
        """Why the Lease cannot be read or written now: nobody can be elected meanwhile. Empty while it can."""
        return self._trouble

    def look(self) -> None:
        """Look at the Lease now, if somebody else has it."""
        if self._term is None:
            self._alarm.ring()

    def outbid(self, term: int) -> None:
        """Others have led under `term`: raise the own one above it."""
        if term <= self._floor:
            return
        self._floor = term
        if self._term is not None and self._term <= term:
            self._set(None)
            self._alarm.ring()

    async def run(self, changed: Callable[[], None], *, fit: Callable[[], bool]) -> None:
        """Stand for election while this replica is `fit` to lead, until cancelled."""
        self._changed, self._stands = changed, True
        while True:
            begun = self._clock.now()
            try:
                async with asyncio.timeout(self._duration * 2 / 3):
                    until = await self._campaign() if fit() else self._pause()
            except (ClusterError, TimeoutError) as error:
                until = self._clock.now() + self._failed(error)
            else:
                self._trouble = ""
                self._troubles.over()
            if await self._alarm.wait(until):
                await self._clock.sleep_until(begun + _BREATH)

    async def release(self) -> None:
        """Take the own name off the Lease, if it is there. What the API does not take is left to the duration."""
        if not self._stands:
            return
        self._stands, self._term = False, None
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._let_go()
        except (ClusterError, TimeoutError) as error:
            _log.warning("leadership_not_released", lease=self._name, error=str(error) or "the API does not answer")

    # --- how ---

    def _pause(self) -> int:
        self._written, self._seen = None, {}
        return self._clock.now() + self._period

    async def _campaign(self) -> int:
        """Renew the Lease, or take it if it can be had; when to look again. ClusterError."""
        for attempt in range(_ATTEMPTS):
            try:
                return await (self._look_at_it() if self._written is None else self._write(self._written))
            except (ClusterConflict, ClusterNotFound):  # changed, or deleted, since it was read or written
                if attempt == _ATTEMPTS - 1:
                    raise
                self._written = None
        raise AssertionError("unreachable")

    async def _look_at_it(self) -> int:
        try:
            lease = await self._cluster.get(LEASES, self._name)
        except ClusterNotFound:
            return await self._write(None)
        spec = _spec(lease)
        holder = spec.get("holderIdentity")
        if holder == self.identity or not holder:
            return await self._write(lease)
        self._set(None)
        now = self._clock.now()
        if spec != self._seen:
            self._seen, self._seen_at = spec, now
        lasts = min(_whole(spec.get("leaseDurationSeconds")) or self._duration, max(_LONGEST, self._duration))
        over = self._seen_at + lasts * _SECOND
        if now >= over:
            _log.info("lease_ran_out", lease=self._name, holder=holder)
            return await self._write(lease)
        return min(over, now + round(self._period * self._chance.uniform(1.0, 1.2)))

    async def _write(self, lease: Object | None) -> int:
        """Hold the Lease from now on, `lease` being what there is of it; when to renew that."""
        before = {} if lease is None else _spec(lease)
        spec, now = self._held(before, made=lease is None), self._clock.now()
        self._written = None  # until the API says that it was
        if lease is None:
            body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": {"name": self._name}}
            written = await self._cluster.create(LEASES, body | {"spec": spec})
        else:
            written = await self._cluster.replace(LEASES, self._name, lease | {"spec": spec})
        self._written = written
        if (term := spec["leaseTransitions"]) != self._term:
            if term <= self._floor:  # outbid while it was written
                return now
            _log.info("elected", lease=self._name, identity=self.identity, term=term)
            self._set(term)
        return now + self._period

    def _held(self, before: Mapping[str, Any], *, made: bool) -> dict[str, Any]:
        """What the Lease is to say, with this candidate as the holder. A new holder has a new term."""
        now, last = self._time(), _whole(before.get("leaseTransitions"))
        if last >= _MOST_TERMS:
            last = self._term or 0
            before = {**before, "leaseTransitions": last}
        spec = {**before, "leaseDurationSeconds": self._duration, "renewTime": now}
        if before.get("holderIdentity") == self.identity and last > self._floor:
            return spec
        # Its Lease was deleted, and nobody else can have been elected since unless the store says so.
        term = self._term if made and self._term is not None else max(last, self._floor) + 1
        return spec | {"holderIdentity": self.identity, "acquireTime": now, "leaseTransitions": term}

    async def _let_go(self) -> None:
        for _ in range(_ATTEMPTS):
            try:
                lease = await self._cluster.get(LEASES, self._name)
                spec = _spec(lease)
                if spec.pop("holderIdentity", None) == self.identity:
                    now = self._time()
                    spec |= {"leaseDurationSeconds": 1, "renewTime": now, "acquireTime": now}
                    await self._cluster.replace(LEASES, self._name, lease | {"spec": spec})
                    _log.info("leadership_released", lease=self._name)
            except ClusterNotFound:
                return
            except ClusterConflict:
                continue
            return

    def _failed(self, error: Exception) -> int:
        """The API did not do what was asked; how long to wait."""
        self._written = None
        if not isinstance(error, ClusterConflict):
            self._seen = {}  # what was not watched does not count
        self._trouble = f"the Lease of the leader cannot be kept: {str(error) or 'the API does not answer'}"
        self._troubles.met(error, lease=self._name, elected=self._term is not None)
        after = error.retry_after if isinstance(error, ClusterUnavailable) and error.retry_after is not None else 0.0
        wait = min(after, float(self._duration)) * _SECOND
        return round(max(wait, self._period * self._chance.uniform(0.5, 1.0)))

    def _set(self, term: int | None) -> None:
        if term != self._term:
            if self._term is not None and term is None:
                _log.info("elected_no_more", lease=self._name, identity=self.identity, term=self._term)
            self._term = term
            self._changed()

    @property
    def _period(self) -> int:
        return self._duration * _SECOND // 3

    def _time(self) -> str:
        """Now, as the API writes times with microseconds."""
        at = datetime.datetime.fromtimestamp(self._wall.now() / _SECOND, datetime.UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _spec(lease: Object) -> dict[str, Any]:
    return dict(lease.get("spec") or {})


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0

"""`Orchestrator`: everything put together. The only place that knows which adapters there are.

Embedded, it is a library::

    async with Orchestrator() as orch:
        orch.register_engine("engine-1", DAGEngine())
        await orch.register_workflow("hello", "1.0.0", workflow)
        outputs = await orch.execute_workflow("hello", {"name": "Ada"})

With `engines=["host:port", …]` and `serve`, the same object is the distributed one: `dag-orchestrator` is no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from dagengine.app import DAGEngine
from dagengine.clock import Clock, SystemClock, elapsed
from dagengine.errors import Problem, SettingsError
from dagengine.executors.lua.check import check as check_lua
from dagengine.server import security
from dagengine.spec.builder import Workflow
from dagengine.spec.model import Document
from dagengine.wire import limits
from orchestrator import defaults, library_logs, linking
from orchestrator.blobs.in_store import InStore
from orchestrator.discovery.static import StaticDiscovery, parse_addresses
from orchestrator.dispatcher.dispatcher import Dispatcher
from orchestrator.evaluation import Expressions
from orchestrator.in_kubernetes import InKubernetes
from orchestrator.linking import Linking
from orchestrator.local_engines import LocalEngines
from orchestrator.monitor.counts import Levels
from orchestrator.monitor.monitor import Monitor
from orchestrator.monitor.requests import CountRequests
from orchestrator.options import Options
from orchestrator.registry.registry import Registry
from orchestrator.retention.policy import Kept
from orchestrator.retention.purger import Purger
from orchestrator.service import Service
from orchestrator.singletons import Singletons
from orchestrator.store import opening
from orchestrator.store.base import Store, Topic, Version
from orchestrator.supervision import Supervisor
from orchestrator.transport.base import Transport
from orchestrator.transport.grpc_link import GrpcTransport
from orchestrator.transport.in_process import InProcessTransport
from orchestrator.transport.session import Identity
from orchestrator.triggers import cron, http
from orchestrator.verbs import Registration

if TYPE_CHECKING:
    import socket

    from orchestrator.api import server as rest

__all__ = ["Options", "Orchestrator"]

_log = structlog.get_logger(__name__)

EMBEDDED_CAPACITY = 100
"""Executions that an engine in this process runs at a time, unless it is registered with another number."""


class Orchestrator(Service):
    """Keeps workflows, finds engines, runs executions. Use it as a context manager.

    `database_url` is `sqlite:///file.db`, or `sqlite://` for a store that is gone with the process, or
    `postgresql://user:password@host/database` for one that several orchestrators share. `engines` are addresses,
    `host:port`, of engine processes; engines in this process are added with `register_engine`.
    """

    def __init__(
        self,
        database_url: str = "sqlite://",
        *,
        engines: Iterable[str] = (),
        options: Options | None = None,
        clock: Clock | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        library_logs.to_standard_logging()
        self.options = options or Options()
        self.monitor = monitor or Monitor()
        self._store: Store = opening.make(database_url)
        self._clock = clock or SystemClock()
        self._table = http.HTTPTriggerTable()
        self._registry = Registry(
            self._store,
            checks=(check_lua, cron.check, http.check, self._check_trigger),
            clock=self._clock,
            changed=self._versions_changed,
        )
        self._expressions = Expressions()
        self._supervisor = Supervisor()
        self._blobs = InStore(self._store)
        self._kubernetes = InKubernetes.of(self.options, self._clock)
        self._dispatcher = Dispatcher(
            self._store,
            self._blobs,
            clock=self._clock,
            steady=clock or SystemClock(wall=elapsed, monotonic=elapsed),
            monitor=self.monitor,
            strategy=self.options.strategy,
            queue_limit=self.options.queue_limit,
            engine_lost_after=self.options.engine_lost_after,
            pools=self.options.pools,
            supervisor=self._supervisor,
            name=self.options.name,
            lease=self.options.replica_lease,
            led=self._lead,
            election=self._kubernetes.election if self._kubernetes is not None else None,
        )
        self._cron = cron.CronService(
            self._start_occurrence,
            self._store,
            self._clock,
            monitor=self.monitor,
            window=round(self.options.cron_catch_up * 1e6),
        )
        self._purger = Purger(
            self._store,
            self._registry,
            self._clock,
            defaults=Kept(
                ttl=_microseconds(self.options.retention_ttl),
                keep=self.options.retention_keep,
                log_ttl=_microseconds(self.options.retention_log_ttl),
            ),
            monitor=self.monitor,
        )
        around = self._kubernetes.singletons(self, self._dispatcher.demand) if self._kubernetes is not None else {}
        self._singletons = Singletons({"cron": self._cron.run, "purge": self._purger.run, **around}, self._supervisor)
        self._static = StaticDiscovery(parse_addresses(",".join(engines)))
        self._local = LocalEngines()
        self._linking = Linking(
            linking.discoveries(self.options, self._static, self._local.discovery, self._kubernetes, self._clock),
            self._dispatcher,
        )
        self._transports: dict[str, Transport] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._opened = False
        self.monitor.attach(self._levels)
        super().__init__(
            store=self._store,
            blobs=self._blobs,
            registry=self._registry,
            dispatcher=self._dispatcher,
            clock=self._clock,
            evaluate=self._expressions.evaluate,
            purger=self._purger,
        )

    # --- life ---

    async def open(self) -> None:
        """Open the store, go on with what has not ended, and look for engines. Raises StoreError, SettingsError."""
        if self._kubernetes is not None:
            await self._kubernetes.open()
        await self._store.open()
        try:
            token = self.options.token.get_secret_value() if self.options.token is not None else None
            identity = Identity(
                orchestrator=self.options.name or uuid.uuid4().hex,
                incarnation=await self._store.incarnation(),
                token=token,
            )
            # An engine in this process needs no proof: who can register one is in this process already.
            local = InProcessTransport(Identity(orchestrator=identity.orchestrator, incarnation=identity.incarnation))
            self._local.open(local)
            # Engines report several times within the time after which they are lost: such a silence is a loss, too.
            silence = min(limits.SILENCE_SECONDS, self.options.engine_lost_after)
            grpc = GrpcTransport(identity, tls=self.options.tls, silence=silence)
            self._transports = {"in-process": local, "grpc": grpc}
            self._store.listen(self._heard)
            await self._dispatcher.open()
            await self._registry.refresh()
        except BaseException:
            await self._dispatcher.close()
            await self._store.close()
            if self._kubernetes is not None:
                await self._kubernetes.close()
            raise
        for name, work in (
            *self._linking.works(self._transports),
            ("singletons", self._singletons.run()),
            ("registry", self._registry.follow(shared=lambda: self._dispatcher.shared)),
        ):
            self._tasks.append(self._supervisor.start(work, name=name))
        if self.options.health_check_interval:
            checks = self._dispatcher.links.check(interval=self.options.health_check_interval)
            self._tasks.append(self._supervisor.start(checks, name="health checks"))
        self._opened = True

    async def close(self) -> None:
        """Stop, in order: no new starts, no sessions, then the store: others may go on with what was owned here.

        Engines in this process are closed, too.
        """
        self._opened = False
        for task in self._tasks:
            self._supervisor.release(task)
        await self._linking.close()
        await self._supervisor.stop(*self._tasks)
        self._tasks.clear()
        await self._dispatcher.close()
        await self._local.close()
        await self._expressions.close()
        await self._store.close()
        if self._kubernetes is not None:
            await self._kubernetes.close()

    async def __aenter__(self) -> Orchestrator:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # --- engines ---

    def register_engine(
        self,
        name: str,
        engine: DAGEngine,
        *,
        capacity: int = EMBEDDED_CAPACITY,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add an engine that lives in this process; it is closed together with the orchestrator. Raises Conflict.

        `labels` are what workflows may ask for: `{"pool": "gpu"}` puts it into that pool of engines.
        """
        self._local.register(name, engine, capacity=capacity, labels=labels or {})

    async def unregister_engine(self, name: str, *, drain: float = 25.0) -> None:
        """Take an engine in this process out again, and close it. Raises NotFound.

        It gets no more work, and what it runs has `drain` seconds to finish; what is left then runs on elsewhere.
        """
        await self._local.unregister(name, drain=drain)

    # --- workflows from code ---

    async def register_workflow(
        self,
        workflow_id: str,
        version: str,
        builder: Workflow | Document | Callable[[], Workflow],
        metadata: Mapping[str, Any] | None = None,
    ) -> Registration:
        """Register what a builder has built as `workflow_id@version`.

        `builder` is a `Workflow`, a `Document`, or a function that makes a `Workflow`; `metadata` (`name`,
        `description`, `labels`, `annotations`) replaces its own. Python functions of a `Workflow` become known to the
        engines in this process. Raises SpecError, VersionConflict.
        """
        made = builder if isinstance(builder, Workflow | Document) else builder()
        if isinstance(made, Workflow):
            for engine in self._local.teach(made.functions):
                self._dispatcher.reconsider(engine)
        document = (made.build() if isinstance(made, Workflow) else made).to_dict()
        document["metadata"] |= {"id": workflow_id, "version": version, **(metadata or {})}
        return await self.apply(document)

    def _check_trigger(self, document: Document) -> Iterator[Problem]:
        problem = self._table.conflict(document)
        if problem is not None:
            yield problem

    def _versions_changed(self, records: Sequence[Version]) -> None:
        before, self._table = self._table, http.HTTPTriggerTable(records)
        for route in self._table.shadowed:
            if route not in before.shadowed:
                _log.warning(
                    "http_trigger_shadowed",
                    workflow=route.workflow,
                    version=route.version,
                    method=route.method,
                    path=route.path,
                    by=self._table.reference(route.method, route.path),
                )
        self._cron.refresh()

    async def _start_occurrence(
        self, reference: str, inputs: Mapping[str, Any], *, trigger: str, occurrence: str
    ) -> object:
        return await self.start(reference, inputs, trigger=trigger, occurrence=occurrence)

    # --- the doors ---

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tls: rest.TLS | None = None,
        grace: float = defaults.GRACE,
        listener: socket.socket | None = None,
    ) -> rest.Serving:
        """Offer the REST interface; `port` 0 takes a free one. Stop it before the orchestrator is closed.

        `listener` is a socket that has this address already, from `api.server.bind`.

        Raises SettingsError when the address cannot be had, or is beyond loopback while there is no token.
        """
        from orchestrator.api import server
        from orchestrator.api.app import create_app

        if self.options.token is None and not (tls and tls.client_ca) and not security.is_loopback(host):
            raise SettingsError(
                f"refusing to listen on {host} without a way to tell clients from strangers: "
                "give a token, or TLS with a CA of clients' certificates, or listen on 127.0.0.1"
            )
        application = create_app(
            self,
            metrics=self.monitor.metrics,
            readiness=self.readiness,
            health=self.health,
            warnings=self.warnings,
            http_triggers=lambda method, path: self._table.reference(method, path),
            token=self.options.token,
            allowed_hosts=self.options.allowed_hosts,
            max_body=self.options.max_body,
            trigger_wait=self.options.trigger_wait,
        )
        application.add_middleware(CountRequests, monitor=self.monitor)
        return await server.start(application, host=host, port=port, listener=listener, tls=tls, grace=grace)

    @contextlib.asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[rest.Serving]:
        """`serve` around a block."""
        served = await self.serve(host, port)
        try:
            yield served
        finally:
            await served.stop()

    def readiness(self, needs_engine: bool = True) -> list[str]:
        """Why executions cannot run now; empty when they can. Without `needs_engine`: why they cannot be taken."""
        if not self._opened:
            return ["the orchestrator is not open"]
        if self._supervisor.faults:
            return self.health()
        if self._dispatcher.out_of_touch:
            return ["it has not written to the database for longer than its lease: executions may be others' by now"]
        if needs_engine and not any(engine.state == "ready" for engine in self._dispatcher.engines()):
            return ["no engine is connected and ready"]
        return []

    def health(self) -> list[str]:
        """Why this orchestrator should be started anew; empty while it works as it should."""
        return list(self._supervisor.faults)

    def warnings(self) -> list[str]:
        """What is wrong that starting this orchestrator anew would not mend: lost facts, and what is out of touch."""
        around = self._kubernetes.warnings() if self._kubernetes is not None else []
        return [*self._dispatcher.faults, *self._linking.troubles(), *around]

    async def broken(self) -> None:
        """Return when `health` has something to say."""
        await self._supervisor.died()

    def _lead(self, leads: bool) -> None:
        self.monitor.led(leads)
        self._singletons.lead(leads)

    def _heard(self, topic: Topic) -> None:
        """Another replica has changed something."""
        if topic == "versions":
            self._registry.heard()
        else:
            self._dispatcher.heard(topic)

    def _levels(self) -> Levels:
        return Levels(
            running=self._dispatcher.running,
            queued=self._dispatcher.queued,
            engines=Counter(engine.state for engine in self._dispatcher.engines()),
            pools=self._dispatcher.pools(),
            discoveries=self._linking.levels(),
            scaling=self._kubernetes.scaling if self._kubernetes is not None else None,
        )


def _microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)

"""What the cluster around an orchestrator gives it: its engines, who leads, workflows as objects, more or less engines.

`app` makes one where `Options.kubernetes` is set, opens it before all that needs it, and closes it last. What is done
here needs the Kubernetes API only to hear of changes: while that is away, everything goes on as it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from dagengine.clock import Clock, SystemClock, elapsed
from dagengine.errors import SettingsError
from orchestrator import options
from orchestrator.controller.base import Orchestrating
from orchestrator.controller.controllers import Controllers
from orchestrator.discovery.base import Discovery
from orchestrator.discovery.endpoint_slices import EndpointSliceDiscovery
from orchestrator.discovery.pods import PodDiscovery
from orchestrator.dispatcher.demand import Demand
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.kubernetes.lease import LeaseElection
from orchestrator.monitor.counts import Scaled
from orchestrator.scaling.declared import Autoscaling
from orchestrator.scaling.scaler import Scaler

__all__ = ["InKubernetes"]


class InKubernetes:
    """The parts of an orchestrator that use the Kubernetes API, over one client of it."""

    def __init__(self, settings: options.Options, kubernetes: options.Kubernetes, clock: Clock) -> None:
        self._settings = settings
        self._options = kubernetes
        self._clock = clock
        self.cluster = KubernetesCluster(kubernetes.access, namespace=kubernetes.namespace)
        self.discoveries: dict[str, Discovery] = {}
        """By a name for people. `linking` runs and closes them."""
        if kubernetes.discovery is not None:
            self.discoveries[kubernetes.discovery] = self._discovery()
        self.election = self._election() if kubernetes.lease else None
        """Who leads the replicas; None where they find that out in the store."""
        self._controllers: Controllers | None = None
        """Those of workflow objects, while this replica leads."""
        self._scaler: Scaler | None = None
        """While this replica leads, and engines are to be scaled."""

    @classmethod
    def of(cls, settings: options.Options, clock: Clock) -> InKubernetes | None:
        """What options ask for; None when they ask for nothing of a cluster. Raises SettingsError."""
        if (kubernetes := settings.kubernetes) is None:
            return None
        if kubernetes.autoscaling is not None and kubernetes.discovery != "pods":
            raise SettingsError(
                "engines are drained by marks on their pods before they are removed: to be scaled, they have to be "
                "found as pods (discovery='pods')"
            )
        return cls(settings, kubernetes, clock)

    async def open(self) -> None:
        """Load what is needed to reach the API, which is not asked for anything yet. Raises SettingsError."""
        await self.cluster.open()

    async def close(self) -> None:
        """End every request."""
        await self.cluster.close()

    def singletons(
        self, orchestrator: Orchestrating, demand: Callable[[], Awaitable[Demand]]
    ) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What only the leader among the replicas does, by name: see `singletons`."""
        works: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        if self._options.workflows:
            works["workflow objects"] = lambda: self._follow_objects(orchestrator)
        if (bounds := self._options.autoscaling) is not None:
            works["autoscaling"] = lambda: self._scale(demand, bounds)
        return works

    @property
    def scaling(self) -> Scaled | None:
        """How engines are scaled, for metrics; None while this replica does not do that."""
        return self._scaler.level if self._scaler is not None else None

    def warnings(self) -> list[str]:
        """What is wrong that starting this orchestrator anew would not mend; discoveries tell of theirs themselves."""
        parts = (self.election, self._controllers, self._scaler)
        return [part.trouble for part in parts if part is not None and part.trouble]

    async def _follow_objects(self, orchestrator: Orchestrating) -> None:
        self._controllers = controllers = Controllers(orchestrator, self.cluster, self._clock)
        try:
            await controllers.run()
        finally:
            if self._controllers is controllers:
                self._controllers = None

    async def _scale(self, demand: Callable[[], Awaitable[Demand]], bounds: Autoscaling) -> None:
        self._scaler = scaler = Scaler(
            self.cluster,
            demand,
            SystemClock(wall=elapsed, monotonic=elapsed),
            workload=self._options.workload,
            bounds=bounds,
            port=self._settings.grpc_port,
        )
        try:
            await scaler.run()
        finally:
            if self._scaler is scaler:
                self._scaler = None

    def _discovery(self) -> Discovery:
        interval, port = self._settings.discovery_interval, self._settings.grpc_port
        if self._options.discovery == "pods":
            return PodDiscovery(
                self.cluster, self._clock, labels=self._options.label_selector, port=port, interval=interval
            )
        return EndpointSliceDiscovery(
            self.cluster, self._clock, service=self._options.service_name, port=port, interval=interval
        )

    def _election(self) -> LeaseElection:
        return LeaseElection(
            self.cluster,
            self._options.lease,
            name=self._settings.name,
            duration=self._settings.replica_lease,
            clock=SystemClock(wall=elapsed, monotonic=elapsed),
            wall=self._clock,
        )

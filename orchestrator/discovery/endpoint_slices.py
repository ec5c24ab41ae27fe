"""Discovery of engines as endpoints of a Kubernetes service: ready ones that are not terminating.

For clusters that let the orchestrator read endpoint slices but no pods. Annotations of pods are not seen this way, so
neither is a capacity that one gives, nor that one should get no more work. The identity of an engine is the UID of the
pod behind the endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final

from dagengine.clock import Clock
from orchestrator.discovery.base import Address
from orchestrator.discovery.in_cluster import ClusterDiscovery, host_and_port
from orchestrator.kubernetes.base import ENDPOINT_SLICES, Cluster, Object

__all__ = ["EndpointSliceDiscovery"]

_SERVICE: Final = "kubernetes.io/service-name"
_PORT_NAME: Final = "grpc"


class EndpointSliceDiscovery(ClusterDiscovery):
    """The engines behind the service named `service`; `port` is where they listen if its slices name none."""

    def __init__(self, cluster: Cluster, clock: Clock, *, service: str, port: int, interval: float) -> None:
        super().__init__(cluster, ENDPOINT_SLICES, clock, labels=f"{_SERVICE}={service}", interval=interval)
        self._port = port

    def addresses(self, objects: Collection[Object], complaints: set[str]) -> Iterable[Address]:
        """One for each endpoint: of a pod that has addresses of both families, that of IPv4."""
        return self._endpoints(objects, complaints, _is_ready)

    def departing(self, objects: Collection[Object]) -> Iterable[Address]:
        """One for each endpoint of a pod that is being deleted, and not gone yet."""
        return self._endpoints(objects, set(), _is_terminating)

    def _endpoints(
        self, objects: Collection[Object], complaints: set[str], wanted: Callable[[Object], bool]
    ) -> Iterable[Address]:
        found: dict[str, Address] = {}
        # IPv4 sorts before IPv6.
        for piece in sorted(objects, key=lambda piece: (str(piece.get("addressType")), piece["metadata"]["name"])):
            port = self._port_of(piece, complaints)
            for address in _addresses(piece, port, wanted) if port else ():
                found.setdefault(address.uid or address.target, address)
        return {address.target: address for address in found.values()}.values()

    def _port_of(self, piece: Object, complaints: set[str]) -> int:
        """The port named `grpc`, or else the only one; 0, and a complaint, when there are several others."""
        ports = [port for port in piece.get("ports") or () if port.get("port")]
        named = [port for port in ports if port.get("name") == _PORT_NAME]
        if not ports:
            return self._port
        if named or len(ports) == 1:
            return int((named or ports)[0]["port"])
        complaints.add(
            f"the endpoint slice '{piece['metadata']['name']}' has several ports and none named {_PORT_NAME}: its "
            "endpoints are not used"
        )
        return 0


# The API says of each condition what it means when it is not there.


def _is_ready(conditions: Object) -> bool:
    return conditions.get("ready") is not False and not conditions.get("terminating")


def _is_terminating(conditions: Object) -> bool:
    return bool(conditions.get("terminating"))


def _addresses(piece: Object, port: int, wanted: Callable[[Object], bool]) -> Iterator[Address]:
    for endpoint in piece.get("endpoints") or ():
        if wanted(endpoint.get("conditions") or {}) and (addresses := endpoint.get("addresses")):
            uid = str((endpoint.get("targetRef") or {}).get("uid") or "")
            yield Address("grpc", host_and_port(str(addresses[0]), port), uid=uid)

"""Discovery of engines as pods that a label selector selects: ready ones that are not being deleted.

A pod may say more of its engine by annotations: `workflow-engine/port` and `workflow-engine/capacity`, and
`workflow-engine/drain`, with anything in it, for one that should get no more work. What cannot be understood is warned
of once, and taken as if it were not there. The pod's UID is the engine's identity: a pod of the same name, or with the
same IP, that comes later is another engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from dagengine.clock import Clock
from orchestrator.discovery.base import Address
from orchestrator.discovery.in_cluster import ClusterDiscovery, host_and_port
from orchestrator.kubernetes.base import PODS, Cluster, Object

__all__ = ["CAPACITY", "DRAIN", "PORT", "PodDiscovery", "target"]

PORT: Final = "workflow-engine/port"
CAPACITY: Final = "workflow-engine/capacity"
DRAIN: Final = "workflow-engine/drain"

_MOST: Final = 1_000_000
"""Executions that an engine may be said to take."""


class PodDiscovery(ClusterDiscovery):
    """The engines in the pods that `labels` select; `port` is where they listen unless they say otherwise."""

    def __init__(self, cluster: Cluster, clock: Clock, *, labels: str, port: int, interval: float) -> None:
        super().__init__(cluster, PODS, clock, labels=labels, interval=interval)
        self._port = port

    def addresses(self, objects: Collection[Object], complaints: set[str]) -> Iterable[Address]:
        """One for each pod that is ready; of two with the same IP and port, the younger one holds."""
        pods = sorted(filter(_is_ready, objects), key=_age)
        return {address.target: address for pod in pods for address in [self._address(pod, complaints)]}.values()

    def departing(self, objects: Collection[Object]) -> Iterable[Address]:
        """One for each pod that is being deleted, and not gone yet."""
        ending = [pod for pod in objects if _runs(pod) and pod["metadata"].get("deletionTimestamp")]
        return [self._address(pod, set()) for pod in ending]

    def _address(self, pod: Object, complaints: set[str]) -> Address:
        annotations = pod["metadata"].get("annotations") or {}
        port = _number(pod, annotations, PORT, 65_535, complaints) or self._port
        return Address(
            "grpc",
            host_and_port(pod["status"]["podIP"], port),
            uid=str(pod["metadata"]["uid"]),
            capacity=_number(pod, annotations, CAPACITY, _MOST, complaints),
            draining=bool(annotations.get(DRAIN)),
        )


def target(pod: Object, *, port: int) -> str:
    """Where the engine of a pod is dialled when it is ready; empty while the pod has no address."""
    annotations = pod["metadata"].get("annotations") or {}
    address = (pod.get("status") or {}).get("podIP")
    return host_and_port(address, _number(pod, annotations, PORT, 65_535, set()) or port) if address else ""


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return bool(
        _runs(pod)
        and not pod["metadata"].get("deletionTimestamp")
        and any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)
    )


def _age(pod: Object) -> tuple[str, str]:
    """The older sorts first; of the same second, always the same one."""
    return str(pod["metadata"].get("creationTimestamp", "")), str(pod["metadata"]["uid"])


def _runs(pod: Object) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("phase") == "Running" and status.get("podIP"))


def _number(pod: Object, annotations: Object, name: str, most: int, complaints: set[str]) -> int:
    """What an annotation says; 0 when it is not there, or is not a number from 1 to `most`."""
    text = annotations.get(name)
    if text is None:
        return 0
    digits = str(text).strip()
    if digits.isascii() and digits.isdigit() and len(digits) <= 7 and 1 <= int(digits) <= most:
        return int(digits)
    complaints.add(
        f"the annotation {name} of pod '{pod['metadata']['name']}' ({pod['metadata']['uid']}) is not a number from 1 "
        f"to {most}, and is not heeded"
    )
    return 0

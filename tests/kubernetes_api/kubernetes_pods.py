"""Pods without nodes: those that a test says are running, and a controller that makes them for Deployments.

Nothing runs in these pods. Their addresses are what the test gives: of engines it has started, or of nobody.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from kubernetes_resources import now
from kubernetes_storage import Change

if TYPE_CHECKING:
    from kubernetes_api import KubernetesAPI

Object = dict[str, Any]
Address = Callable[[str], tuple[str, int]]
"""From the name of a pod to the IP address and port of what is to be there."""

_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_TEMPLATE: Final = "pod-template-hash"
LABELS: Final = {"app": "workflow-engine"}


def run_pod(
    api: KubernetesAPI,
    name: str,
    *,
    ip: str = "127.0.0.1",
    port: int | None = None,
    namespace: str = "default",
    labels: Mapping[str, str] = LABELS,
    annotations: Mapping[str, str] | None = None,
    capacity: int | None = None,
    ready: bool = True,
    phase: str = "Running",
    owner: Mapping[str, Any] | None = None,
) -> Object:
    """A pod on a node, with an address. `port` and `capacity` become the annotations that discovery reads.

    Deleting it leaves it terminating, as a node does while containers end: `end_pod` is the node's word that they have.
    """
    given = dict(annotations or {})
    if port is not None:
        given["workflow-engine/port"] = str(port)
    if capacity is not None:
        given["workflow-engine/capacity"] = str(capacity)
    meta: Object = {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": given}
    if owner is not None:
        meta["ownerReferences"] = [_owned_by(owner)]
    container = {"name": "engine", "image": "dagengine-engine"}
    made = api.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": meta,
            "spec": {"nodeName": "node-1", "containers": [container]},
        }
    )
    return set_pod(api, name, namespace=namespace, ip=ip, ready=ready, phase=phase) if phase else made


def set_pod(
    api: KubernetesAPI,
    name: str,
    *,
    namespace: str = "default",
    ip: str | None = None,
    ready: bool | None = None,
    phase: str | None = None,
) -> Object:
    """Say something else of how a pod is, as its node would."""
    new: Object = {}
    if phase is not None:
        new["phase"] = phase
    if ip is not None:
        new |= {"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {"podIP": None, "podIPs": None}
    if ready is not None:
        condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now()}
        new["conditions"] = [condition]
    return api.patch("pods", name, {"status": new}, namespace=namespace, subresource="status")


def end_pod(api: KubernetesAPI, name: str, *, namespace: str = "default") -> Object:
    """The containers of a pod have ended, and it goes."""
    return api.delete("pods", name, namespace=namespace, grace=0)


def _owned_by(owner: Mapping[str, Any]) -> Object:
    meta = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


class Deployments:
    """Makes the pods that Deployments and StatefulSets ask for, and removes those that are too many.

    On the way down a Deployment's pods go in the order of their pod-deletion-cost (those that are not ready first), a
    StatefulSet's from the highest ordinal. Pods of an older template are replaced, all at once. `address` says where a
    new pod is; `ready` whether pods are at once. `linger`: pods that are deleted stay terminating until `end_pod`;
    otherwise they are gone a moment later.
    """

    def __init__(
        self,
        api: KubernetesAPI,
        *,
        address: Address = lambda name: ("127.0.0.1", 50051),
        ready: bool = True,
        linger: bool = False,
    ) -> None:
        self._api = api
        self._address = address
        self._ready = ready
        self._linger = linger
        self._numbers = itertools.count(1)
        self._due = False
        self._stop = api.storage.listen(self._happened)
        self._soon()

    def close(self) -> None:
        """Make no pods any more. Idempotent."""
        self._stop()
        self._stop = lambda: None
        self._due = True

    def _happened(self, change: Change) -> None:
        if change.key.plural in {"deployments", "statefulsets", "pods"}:
            self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._reconcile)

    def _reconcile(self) -> None:
        self._due = False
        for resource in ("deployments.apps", "statefulsets.apps"):
            for owner in self._api.list(resource):
                if "deletionTimestamp" not in owner["metadata"]:
                    self._fit(resource, owner)
        if not self._linger:
            for pod in self._api.list("pods"):
                if "deletionTimestamp" in pod["metadata"] and not pod["metadata"].get("finalizers"):
                    end_pod(self._api, pod["metadata"]["name"], namespace=pod["metadata"]["namespace"])

    def _fit(self, resource: str, owner: Object) -> None:
        """Make as many pods as an owner asks for, and say how many there are."""
        meta, wanted, ordered = owner["metadata"], owner["spec"]["replicas"], resource.startswith("statefulsets")
        pods = [pod for pod in self._api.list("pods", namespace=meta["namespace"]) if _is_of(pod, owner)]
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        current = [pod for pod in alive if pod["metadata"]["labels"][_TEMPLATE] == _template(owner)]
        current.sort(key=_ordinal if ordered else _worth, reverse=ordered)
        unwanted = current[: max(0, len(current) - wanted)]
        for pod in [*unwanted, *(pod for pod in alive if pod not in current)]:
            self._api.delete("pods", pod["metadata"]["name"], namespace=meta["namespace"])
        if ordered:
            # The name of a pod that is still ending is free only when it is gone.
            names = [f"{meta['name']}-{ordinal}" for ordinal in range(wanted)]
            names = [name for name in names if all(pod["metadata"]["name"] != name for pod in pods)]
        else:
            names = [f"{meta['name']}-{next(self._numbers):05}" for _ in range(wanted - len(current))]
        for name in names:
            self._run(name, owner)
        self._report(resource, owner, len(current) - len(unwanted) + len(names))

    def _run(self, name: str, owner: Object) -> None:
        template = owner["spec"]["template"].get("metadata", {})
        ip, port = self._address(name)
        run_pod(
            self._api,
            name,
            ip=ip,
            port=port,
            namespace=owner["metadata"]["namespace"],
            labels={**template.get("labels", {}), _TEMPLATE: _template(owner)},
            annotations=template.get("annotations"),
            ready=self._ready,
            owner=owner,
        )

    def _report(self, resource: str, owner: Object, count: int) -> None:
        meta, ready = owner["metadata"], count if self._ready else 0
        status: Object = {"observedGeneration": meta["generation"], "replicas": count, "updatedReplicas": count}
        status |= {"readyReplicas": ready, "availableReplicas": ready}
        if resource.startswith("statefulsets"):
            status |= {
                "currentReplicas": count,
                "currentRevision": _template(owner),
                "updateRevision": _template(owner),
            }
        if not status.items() <= owner.get("status", {}).items():
            name, namespace = meta["name"], meta["namespace"]
            self._api.patch(resource, name, {"status": status}, namespace=namespace, subresource="status")


def _template(owner: Object) -> str:
    """The same for the same template of a pod."""
    text = json.dumps(owner["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _ordinal(pod: Object) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def _worth(pod: Object) -> tuple[bool, int]:
    """Pods that are worth less go first."""
    return _is_ready(pod), int(pod["metadata"].get("annotations", {}).get(_COST, "0"))


def _is_of(pod: Object, owner: Object) -> bool:
    return any(reference["uid"] == owner["metadata"]["uid"] for reference in pod["metadata"].get("ownerReferences", ()))


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

"""A cluster for tests that hold on the double and on a real one alike: a namespace, and its objects over HTTP.

`Surroundings` is what the fixture `cluster` gives. All it does goes through the API with the rights of whoever owns the
kubeconfig, with `kubernetes.aio`: nothing in it knows which of the two it talks to, but for the pods.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kubernetes.aio import client, config
from kubernetes_kinds import Kind, Kinds
from kubernetes_workflow_objects import HastyClock

from dagengine.clock import Clock, SystemClock

if TYPE_CHECKING:
    from kubernetes_api import KubernetesAPI

Object = dict[str, Any]

_PATCHES: Final = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
ENGINE_LABELS: Final = {"app": "workflow-engine"}


class Surroundings:
    """A namespace of a cluster. `api` is the double, None on a real cluster."""

    def __init__(
        self, kubeconfig: Path, namespace: str, *, context: str = "", api: KubernetesAPI | None = None
    ) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.context = context
        self.api = api
        self._kinds = Kinds() if api is None else api.kinds
        self._client: client.ApiClient | None = None

    @property
    def clock(self) -> Clock:
        """For what waits by itself: the world's own, which goes faster on the double, where nobody else has to wait."""
        return SystemClock() if self.api is None else HastyClock()

    async def __aenter__(self) -> Surroundings:
        settings = client.Configuration()
        await config.load_kube_config(str(self.kubeconfig), context=self.context or None, client_configuration=settings)
        self._client = client.ApiClient(settings)
        if self.api is None:
            named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
            await self._ask("POST", "/api/v1/namespaces", named)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._client is not None
        try:
            if self.api is None:
                await self._ask("DELETE", f"/api/v1/namespaces/{self.namespace}")
        finally:
            await self._client.close()

    async def create(self, obj: Mapping[str, Any]) -> Object:
        """Create an object, in this namespace if its kind has them. A CRD's kinds are known from then on."""
        made = await self._ask("POST", self._path(self._kind_of(obj)), obj)
        if obj["kind"] == "CustomResourceDefinition":
            self._kinds.learn(made)
        return made

    def learn(self, definition: Mapping[str, Any]) -> None:
        """Know the kinds of a CRD that was there before."""
        self._kinds.learn(dict(definition))

    async def get(self, resource: str, name: str, *, subresource: str = "") -> Object:
        return await self._ask("GET", self._path(self._kind(resource), name, subresource))

    async def list(self, resource: str, *, labels: str = "") -> list[Object]:
        answer = await self._ask("GET", self._path(self._kind(resource)), query=[("labelSelector", labels)])
        items: list[Object] = answer["items"]
        return items

    async def replace(self, obj: Mapping[str, Any], *, subresource: str = "") -> Object:
        return await self._ask("PUT", self._path(self._kind_of(obj), obj["metadata"]["name"], subresource), obj)

    async def patch(self, resource: str, name: str, body: Any, *, kind: str = "merge", subresource: str = "") -> Object:
        path = self._path(self._kind(resource), name, subresource)
        return await self._ask("PATCH", path, body, content=_PATCHES[kind])

    async def delete(self, resource: str, name: str, *, grace: int | None = None) -> Object:
        asked = {"gracePeriodSeconds": grace} if grace is not None else {}
        return await self._ask("DELETE", self._path(self._kind(resource), name), asked)

    async def until(self, holds: Callable[[], Any], *, seconds: float = 120.0) -> Any:
        """Ask again and again (`holds` returns an awaitable) until it is true: what it said."""
        async with asyncio.timeout(seconds):
            while not (found := await holds()):  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.02 if self.api is not None else 0.5)
        return found

    async def run_pod(
        self,
        name: str,
        *,
        labels: Mapping[str, str] = ENGINE_LABELS,
        annotations: Mapping[str, str] | None = None,
        ip: str = "127.0.0.1",
    ) -> Object:
        """An engine's pod, when it is ready. On the double nothing runs in it, and it is at `ip`."""
        if self.api is not None:
            return self.api.run_pod(name, ip=ip, labels=labels, annotations=annotations, namespace=self.namespace)
        await self.create(self._engine(name, labels, annotations or {}))

        async def ready() -> Object | None:
            pod = await self.get("pods", name)
            conditions = pod.get("status", {}).get("conditions", ())
            good = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
            return pod if good else None

        found: Object = await self.until(ready)
        return found

    async def run_deployment(self, name: str, *, replicas: int) -> Object:
        """A Deployment of engines, whose pods come and go with its scale. On the double nothing runs in them."""
        if self.api is not None:
            ports = itertools.count(20_000)
            self.api.deployments(address=lambda _: ("127.0.0.1", next(ports)))
        pod = self._engine("", ENGINE_LABELS, {}, image="dagengine-engine" if self.api is not None else "")
        template = {"metadata": {"labels": dict(ENGINE_LABELS)}, "spec": pod["spec"]}
        spec = {"replicas": replicas, "selector": {"matchLabels": dict(ENGINE_LABELS)}, "template": template}
        return await self.create(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        )

    async def end_pod(self, name: str) -> None:
        """Delete a pod, and wait until it is gone."""
        await self.delete("pods", name, grace=0 if self.api is not None else None)

        async def gone() -> bool:
            return all(pod["metadata"]["name"] != name for pod in await self.list("pods"))

        await self.until(gone)

    def _engine(
        self, name: str, labels: Mapping[str, str], annotations: Mapping[str, str], *, image: str = ""
    ) -> Object:
        container = {
            "name": "engine",
            "image": image or image_of("ENGINE_IMAGE"),
            "env": [{"name": "DAGENGINE_TOKEN", "value": secrets.token_urlsafe(32)}],
            "ports": [{"name": "grpc", "containerPort": 50051}],
            "readinessProbe": {"grpc": {"port": 50051}, "periodSeconds": 1},
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": dict(labels), "annotations": dict(annotations)},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [container],
                "terminationGracePeriodSeconds": 5,
            },
        }

    def _kind(self, resource: str) -> Kind:
        found = self._kinds.named(resource)
        if found is None:
            raise LookupError(f"no kind is called {resource}; create its CRD through this fixture first")
        return found

    def _kind_of(self, obj: Mapping[str, Any]) -> Kind:
        found = self._kinds.of(dict(obj))
        if found is None:
            raise LookupError(
                f"no kind {obj['kind']} in {obj['apiVersion']}; create its CRD through this fixture first"
            )
        return found

    def _path(self, kind: Kind, name: str = "", subresource: str = "") -> str:
        root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
        within = f"namespaces/{self.namespace}" if kind.namespaced else ""
        return "/".join(part for part in (root, within, kind.plural, name, subresource) if part)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
    ) -> Object:
        """One request. `kubernetes.aio.client.ApiException` says what was refused, with its status."""
        assert self._client is not None
        headers = {"Accept": "application/json", **({"Content-Type": content} if body is not None else {})}
        asked = await self._client.param_serialize(
            method, path, query_params=query or [], header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api(*asked)
        raw = await answer.read()
        if answer.status >= 400:
            raise client.ApiException(status=answer.status, reason=answer.reason, body=raw.decode())
        decoded: Object = json.loads(raw)
        return decoded


def image_of(variable: str) -> str:
    """The image that ENGINE_IMAGE or ORCHESTRATOR_IMAGE names for a real cluster. LookupError when it names none."""
    image = os.environ.get(variable, "")
    if not image:
        raise LookupError(f"{variable} is not set: it names the image that a real cluster is to run")
    return image


def real() -> Surroundings | None:
    """The cluster of KUBECONFIG (and K8S_CONTEXT), in a namespace of its own, when E2E_KUBERNETES=1 asks for it."""
    if os.environ.get("E2E_KUBERNETES") != "1":
        return None
    path = os.environ.get("KUBECONFIG", "")
    if not path:
        raise LookupError("E2E_KUBERNETES=1 asks for a real cluster: KUBECONFIG has to name the file that leads to it")
    return Surroundings(Path(path), f"dagengine-test-{secrets.token_hex(4)}", context=os.environ.get("K8S_CONTEXT", ""))

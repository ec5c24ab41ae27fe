"""A double of the Kubernetes API server, for tests: it behaves like the real one, and can be made to fail.

    from kubernetes_api import KubernetesAPI            # tests/conftest.py puts this folder on the path

    async with KubernetesAPI() as api:                  # tls=False: plain HTTP; kubectl sends no token over that
        api.url                                         # https://127.0.0.1:12345
        api.ca                                          # the certificate that signs the server's, in PEM form
        api.kubeconfig(path, user="orchestrator")       # writes a kubeconfig with a bearer token
        api.service_account("workflow-orchestrator")    # a directory with token, ca.crt, namespace, as in a pod
        api.rotate_token("workflow-orchestrator")       # writes another token there; the old one is 401 from now on
        api.in_cluster                                  # KUBERNETES_SERVICE_HOST and _PORT, as in a pod

It serves on 127.0.0.1, in the loop of the test: processes that a test starts reach it too, but a test must not block
the loop while they do (`asyncio.create_subprocess_exec`, not `subprocess.run`; tests that are not asynchronous have
`kubernetes_thread`). Closed, it leaves nothing behind.

Objects, with the same rules as through HTTP. All of these are plain methods: nothing to await. `resource` is a plural
(`"pods"`, `"deployments.apps"`), a kind, or anything with `group` and `plural`; a refused request is a `Refusal`.

    api.create({"apiVersion": "v1", "kind": "Pod", ...})        # namespace "default" unless the object names another
    api.create_all(path)                                        # every document of a YAML file, or of its text
    api.get("pods", "a", namespace="default", subresource="")
    api.list("pods", labels="app=workflow-engine")              # of every namespace, unless one is given
    api.patch("pods", "a", {"metadata": {"annotations": {"k": "v"}}}, kind="merge", subresource="")
    api.replace(object, subresource="")
    api.delete("pods", "a", grace=0, policy="Background")
    api.run_pod("engine-1", ip="127.0.0.1", ...)                # a pod that runs and is ready: see `kubernetes_pods`
    api.deployments(...)                                        # a controller that makes pods: see `kubernetes_pods`

What was asked for, by whom. Verbs are those of RBAC; the resource has its subresource.

    api.calls                   # {(user, verb, group, "deployments/scale", namespace), ...}
    api.requests                # [Call(user, verb, ..., query, body, status), ...] in the order of their answers
    await api.seen("watch pods", count=1)      # wait until so many such requests were answered (a watch: began)
    await api.until(lambda: api.get(...)...)   # wait until something holds; looked at whenever an object changes
    api.authorize(documents)    # enforce RBAC from now on, by these Role and RoleBinding documents (or a YAML file's)

Faults (`kubernetes_faults` says what a `match` is: "list pods", "watch", "patch executions/status", "user:name get"):

    api.faults.down() / .up()                  # connections cut, and refused / there again at the same port
    api.faults.fail(match, status=500, times=1, retry_after=None)
    api.faults.forbid(match, times=None)       # 403
    api.faults.conflict(match, times=1)        # 409
    api.faults.cut(match, times=1)             # connection broken off instead of an answer, nothing done
    api.faults.delay(seconds, match)           # / .hold(match) -> .release(): answers wait; `await held.arrived.wait()`
    api.faults.expire()                        # 410 for older versions: lists that go on, watches (ERROR event)
    api.faults.cut_watches() / .end_watches()  # broken off / ended in good order
    api.faults.stall_watches() / .resume_watches()
    api.faults.bookmark()                      # a bookmark on every watch that wants some, now
    api.faults.clear()

What it has: the kinds in `kubernetes_kinds` and those of CRDs; resource versions and their rules for lists and watches,
`limit` and `continue`, selectors, bookmarks, `sendInitialEvents`; finalizers, graceful deletion, owner references,
preconditions; status, scale and token subresources; merge, JSON, strategic and apply patches, managed fields with
conflicts; field validation, structural schemas, defaults, pruning; RBAC; discovery, OpenAPI 3 and tables: enough for
kubectl and helm. What it has not: admission webhooks, CEL rules (a CRD with one is refused), logs, exec and
port-forward, quotas, API priority, CBOR, protobuf but for requests of a few kinds, defaults of built-in kinds but for
those that matter here, and controllers other than those named above.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

import kubernetes_pods as pods
import yaml
from kubernetes_access import Access, User
from kubernetes_door import Door
from kubernetes_faults import Faults, matches
from kubernetes_http import Handler
from kubernetes_kinds import Kind, Kinds
from kubernetes_requests import Call
from kubernetes_resources import Options, PatchKind, Resources
from kubernetes_status import Refusal
from kubernetes_storage import Change, Storage
from kubernetes_watches import Watches

__all__ = ["Call", "KubernetesAPI", "Refusal"]

Object = dict[str, Any]

_PEM: Final = Path(__file__).parents[1] / "api" / "localhost.pem"
_DIRECT: Final = Options(user="test", manager="test", validation="Strict")


class Named(Protocol):
    """A resource as `orchestrator.kubernetes.base` names it."""

    group: str
    plural: str


class KubernetesAPI:
    """The server. See the module for what it offers."""

    def __init__(self, *, tls: bool = True) -> None:
        self.kinds = Kinds()
        self.storage = Storage()
        self.access = Access(self.storage)
        self.resources = Resources(self.kinds, self.storage)
        self.watches = Watches()
        self.requests: list[Call] = []
        self._tls = tls
        self._context = None
        if tls:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(_PEM)
        self._door = Door(Handler(self), self._context)
        self.faults = Faults(self._door, self.storage, self.watches)
        self._waiting: set[asyncio.Future[None]] = set()
        self._accounts: dict[tuple[str, str], Path] = {}
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._closers: list[Callable[[], None]] = []
        for name in ("default", "kube-system"):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.storage.listen(self._happened)

    async def __aenter__(self) -> KubernetesAPI:
        self._door.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for close in self._closers:
            close()
        self.faults.clear()
        await self._door.closed()
        if self._files is not None:
            self._files.cleanup()

    # Where it is, and who is let in.

    @property
    def port(self) -> int:
        return self._door.port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ca(self) -> str:
        """The certificate that signs the server's, in PEM form."""
        text = _PEM.read_text()
        end = "-----END CERTIFICATE-----\n"
        return text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]

    @property
    def in_cluster(self) -> dict[str, str]:
        """The environment of a pod."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    def token(self, user: str, *, groups: Iterable[str] = ()) -> str:
        """A new bearer token. The group `system:masters` may do everything, even where RBAC is enforced."""
        return self.access.token(User(user, frozenset({"system:authenticated", *groups})))

    def kubeconfig(
        self, path: Path, user: str = "orchestrator", *, namespace: str = "default", groups: Iterable[str] = ()
    ) -> Path:
        """Write a kubeconfig with one context, named `double`."""
        cluster = {"server": self.url}
        if self._tls:
            cluster["certificate-authority-data"] = base64.b64encode(self.ca.encode()).decode()
        context = {"cluster": "double", "user": user, "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "double", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.token(user, groups=groups)}}],
            "contexts": [{"name": "double", "context": context}],
            "current-context": "double",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def service_account(self, name: str, namespace: str = "default") -> Path:
        """The directory that pods of a service account have: `token`, `ca.crt`, `namespace`. Ends with the server."""
        if self._files is None:
            self._files = tempfile.TemporaryDirectory(prefix="service-accounts-")
        directory = Path(self._files.name, namespace, name)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ca.crt").write_text(self.ca)
        (directory / "namespace").write_text(namespace)
        self._accounts[namespace, name] = directory
        _replaced(directory / "token", self.access.token(User.service_account(namespace, name)))
        return directory

    def rotate_token(self, name: str, namespace: str = "default") -> str:
        """Write another token into the directory of a service account, and end those it had."""
        user = User.service_account(namespace, name)
        self.access.revoke(user)
        token = self.access.token(user)
        _replaced(self._accounts[namespace, name] / "token", token)
        return token

    def token_request(self, namespace: str, name: str, request: Object) -> Object:
        """What creating `serviceaccounts/token` answers."""
        self.get("serviceaccounts", name, namespace=namespace)
        token = self.access.token(User.service_account(namespace, name))
        return {**request, "metadata": {"name": name, "namespace": namespace}, "status": {"token": token}}

    def authorize(self, documents: Iterable[Mapping[str, Any]] | Path = ()) -> None:
        """Enforce RBAC from now on, by these documents (or all of a YAML file) and those that are there already.

        Documents other than those of RBAC are passed over; ones without a namespace belong to `default`.
        """
        if isinstance(documents, Path):
            documents = list(filter(None, yaml.safe_load_all(documents.read_text())))
        for document in documents:
            if document["apiVersion"].startswith("rbac.authorization.k8s.io/"):
                self.create(document)
        self.access.enforced = True

    # What it has.

    def kind(self, resource: str | Named) -> Kind:
        """The kind that a resource is of."""
        name = resource if isinstance(resource, str) else f"{resource.plural}.{resource.group}".rstrip(".")
        found = self.kinds.named(name)
        if found is None:
            raise LookupError(f"the server does not serve {name}; is its CRD created?")
        return found

    def _kind_of(self, obj: Mapping[str, Any]) -> tuple[Kind, str]:
        found = self.kinds.of(dict(obj))
        if found is None:
            raise LookupError(
                f"the server does not serve {obj.get('apiVersion')} {obj.get('kind')}; is its CRD created?"
            )
        return found, obj["metadata"].get("namespace", "default") if found.namespaced else ""

    def create(self, obj: Mapping[str, Any]) -> Object:
        """Create an object. Its status is kept, unlike that of requests: nobody else is there who would write it."""
        kind, namespace = self._kind_of(obj)
        made = self.resources.create(kind, namespace, obj, _DIRECT)
        if kind.has_status and "status" in obj and kind.plural != "customresourcedefinitions":
            return self.replace({**made, "status": obj["status"]}, subresource="status")
        return made

    def create_all(self, documents: Path | str) -> list[Object]:
        """Create every object of a YAML file, or of a YAML text."""
        text = documents.read_text() if isinstance(documents, Path) else documents
        return [self.create(document) for document in yaml.safe_load_all(text) if document]

    def get(self, resource: str | Named, name: str, *, namespace: str = "default", subresource: str = "") -> Object:
        return self.resources.get(self.kind(resource), namespace, name, subresource=subresource)

    def list(self, resource: str | Named, *, namespace: str = "", labels: str = "", fields: str = "") -> list[Object]:
        return self.resources.list(self.kind(resource), namespace, labels=labels, fields=fields).items

    def replace(self, obj: Mapping[str, Any], *, subresource: str = "") -> Object:
        kind, namespace = self._kind_of(obj)
        return self.resources.replace(kind, namespace, obj["metadata"]["name"], obj, _options(subresource))

    def patch(
        self,
        resource: str | Named,
        name: str,
        body: Any,
        *,
        namespace: str = "default",
        kind: PatchKind = "merge",
        subresource: str = "",
    ) -> Object:
        options = _options(subresource)
        return self.resources.patch(self.kind(resource), namespace, name, body, kind, options)[0]

    def delete(
        self,
        resource: str | Named,
        name: str,
        *,
        namespace: str = "default",
        grace: int | None = None,
        policy: str = "Background",
    ) -> Object:
        """Delete an object: what it was when it went, or is while finalizers or a kubelet are waited for."""
        asked = {"gracePeriodSeconds": grace, "propagationPolicy": policy}
        return self.resources.delete(self.kind(resource), namespace, name, asked, _DIRECT)[0]

    def run_pod(self, name: str, **how: Any) -> Object:
        """A pod that runs and is ready: `kubernetes_pods.run_pod` says what may be given."""
        return pods.run_pod(self, name, **how)

    def deployments(self, **how: Any) -> pods.Deployments:
        """Make pods for Deployments and StatefulSets from now on: `kubernetes_pods.Deployments` says how."""
        controller = pods.Deployments(self, **how)
        self._closers.append(controller.close)
        return controller

    # What was asked of it.

    @property
    def calls(self) -> set[tuple[str, str, str, str, str]]:
        """User, verb, group, resource with subresource, and namespace of each request for a resource."""
        return {(c.user, c.verb, c.group, c.resource, c.namespace) for c in self.requests if c.resource}

    def asked(self, match: str) -> list[Call]:
        """The requests that a match speaks of."""
        return [call for call in self.requests if matches(match, call)]

    async def seen(self, match: str, count: int = 1, *, seconds: float = 20.0) -> list[Call]:
        """Wait until at least `count` such requests were answered. TimeoutError tells what there was instead."""
        try:
            await self.until(lambda: len(self.asked(match)) >= count, seconds=seconds)
        except TimeoutError:
            found = [f"{call.verb} {call.resource or call.path} {call.status}" for call in self.requests[-20:]]
            raise TimeoutError(f"{count} times {match!r} did not come; what came at last: {found}") from None
        return self.asked(match)

    async def until(self, holds: Callable[[], Any], *, seconds: float = 20.0) -> Any:
        """Wait until `holds()` is true: what it said. Looked at whenever an object changes or a request is done."""
        async with asyncio.timeout(seconds):
            while not (found := holds()):
                waiting = asyncio.get_running_loop().create_future()
                self._waiting.add(waiting)
                try:
                    await waiting
                finally:
                    self._waiting.discard(waiting)
        return found

    def noted(self, call: Call) -> None:
        """Keep a request that was answered. Called by the door."""
        self.requests.append(call)
        self._wake()

    def _happened(self, change: Change) -> None:
        if change.key.plural == "customresourcedefinitions" and change.before is not None:
            same = change.after is not None and change.after["spec"] == change.before["spec"]
            if not same:  # another storage serves what is defined now
                self.faults.end_watches(change.key.name)
        self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


def _options(subresource: str) -> Options:
    return Options(user="test", manager="test", validation="Strict", subresource=subresource)


def _replaced(path: Path, text: str) -> None:
    """Write a file as kubelets do: readers see the old or the new text, whole."""
    written = path.with_name(f".{path.name}.{os.getpid()}")
    written.write_text(text)
    written.replace(path)

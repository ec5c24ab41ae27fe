"""The kinds of objects that the server knows: those that are built in, and those that CRDs add.

Schemas of what is built in are the OpenAPI definitions of Kubernetes, which `kubernetes-validate` brings along; where
they say nothing (plural names, scopes, subresources), the table below does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

import orjson

VERSION: Final = "1.35"
"""The Kubernetes whose definitions are used."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where a kind has what its scale subresource shows: dotted paths. `selector` is a label selector or its text."""

    spec: str = "spec.replicas"
    status: str = "status.replicas"
    selector: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind in one version. Versions of a kind share their objects: `stored` is what they are kept under."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    subresources: frozenset[str] = frozenset()
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    schema: Object = field(default_factory=dict)
    custom: bool = False
    scale: Scale | None = None
    columns: tuple[Object, ...] = ()
    selectable: tuple[str, ...] = ()
    list_kind: str = ""
    verbs: tuple[str, ...] = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As messages have it: `pods`, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def stored(self) -> tuple[str, str]:
        return self.group, self.plural

    @property
    def has_status(self) -> bool:
        """Whether `status` is written through its own subresource, and only there."""
        return "status" in self.subresources

    @property
    def has_generation(self) -> bool:
        return self.custom or (self.group, self.plural) in _GENERATIONS

    @property
    def unconditional(self) -> bool:
        """Whether it may be replaced without saying which version of it is meant."""
        return not self.custom and self.plural not in {"leases", "customresourcedefinitions"}


# group/version | Kind plural[,short...] | subresources | c: of the cluster, r: review (create only)
_BUILT_IN: Final = """
v1 | Namespace namespaces,ns | status | c
v1 | Node nodes,no | status | c
v1 | Pod pods,po | status |
v1 | Service services,svc | status |
v1 | Endpoints endpoints,ep | |
v1 | Secret secrets | |
v1 | ConfigMap configmaps,cm | |
v1 | ServiceAccount serviceaccounts,sa | token |
v1 | PersistentVolumeClaim persistentvolumeclaims,pvc | status |
v1 | Event events,ev | |
apps/v1 | Deployment deployments,deploy | status scale |
apps/v1 | StatefulSet statefulsets,sts | status scale |
apps/v1 | ReplicaSet replicasets,rs | status scale |
apps/v1 | DaemonSet daemonsets,ds | status |
apps/v1 | ControllerRevision controllerrevisions | |
batch/v1 | Job jobs | status |
batch/v1 | CronJob cronjobs,cj | status |
coordination.k8s.io/v1 | Lease leases | |
discovery.k8s.io/v1 | EndpointSlice endpointslices | |
networking.k8s.io/v1 | NetworkPolicy networkpolicies,netpol | |
networking.k8s.io/v1 | Ingress ingresses,ing | status |
policy/v1 | PodDisruptionBudget poddisruptionbudgets,pdb | status |
autoscaling/v2 | HorizontalPodAutoscaler horizontalpodautoscalers,hpa | status |
rbac.authorization.k8s.io/v1 | Role roles | |
rbac.authorization.k8s.io/v1 | RoleBinding rolebindings | |
rbac.authorization.k8s.io/v1 | ClusterRole clusterroles | | c
rbac.authorization.k8s.io/v1 | ClusterRoleBinding clusterrolebindings | | c
scheduling.k8s.io/v1 | PriorityClass priorityclasses,pc | | c
apiextensions.k8s.io/v1 | CustomResourceDefinition customresourcedefinitions,crd,crds | status | c
authorization.k8s.io/v1 | SelfSubjectAccessReview selfsubjectaccessreviews | | cr
"""
_COLUMNS: Final = {
    ("coordination.k8s.io", "leases"): (
        {"name": "Holder", "type": "string", "jsonPath": ".spec.holderIdentity"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ),
}
"""What tables of built-in kinds show, where tests look at it; the others show names and ages."""
_GENERATIONS: Final = {
    ("", "pods"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
    ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "ingresses"),
    ("policy", "poddisruptionbudgets"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
}


@functools.cache
def definitions() -> Object:
    """The OpenAPI definitions of Kubernetes by name: `io.k8s.api.core.v1.Pod`. They refer to one another by `$ref`."""
    found = resources.files("kubernetes_validate") / f"kubernetes-json-schema/v{VERSION}.0-local/_definitions.json"
    schemas: Object = orjson.loads(found.read_bytes())["$defs"]
    return schemas


def resolve(schema: Object) -> Object:
    """A schema itself, where it is a reference to one."""
    while "$ref" in schema:
        schema = definitions()[schema["$ref"].rsplit("/", 1)[-1]]
    return schema


META: Final = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}


@functools.cache
def built_in() -> tuple[Kind, ...]:
    """The kinds that the server has by itself."""
    return tuple(_built_in())


def _built_in() -> Iterator[Kind]:
    schemas = {
        (kind["group"], kind["version"], kind["kind"]): schema
        for schema in definitions().values()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
    for line in _BUILT_IN.strip().splitlines():
        api_version, names, subresources, flags = (part.strip() for part in line.split("|"))
        group, _, version = api_version.rpartition("/")
        kind, _, plurals = names.partition(" ")
        plural, *short = plurals.split(",")
        scalable = "scale" in subresources
        yield Kind(
            group=group,
            version=version,
            kind=kind,
            plural=plural,
            singular=kind.lower(),
            namespaced="c" not in flags,
            subresources=frozenset(subresources.split()),
            short_names=tuple(short),
            categories=("all",) if group in {"apps", "batch"} or plural in {"pods", "services"} else (),
            schema=schemas[group, version, kind],
            scale=Scale(selector="spec.selector") if scalable else None,
            columns=_COLUMNS.get((group, plural), ()),
            list_kind=f"{kind}List",
            **({"verbs": ("create",)} if "r" in flags else {}),
        )


class Kinds:
    """All kinds that are served at present."""

    def __init__(self) -> None:
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in built_in()}

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._kinds.get((group, version, plural))

    def of(self, obj: Object) -> Kind | None:
        """The kind that an object says it is of."""
        wanted = obj.get("apiVersion"), obj.get("kind")
        return next((kind for kind in self if (kind.api_version, kind.kind) == wanted), None)

    def named(self, name: str) -> Kind | None:
        """By what people call it: `pods`, `deployments.apps`, `Pod`, `po`."""
        return next((k for k in self if name in {k.plural, k.resource, k.kind, k.singular, *k.short_names}), None)

    def stored(self, group: str, plural: str) -> Kind:
        return next(kind for kind in self if kind.stored == (group, plural))

    def learn(self, crd: Object) -> None:
        """Serve what a CRD defines."""
        self.forget(crd)
        for kind in _custom(crd):
            self._kinds[kind.group, kind.version, kind.plural] = kind

    def forget(self, crd: Object) -> None:
        gone = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        self._kinds = {key: kind for key, kind in self._kinds.items() if kind.stored != gone}


def _custom(crd: Object) -> Iterator[Kind]:
    spec, names = crd["spec"], crd["spec"]["names"]
    for version in spec["versions"]:
        if not version["served"]:
            continue
        subresources = version.get("subresources") or {}
        scale = subresources.get("scale")
        yield Kind(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            singular=names.get("singular") or names["kind"].lower(),
            namespaced=spec["scope"] == "Namespaced",
            subresources=frozenset(subresources),
            short_names=tuple(names.get("shortNames", ())),
            categories=tuple(names.get("categories", ())),
            schema=version.get("schema", {}).get("openAPIV3Schema", {}),
            custom=True,
            scale=scale
            and Scale(
                spec=scale["specReplicasPath"].lstrip("."),
                status=scale["statusReplicasPath"].lstrip("."),
                selector=scale.get("labelSelectorPath", "").lstrip("."),
            ),
            columns=tuple(version.get("additionalPrinterColumns", ())),
            selectable=tuple(field["jsonPath"].lstrip(".") for field in version.get("selectableFields", ())),
            list_kind=names.get("listKind") or f"{names['kind']}List",
        )

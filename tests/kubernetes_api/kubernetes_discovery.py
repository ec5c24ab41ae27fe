"""The documents that say what the server serves, as clients look for them before they ask for anything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubernetes_access import Access, User, Wish
from kubernetes_kinds import VERSION, Kind, Kinds, definitions
from kubernetes_schemas import root

Object = dict[str, Any]

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def document(kinds: Kinds, path: str, accept: str) -> tuple[Object, str] | None:
    """The document at a path, with its content type; None when there is none."""
    aggregated = "as=APIGroupDiscoveryList" in accept and "v=v2;" in accept.replace(" ", "") + ";"
    parts = [part for part in path.split("/") if part]
    plain = "application/json"
    match parts:
        case ["version"]:
            return _version(), plain
        case ["api" | "apis"] if aggregated:
            return _group_discovery(kinds, core=parts[0] == "api"), _AGGREGATED
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}, plain
        case ["apis"]:
            groups = [_group(kinds, name) for name in _groups(kinds) if name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}, plain
        case ["apis", name] if name in _groups(kinds):
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(kinds, name)}, plain
        case ["api", version]:
            return _resources(kinds, "", version), plain
        case ["apis", name, version] if any(_of(kinds, name, version)):
            return _resources(kinds, name, version), plain
        case ["openapi", "v3"]:
            return {
                "paths": {_place(kind): {"serverRelativeURL": f"/openapi/v3/{_place(kind)}"} for kind in kinds}
            }, plain
        case ["openapi", "v3", *where]:
            found = [kind for kind in kinds if _place(kind) == "/".join(where)]
            return (_openapi(found), plain) if found else None
        case _:
            return None


def _version() -> Object:
    major, minor = VERSION.split(".")
    return {"major": major, "minor": minor, "gitVersion": f"v{VERSION}.0", "platform": "linux/amd64"}


def _place(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _groups(kinds: Kinds) -> list[str]:
    return list(dict.fromkeys(kind.group for kind in kinds))


def _of(kinds: Kinds, group: str, version: str) -> Iterable[Kind]:
    return (kind for kind in kinds if (kind.group, kind.version) == (group, version))


def _versions(kinds: Kinds, group: str) -> list[str]:
    return list(dict.fromkeys(kind.version for kind in kinds if kind.group == group))


def _group(kinds: Kinds, name: str) -> Object:
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in _versions(kinds, name)]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _resources(kinds: Kinds, group: str, version: str) -> Object:
    found = []
    for kind in _of(kinds, group, version):
        names = {
            "singularName": kind.singular,
            **({"shortNames": kind.short_names} if kind.short_names else {}),
            **({"categories": kind.categories} if kind.categories else {}),
        }
        found.append(
            {"name": kind.plural, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs, **names}
        )
        for name, shape in _subresources(kind).items():
            found.append({"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced, **shape})
    api_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": found}


def _subresources(kind: Kind) -> dict[str, Object]:
    verbs = ["get", "patch", "update"]
    scale = {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": verbs}
    token = {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest", "verbs": ["create"]}
    shapes: dict[str, Object] = {"status": {"kind": kind.kind, "verbs": verbs}, "scale": scale, "token": token}
    return {name: shapes[name] for name in sorted(kind.subresources)}


def _group_discovery(kinds: Kinds, *, core: bool) -> Object:
    items = []
    for group in [""] if core else [name for name in _groups(kinds) if name]:
        versions = [
            {
                "version": version,
                "resources": [_discovered(kind) for kind in _of(kinds, group, version)],
                "freshness": "Current",
            }
            for version in _versions(kinds, group)
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": versions})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _discovered(kind: Kind) -> Object:
    own = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    below = []
    for name, shape in _subresources(kind).items():
        response = {key: shape.get(key, own[key]) for key in ("group", "version", "kind")}
        below.append({"subresource": name, "responseKind": response, "verbs": shape["verbs"]})
    return {
        "resource": kind.plural,
        "responseKind": own,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": kind.verbs,
        **({"shortNames": kind.short_names} if kind.short_names else {}),
        **({"categories": kind.categories} if kind.categories else {}),
        **({"subresources": below} if below else {}),
    }


def _openapi(kinds: list[Kind]) -> Object:
    """What clients look for: schemas by kind, and that patches take `fieldValidation`."""
    schemas: Object = {}
    paths: Object = {}
    for kind in kinds:
        gvk = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        name = f"{kind.group or 'core'}.{kind.version}.{kind.kind}"
        schemas[name] = _rewritten(root(kind)) | {"x-kubernetes-group-version-kind": [gvk]}
        _gather(root(kind), schemas)
        query = [
            {"name": key, "in": "query", "schema": {"type": "string"}} for key in ("fieldValidation", "dryRun", "force")
        ]
        verb = {"parameters": query, "x-kubernetes-group-version-kind": gvk, "responses": {}}
        where = "namespaces/{namespace}/" if kind.namespaced else ""
        methods = {"get": "get", "put": "put", "patch": "patch", "delete": "delete"}
        paths[f"/{_place(kind)}/{where}{kind.plural}/{{name}}"] = {
            method: verb | {"x-kubernetes-action": action} for method, action in methods.items()
        }
        paths[f"/{_place(kind)}/{where}{kind.plural}"] = {
            "get": verb | {"x-kubernetes-action": "list"},
            "post": verb | {"x-kubernetes-action": "post"},
        }
    info = {"title": "Kubernetes", "version": f"v{VERSION}.0"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _gather(value: Any, schemas: Object) -> None:
    """The definitions that a schema refers to, and those that they refer to."""
    if isinstance(value, list):
        for item in value:
            _gather(item, schemas)
    elif isinstance(value, dict):
        name = value["$ref"].rsplit("/", 1)[-1] if isinstance(value.get("$ref"), str) else ""
        if name and name not in schemas:
            schemas[name] = _rewritten(definitions()[name])
            _gather(definitions()[name], schemas)
        for inner in value.values():
            _gather(inner, schemas)


def _rewritten(value: Any) -> Any:
    """A schema as OpenAPI 3.0 has it: one type each, references to components."""
    if isinstance(value, list):
        return [_rewritten(item) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: _rewritten(inner) for key, inner in value.items()}
    if isinstance(result.get("$ref"), str):
        reference = {"$ref": "#/components/schemas/" + result["$ref"].rsplit("/", 1)[-1]}
        return {"allOf": [reference], **{key: inner for key, inner in result.items() if key != "$ref"}}
    if isinstance(result.get("type"), list):
        result["type"] = next(kind for kind in result["type"] if kind != "null")
    return result


def reviewed(access: Access, user: User, review: Object) -> Object:
    """A SelfSubjectAccessReview with its answer."""
    asked = review.get("spec", {}).get("resourceAttributes") or {}
    resource = f"{asked.get('resource', '')}/{asked.get('subresource', '')}".rstrip("/")
    wish = Wish(
        verb=asked.get("verb", ""),
        group=asked.get("group", ""),
        resource=resource,
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
    )
    allowed = access.allows(user, wish)
    return {**review, "metadata": review.get("metadata") or {}, "status": {"allowed": allowed}}

"""Requests, read: what a path names, who wants what of it, what bodies and queries say. `kubernetes_http` calls it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import kubernetes_protobuf as protobuf
import kubernetes_status as status
import orjson
import yaml
from aiohttp import web
from kubernetes_access import User
from kubernetes_kinds import Kind, Kinds
from kubernetes_resources import Options

Object = dict[str, Any]

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, as RBAC sees it. `resource` has its subresource (`deployments/scale`); it is empty for other paths."""

    user: str
    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    method: str
    path: str
    query: dict[str, str]
    content_type: str
    user_agent: str
    body: Any = None
    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def target(kinds: Kinds, path: str) -> Target | None:
    """What a path names; None for one that is not of objects. Refusal 404 where nothing is served."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    kind = kinds.find(group, version, rest[0])
    _, name, subresource, *more = [*rest, "", ""]
    if kind is None or any(more) or (kind.namespaced and name and not namespace) or (
        subresource and subresource not in kind.subresources
    ):  # fmt: skip
        raise status.not_served()
    return Target(kind=kind, namespace=namespace, name=name, subresource=subresource)


def call(request: web.BaseRequest, user: User, target: Target | None, body: Any) -> Call:
    watches = request.query.get("watch") in {"true", "1"}
    verb, resource, name = "get", "", ""
    kind = target.kind if target else None
    if target is not None:
        name = target.name
        resource = f"{target.kind.plural}/{target.subresource}".rstrip("/")
        if request.method == "GET":
            verb = "watch" if watches else "get" if name else "list"
        elif request.method == "DELETE":
            verb = "delete" if name else "deletecollection"
        else:
            verb = _VERBS.get(request.method, request.method.lower())
        selected = request.query.get("fieldSelector", "")
        if not name and selected.startswith("metadata.name=") and "," not in selected:
            name = selected.removeprefix("metadata.name=")
    return Call(
        user=user.name,
        verb=verb,
        group=kind.group if kind else "",
        resource=resource,
        namespace=target.name
        if kind and kind.plural == "namespaces" and target
        else target.namespace
        if target
        else "",
        name=name,
        method=request.method,
        path=request.path,
        query=dict(request.query),
        content_type=request.content_type,
        user_agent=request.headers.get("User-Agent", ""),
        body=body,
    )


async def body(request: web.BaseRequest) -> Any:
    raw = await request.read()
    if not raw:
        return None
    if "protobuf" in request.content_type:
        return protobuf.decoded(raw)
    try:
        return yaml.safe_load(raw) if "yaml" in request.content_type else orjson.loads(raw)
    except (orjson.JSONDecodeError, yaml.YAMLError) as error:
        raise status.bad_request(f"couldn't get version/kind; json parse error: {error}") from error


def whole(body: Any) -> Object:
    if not isinstance(body, dict):
        raise status.bad_request("the object provided is unrecognized: it is no JSON object")
    return body


def options(request: web.BaseRequest, user: User, target: Target) -> Options:
    query = request.query
    validation = query.get("fieldValidation", "") or "Warn"
    if validation not in {"Ignore", "Warn", "Strict"}:
        raise list_invalid("fieldValidation", f"Unsupported value: {validation!r}")
    manager = query.get("fieldManager", "")
    if not manager and request.content_type != "application/apply-patch+yaml":
        manager = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return Options(
        user=user.name,
        manager=manager,
        subresource=target.subresource,
        dry_run=query.get("dryRun") == "All",
        validation=cast(Any, validation),
        force=query.get("force") in {"true", "1"},
    )


def delete_options(request: web.BaseRequest, body: Any) -> Object:
    given: Object = dict(body) if isinstance(body, dict) else {}
    for name in ("gracePeriodSeconds", "propagationPolicy"):
        if name in request.query:
            given[name] = request.query[name]
    if "gracePeriodSeconds" in given and given["gracePeriodSeconds"] is not None:
        given["gracePeriodSeconds"] = int(given["gracePeriodSeconds"])
    return given


def number(version: str) -> int:
    if not version.isdecimal():
        raise list_invalid("resourceVersion", f'Invalid value: "{version}": strconv.ParseUint: invalid syntax')
    return int(version)


def list_invalid(field: str, words: str) -> status.Refusal:
    return status.Refusal(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {field}: {words}')

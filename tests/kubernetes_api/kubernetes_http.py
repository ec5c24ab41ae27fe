"""Requests, answered: over HTTP/1.1, with aiohttp.

`kubernetes_requests` reads them, `kubernetes_resources` does what they ask for, and this writes what came of it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import kubernetes_discovery as discovery
import kubernetes_requests as requests
import kubernetes_status as status
import kubernetes_tables as tables
import orjson
from aiohttp import web
from kubernetes_access import User, Wish
from kubernetes_kinds import Kind
from kubernetes_requests import Call, Target
from kubernetes_resources import Options, PatchKind
from kubernetes_watches import Watch

if TYPE_CHECKING:
    from kubernetes_api import KubernetesAPI

Object = dict[str, Any]

_PATCHES: dict[str, PatchKind] = {
    "application/merge-patch+json": "merge",
    "application/json-patch+json": "json",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


class Handler:
    """Answers requests."""

    def __init__(self, api: KubernetesAPI) -> None:
        self._api = api

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in {"/healthz", "/livez", "/readyz"}:
            return web.Response(text="ok")
        try:
            user = self._api.access.user(request.headers.get("Authorization", ""))
            target = requests.target(self._api.kinds, request.path)
            call = requests.call(request, user, target, await requests.body(request))
        except status.Refusal as refusal:
            return _refused(refusal)
        try:
            if await self._api.faults.meet(call):
                self._api.noted(call)
                _cut(request)
                raise asyncio.CancelledError
            answer = await self._answer(request, user, target, call)
        except status.Refusal as refusal:
            answer = _refused(refusal)
        if call.verb != "watch" or answer.status != 200:
            self._api.noted(replace(call, status=answer.status))
        return answer

    async def _answer(
        self, request: web.BaseRequest, user: User, target: Target | None, call: Call
    ) -> web.StreamResponse:
        if target is None:
            return self._document(request)
        wish = Wish(verb=call.verb, group=call.group, resource=call.resource, namespace=call.namespace, name=call.name)
        self._api.access.check(user, wish, target.kind)
        if call.verb == "watch":
            return await self._watch(request, target, call)
        return self._rest(request, user, target, call)

    def _document(self, request: web.BaseRequest) -> web.Response:
        document = discovery.document(self._api.kinds, request.path, request.headers.get("Accept", ""))
        if document is None:
            raise status.not_served()
        content, kind = document
        return web.Response(body=orjson.dumps(content), headers={"Content-Type": kind})

    def _rest(self, request: web.BaseRequest, user: User, target: Target, call: Call) -> web.Response:
        api, kind, query = self._api.resources, target.kind, request.query
        if call.verb not in kind.verbs or (target.subresource and not target.name):
            raise status.Refusal(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        options = requests.options(request, user, target)
        code, where, name = 200, target.namespace, target.name
        match call.verb:
            case "get":
                answer = api.get(kind, where, name, subresource=target.subresource)
            case "list":
                answer = self._list(request, target)
            case "create":
                answer, code = self._created(user, target, call.body, options), 201
            case "update":
                answer = api.replace(kind, where, name, requests.whole(call.body), options)
            case "patch":
                how = _PATCHES.get(call.content_type)
                if how is None:
                    accepted = ", ".join(_PATCHES)
                    words = "the body of the request was in an unknown format - accepted media types include: "
                    raise status.Refusal(415, "UnsupportedMediaType", words + accepted)
                answer, made = api.patch(kind, where, name, call.body, how, options)
                code = 201 if made else 200
            case "delete":
                last, gone = api.delete(kind, where, name, requests.delete_options(request, call.body), options)
                answer = _success(kind, last) if gone else last
            case _:
                chosen = api.list(
                    kind, where, labels=query.get("labelSelector", ""), fields=query.get("fieldSelector", "")
                )
                for item in chosen.items:
                    meta = item["metadata"]
                    api.delete(
                        kind,
                        meta.get("namespace", ""),
                        meta["name"],
                        requests.delete_options(request, call.body),
                        options,
                    )
                answer = _listed(kind, chosen.items, {"resourceVersion": str(chosen.revision)})
        return _json(answer, kind, request, code=code, warnings=options.warnings)

    def _created(self, user: User, target: Target, body: Any, options: Options) -> Object:
        if target.kind.plural == "selfsubjectaccessreviews":
            return discovery.reviewed(self._api.access, user, requests.whole(body))
        if target.subresource == "token":
            return self._api.token_request(target.namespace, target.name, requests.whole(body))
        if target.subresource or target.name:
            raise status.Refusal(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        return self._api.resources.create(target.kind, target.namespace, requests.whole(body), options)

    def _list(self, request: web.BaseRequest, target: Target) -> Object:
        query = request.query
        version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
        if match and not version:
            raise requests.list_invalid(
                "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
        at = 0
        if version not in ("", "0"):
            at = requests.number(version)
            if at > self._api.storage.revision:
                raise status.too_large(at, self._api.storage.revision)
            at = at if match == "Exact" else 0
        chosen = self._api.resources.list(
            target.kind,
            target.namespace,
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            limit=int(query.get("limit", "0") or 0),
            continues=query.get("continue", ""),
            at=at,
        )
        meta: Object = {"resourceVersion": str(chosen.revision)}
        if chosen.continues:
            meta["continue"] = chosen.continues
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                meta["remainingItemCount"] = chosen.remaining
        return _listed(target.kind, chosen.items, meta)

    async def _watch(self, request: web.BaseRequest, target: Target, call: Call) -> web.StreamResponse:
        query, watches = request.query, self._api.watches
        by_name = f"metadata.name={target.name}" if target.name else ""
        initial = query.get("sendInitialEvents") == "true"
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            raise requests.list_invalid(
                "resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        version = query.get("resourceVersion", "")
        since = None if initial or version in ("", "0") else requests.number(version)
        if watches.expires_as_status and since is not None:
            self._api.storage.check(since)
        watch = Watch(
            kind=target.kind,
            namespace=target.namespace,
            selects=self._api.resources.selects(
                target.kind,
                query.get("labelSelector", ""),
                ",".join(filter(None, (query.get("fieldSelector", ""), by_name))),
            ),
            storage=self._api.storage,
            since=since,
            bookmarks=query.get("allowWatchBookmarks") in {"true", "1"},
            initial_end=initial,
        )
        watches.opened(watch, lambda: _cut(request))
        seconds = float(query.get("timeoutSeconds", "0") or 0)
        timer = asyncio.get_running_loop().call_later(seconds, watch.end) if seconds else None
        self._api.noted(replace(call, status=200))
        try:
            return await self._stream(request, watch)
        finally:
            watches.closed(watch)
            if timer is not None:
                timer.cancel()

    async def _stream(self, request: web.BaseRequest, watch: Watch) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"})
        answer.enable_chunked_encoding()
        as_table = tables.wanted(request.headers.get("Accept", ""))
        await answer.prepare(request)
        first = True
        async for event in watch.events():
            await self._api.watches.flowing.wait()
            if as_table and event["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                event = event | {"object": tables.table(watch.kind, [event["object"]], {}, columns=first)}
                first = False
            await answer.write(orjson.dumps(event) + b"\n")
        await self._api.watches.flowing.wait()
        await answer.write_eof()
        return answer


def _success(kind: Kind, last: Object) -> Object:
    meta = last["metadata"]
    group = {"group": kind.group} if kind.group else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": meta["name"], **group, "kind": kind.plural, "uid": meta["uid"]},
    }


def _listed(kind: Kind, items: list[Object], meta: Object) -> Object:
    return {"kind": kind.list_kind, "apiVersion": kind.api_version, "metadata": meta, "items": items}


def _json(
    content: Object, kind: Kind, request: web.BaseRequest, *, code: int = 200, warnings: list[str] | None = None
) -> web.Response:
    if request.method == "GET" and tables.wanted(request.headers.get("Accept", "")) and content["kind"] != "Scale":
        meta = content["metadata"] if "items" in content else {}
        content = tables.table(kind, content.get("items", [content]), meta)
    response = web.Response(status=code, body=orjson.dumps(content), headers={"Content-Type": "application/json"})
    for warning in warnings or ():
        response.headers.add("Warning", f"299 - {json.dumps(warning)}")
    return response


def _refused(refusal: status.Refusal) -> web.Response:
    if refusal.code == 404 and not refusal.reason:
        return web.Response(status=404, text=f"{refusal}\n")
    headers = {"Content-Type": "application/json"}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    return web.Response(status=refusal.code, body=orjson.dumps(refusal.body), headers=headers)


def _cut(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        transport.abort()

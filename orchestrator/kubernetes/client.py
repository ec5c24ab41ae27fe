"""The adapter of `base.Cluster` to a real API server, over `kubernetes.aio`.

Objects are JSON values in and out, and a request is sent once: whoever asks knows best whether, and when, to try again.
(Where a connection turns out to be closed, what may be repeated is sent over a fresh one.) Credentials that are refused
are the exception: they are loaded anew, because tokens are rotated, and the request is sent once more. Every request
has its timeout, that of a watch being a bit over what the server was asked for, so a connection that has silently died
is noticed. Lines of a watch may be of any size.

::

    cluster = KubernetesCluster(Kubeconfig(paths="config"))   # or InPod()
    await cluster.open()                                      # SettingsError; asks nothing of the API yet
    page = await cluster.list(PODS, labels="app=workflow-engine")
    async with aclosing(cluster.watch(PODS, since=page.resource_version)) as events:
        async for event in events: ...
    await cluster.close()

Made by `orchestrator.in_kubernetes`; who wants all objects of a kind kept at hand uses `reflector` on top of it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from orchestrator.errors import ClusterExpired, ClusterUnavailable
from orchestrator.kubernetes import answers, refusals
from orchestrator.kubernetes.access import Access, Connection
from orchestrator.kubernetes.base import Event, Object, Page, Patch, Resource

__all__ = ["FIELD_MANAGER", "KubernetesCluster"]

FIELD_MANAGER: Final = "dag-orchestrator"
"""Who changed a field, as the API remembers it."""

TIMEOUT: Final = 30.0
"""Seconds that a request may take, a page of a list being one."""

_CONNECT_SECONDS: Final = 5.0
_WATCH_GRACE: Final = 5.0
"""Seconds after which a watch is given up that the server should have ended."""

_PAGE_SIZE: Final = 500

_CONTENT_TYPES: Final[dict[Patch, str]] = {
    "merge": "application/merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class KubernetesCluster:
    """One namespace of a cluster: that of the access when none is given, or else `default`."""

    def __init__(
        self, access: Access, *, namespace: str = "", timeout: float = TIMEOUT, watch_grace: float = _WATCH_GRACE
    ) -> None:
        """`timeout` is in seconds, for a request; `watch_grace` how much longer a watch may take than was asked for."""
        self._access = access
        self._namespace = namespace
        self._timeout = timeout
        self._watch_grace = watch_grace
        self._connection: Connection | None = None
        self._loading: asyncio.Task[None] | None = None
        self._retired: Connection | None = None
        """The one before, whose credentials were refused: watches may still run over it."""
        self._answers: set[Any] = set()
        """Responses whose bodies are being read."""

    @property
    def namespace(self) -> str:
        """The namespace that all methods are about; known once it is open."""
        return self._namespace

    async def open(self) -> None:
        """Load the configuration. SettingsError when it cannot be used or the extra `kubernetes` is not installed."""
        self._connection = await self._access.connect()
        self._namespace = self._namespace or self._connection.namespace or "default"

    async def close(self) -> None:
        """End every request. Idempotent."""
        if self._connection is None:
            return
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        import aiohttp

        for response in self._answers:  # whoever reads one would not hear of the end of its connection
            response.content.set_exception(aiohttp.ClientConnectionError("the client was closed"))
        connections = (self._connection, self._retired)
        self._connection = self._retired = None
        for connection in connections:
            if connection is not None:
                await connection.api.close()

    # --- reading ---

    async def get(self, resource: Resource, name: str, *, subresource: str = "") -> Object:
        """One object."""
        return await self._ask("get", resource, name, subresource)

    async def list(self, resource: Resource, *, labels: str = "") -> Page:
        """All objects that a label selector selects: page by page, or at once should the API lose the thread."""
        what = refusals.Call("list", resource, self._namespace)
        query = _query(labelSelector=labels, limit=str(_PAGE_SIZE))
        items: list[Object] = []
        while True:
            try:
                answer = await self._ask("list", resource, query=query)
            except ClusterExpired:
                if "continue" not in query:
                    raise
                query, items = _query(labelSelector=labels), []
                continue
            page, more = answers.as_page(what, answer)
            items += page.items
            if not more:
                return Page(items=items, resource_version=page.resource_version)
            query["continue"] = more

    async def watch(
        self, resource: Resource, *, since: str, labels: str = "", seconds: float = 300.0
    ) -> AsyncGenerator[Event, None]:
        """Changes after resource version `since`, bookmarks among them."""
        query = _query(
            labelSelector=labels,
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=since,
            timeoutSeconds=str(max(1, math.ceil(seconds))),
        )
        what = refusals.Call("watch", resource, self._namespace)
        response = await self._send(what, query=query, total=max(1, math.ceil(seconds)) + self._watch_grace)
        ended = False
        self._answers.add(response)
        try:
            line = bytearray()
            while chunk := await self._next(what, response):
                first, *others = chunk.split(b"\n")
                line += first
                for other in others:
                    if line.strip():
                        yield answers.event(what, bytes(line))
                    line = bytearray(other)
            if line.strip():
                raise ClusterUnavailable(f"{what}: the stream ended within an event")
            ended = True
        finally:
            self._answers.discard(response)
            if ended:
                response.release()
            else:
                response.close()

    # --- changing ---

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> Object:
        """Create an object: what the API made of it. ClusterConflict when the name is taken."""
        return await self._ask("create", resource, query=_query(fieldManager=FIELD_MANAGER), body=body)

    async def replace(self, resource: Resource, name: str, body: Mapping[str, Any], *, subresource: str = "") -> Object:
        """Replace an object. ClusterConflict when `body` has a resource version and that is not the present one."""
        query = _query(fieldManager=FIELD_MANAGER)
        return await self._ask("update", resource, name, subresource, query=query, body=body)

    async def patch(
        self,
        resource: Resource,
        name: str,
        body: Mapping[str, Any],
        *,
        kind: Patch = "merge",
        subresource: str = "",
    ) -> Object:
        """Change some of an object. `apply` takes over fields that others manage."""
        query = _query(fieldManager=FIELD_MANAGER, force="true" if kind == "apply" else "")
        return await self._ask(
            "patch", resource, name, subresource, query=query, body=body, content_type=_CONTENT_TYPES[kind]
        )

    async def delete(self, resource: Resource, name: str, *, uid: str = "") -> None:
        """Ask for an object to be deleted; with `uid`, only that very one (ClusterConflict when it is another)."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            options["preconditions"] = {"uid": uid}
        await self._ask("delete", resource, name, body=options)

    # --- requests ---

    async def _ask(
        self,
        verb: refusals.Verb,
        resource: Resource,
        name: str = "",
        subresource: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Object:
        what = refusals.Call(verb, resource, self._namespace, name, subresource)
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._send(what, query=query or {}, body=body, content_type=content_type)
                async with response:
                    content = await self._read(what, response)
        except TimeoutError as exc:
            raise ClusterUnavailable(f"{what}: the API did not answer within {self._timeout:g} s") from exc
        answer = answers.value(what, content)
        return answer if verb in ("list", "delete") else answers.as_object(what, answer)

    async def _send(
        self,
        what: refusals.Call,
        *,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        total: float | None = None,
    ) -> Any:
        """Send a request, with new credentials if those that there are are refused: the response, its body unread.

        `total` bounds, in seconds, everything until the end of the body. Raises ClusterError.
        """
        connection = self._connected()
        renewed = False
        while True:
            response = await self._try(connection, what, query, body, content_type, total)
            if response is not None and response.status < 400:
                return response
            if response is not None and (response.status != 401 or renewed):
                async with response:
                    status = answers.status(await self._read(what, response))
                raise refusals.error(what, response.status, status, response.headers.get("Retry-After"))
            if response is not None:
                response.release()
            elif renewed:
                raise ClusterUnavailable(f"{what}: the API's certificate is not signed by the CA that this side knows")
            connection, renewed = await self._renewed(what, connection), True

    async def _try(
        self,
        connection: Connection,
        what: refusals.Call,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
        total: float | None,
    ) -> Any:
        """The response; None when the server's certificate is not trusted. ClusterUnavailable when there is none."""
        import aiohttp  # a dependency of kubernetes.aio, and as late as that
        from kubernetes.aio.config import ConfigException

        try:
            async with asyncio.timeout(self._timeout):
                method, url, headers, sent, form = await connection.api.param_serialize(
                    what.method,
                    what.path,
                    query_params=sorted(query.items()),
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=None if body is None else dict(body),
                    auth_settings=["BearerToken"],
                )
                limits = aiohttp.ClientTimeout(total=total, sock_connect=_CONNECT_SECONDS)
                answer = await connection.api.call_api(method, url, headers, sent, form, _request_timeout=limits)
        except aiohttp.ClientConnectorCertificateError:
            return None
        except TimeoutError as exc:
            raise ClusterUnavailable(f"{what}: {connection.server} did not answer in time") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ClusterUnavailable(f"{what}: {connection.server} cannot be reached: {exc}") from exc
        except (ValueError, ConfigException) as exc:  # its words may quote them
            fault = f"the credentials cannot be used as they are ({type(exc).__name__})"
            raise ClusterUnavailable(f"{what}: {fault}") from None
        except (AssertionError, RuntimeError) as exc:  # what aiohttp says when its session has been closed meanwhile
            if connection is self._connection:
                raise
            raise ClusterUnavailable(f"{what}: the connection was closed") from exc
        return answer.response

    async def _read(self, what: refusals.Call, response: Any) -> bytes:
        import aiohttp

        self._answers.add(response)
        try:
            content: bytes = await response.read()
        except (aiohttp.ClientError, OSError) as exc:
            raise ClusterUnavailable(f"{what}: the answer broke off: {exc}") from exc
        finally:
            self._answers.discard(response)
        return content

    async def _next(self, what: refusals.Call, response: Any) -> bytes:
        """The next piece of a stream, of any size; empty at its end."""
        import aiohttp

        try:
            chunk: bytes = await response.content.readany()
        except TimeoutError as exc:
            raise ClusterUnavailable(f"{what}: nothing was heard for too long") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ClusterUnavailable(f"{what}: the stream broke off: {exc}") from exc
        return chunk

    def _connected(self) -> Connection:
        if self._connection is None:
            raise ClusterUnavailable("the client of the Kubernetes API is closed")
        return self._connection

    async def _renewed(self, what: refusals.Call, refused: Connection) -> Connection:
        """A connection with credentials that were loaded after those of `refused`. One load at a time serves all."""
        current = self._connected()
        if current is not refused:
            return current
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="kubernetes credentials")
            self._loading.add_done_callback(self._loaded)
        loading = self._loading
        # Should a command that gives them take too long, it is left alone, and not started once more.
        await asyncio.wait([loading], timeout=self._timeout)
        if not loading.done():
            raise ClusterUnavailable(f"{what}: new credentials cannot be had within {self._timeout:g} s")
        if loading.cancelled():
            raise ClusterUnavailable("the client of the Kubernetes API is closed")
        if (fault := loading.exception()) is not None:
            raise ClusterUnavailable(f"{what}: new credentials cannot be loaded: {fault}") from fault
        return self._connected()

    async def _load(self) -> None:
        fresh = await self._access.connect()
        stale, self._retired, self._connection = self._retired, self._connection, fresh
        if stale is not None:
            await stale.api.close()

    def _loaded(self, loading: asyncio.Task[None]) -> None:
        self._loading = None
        if not loading.cancelled():
            loading.exception()  # whoever waited for it tells; asyncio complains of those that nobody looked at


def _query(**given: str) -> dict[str, str]:
    return {name: value for name, value in given.items() if value}

"""What can go wrong with an API server, done on purpose.

A `match` says which requests a fault meets: `"list pods"`, `"watch"`, `"patch executions/status"`, `"leases"`; empty
for all. Words are verbs as RBAC names them, resources with their subresource, names of objects, or (with `user:`) who
asks. A fault with `times` is over after so many requests; with None it stays until `clear()`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import kubernetes_status as status
from kubernetes_storage import Storage
from kubernetes_watches import Watches

if TYPE_CHECKING:
    from kubernetes_door import Door
    from kubernetes_requests import Call

_VERBS: Final = {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
_REASONS: Final = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
_WORDS: Final = {
    429: "the server has received too many requests and has asked us to try again later",
    500: "Internal error occurred: etcdserver: request timed out",
    503: "the server is currently unable to handle the request",
    504: "Timeout: request did not complete within the allotted timeout",
}


@dataclass(slots=True, kw_only=True)
class Fault:
    """One fault that requests may meet. `met` counts those that did."""

    match: str
    times: int | None
    refusal: Callable[[Call], status.Refusal] | None = None
    seconds: float = 0.0
    cut: bool = False
    gate: asyncio.Event | None = None
    met: int = field(default=0, init=False)
    arrived: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def meets(self, call: Call) -> bool:
        if self.times is not None and self.met >= self.times:
            return False
        return matches(self.match, call)

    def release(self) -> None:
        """End a `hold`: what waits goes on, and nothing waits any more."""
        self.times = 0
        if self.gate is not None:
            self.gate.set()


def matches(match: str, call: Call) -> bool:
    """Whether a request is one that a match speaks of."""
    for word in match.split():
        if word.startswith("user:"):
            fits = call.user in (word[5:], f"system:serviceaccount:{word[5:]}")
        elif word in _VERBS:
            fits = call.verb == word
        else:
            fits = word in (call.resource, f"{call.resource}.{call.group}", call.name)
        if not fits:
            return False
    return True


class Faults:
    """The faults of one server. Methods take effect at once, and none has to be awaited."""

    def __init__(self, door: Door, storage: Storage, watches: Watches) -> None:
        self._door = door
        self._storage = storage
        self._watches = watches
        self._faults: list[Fault] = []

    def down(self) -> None:
        """The server is gone: connections are cut, and new ones refused. Idempotent."""
        self._door.close()

    def up(self) -> None:
        """It is there again, at the same address, with the same objects. Idempotent."""
        self._door.open()

    def fail(
        self,
        match: str = "",
        status: int = 500,
        times: int | None = 1,
        retry_after: int | None = None,
        message: str = "",
    ) -> Fault:
        """Answer with an HTTP status; 429 and 503 say `Retry-After` when `retry_after` (seconds) is given."""
        return self._add(Fault(match=match, times=times, refusal=lambda _: _refusal(status, message, retry_after)))

    def forbid(self, match: str = "", times: int | None = None) -> Fault:
        """Answer 403, as RBAC does."""
        return self._add(Fault(match=match, times=times, refusal=_forbidden))

    def conflict(self, match: str = "", times: int | None = 1) -> Fault:
        """Answer 409 Conflict, as if the object had been changed meanwhile."""
        return self._add(Fault(match=match, times=times, refusal=_conflict))

    def delay(self, seconds: float, match: str = "", times: int | None = None) -> Fault:
        """Take so long to begin an answer."""
        return self._add(Fault(match=match, times=times, seconds=seconds))

    def hold(self, match: str = "", times: int | None = None) -> Fault:
        """Do not begin an answer before `release()` of what is returned; its `arrived` is set when a request waits."""
        return self._add(Fault(match=match, times=times, gate=asyncio.Event()))

    def cut(self, match: str = "", times: int | None = 1) -> Fault:
        """Break the connection off instead of answering; nothing is done."""
        return self._add(Fault(match=match, times=times, cut=True))

    def expire(self, *, open_watches: bool = True, as_status: bool = False) -> None:
        """Forget how it came to this: 410 for older versions, on lists that go on and on watches.

        A watch is told by an ERROR event in its stream; with `as_status`, new ones by HTTP status 410, as some servers
        do. `open_watches`: those that are open get the ERROR event too, and end.
        """
        behind = self._storage.revision
        self._storage.compact()
        self._watches.expires_as_status = as_status
        for watch in self._watches.of() if open_watches else ():
            watch.fail(status.expired(behind, self._storage.compacted))

    def cut_watches(self, resource: str = "") -> int:
        """Break the connections of watches off, in the middle of the stream; how many there were."""
        return self._watches.cut(resource)

    def end_watches(self, resource: str = "") -> int:
        """End watches in good order, as when their time is over; how many there were."""
        found = self._watches.of(resource)
        for watch in found:
            watch.end()
        return len(found)

    def stall_watches(self) -> None:
        """No byte more on any watch, though connections stay, until `resume_watches`."""
        self._watches.flowing.clear()

    def resume_watches(self) -> None:
        """What happened meanwhile comes now."""
        self._watches.flowing.set()

    def bookmark(self, resource: str = "") -> int:
        """Send a bookmark to each watch that wants some, as the server does once a minute; how many are open."""
        found = self._watches.of(resource)
        for watch in found:
            watch.bookmark()
        return len(found)

    def clear(self) -> None:
        """All is well again."""
        for fault in self._faults:
            fault.release()
        self._faults.clear()
        self.resume_watches()
        self.up()

    def _add(self, fault: Fault) -> Fault:
        self._faults.append(fault)
        return fault

    async def meet(self, call: Call) -> bool:
        """Do to a request what is to be done to it; whether its connection is to be cut. Raises a Refusal."""
        for fault in tuple(self._faults):
            if not fault.meets(call):
                continue
            fault.met += 1
            fault.arrived.set()
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            if fault.gate is not None:
                await fault.gate.wait()
            if fault.refusal is not None:
                raise fault.refusal(call)
            if fault.cut:
                return True
        return False


def _refusal(code: int, message: str, retry_after: int | None) -> status.Refusal:
    words = message or _WORDS.get(code, _REASONS.get(code, "failure"))
    return status.Refusal(code, _REASONS.get(code, ""), words, retry_after=retry_after)


def _details(call: Call) -> dict[str, Any]:
    return {"name": call.name, "group": call.group, "kind": call.resource.partition("/")[0]}


def _forbidden(call: Call) -> status.Refusal:
    resource = call.resource.partition("/")[0] + (f".{call.group}" if call.group else "")
    named = f' "{call.name}"' if call.name else ""
    words = (
        f'{resource}{named} is forbidden: User "{call.user}" cannot {call.verb} resource "{call.resource}" in API group'
        f' "{call.group}" in the namespace "{call.namespace}"'
    )
    return status.Refusal(403, "Forbidden", words, **_details(call))


def _conflict(call: Call) -> status.Refusal:
    words = f'Operation cannot be fulfilled on {call.resource} "{call.name}": {status.MODIFIED}'
    return status.Refusal(409, "Conflict", words, **_details(call))

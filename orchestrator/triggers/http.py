"""Which request starts which workflow: the HTTP triggers in force, as a table. Pure.

The table is a value: make a new one from the registered versions whenever they change. The registry asks it before it
takes a document (`check`, `conflict`), the REST interface asks it for every request that it has no route for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Final

import msgspec

from dagengine.errors import Problem
from dagengine.spec.model import Document
from orchestrator.triggers import declared

__all__ = ["RESERVED", "HTTPTriggerTable", "Route", "check"]

RESERVED: Final = ("/api", "/healthz", "/metrics", "/openapi.json", "/readyz")
"""Paths that belong to the orchestrator's own interface, with everything below them."""

_PATH: Final = "spec.triggers.http.path"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One trigger in force."""

    method: str
    path: str
    workflow: str
    version: str

    @property
    def reference(self) -> str:
        """The version that a request starts: `id@version`."""
        return f"{self.workflow}@{self.version}"


class HTTPTriggerTable:
    """The HTTP triggers in force.

    Should two workflows claim one path all the same (a higher version was removed and the one below it has another
    path), the one registered first has it; `shadowed` holds the other.
    """

    def __init__(self, versions: Iterable[declared.Declaring] = ()) -> None:
        routes: dict[tuple[str, str], Route] = {}
        shadowed: list[Route] = []
        leaders = [
            reduce(declared.higher, records[1:], records[0]) for records in declared.by_workflow(versions).values()
        ]
        for record in sorted(leaders, key=lambda record: (record.registered_at, record.workflow)):
            http = declared.triggers_of(record).http
            if http is None:
                continue
            route = Route(method=http.method, path=_plain(http.path), workflow=record.workflow, version=record.version)
            if routes.setdefault((route.method, route.path), route) is not route:
                shadowed.append(route)
        self._routes = routes
        self.shadowed = tuple(shadowed)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes.values())

    def __len__(self) -> int:
        return len(self._routes)

    def match(self, method: str, path: str) -> Route | None:
        """The trigger that a request fires. A slash at the end of the path makes no difference."""
        return self._routes.get((method, _plain(path)))

    def reference(self, method: str, path: str) -> str | None:
        """The version that a request starts, `id@version`."""
        route = self.match(method, path)
        return route.reference if route is not None else None

    def conflict(self, document: Document) -> Problem | None:
        """What stands against a document because of the other workflows here: they have its path already."""
        http = document.spec.triggers.http
        if http is None or not declared.is_stable(document.version):
            return None
        taken = self.match(http.method, http.path)
        if taken is None or taken.workflow == document.id:
            return None
        return Problem(
            path=_PATH,
            message=f"{http.method} {_plain(http.path)} starts the workflow '{taken.workflow}' already "
            f"(version {taken.version}): choose another path",
        )


def check(document: Document) -> Iterator[Problem]:
    """What is wrong with a document's HTTP trigger, whatever else is registered."""
    http = document.spec.triggers.http
    if http is None:
        return
    path = _plain(http.path)
    if path == "/":
        yield Problem(path=_PATH, message="'/' cannot be a trigger: choose a path such as /trigger/" + document.id)
    for reserved in RESERVED:
        if path == reserved or path.startswith(reserved + "/"):
            yield Problem(
                path=_PATH,
                message=f"'{http.path}' belongs to the orchestrator's own interface ({reserved}): "
                f"choose a path such as /trigger/{document.id}",
            )


def _plain(path: str) -> str:
    return path.rstrip("/") or "/"

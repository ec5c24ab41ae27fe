"""Engines in the orchestrator's own process: registered by name, dialled like any other, closed together with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata as distribution
from typing import Any

from dagengine.app import DAGEngine
from dagengine.server.host import Host
from orchestrator.discovery.in_process import InProcessDiscovery
from orchestrator.errors import Conflict, NotFound
from orchestrator.transport.in_process import InProcessTransport

__all__ = ["LocalEngines"]


class LocalEngines:
    """Such engines, and the Python functions that all of them are to know. Used by `app.Orchestrator`."""

    def __init__(self) -> None:
        self.discovery = InProcessDiscovery()
        self._hosts: dict[str, tuple[Host, DAGEngine]] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        self._transport: InProcessTransport | None = None
        """There while the orchestrator is open."""

    def open(self, transport: InProcessTransport) -> None:
        """Make the engines reachable."""
        self._transport = transport
        for name, (host, _) in self._hosts.items():
            transport.register(name, host.session)

    async def close(self) -> None:
        """Close the engines. They stay registered."""
        self._transport = None
        for host, engine in self._hosts.values():
            host.close()
            await engine.close()

    def register(self, name: str, engine: DAGEngine, *, capacity: int, labels: Mapping[str, str]) -> None:
        """Add an engine that takes so many executions. Raises Conflict."""
        if name in self._hosts:
            raise Conflict(f"an engine named {name!r} is registered already: give each engine its own name")
        for function_name, function in self._functions.items():
            engine.register(function_name, function)
        version = distribution.version("dagengine")
        host = Host(engine, engine_id=name, version=version, capacity=capacity, labels=labels)
        if self._transport is not None:
            self._transport.register(name, host.session)
        self._hosts[name] = (host, engine)
        self.discovery.register(name)  # last of all: from here on it is dialled

    async def unregister(self, name: str, *, drain: float) -> None:
        """Take an engine out, and close it. What it runs has `drain` seconds to finish. Raises NotFound."""
        if name not in self._hosts:
            raise NotFound(f"no engine named {name!r} is registered in this process")
        host, engine = self._hosts[name]
        if self._transport is not None:
            await host.drain(drain)
        if self._hosts.pop(name, None) is None:
            return  # somebody else has done so meanwhile
        self.discovery.unregister(name)
        if self._transport is not None:
            self._transport.unregister(name)
        host.close()
        await engine.close()

    def teach(self, functions: Mapping[str, Callable[..., Any]]) -> list[str]:
        """Make functions known to the engines, those to come included; the names of those that are here."""
        for name, function in functions.items():
            for _, engine in self._hosts.values():
                engine.register(name, function)
            self._functions[name] = function
        return list(self._hosts) if functions else []

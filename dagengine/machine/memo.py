"""Results that were found before: under which digest they are kept, and what a hit means."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from dagengine.events import facts
from dagengine.graph.compiled import NodePlan
from dagengine.machine.commands import Lookup
from dagengine.spec.model import LuaExecutor

if TYPE_CHECKING:
    from dagengine.machine.machine import Machine

__all__ = ["found", "kept", "look_up"]


def look_up(machine: Machine, position: int, index: int, key: bytes, serial: int, at: int) -> None:
    """The key of a unit is known (JSON): ask whether its result is, too. `at` is the time.

    Whoever names a node to be run again does not want its result from before; the new one is kept in its place.
    """
    unit = (position, index)
    digest = _digest(machine, machine.graph.nodes[position], key)
    args, _ = machine.prepared.get(unit, (None, ""))
    machine.prepared[unit] = (args, digest)
    if position in machine.state.fresh:
        machine.prepare(position, index, at, after="cache")
        return
    machine.asked["lookup", position, index] = serial
    machine.command(Lookup(position, index, digest, serial))


def _digest(machine: Machine, node: NodePlan, key: bytes) -> str:
    """SHA-256 over the key and everything of the node that makes its result: the same key of other code is another."""
    modules = machine.graph.document.spec.modules if isinstance(node.executor, LuaExecutor) else {}
    content = {"executor": node.executor.model_dump(mode="json", by_alias=True), "modules": modules}
    encoded = msgspec.json.encode(content, order="deterministic")
    return hashlib.sha256(len(key).to_bytes(8, "big") + key + encoded).hexdigest()


def found(machine: Machine, position: int, index: int, result: bytes, execution: str, at: int) -> None:
    """The result of a unit was found: no attempt is needed."""
    machine.prepared.pop((position, index), None)
    machine.record(
        facts.NodeSucceeded(
            at=at,
            node=machine.graph.nodes[position].id,
            index=None if index < 0 else index,
            attempt=machine.state.attempt_of(position, index),
            result=msgspec.Raw(result),
            cached_from=execution,
        )
    )


def kept(machine: Machine, position: int, index: int, at: int) -> tuple[str, int | None]:
    """Under which digest the result of an attempt is kept, and until when; empty when it is not."""
    digest = machine.state.cache.get((position, index), "")
    cache = machine.graph.nodes[position].cache
    if not digest or cache is None:
        return "", None
    return digest, None if cache.ttl is None else at + cache.ttl

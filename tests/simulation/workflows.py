"""Random workflows, and what their nodes do: the same in every run of a seed, however often it is disturbed.

A *steady* workflow has no part whose outcome depends on when things happen: its result must be that of an undisturbed
run. A *hasty* one has time limits and waits that give up; it must end well, but not always alike.
"""

from __future__ import annotations

import hashlib
import random
from typing import Any, Final

import msgspec

from dagengine.executors.base import Job

__all__ = ["FIRST", "POOLS", "SHARED", "SIGNALS", "make", "result_of", "stripped", "verdict_of"]

POOLS: Final = {"here": 2}
"""Pools that every engine has."""
SHARED: Final = {"everywhere": 2}
"""Pools over the whole system."""
FIRST: Final = "first"
"""The pool of engines that one engine is in, whatever others there are."""
SIGNALS: Final = ("go", "late")

_RUN_IF: Final = ["all_succeeded"] * 8 + ["all_done", "any_succeeded", "any_failed", "none_failed", "always"]
_WAITS: Final[list[dict[str, Any]]] = [
    {"duration": "50ms"},
    {"duration": "4s"},
    {"duration": "25s"},
    {"until": "2026-01-01T00:00:20Z"},
    {"signal": {"name": "go"}},
    {"signal": {"name": "{{ inputs.name }}"}},
    {"approval": {}},
]
_HASTY_WAITS: Final[list[dict[str, Any]]] = [
    {"signal": {"name": "late", "timeout": "3s", "default": 7}},
    {"signal": {"name": "late", "timeout": "2s"}},
    {"approval": {"timeout": "5s", "default": "approve"}},
]


def make(name: str, chance: random.Random, *, hasty: bool) -> dict[str, Any]:
    """A workflow document."""
    main = _nodes("n", chance.choice([1, 2, 3, 4, 6, 9]), chance, hasty)
    last = _nodes("x", chance.choice([0, 0, 0, 1, 2]), chance, hasty)
    spec: dict[str, Any] = {"nodes": main, "on_exit": last}
    spec["failure_policy"] = chance.choice(["continue", "continue", "fail_fast"]) if hasty else "continue"
    if chance.random() < 0.3:
        spec["outputs"] = {"done": "{{ nodes.n0 }}"}
    if chance.random() < 0.25:
        spec["concurrency"] = {
            "key": chance.choice(["", "{{ inputs.name }}"]),
            "max": chance.choice([1, 2]),
            "on_conflict": "queue",
        }
    if chance.random() < 0.3:
        spec["engine"] = chance.choice([{"exclusive": True}, {"exclusive": True}, {"pool": FIRST, "exclusive": True}])
    elif chance.random() < 0.1:
        spec["engine"] = {"pool": FIRST}
    if hasty and chance.random() < 0.2:
        spec["timeout"] = chance.choice(["3s", "20s"])
    spec["inputs"] = {"x": {"type": "integer"}, "name": {"type": "string", "default": "go"}}
    return {"metadata": {"id": name, "version": "1.0.0"}, "spec": spec}


def _nodes(prefix: str, count: int, chance: random.Random, hasty: bool) -> list[dict[str, Any]]:
    return [_node(f"{prefix}{at}", [f"{prefix}{low}" for low in range(at)], chance, hasty) for at in range(count)]


def _node(name: str, lower: list[str], chance: random.Random, hasty: bool) -> dict[str, Any]:
    needed = chance.sample(lower, min(len(lower), chance.choice([0, 1, 1, 1, 2, 3])))
    node: dict[str, Any] = {"id": name, "dependencies": sorted(needed)}
    if needed and chance.random() < 0.4:
        node["run_if"] = chance.choice(_RUN_IF)
    if needed and chance.random() < 0.1:
        node["when"] = f"nodes.{needed[0]} == nil or inputs.x % 3 > 0"
    if chance.random() < 0.15:
        node["foreach"] = "{" + ", ".join(map(str, range(chance.choice([0, 1, 3, 6])))) + "}"
        if chance.random() < 0.5:
            node["max_parallel"] = chance.choice([1, 2])
        if hasty and chance.random() < 0.3:
            node["fail_after"] = chance.choice([0, 1])
    if chance.random() < 0.15:
        node["executor"] = {"type": "wait", **chance.choice(_WAITS + (_HASTY_WAITS if hasty else []))}
        return node
    _work(node, needed, chance, hasty)
    return node


def _work(node: dict[str, Any], needed: list[str], chance: random.Random, hasty: bool) -> None:
    node["executor"] = {"type": "lua", "code": "return 1"}
    if chance.random() < 0.6:
        args = {"seen": f"{{{{ nodes.{needed[0]} }}}}"} if needed and chance.random() < 0.5 else {}
        node["executor"] = {"type": "python", "function": "effect", "args": args}
        if chance.random() < 0.15:
            node["on_partition"] = "continue"
    if chance.random() < 0.12:
        node["pool"] = chance.choice(["here", "everywhere"])
    if chance.random() < 0.05:
        node["rate"] = "5/s"
    brief = {"initial": "200ms", "max": "2s"}
    node["retry"] = {
        "fail": {"max_attempts": chance.choice([1, 2, 3]), "backoff": brief},
        "error": {"max_attempts": 1000, "backoff": brief},
    }
    if hasty and chance.random() < 0.2:
        node["timeout"] = chance.choice(["300ms", "3s"])
        node["retry"]["error"]["max_attempts"] = 3
    if hasty and chance.random() < 0.1:
        node["total_timeout"] = chance.choice(["3s", "8s"])


def _drawn(*names: object) -> random.Random:
    return random.Random(hashlib.blake2b(repr(names).encode(), digest_size=8).digest())


def _of(job: Job) -> tuple[object, ...]:
    return job.scope.workflow, job.scope.inputs, job.node, job.index


def verdict_of(seed: int, job: Job) -> str:
    """How an attempt ends, if it is let: `success`, `fail` or `error`.

    Refusals depend on how often the code has refused before, which nothing but the code decides; what the platform
    breaks is tried again until it does not.
    """
    refusals = job.key.rpartition("/")[2] or job.attempt
    if _drawn(seed, "fail", *_of(job), refusals).random() < 0.12:
        return "fail"
    return "error" if job.key and _drawn(seed, "error", *_of(job), job.attempt).random() < 0.05 else "success"


def result_of(seed: int, job: Job, nonce: str) -> bytes:
    """What an attempt gives: `v` depends on what it saw, `n` (of an effect) is different each time."""
    seen = [(node, msgspec.json.decode(bytes(value))) for node, value in job.scope.nodes.items()]
    made = {
        "v": _drawn(seed, *_of(job), stripped(seen)).randrange(1 << 30),
        "n": nonce or _drawn(seed, *_of(job), seen).randrange(1 << 30),
    }
    return msgspec.json.encode(made)


def stripped(value: Any) -> Any:
    """A value without what differs from attempt to attempt."""
    if isinstance(value, dict):
        return {key: stripped(each) for key, each in value.items() if key != "n"}
    if isinstance(value, list | tuple):
        return [stripped(each) for each in value]
    return value

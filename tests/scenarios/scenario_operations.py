"""What people ask for, as scenarios write it: `cancel with grace 5s by ada because it is late`."""

from __future__ import annotations

import json
import re

from msgspec import Raw

from dagengine.machine import operations
from dagengine.machine.operations import Operation
from dagengine.spec.duration import parse_duration

__all__ = ["parse"]

_WHY = re.compile(r"(?: by (?P<author>[\w-]+))?(?: because (?P<reason>.+))?$")
_UNIT = re.compile(r"([\w-]+)(?:\[(\d+)\])?")


def parse(line: str) -> Operation | None:
    """The operation that a line asks for; None when it asks for none. Without `by`, it is `ada` who asks."""
    found = _WHY.search(line)
    if found is None:
        return None
    words = line[: found.start()]
    by = {"author": found["author"] or "ada", "reason": found["reason"] or ""}
    verb, _, rest = words.partition(" ")
    match verb:
        case "pause":
            return operations.Pause(node=rest, **by)
        case "resume":
            return operations.Unpause(node=rest, **by)
        case "retry":
            return operations.Rerun(nodes=tuple(filter(None, rest.split(", "))), **by)
        case "terminate" if not rest:
            return operations.Cancel(terminate=True, **by)
        case "cancel" if not rest or rest.startswith("with grace "):
            grace = parse_duration(rest.removeprefix("with grace ")) if rest else 0
            return operations.Cancel(grace=grace, **by)
        case "skip":
            node, given, result = rest.partition(" with ")
            return operations.Skip(node=node, **({"result": _raw(result)} if given else {}), **by)
        case "signal":
            name, given, payload = rest.partition(" ")
            return operations.Signal(name=name, payload=_raw(payload) if given else Raw(b"null"), **by)
        case "approve" | "reject":
            unit = _UNIT.fullmatch(rest)
            if unit is None:
                raise ValueError(f"what is there to {verb}: {rest}")
            index = None if unit[2] is None else int(unit[2])
            return operations.Decide(node=unit[1], index=index, approved=verb == "approve", **by)
        case "edit":
            node, _, inputs = rest.partition(" ")
            return operations.EditInputs(node=node, inputs=_raw(inputs), **by)
    return None


def _raw(text: str) -> Raw:
    return Raw(json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False).encode())

"""Statuses as values: conditions that keep the time of their last change, texts that fit, and patches.

Pure. Used by the reconcilers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from dagengine.errors import InputError, SpecError

__all__ = [
    "Condition",
    "difference",
    "find",
    "instant",
    "microseconds",
    "reason_of",
    "shortened",
    "told",
    "updated",
    "without_nulls",
]

Answer = Literal["True", "False", "Unknown"]

_MOST: Final = 30_000
"""Characters of a message; the API's own conditions have at most 32,768."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is, or is not, true of an object. `reason` is for programs, one word; `message` for people."""

    type: str
    status: Answer
    reason: str
    message: str = ""


def updated(
    before: Iterable[Mapping[str, Any]], conditions: Iterable[Condition], *, generation: int, now: int
) -> list[dict[str, Any]]:
    """The conditions of a status, from those it had. The time of a transition is new only where `status` is another.

    Conditions of other types, which somebody else has put there, stay.
    """
    known = {str(each.get("type")): dict(each) for each in before}
    for condition in conditions:
        old = known.get(condition.type, {})
        same = old.get("status") == condition.status
        known[condition.type] = {
            "type": condition.type,
            "status": condition.status,
            "observedGeneration": generation,
            "lastTransitionTime": (same and old.get("lastTransitionTime")) or instant(now),
            "reason": condition.reason,
            "message": shortened(condition.message),
        }
    return list(known.values())


def find(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of a type in a status; empty when it has none."""
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), {})


def reason_of(code: str) -> str:
    """The reason of a condition for a code of ours: `no_executor:shell` is `NoExecutor`."""
    return "".join(word.capitalize() for word in code.partition(":")[0].split("_"))


def shortened(text: str, most: int = _MOST) -> str:
    """`text`, cut where it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 2] + " …"


def told(error: SpecError | InputError) -> str:
    """Every problem that an error carries, with its path: as many as fit into a message."""
    lines, left = [f"{error.summary}:"], _MOST - len(error.summary) - 60
    for position, problem in enumerate(error.problems):
        line = f"- {problem}"
        left -= len(line) + 1
        if left < 0:
            return "\n".join([*lines, f"… and {len(error.problems) - position + error.omitted:,} more"])
        lines.append(line)
    return "\n".join([*lines, *([f"… and {error.omitted:,} more"] if error.omitted else [])])


def instant(at: int) -> str:
    """A time (microseconds since 1970) as the API has them: RFC 3339, whole seconds."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def microseconds(text: str) -> int:
    """The time that `instant` wrote. Raises ValueError."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def difference(before: Any, after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `after` of `before`; empty when they are the same.

    `after` has no null in objects: such a patch could not say it.
    """
    old = before if isinstance(before, dict) else {}
    patch: dict[str, Any] = {name: None for name in old if name not in after}
    for name, value in after.items():
        if name in old and old[name] == value:
            continue
        known = old.get(name)
        patch[name] = difference(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return patch


def without_nulls(value: Any) -> Any:
    """`value` without the members of objects that are null; those inside lists stay: a patch has lists as a whole."""
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(item) for name, item in value.items() if item is not None}

"""What requests for pages of executions say, as text: statuses and cursors. Called by `service`."""

from __future__ import annotations

from typing import Final, get_args

from orchestrator.errors import RequestError
from orchestrator.store.base import ExecutionRecord, Status

__all__ = ["before", "cursor_after", "statuses"]

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)


def statuses(text: str | None) -> list[Status]:
    """One or several statuses, separated by commas. Raises RequestError."""
    if not text:
        return []
    wanted = text.split(",")
    if unknown := [word for word in wanted if word not in _STATUSES]:
        raise RequestError(f"there is no status '{unknown[0]}'; there are {', '.join(_STATUSES)}")
    return [status for status in _STATUSES if status in wanted]


def cursor_after(record: ExecutionRecord) -> str:
    """The cursor of the page after the one that ends with an execution."""
    return f"{record.created_at}.{record.id}"


def before(cursor: str | None) -> tuple[int, str] | None:
    """Where a page begins, as the store wants it. Raises RequestError."""
    if not cursor:
        return None
    at, dot, execution = cursor.partition(".")
    if not (dot and execution and at.isascii() and at.isdecimal() and len(at) < 19):  # it must fit 64 bits
        raise RequestError(f"the cursor {cursor!r} is none that this interface gave out")
    return int(at), execution

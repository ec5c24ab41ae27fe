"""Ids of executions: UUID version 7 (RFC 9562), so that newer ones sort behind older ones in every index."""

from __future__ import annotations

import secrets
import uuid

__all__ = ["execution_id"]


def execution_id(at: int) -> str:
    """A new id for an execution made at `at` (microseconds since the Unix epoch)."""
    milliseconds = at // 1_000 & (1 << 48) - 1
    value = milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=value))

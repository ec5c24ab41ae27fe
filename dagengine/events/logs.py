"""The log stream of an execution: what its nodes print. It runs beside the facts and is never folded."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Level", "LogLine"]


Level = Literal["debug", "info", "warning", "error"]


class LogLine(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One line that a node printed. `line` counts from 1 within the attempt; `at` is microseconds since the epoch."""

    execution: str
    node: str
    index: int | None = None
    attempt: int
    line: int
    at: int
    level: Level = "info"
    text: str

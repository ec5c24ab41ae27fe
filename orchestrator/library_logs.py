"""Where the log of an orchestrator goes that is a part of somebody's program. Called by `app`; servers say more."""

from __future__ import annotations

import structlog

__all__ = ["to_standard_logging"]


def to_standard_logging() -> None:
    """Unless somebody has configured structlog: a library must not write to its program's standard output."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )

"""What an exported journal says of its execution, besides facts. The verb `journal` answers with it."""

from __future__ import annotations

from typing import Final

import msgspec

from orchestrator.store.base import Status

__all__ = ["FORMAT", "JournalHeader"]

FORMAT: Final = "dagengine-journal/1"


class JournalHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An execution without its facts: all that it takes to fold them anywhere.

    `last_seq` is how many there were when it was asked for, `release` the version of whoever answered, `seed` what its
    randomness comes from (64 bits, more than a JavaScript number holds), `document` that of its version, canonical.
    """

    format: str
    release: str
    execution: str
    workflow: str
    version: str
    digest: str
    status: Status
    seed: int
    epoch: int
    last_seq: int
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None
    trigger: str = "api"
    priority: int = 0
    inputs: msgspec.Raw
    """JSON: an object."""
    document: msgspec.Raw
    """JSON."""

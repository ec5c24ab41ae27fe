"""What is told of a whole execution, and of a whole purge: answers of verbs that rooms above them make, and read again.

The verbs `journal` and `purge` answer with them; `history` reads the one from files, `retention` adds up the other.
"""

from __future__ import annotations

from typing import Final

import msgspec

from orchestrator.store.base import Status

__all__ = ["FORMAT", "JournalHeader", "PurgeReport", "Purged"]

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


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What went of one workflow. `oldest` and `newest` are when the first and the last of its executions had ended."""

    workflow: str
    executions: int
    facts: int
    oldest: int
    newest: int

    def plus(self, other: Purged | None) -> Purged:
        """Both, of one workflow."""
        if other is None:
            return self
        return Purged(
            workflow=self.workflow,
            executions=self.executions + other.executions,
            facts=self.facts + other.facts,
            oldest=min(self.oldest, other.oldest),
            newest=max(self.newest, other.newest),
        )


class PurgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What went, or with `dry_run` would have. `rows` are those of the store, of executions that go as a whole.

    `log_lines` went before their executions, `values` are large ones that nothing refers to any more: neither is
    counted in a dry run. With `more` there is something left: ask again (a dry run has then counted only the first).
    """

    dry_run: bool
    workflows: list[Purged]
    executions: int
    rows: int = 0
    log_lines: int = 0
    values: int = 0
    more: bool = False

    def plus(self, later: PurgeReport) -> PurgeReport:
        """What went in this turn and in the one after it."""
        known = {purged.workflow: purged for purged in self.workflows}
        for purged in later.workflows:
            known[purged.workflow] = purged.plus(known.get(purged.workflow))
        return PurgeReport(
            dry_run=later.dry_run,
            workflows=[known[workflow] for workflow in sorted(known)],
            executions=self.executions + later.executions,
            rows=self.rows + later.rows,
            log_lines=self.log_lines + later.log_lines,
            values=self.values + later.values,
            more=later.more,
        )

"""What is kept of the executions of a workflow. Pure; `purger` carries it out.

The document of a workflow's latest version (the one that `id@latest` names) decides for all of its executions, whatever
version they are pinned to: a version is immutable, and what is to be kept of the past is decided today. Where it says
nothing, and where the workflow was deleted, the server's defaults hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from dagengine.spec.model import Retention

__all__ = ["Kept", "kept"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept: executions for `ttl` after their end, the newest `keep` of each workflow, log lines for `log_ttl`.

    Times are microseconds; None: without a limit.
    """

    ttl: int | None = None
    keep: int | None = None
    log_ttl: int | None = None

    @property
    def executions_go(self) -> bool:
        """Whether executions ever go."""
        return self.ttl is not None or self.keep is not None


def kept(said: Retention | None, defaults: Kept) -> Kept:
    """What holds where a document says `said` (None: there is no document)."""
    executions = said.executions if said is not None else None
    logs = said.logs if said is not None else None
    return Kept(
        ttl=defaults.ttl if executions is None else executions.ttl,
        keep=defaults.keep if executions is None else executions.keep,
        log_ttl=defaults.log_ttl if logs is None else logs.ttl,
    )

"""What `dagctl purge` does: show what would go, ask, and have it deleted, turn by turn."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from orchestrator.cli import failures, lists, printing
from orchestrator.cli.options import Format

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.verbs import PurgeReport

__all__ = ["Order", "purge"]

_TURN: Final = 2.0
"""Seconds after which progress is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which executions are to go."""

    workflow: str | None
    older_than: str | None
    keep: int | None

    def members(self) -> dict[str, Any]:
        """As the verb takes them. A bare number is seconds, as everywhere."""
        given = self.older_than
        plain = given is not None and given.replace(".", "", 1).isdigit()
        older_than = float(given) if plain and given is not None else given
        return {"workflow": self.workflow, "older_than": older_than, "keep": self.keep}


def purge(client: Client, order: Order, *, dry_run: bool, sure: bool, form: Format) -> int:
    """Delete what is to go, unless it is only to be shown; the exit code."""
    asks = not sure and sys.stdin.isatty()
    if dry_run or asks:
        planned = asyncio.run(_once(client, order, dry_run=True))
        if dry_run:
            _print(planned, form)
            return 0
        sys.stderr.write(_table(planned))
        if planned.executions and not _confirmed(planned):
            failures.complain("nothing was deleted")
            return failures.FAILURE
    _print(asyncio.run(_all(client, order)), form)
    return 0


def _confirmed(planned: PurgeReport) -> bool:
    sys.stderr.write(f"Delete {_count(planned)} for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def _once(client: Client, order: Order, *, dry_run: bool) -> PurgeReport:
    async with client:
        return await client.purge(**order.members(), dry_run=dry_run, within=_TURN)


async def _all(client: Client, order: Order) -> PurgeReport:
    async with client:
        report = await client.purge(**order.members(), within=_TURN)
        while report.more:
            sys.stderr.write(f"{report.executions:,} executions, {report.rows + report.log_lines:,} rows deleted…\n")
            report = report.plus(await client.purge(**order.members(), within=_TURN))
        return report


def _print(report: PurgeReport, form: Format) -> None:
    if form is not Format.TABLE:
        printing.structured(report, form)
        return
    printing.write(_table(report))


def _table(report: PurgeReport) -> str:
    would = "would be deleted" if report.dry_run else "deleted"
    if not report.workflows:
        lines = f", {report.log_lines:,} log lines {would}" if report.log_lines else ""
        return f"no executions {would}{lines}\n"
    rows = [
        (
            purged.workflow,
            f"{purged.executions:,}",
            f"{purged.facts:,}",
            printing.ago(purged.oldest, lists.now()),
            printing.ago(purged.newest, lists.now()),
        )
        for purged in report.workflows
    ]
    table = printing.table(("WORKFLOW", "EXECUTIONS", "FACTS", "OLDEST ENDED", "NEWEST ENDED"), rows)
    return f"{table}{_count(report)} {would}\n"


def _count(report: PurgeReport) -> str:
    more = "at least " if report.dry_run and report.more else ""
    return f"{more}{report.executions:,} execution{'' if report.executions == 1 else 's'}"

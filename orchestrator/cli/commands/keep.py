"""`dagctl purge`, `backup` and `restore`: what is kept, and for how long."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as given
from orchestrator.cli.access import Access, takes_access

__all__ = ["backup", "purge", "restore"]

DatabaseURL = Annotated[
    str,
    typer.Option(
        "--database-url", envvar="DATABASE_URL", metavar="URL", help="The store, as dag-orchestrator is told of it."
    ),
]


@takes_access
def purge(
    workflow: Annotated[
        str | None, typer.Argument(metavar="[WORKFLOW]", help="Of one workflow; without it, of all of them.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Those that ended longer ago: 30d, 12h.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", min=0, metavar="N", help="Those beyond the newest N of each workflow.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Delete executions that have ended, with everything that belongs to them.

    With --older-than or --keep those; with neither, those that need not be kept by the retention of their workflows,
    which the orchestrator deletes by itself in time. Asks before it deletes, on a terminal.

    \b
    Examples:
      dagctl purge --dry-run
      dagctl purge hello --older-than 30d --keep 100
      dagctl purge --older-than 90d --yes -o json
    """
    from orchestrator.cli import connection, purging

    order = purging.Order(workflow=workflow, older_than=older_than, keep=keep)
    raise typer.Exit(purging.purge(connection.client(access), order, dry_run=dry_run, sure=yes, form=output))


def backup(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to put the copy.")],
    database_url: DatabaseURL = "sqlite:///dagengine.db",
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    quiet: given.Quiet = False,
) -> None:
    """Copy the store into a file, also while its orchestrator runs.

    The copy is the store as it was when the backup began, in one file, and is checked before it gets its name. Run it
    where the store is. For PostgreSQL it says which command to use; see docs/backup.md.

    \b
    Examples:
      dagctl backup nightly.db
      dagctl backup /backups/monday.db --database-url sqlite:////var/lib/dagengine/state.db
    """
    from orchestrator.cli import backing_up

    backing_up.backup(file, database_url, force=force, quiet=quiet)


def restore(
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `dagctl backup` has written.")],
    database_url: DatabaseURL = "sqlite:///dagengine.db",
    force: Annotated[bool, typer.Option("--force", help="Replace the store if there is one.")] = False,
    quiet: given.Quiet = False,
) -> None:
    """Put a backup in the place of a store that no orchestrator has open.

    The backup is checked first. Engines are told to drop what they run for the store that was there before; what was
    done after the backup is not known any more, and may be done again. See docs/backup.md.

    \b
    Examples:
      dagctl restore nightly.db
      dagctl restore /backups/monday.db --database-url sqlite:////var/lib/dagengine/state.db --force
    """
    from orchestrator.cli import backing_up

    backing_up.restore(file, database_url, force=force, quiet=quiet)

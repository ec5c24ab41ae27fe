"""`dagctl export` and `replay`: the journal of an execution in a file."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as given
from orchestrator.cli.access import Access, takes_access

__all__ = ["export", "replay"]


@takes_access
def export(
    execution: given.Execution,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; without it, to standard output.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    *,
    access: Access,
) -> None:
    """Write the journal of an execution: its document, its inputs, and every fact.

    As JSON lines, one for the execution and one for each fact. Of one that runs, what is committed by now. Values of
    inputs and results are in it as they are; those of secrets never are.

    \b
    Examples:
      dagctl export 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 -o history.jsonl
      dagctl export 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 | dagctl replay -
    """
    from orchestrator.cli import connection, exporting

    exporting.export(connection.client(access), execution, output, force=force)


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An exported journal; - is standard input.")],
    every: Annotated[
        int | None,
        typer.Option(
            "--every", min=1, metavar="N", help="Check after each N facts. Without it: after each, if it can."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not tell the story, only how it ends.")] = False,
    output: given.Output = given.Format.TABLE,
) -> None:
    """Fold an exported journal again, check every invariant, and tell its story.

    Needs no orchestrator and performs nothing. The exit code is 1 when the journal cannot be true: it says at which
    fact, and why. It is 2 when the file is no journal.

    \b
    Examples:
      dagctl replay history.jsonl
      dagctl replay history.jsonl --quiet
      dagctl replay history.jsonl -o json
    """
    from orchestrator.cli import replaying

    raise typer.Exit(replaying.replay(file, every=every, quiet=quiet, form=output))

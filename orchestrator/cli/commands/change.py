"""`dagctl apply`, `start` and `delete`: what an orchestrator holds."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as given
from orchestrator.cli.access import Access, takes_access

__all__ = ["apply", "delete_workflow", "start"]


@takes_access
def apply(
    files: Annotated[
        list[str],
        typer.Option(
            "--file", "-f", metavar="FILE", help="A document, a directory of them, - or module.py:variable; repeatable."
        ),
    ],
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Register workflow versions.

    Nothing is sent unless every document is right. A version that is registered already with the same content stays
    as it is.

    \b
    Examples:
      dagctl apply -f hello.yaml
      dagctl apply -f workflows/
      cat hello.yaml | dagctl apply -f -
    """
    from orchestrator.cli import connection, remote_change

    remote_change.apply(connection.client(access), files, output)


@takes_access
def start(
    reference: Annotated[
        str, typer.Argument(metavar="ID[@RANGE]", help="A workflow: hello, hello@1.2.0, hello@^1 or hello@latest.")
    ],
    inputs: given.Inputs = None,
    inputs_file: given.InputsFile = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended and print its outputs.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Like --wait, and show its progress.")] = False,
    idempotency_key: given.IdempotencyKey = None,
    priority: given.Priority = None,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Start an execution of a registered workflow.

    Prints the execution's id; with --wait or --watch its outputs, and the exit code is 1 when it does not succeed.
    With -o json, prints the execution as one object, with its outputs when it was waited for.

    \b
    Examples:
      dagctl start hello -i name=World --wait
      dagctl start weather@^1 -i data=@seattle-weather.csv --watch
      dagctl start nightly --inputs-file inputs.yaml --idempotency-key 2025-01-31 -o json
    """
    from orchestrator.cli import connection, starting

    order = starting.Order(
        reference=reference,
        pairs=tuple(inputs or ()),
        inputs_file=inputs_file,
        idempotency_key=idempotency_key,
        priority=priority,
        wait=wait or watch,
        watch=watch,
    )
    raise typer.Exit(starting.start(connection.client(access), order, output))


@takes_access
def delete_workflow(
    reference: Annotated[str, typer.Argument(metavar="ID[@VERSION]", help="A workflow, or one exact version of it.")],
    force: Annotated[bool, typer.Option("--force", help="Also when executions of it have not ended.")] = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Remove a workflow with all its versions, or one version of it. Its executions stay readable.

    \b
    Examples:
      dagctl delete workflow hello@1.0.0
      dagctl delete workflow hello --force
    """
    from orchestrator.cli import connection, remote_change

    remote_change.delete(connection.client(access), reference, force=force, form=output)

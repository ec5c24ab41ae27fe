"""`dagctl cancel`, `pause`, `retry`, `signal`, …: what can be asked of an execution, and `why` it is not running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options as given
from orchestrator.cli.access import Access, takes_access

if TYPE_CHECKING:
    from orchestrator.cli import operating

__all__ = [
    "approve", "cancel", "edit", "pause", "reject", "resume", "retry", "signal", "skip", "terminate", "why",
]  # fmt: skip

Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the execution.")]
Author = Annotated[
    str | None, typer.Option("--author", metavar="NAME", help="Who asks. Without it: the user of this machine.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is done: that it is recorded will do.")]
Node = Annotated[str, typer.Argument(metavar="NODE", help="Id of a node.")]
OneNode = Annotated[
    str | None, typer.Argument(metavar="[NODE]", help="One node; without it, the execution as a whole.")
]
Index = Annotated[
    int | None, typer.Option("--index", min=0, metavar="N", help="Which item of a foreach, counted from 0.")
]


@takes_access
def cancel(
    execution: given.Execution,
    grace: Annotated[
        str,
        typer.Option("--grace", metavar="DURATION", help="How long effects may take to end by themselves: 10s, 2m."),
    ] = "0s",
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Stop an execution.

    Nodes without effects stop at once; the nodes of `on_exit` still run.

    \b
    Examples:
      dagctl cancel 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 --reason "wrong input file"
      dagctl cancel 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 --grace 10s
    """
    from orchestrator.cli import connection, operating

    how, left = _asked(author, reason, no_wait, output), operating.seconds(grace)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.cancel(execution, grace=left, **how.by())))


@takes_access
def terminate(
    execution: given.Execution,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """End everything of an execution at once; nothing more runs, on_exit neither.

    \b
    Examples:
      dagctl terminate 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 --reason "the cleanup hangs"
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.terminate(execution, **how.by())))


@takes_access
def pause(
    execution: given.Execution,
    node: OneNode = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Begin nothing new and stop the clocks, in an execution or at one node. What runs may end.

    \b
    Examples:
      dagctl pause 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11
      dagctl pause 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 load --reason "the database is down"
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.pause(execution, node=node or "", **how.by())))


@takes_access
def resume(
    execution: given.Execution,
    node: OneNode = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Let what was paused go on: an execution, or one node.

    \b
    Examples:
      dagctl resume 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11
      dagctl resume 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 load
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.resume(execution, node=node or "", **how.by())))


@takes_access
def retry(
    execution: given.Execution,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NODE...]", help="What to run again, with all that depends on it."),
    ] = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Run parts of an execution again, also when it has ended.

    Without nodes: all that has not succeeded; items of a foreach that succeeded are kept.

    \b
    Examples:
      dagctl retry 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11
      dagctl retry 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 load report
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.retry(execution, nodes=nodes or (), **how.by())))


@takes_access
def skip(
    execution: given.Execution,
    node: Node,
    result: Annotated[
        str | None,
        typer.Option("--result", metavar="VALUE", help="Count it as succeeded with this: JSON, else text; @FILE."),
    ] = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Do not run a node (any longer).

    \b
    Examples:
      dagctl skip 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 notify
      dagctl skip 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 extract --result '{"rows": []}'
    """
    from msgspec import UNSET

    from orchestrator.cli import connection, inputs, operating

    how = _asked(author, reason, no_wait, output)
    value = UNSET if result is None else inputs.value("--result", result)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.skip(execution, node, result=value, **how.by())))


@takes_access
def signal(
    execution: given.Execution,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the signal.")],
    payload: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="VALUE", help="What comes with it: JSON, else text; @FILE."),
    ] = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Tell an execution that something has happened, which a node of it waits for.

    \b
    Examples:
      dagctl signal 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 paid
      dagctl signal 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 paid --payload '{"amount": 12}'
    """
    from orchestrator.cli import connection, inputs, operating

    how = _asked(author, reason, no_wait, output)
    value = None if payload is None else inputs.value("--payload", payload)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.signal(execution, name, value, **how.by())))


@takes_access
def approve(
    execution: given.Execution,
    node: Node,
    index: Index = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Approve of what a node waits for.

    \b
    Examples:
      dagctl approve 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 release --reason "looks good"
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.approve(execution, node, index=index, **how.by())))


@takes_access
def reject(
    execution: given.Execution,
    node: Node,
    index: Index = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Reject what a node waits for: it fails.

    \b
    Examples:
      dagctl reject 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 release --reason "not on a Friday"
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    client = connection.client(access)
    raise typer.Exit(operating.ask(client, how, lambda to: to.reject(execution, node, index=index, **how.by())))


@takes_access
def edit(
    execution: given.Execution,
    node: Node,
    inputs: given.Inputs = None,
    inputs_file: given.InputsFile = None,
    reason: Reason = "",
    author: Author = None,
    no_wait: NoWait = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Let a node that has not run see other values of some inputs.

    \b
    Examples:
      dagctl edit 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 load -i limit=10
    """
    from orchestrator.cli import connection, operating

    how = _asked(author, reason, no_wait, output)
    raise typer.Exit(
        operating.edit(connection.client(access), execution, node, how, (tuple(inputs or ()), inputs_file))
    )


@takes_access
def why(
    execution: given.Execution,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="One node; without it, all of them.")] = None,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Tell why an execution, and its nodes, are not running.

    Nodes that run or have succeeded are left out of the table; of one node, each item is told.

    \b
    Examples:
      dagctl why 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11
      dagctl why 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 load -o json
    """
    from orchestrator.cli import connection, explaining

    explaining.why(connection.client(access), execution, node, output)


def _asked(author: str | None, reason: str, no_wait: bool, output: given.Format) -> operating.Asked:
    from orchestrator.cli import operating, remote_change

    name = remote_change.author() if author is None else author
    return operating.Asked(author=name, reason=reason, wait=not no_wait, form=output)

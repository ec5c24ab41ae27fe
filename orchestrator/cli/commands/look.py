"""`dagctl get`, `describe`, `logs` and `watch`: everything that looks at an orchestrator and changes nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as given
from orchestrator.cli.access import Access, takes_access

__all__ = [
    "describe_execution",
    "describe_workflow",
    "engines",
    "executions",
    "logs",
    "pools",
    "replicas",
    "watch",
    "workflows",
]

Reference = Annotated[
    str, typer.Argument(metavar="ID[@RANGE]", help="A workflow: hello, hello@1.2.0, hello@^1 or hello@latest.")
]


@takes_access
def workflows(
    reference: Annotated[
        str | None, typer.Argument(metavar="[ID[@RANGE]]", help="One workflow; without it, all of them.")
    ] = None,
    labels: Annotated[
        str, typer.Option("--filter", metavar="SELECTOR", help="By labels: team=data,tier!=gold,owner.")
    ] = "",
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """List workflows.

    Each with its latest version.

    \b
    Examples:
      dagctl get workflows
      dagctl get workflows --filter team=data
      dagctl get workflows weather@^1 -o yaml
    """
    from orchestrator.cli import connection, lists

    lists.workflows(connection.client(access), reference, labels, output)


@takes_access
def executions(
    execution: Annotated[
        str | None, typer.Argument(metavar="[EXECUTION]", help="One execution; without it, the newest ones.")
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", metavar="ID", help="Of this workflow only.")] = None,
    status: Annotated[
        str | None,
        typer.Option("--status", metavar="STATUS", help="queued, running, succeeded, failed or cancelled."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """List executions, newest first.

    \b
    Examples:
      dagctl get executions
      dagctl get executions --workflow weather --status failed --limit 5
      dagctl get executions -o json
    """
    from orchestrator.cli import connection, lists

    wanted = lists.Wanted(workflow=workflow, status=status, limit=limit)
    lists.executions(connection.client(access), execution, wanted, output)


@takes_access
def engines(
    engine: Annotated[
        str | None, typer.Argument(metavar="[ENGINE]", help="One engine; without it, all of them.")
    ] = None,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """List engines.

    Where they are, whether they are ready and why not, and how much they run.

    \b
    Examples:
      dagctl get engines
      dagctl get engines engine-1 -o json
    """
    from orchestrator.cli import connection, lists

    lists.engines(connection.client(access), engine, output)


@takes_access
def pools(
    pool: Annotated[
        str | None, typer.Argument(metavar="[POOL]", help="Pools of this name; without it, all of them.")
    ] = None,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """List pools.

    Those over the whole system, and those that engines have for themselves: how much room is taken, and how many
    attempts wait for some.

    \b
    Examples:
      dagctl get pools
      dagctl get pools db -o json
    """
    from orchestrator.cli import connection, lists

    lists.pools(connection.client(access), pool, output)


@takes_access
def replicas(
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """List replicas: the orchestrators that share one database.

    Any of them takes any request. One leads: cron triggers, pools over the whole system and concurrency keys are its
    business. When one is not heard of until its lease is over, the others take over what it had.

    \b
    Examples:
      dagctl get replicas
    """
    from orchestrator.cli import connection, lists

    lists.replicas(connection.client(access), output)


@takes_access
def describe_workflow(
    reference: Reference,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Tell everything about a version of a workflow: inputs, outputs, triggers and the graph.

    \b
    Examples:
      dagctl describe workflow weather
      dagctl describe workflow weather@1.0.0 -o yaml
    """
    from orchestrator.cli import connection, describing

    describing.workflow(connection.client(access), reference, output)


@takes_access
def describe_execution(
    execution: given.Execution,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Tell everything about an execution: where it runs, how far it is, each node, outputs or failures.

    \b
    Examples:
      dagctl describe execution 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11
    """
    from orchestrator.cli import connection, describing

    describing.execution(connection.client(access), execution, output)


@takes_access
def logs(
    execution: given.Execution,
    node: Annotated[str | None, typer.Option("--node", metavar="ID", help="Of this node only.")] = None,
    follow: given.Follow = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Put the time before each line.")] = False,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Print what the nodes of an execution print.

    With -o json, one JSON object per line.

    \b
    Examples:
      dagctl logs 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 -f
      dagctl logs 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11 --node transform --timestamps
    """
    from orchestrator.cli import connection, reading_logs

    wanted = reading_logs.Wanted(node=node, follow=follow, timestamps=timestamps)
    reading_logs.print_logs(connection.client(access), execution, wanted, output)


@takes_access
def watch(
    execution: given.Execution,
    output: given.Output = given.Format.TABLE,
    *,
    access: Access,
) -> None:
    """Show an execution live until it has ended.

    Then prints its outputs; the exit code is 1 when it did not succeed. Ctrl-C stops watching only.

    \b
    Examples:
      dagctl watch 3f0c5a5e-9d0b-4c58-8d57-0f6a1f6a7f11
    """
    from orchestrator.cli import connection, starting

    raise typer.Exit(starting.watch(connection.client(access), execution, output))

"""`dagctl`: workflows from the command line, on this machine and on an orchestrator.

Only signatures and help are imported here; see `orchestrator.cli`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

try:
    import typer
    from typer.core import TyperGroup

    from orchestrator.cli import failures
    from orchestrator.cli.commands import change, dev, journal, keep, local, look, operate, repl, secret
except KeyboardInterrupt:  # Ctrl-C when nothing has begun yet: as silent as one that comes later
    sys.exit(130)

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """The commands; whatever one of them raises becomes a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        with failures.reported():
            return super().invoke(ctx)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dagctl {version('dagengine')}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Versioned DAG workflows: run them here, or hand them to an orchestrator.

    \b
    Examples:
      dagctl run hello.yaml                     run a workflow here, without a server
      dagctl dev                                an orchestrator and two engines in this terminal
      dagctl apply -f hello.yaml                register a workflow
      dagctl start hello -i name=Ada --watch    start it and see it run

    Exit codes: 0 it worked, 1 it failed, 2 what was asked is wrong, 130 Ctrl-C.
    """


def _group(summary: str, example: str) -> typer.Typer:
    text = f"{summary}\n\n\b\nExamples:\n  {example}"
    return typer.Typer(cls=TyperGroup, help=text, no_args_is_help=True, rich_markup_mode=None)


def _add(group: typer.Typer, *commands: Callable[..., None]) -> None:
    for command in commands:
        group.command()(command)


def _build() -> typer.Typer:
    root = typer.Typer(
        cls=_Commands,
        no_args_is_help=True,
        rich_markup_mode=None,  # importing Rich for help would cost more than all the rest of `--help`
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    root.callback()(_root)
    _add(root, local.run, local.validate, local.graph, local.schema, local.manifest)
    _add(root, repl.repl, dev.dev, change.apply, change.start)
    get = _group("List workflows, executions, engines, pools or replicas.", "dagctl get executions --status failed")
    _add(get, look.workflows, look.executions, look.engines, look.pools, look.replicas)
    for singular, command in (
        ("workflow", look.workflows),
        ("execution", look.executions),
        ("engine", look.engines),
        ("pool", look.pools),
        ("replica", look.replicas),
    ):
        get.command(name=singular, hidden=True)(command)
    root.add_typer(get, name="get")
    describe = _group("Tell everything about a workflow or an execution.", "dagctl describe workflow weather")
    describe.command(name="workflow")(look.describe_workflow)
    describe.command(name="execution")(look.describe_execution)
    root.add_typer(describe, name="describe")
    _add(root, look.logs, look.watch, operate.why)
    _add(root, operate.cancel, operate.terminate, operate.pause, operate.resume, operate.retry, operate.skip)
    _add(root, operate.signal, operate.approve, operate.reject, operate.edit)
    _add(root, journal.export, journal.replay, keep.purge, keep.backup, keep.restore, secret.token)
    delete = _group("Remove a workflow.", "dagctl delete workflow hello@1.0.0")
    delete.command(name="workflow")(change.delete_workflow)
    root.add_typer(delete, name="delete")
    return root


app = _build()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `dagctl` with the process's arguments (or `arguments`) and exit."""
    app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="dagctl")

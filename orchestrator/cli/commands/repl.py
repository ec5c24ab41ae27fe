"""`dagctl repl`: the sandbox of Lua nodes, to type at."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as given

__all__ = ["repl"]


def repl(
    inputs: given.Inputs = None,
    inputs_file: given.InputsFile = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            "--nodes", metavar="FILE", help="A JSON or YAML file with results by node id, in scope as `nodes`."
        ),
    ] = None,
) -> None:
    """Try Lua in the sandbox that nodes run in.

    What a line evaluates to is shown as JSON; code goes on over lines until it is complete. Globals stay, locals end
    with their line. Ctrl-C stops what runs, Ctrl-D leaves, :help says more.

    Without a terminal it runs what it reads from standard input; the exit code is 1 when something failed.

    \b
    Examples:
      dagctl repl
      dagctl repl -i limit=5 --nodes results.json
      echo 'return sha256("x")' | dagctl repl
    """
    from orchestrator.cli import lua_session

    raise typer.Exit(lua_session.run(inputs or (), inputs_file, nodes))

"""`dagctl dev`: a whole installation in one terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["dev"]


def dev(
    engines: Annotated[int, typer.Option("--engines", min=1, max=64, help="How many engine processes.")] = 2,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the orchestrator on 127.0.0.1; 0 takes a free one.")
    ] = 8080,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep the store here; without it, it is gone at the end."),
    ] = None,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="Of all processes: debug, info, warning or error.")
    ] = "warning",
) -> None:
    """Run an orchestrator and engines right here.

    An orchestrator with its embedded store and as many engines as wanted, each a process, until Ctrl-C. When one of
    them dies, the others are stopped and the exit code is 1.

    Makes a token and keeps it, with the URL, in a file that only you can read; other dagctl commands of yours find
    both there by themselves.

    \b
    Examples:
      dagctl dev
      dagctl dev --engines 4 --port 0 --data ./state
    """
    from orchestrator.cli import developing

    raise typer.Exit(developing.run(engines=engines, port=port, data=data, log_level=log_level))

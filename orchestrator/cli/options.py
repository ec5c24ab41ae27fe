"""The options that several commands of `dagctl` share, written once: their names, help and environment variables."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = [
    "Execution",
    "Follow",
    "Format",
    "GraphFormat",
    "IdempotencyKey",
    "Inputs",
    "InputsFile",
    "ObjectFormat",
    "Output",
    "Priority",
    "Quiet",
    "ShowLogs",
]


class Format(StrEnum):
    """How a command prints its result."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class ObjectFormat(StrEnum):
    """How a command prints objects that others read."""

    YAML = "yaml"
    JSON = "json"


class GraphFormat(StrEnum):
    """How `dagctl graph` draws."""

    TREE = "tree"
    MERMAID = "mermaid"


Output = Annotated[Format, typer.Option("--output", "-o", help="How to print the result.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=VALUE",
        help="An input; repeat it for more. VALUE is JSON if it can be read as such, else text; where the workflow "
        "declares a text it stays text. NAME=@FILE takes a file's text (JSON from *.json), NAME=@- standard input; "
        "a VALUE that begins with @@ stands for a text that begins with @.",
    ),
]
InputsFile = Annotated[
    str | None,
    typer.Option(
        "--inputs-file", metavar="FILE", help="A JSON or YAML file with all inputs (- is standard input); -i wins."
    ),
]
IdempotencyKey = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", metavar="KEY", help="A second start with the same key gives the execution of the first."
    ),
]
Priority = Annotated[
    int | None,
    typer.Option("--priority", metavar="NUMBER", help="Higher ones go first; without it, that of the workflow."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
ShowLogs = Annotated[bool, typer.Option("--logs", help="Show what nodes print, on standard error.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution has ended.")]
Execution = Annotated[str, typer.Argument(metavar="EXECUTION", help="Id of the execution.")]

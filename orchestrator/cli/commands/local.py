"""`dagctl run`, `validate`, `schema`, `graph` and `manifest`: everything that needs no orchestrator."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as given

__all__ = ["graph", "manifest", "run", "schema", "validate"]

File = Annotated[
    str, typer.Argument(metavar="FILE", help="A YAML or JSON document (- is standard input), or module.py:variable.")
]


def run(
    file: File,
    inputs: given.Inputs = None,
    inputs_file: given.InputsFile = None,
    output: given.Output = given.Format.TABLE,
    logs: given.ShowLogs = False,
    quiet: given.Quiet = False,
    pools: Annotated[
        str, typer.Option("--pools", metavar="NAME=SIZE,…", help="Pools that nodes may name: db=4,api=2:10/s.")
    ] = "",
    shell: Annotated[
        bool | None, typer.Option("--shell", help="Run programs of shell nodes. [env: ENGINE_SHELL]")
    ] = None,
    python_allow: Annotated[
        str | None,
        typer.Option(
            "--python-allow",
            metavar="MODULE:FUNCTION,…",
            help="Functions that nodes may name by path; * is any text. [env: ENGINE_PYTHON_ALLOW]",
        ),
    ] = None,
    http_allow: Annotated[
        str | None,
        typer.Option(
            "--http-allow",
            metavar="RULE,…",
            help="Where requests may go besides the public Internet: localhost:8080. [env: ENGINE_HTTP_ALLOW]",
        ),
    ] = None,
) -> None:
    """Run a workflow here and now, without an orchestrator.

    Progress goes to standard error, the outputs to standard output. The exit code is 1 when the execution fails.
    Ctrl-C cancels the execution; a second one ends the process at once. What nodes may do is set as it is for
    dag-engine: by the ENGINE_… variables, or by flags, which win.

    \b
    Examples:
      dagctl run hello.yaml
      dagctl run backup.yaml --shell
      dagctl run hello.py:workflow -i name=World
      dagctl run weather.yaml -i data=@seattle-weather.csv -o json
    """
    from orchestrator.cli import documents, local_engine, local_run
    from orchestrator.cli import inputs as typed

    loaded = documents.load(file)
    values = typed.gather(inputs or (), inputs_file, loaded.document.spec.inputs)
    wanted = local_engine.Options(shell=shell, python_allow=python_allow, http_allow=http_allow, pools=pools)
    raise typer.Exit(local_run.run(loaded, values, form=output, logs=logs, quiet=quiet, options=wanted))


def validate(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Documents, directories of them, - or module.py:variable."),
    ],
    output: given.Output = given.Format.TABLE,
) -> None:
    """Check workflow documents.

    Says everything that is wrong, as file:line:column: path: message. The exit code is 2 when a document is wrong.

    \b
    Examples:
      dagctl validate hello.yaml
      dagctl validate workflows/ -o json
      cat hello.yaml | dagctl validate -
    """
    from orchestrator.cli import checking

    raise typer.Exit(checking.check(files, output))


def schema() -> None:
    """Print the JSON Schema of documents.

    Editors complete and check YAML with it: begin a document with `# yaml-language-server: $schema=FILE`.

    \b
    Examples:
      dagctl schema > workflow.schema.json
    """
    from dagengine.spec import schema as document_schema
    from orchestrator.cli import printing

    printing.structured(document_schema.json_schema(), given.Format.JSON)


def graph(
    file: File,
    form: Annotated[
        given.GraphFormat | None,
        typer.Option("--format", help="tree or mermaid. Without it: tree on a terminal, else mermaid."),
    ] = None,
) -> None:
    """Draw the graph of a workflow.

    \b
    Examples:
      dagctl graph hello.yaml
      dagctl graph hello.yaml --format mermaid > hello.mmd
    """
    import sys

    from orchestrator.cli import documents, drawing, plan, printing

    drawn = plan.read(documents.load(file).document.to_dict())
    if form is None:
        form = given.GraphFormat.TREE if sys.stdout.isatty() else given.GraphFormat.MERMAID
    printing.write(drawing.tree(drawn) if form is given.GraphFormat.TREE else drawing.mermaid(drawn))


def manifest(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Documents, directories of them, - or module.py:variable."),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the object; without it, made of the workflow's id.")
    ] = "",
    output: Annotated[
        given.ObjectFormat, typer.Option("--output", "-o", help="How to print the objects.")
    ] = given.ObjectFormat.YAML,
) -> None:
    """Write workflow documents as objects of Kubernetes, for `kubectl apply`.

    The id becomes the object's name; version, name and description become annotations. An id that cannot be a name is
    kept in the annotation workflows.dagengine.dev/id, and the name is made of it: in small letters, with - for _.

    \b
    Examples:
      dagctl manifest hello.yaml | kubectl apply -f -
      dagctl manifest workflows/ > objects.yaml
      dagctl manifest Night_Run.yaml --name night -o json
    """
    from orchestrator.cli import manifests

    manifests.write(files, name=name, form=given.Format(output.value))

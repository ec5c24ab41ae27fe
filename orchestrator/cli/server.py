"""`dag-orchestrator`: run one orchestrator that people and programs reach over REST.

Flags become settings (`orchestrator.settings`); the rest is `orchestrator.cli.serving`.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dagengine.errors import DAGEngineError, SettingsError
from orchestrator.errors import OrchestratorError

__all__ = ["app", "main"]

app = typer.Typer(
    rich_markup_mode=None,  # importing Rich for help would cost more than all the rest of `--help`
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dag-orchestrator {version('dagengine')}")
        raise typer.Exit


@app.command()
def run(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env: HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [env: HTTP_PORT]")] = None,
    engines: Annotated[
        str | None, typer.Option(metavar="HOST:PORT,…", help="Addresses of the engines. [env: ENGINES]")
    ] = None,
    discovery: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="How more engines are found: auto, static, pods, endpointslices or dns. [env: ENGINE_DISCOVERY]",
        ),
    ] = None,
    pools: Annotated[
        str | None, typer.Option(metavar="NAME=SIZE,…", help="Pools over the whole system. [env: POOLS]")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where everything is kept. Other users of this machine can see flags: give a URL with a password by "
            "the variable. [env: DATABASE_URL]",
        ),
    ] = None,
    load_balancer: Annotated[
        str | None,
        typer.Option(
            metavar="STRATEGY",
            help="consistent-hash, round-robin or least-loaded. [env: LOAD_BALANCER_TYPE]",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the shared token. [env: DAGENGINE_TOKEN_FILE]"),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate for HTTPS, PEM. [env: HTTP_TLS_CERT]")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key of that certificate, PEM. [env: HTTP_TLS_KEY]")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. [env: LOG_LEVEL]")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="auto, console or json. [env: LOG_FORMAT]")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file with settings.")] = None,
    announce: Annotated[
        bool, typer.Option("--announce", help='Print {"orchestrator": …, "url": …} on stdout once it listens.')
    ] = False,
    healthcheck: Annotated[
        bool,
        typer.Option("--healthcheck", help="Ask the orchestrator that runs with these settings whether it is healthy."),
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run an orchestrator until SIGTERM or Ctrl-C.

    Every setting can come from the environment too, or from a YAML file (--config); see docs/environment.md. A flag
    wins over the environment, that over the file. The token comes from the environment or a file only; without one,
    it listens on loopback addresses only.

    \b
    Examples:
      dag-orchestrator --engines 127.0.0.1:50051,127.0.0.1:50052
      dag-orchestrator --port 0 --database-url sqlite:///state.db --announce
      IN_CLUSTER_CONFIG=false dag-orchestrator --discovery pods
      DAGENGINE_TOKEN_FILE=/run/secrets/token dag-orchestrator --host 0.0.0.0 --engines engine-1:50051
    """
    flags = {
        "host": host,
        "http_port": port,
        "engines": engines,
        "engine_discovery": discovery,
        "pools": pools,
        "database_url": database_url,
        "load_balancer_type": load_balancer,
        "dagengine_token_file": token_file,
        "http_tls_cert": tls_cert,
        "http_tls_key": tls_key,
        "log_level": log_level,
        "log_format": log_format,
    }
    try:
        if healthcheck:
            _check(flags, config=config)
        else:
            _serve(flags, config=config, announce=announce)
    except (DAGEngineError, OrchestratorError) as exc:
        typer.echo(f"dag-orchestrator: {exc}", err=True)
        raise typer.Exit(2 if isinstance(exc, SettingsError) else 1) from exc


def _check(flags: dict[str, Any], *, config: Path | None) -> None:
    from orchestrator import settings as orchestrator_settings
    from orchestrator.cli import healthcheck

    fault = healthcheck.fault(orchestrator_settings.load(flags, config=config))
    if fault is not None:
        typer.echo(f"dag-orchestrator: {fault}", err=True)
        raise typer.Exit(1)


def _serve(flags: dict[str, Any], *, config: Path | None, announce: bool) -> None:
    from dagengine.cli import logs
    from orchestrator import settings as orchestrator_settings
    from orchestrator.cli import serving

    settings = orchestrator_settings.load(flags, config=config)
    logs.configure(level=settings.log_level, style=settings.log_format)
    serving.run(settings, announce=announce)


def main() -> None:
    """Run `dag-orchestrator`; exits with 0, 1 (it broke) or 2 (it was used wrongly)."""
    # Without this the first process of a container would not even hear SIGTERM before it listens.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    app(prog_name="dag-orchestrator")


if __name__ == "__main__":
    main()

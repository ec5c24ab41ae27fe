"""`dag-engine`: run one engine that orchestrators dial. Flags become settings; the rest is `server.process`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dagengine.errors import SettingsError

if TYPE_CHECKING:
    from dagengine.settings import EngineSettings

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,  # importing Rich for help would cost more than all the rest of `--help`
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dag-engine {version('dagengine')}")
        raise typer.Exit


@app.command()
def run(
    engine_id: Annotated[str | None, typer.Option("--id", help="Name of this engine. [env: ENGINE_ID]")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env: HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [env: PORT]")] = None,
    capacity: Annotated[int | None, typer.Option(help="Executions at a time. [env: CAPACITY]")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Label key=value that workflows may ask for; repeatable. [env: ENGINE_LABELS, ENGINE_POOL]"),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(help="[name=]package.module:function; repeatable. [env: ENGINE_PYTHON_MODULES]"),
    ] = None,
    python_allow: Annotated[
        list[str] | None,
        typer.Option(help="package.module:function that documents may name; repeatable. [env: ENGINE_PYTHON_ALLOW]"),
    ] = None,
    python_workers: Annotated[
        int | None, typer.Option(help="Processes at most for Python functions. [env: ENGINE_PYTHON_WORKERS]")
    ] = None,
    pools: Annotated[
        str | None, typer.Option(help="Pools of this engine: name=size[:rate],… [env: ENGINE_POOLS]")
    ] = None,
    lua: Annotated[str | None, typer.Option(help="Where Lua runs: process or thread. [env: LUA_ISOLATION]")] = None,
    lua_workers: Annotated[int | None, typer.Option(help="Lua processes at most. [env: LUA_WORKERS]")] = None,
    lua_memory: Annotated[int | None, typer.Option(help="MiB for Lua, in each. [env: LUA_MEMORY]")] = None,
    shell: Annotated[
        bool | None, typer.Option("--shell", help="Run programs of shell nodes. [env: ENGINE_SHELL]")
    ] = None,
    secrets_dir: Annotated[
        Path | None, typer.Option(help="Directory with a file for each secret. [env: ENGINE_SECRETS_DIR]")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the shared token. [env: DAGENGINE_TOKEN_FILE]")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate, PEM. [env: DAGENGINE_TLS_CERT]")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key, PEM. [env: DAGENGINE_TLS_KEY]")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="CA of orchestrators, PEM: mutual TLS. [env: DAGENGINE_TLS_CA]")
    ] = None,
    drain_timeout: Annotated[
        float | None, typer.Option(help="Seconds to finish work after SIGTERM. [env: DRAIN_TIMEOUT]")
    ] = None,
    reflection: Annotated[
        bool | None, typer.Option("--reflection", help="gRPC reflection, for development. [env: ENGINE_REFLECTION]")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error. [env: LOG_LEVEL]")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json. [env: LOG_FORMAT]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
    announce: Annotated[
        bool, typer.Option("--announce", help='Print {"engine": …, "address": …} on stdout once it listens.')
    ] = False,
    healthcheck: Annotated[
        bool,
        typer.Option("--healthcheck", help="Ask the engine that runs with these settings whether it is healthy."),
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run an engine until SIGTERM or Ctrl-C: it waits for orchestrators and runs the executions that they give it.

    Every setting can come from the environment too, or from a YAML file (--config); see docs/environment.md. A flag
    wins over the environment, that over the file. The token comes from the environment or a file only; without one,
    it listens on loopback addresses only.

    \b
    Examples:
      dag-engine
      dag-engine --port 0 --announce
      DAGENGINE_TOKEN_FILE=/run/secrets/token dag-engine --host 0.0.0.0
      dag-engine --python resize=images.work:resize --label pool=gpu
    """
    flags = {
        "engine_id": engine_id,
        "host": host,
        "port": port,
        "capacity": capacity,
        "engine_labels": ",".join(label) if label else None,
        "engine_python_modules": ",".join(python) if python else None,
        "engine_python_allow": ",".join(python_allow) if python_allow else None,
        "engine_python_workers": python_workers,
        "engine_pools": pools,
        "lua_isolation": lua,
        "lua_workers": lua_workers,
        "lua_memory": lua_memory,
        "engine_shell": shell,
        "engine_secrets_dir": secrets_dir,
        "dagengine_token_file": token_file,
        "dagengine_tls_cert": tls_cert,
        "dagengine_tls_key": tls_key,
        "dagengine_tls_ca": tls_ca,
        "drain_timeout": drain_timeout,
        "engine_reflection": reflection,
        "log_level": log_level,
        "log_format": log_format,
    }
    try:
        if healthcheck:
            _check(flags, config=config)
        else:
            _serve(flags, config=config, announce=announce)
    except SettingsError as exc:
        typer.echo(f"dag-engine: {exc}", err=True)
        raise typer.Exit(2) from None


def _check(flags: dict[str, Any], *, config: Path | None) -> None:
    from dagengine import settings as engine_settings
    from dagengine.cli import healthcheck

    fault = healthcheck.fault(engine_settings.load(flags, config=config))
    if fault is not None:
        typer.echo(f"dag-engine: {fault}", err=True)
        raise typer.Exit(1)


def _serve(flags: dict[str, Any], *, config: Path | None, announce: bool) -> None:
    from dagengine import settings as engine_settings
    from dagengine.cli import logs

    settings = engine_settings.load(flags, config=config)
    logs.configure(level=settings.log_level, style=settings.log_format)

    from dagengine.server import lifetime, process  # after the settings: wrong ones are told without the wait for this

    def ready(address: str) -> None:
        if announce:
            _announce(settings, address)

    lifetime.run(process.serve(settings, ready=ready))
    process.leave()


def _announce(settings: EngineSettings, address: str) -> None:
    sys.stdout.write(json.dumps({"engine": settings.engine_id, "address": address}) + "\n")
    sys.stdout.flush()

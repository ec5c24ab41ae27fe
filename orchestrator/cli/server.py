"""`dag-orchestrator`: run one orchestrator that people and programs reach over REST. Flags become settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dagengine.errors import SettingsError

if TYPE_CHECKING:
    from orchestrator.settings import OrchestratorSettings

__all__ = ["app", "main"]

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"dag-orchestrator {version('dagengine')}")
        raise typer.Exit

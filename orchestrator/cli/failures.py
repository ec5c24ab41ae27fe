"""How commands end when something went wrong: one clear message on standard error and an exit code.

::

    0    it worked
    1    it did not: an execution failed, nothing listens there, no such workflow, …
    2    what was asked is wrong: a flag, a document, inputs, a setting
    130  Ctrl-C (128 + SIGINT), 141 the reader of the output went away (128 + SIGPIPE)

A traceback is printed for one thing only: a bug of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

__all__ = ["BROKEN_PIPE", "FAILURE", "INTERRUPTED", "USAGE", "complain", "reported"]

FAILURE: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


def complain(message: str) -> None:
    """Put a message on standard error."""
    sys.stderr.write(f"{message}\n" if message.startswith("dagctl: ") else f"dagctl: {message}\n")


@contextmanager
def reported() -> Iterator[None]:
    """Turn what a command raises into a message and an exit code. Wraps every command of `dagctl`."""
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The interpreter flushes standard output once more at exit: give it a place where that works.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None
    except Exception as exc:
        code = _explain(exc)
        if code is None:
            raise
        raise typer.Exit(code) from exc


def _explain(exc: Exception) -> int | None:
    """Print what a known error means; its exit code, or None when it is not known."""
    from dagengine import errors as engine
    from orchestrator import errors

    match exc:
        case engine.SpecError() | engine.InputError() | engine.SettingsError() | errors.RequestError():
            code = USAGE
        case errors.Unauthorized():
            complain(f"{exc}\n  Give the orchestrator's token: DAGENGINE_TOKEN, --token-file, or run `dagctl dev`.")
            return FAILURE
        case engine.DAGEngineError() | errors.OrchestratorError():
            code = FAILURE
        case _:
            return None
    complain(str(exc))
    return code

"""What `dagctl run` does: one execution in this process, with its progress, its outputs and a clean way to stop it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from dagengine import app, errors
from dagengine.machine import operations
from orchestrator.cli import display, failures, interrupts, local_engine, plan, printing, progress, report
from orchestrator.cli.documents import Loaded
from orchestrator.cli.options import Format

__all__ = ["run"]


def run(
    loaded: Loaded,
    inputs: Mapping[str, Any],
    *,
    form: Format,
    logs: bool,
    quiet: bool,
    options: local_engine.Options,
) -> int:
    """Run the workflow to its end; the exit code. Raises SettingsError when no engine can be made as it is wanted."""
    engine = local_engine.make(options)
    board = progress.Board(plan.read(loaded.document.to_dict()))
    stopped_by: list[int] = []
    try:
        outputs = asyncio.run(_execute(engine, loaded, inputs, board, stopped_by, logs=logs, quiet=quiet))
    except errors.ExecutionFailed as exc:
        failures.complain(report.explain(board) if board.ended else str(exc))
        if form is not Format.TABLE:
            printing.structured(report.failure(board, exc), form)
        return 128 + stopped_by[0] if stopped_by else failures.FAILURE
    except errors.ExecutorError as exc:  # nothing ran; the message is for whoever calls
        if form is not Format.TABLE:
            printing.structured(report.failure(board, exc), form)
        raise
    if form is Format.TABLE:
        printing.write(printing.value_block(outputs))
    else:
        printing.structured(outputs, form)
    return 0


async def _execute(
    engine: app.DAGEngine,
    loaded: Loaded,
    inputs: Mapping[str, Any],
    board: progress.Board,
    stopped_by: list[int],
    *,
    logs: bool,
    quiet: bool,
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    execution = str(uuid.uuid4())
    stopped = asyncio.Event()

    def stop(number: int) -> None:
        stopped_by.append(number)
        loop.call_soon_threadsafe(stopped.set)
        sys.stderr.write("cancelling; once more ends the process at once\n")

    async def cancel() -> None:
        await stopped.wait()
        by = "Ctrl-C" if stopped_by[0] == signal.SIGINT else signal.Signals(stopped_by[0]).name
        with contextlib.suppress(errors.ExecutorError):  # it has ended meanwhile
            engine.operate(execution, operations.Cancel(author=by))

    cancelling = asyncio.ensure_future(cancel())  # its first step comes after that of `run`, which opens the execution
    with interrupts.first_then_kill(stop), display.choose(board, quiet=quiet) as shown:
        try:
            return await engine.run(
                loaded.runnable,
                inputs,
                execution=execution,
                on_fact=lambda _seq, fact: shown.fact(fact),
                on_log=shown.log if logs else None,
            )
        finally:
            cancelling.cancel()
            await engine.close()
            sys.stderr.flush()

"""A session of `dagctl repl`: reads lines, enters them into the sandbox, shows what comes of them.

Values go to standard output; what scripts log, and errors, to standard error. On a terminal lines are edited with
readline, where Python has it; elsewhere lines are read as they are, without prompts.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from dagengine import errors
from dagengine.clock import SystemClock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua.console import Console
from dagengine.spec import text
from dagengine.spec.source import FatalError
from orchestrator.cli import failures
from orchestrator.cli import inputs as typed

__all__ = ["run"]

_PROMPT: Final = "> "
_MORE: Final = ">> "
_WELCOME: Final = "Lua 5.5, in the sandbox of nodes. :help says more, Ctrl-D leaves.\n"
_HELP: Final = """\
An expression shows its value as JSON; statements run. Code goes on over lines until it is complete.
Globals stay until the end of the session; a local ends with what it was entered with.

  inputs, nodes      what -i, --inputs-file and --nodes gave
  Lua's own          string table math utf8 coroutine; pcall error pairs …; os.time os.date
  json base64 re time sha256(text) hmac(key, text) log fail(reason, details)

  :help              this
  :reset             forget all globals
  :quit              leave; Ctrl-D does it, too
  Ctrl-C             stop what runs, or drop the lines that are not complete
"""


def run(pairs: Sequence[str], inputs_file: str | None, nodes_file: str | None) -> int:
    """The exit code: 1 when something failed and nobody sat there to see it.

    Raises InputError for inputs and files that cannot be used.
    """
    scope = _scope(typed.gather(pairs, inputs_file, {}), _nodes(nodes_file) if nodes_file is not None else {})
    interactive = sys.stdin.isatty()
    session = _Session(scope, _line_editor() if interactive else _plain_line)
    if interactive:
        sys.stderr.write(_WELCOME)
    return session.talk(interactive=interactive)


def _scope(inputs: Mapping[str, Any], nodes: Mapping[str, Any]) -> base.Scope:
    return base.Scope(
        execution="repl",
        workflow="repl",
        version="0.0.0",
        digest="",
        inputs=_encoded(inputs),
        nodes={id: _encoded(value) for id, value in nodes.items()},
        env={},
    )


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _nodes(name: str) -> dict[str, Any]:
    """The results in a file. Raises InputError."""
    try:
        source = text.parse(Path(name).read_bytes(), max_bytes=typed.MAX_FILE)
    except OSError as exc:
        raise errors.InputError(f"--nodes: {name} cannot be read: {exc.strerror}") from exc
    except FatalError as exc:
        raise errors.InputError(f"--nodes: {name} cannot be read:", [exc.problem]) from exc
    if source.problems:
        raise errors.InputError(f"--nodes: {name} cannot be read:", list(source.problems))
    if not isinstance(source.value, dict):
        raise errors.InputError(f"--nodes: {name} must hold an object: one member per node")
    return dict(source.value)


def _line_editor() -> Callable[[str], str]:
    """Reads a line from a terminal. `input` edits with readline once that is imported."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # imported for its effect on `input`
    return input


def _plain_line(_prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


class _Session:
    """What was entered and is not complete yet, and the sandbox. `read(prompt)` raises EOFError at the end."""

    def __init__(self, scope: base.Scope, read: Callable[[str], str]) -> None:
        self._scope = scope
        self._read = read
        self._console = self._new_console()
        self._pending: list[str] = []
        self._failed = False

    def talk(self, *, interactive: bool) -> int:
        """Go on until there is nothing more to read: the exit code."""
        while True:
            try:
                line = self._read(_MORE if self._pending else _PROMPT)
            except EOFError:
                break
            except KeyboardInterrupt:
                if not interactive:
                    raise
                sys.stderr.write("\n")
                self._pending.clear()
                continue
            if not self._pending and line.strip().startswith(":"):
                if not self._command(line.strip()):
                    break
                continue
            self._pending.append(line)
            self._enter(ended=False)
        if self._pending:
            self._enter(ended=True)
        if interactive:
            sys.stderr.write("\n")
            return 0
        return failures.FAILURE if self._failed else 0

    def _enter(self, *, ended: bool) -> None:
        code = "\n".join(self._pending)
        if not code.strip():
            self._pending.clear()
            return
        try:
            entered = self._console.enter(code)
        except KeyboardInterrupt:
            self._pending.clear()
            self._complain("interrupted")
            return
        if entered.unfinished and not ended:
            return
        self._pending.clear()
        if entered.error is not None:
            self._complain(_told(entered.error))
        elif entered.text:
            sys.stdout.write(f"{entered.text}\n")
            sys.stdout.flush()

    def _command(self, line: str) -> bool:
        """Whether the session goes on."""
        match line:
            case ":quit" | ":q":
                return False
            case ":help" | ":h":
                sys.stdout.write(_HELP)
                sys.stdout.flush()
            case ":reset":
                self._console = self._new_console()
            case _:
                self._complain(f"there is no {line.split()[0]}; :help says what there is")
        return True

    def _new_console(self) -> Console:
        return Console(self._scope, clock=SystemClock(), lines=_log)

    def _complain(self, message: str) -> None:
        self._failed = True
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def _log(level: str, line: str) -> None:
    sys.stderr.write(f"{line}\n" if level == "info" else f"{level}: {line}\n")
    sys.stderr.flush()


def _told(error: ErrorInfo) -> str:
    lines = [f"{error.type}: {error.message}", *(f"  {line}" for line in error.traceback.splitlines())]
    if error.details is not msgspec.UNSET:
        lines.insert(1, f"  details: {bytes(error.details).decode()}")
    return "\n".join(lines)

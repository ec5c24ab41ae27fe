"""A session of `dagctl repl`: reads lines, enters them into the sandbox, shows what comes of them.

Values go to standard output; what scripts log, and errors, to standard error. On a terminal lines are edited with
readline, where Python has it; elsewhere lines are read as they are, without prompts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from dagengine import errors
from dagengine.clock import SystemClock
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua.console import Console, Entered
from dagengine.spec import text
from dagengine.spec.source import FatalError
from orchestrator.cli import failures
from orchestrator.cli import inputs as typed
from orchestrator.cli.terminal import Terminal

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
    session = _Session(scope)
    if not sys.stdin.isatty():
        session.talk(_Pipe())
        return failures.FAILURE if session.failed else 0
    with Terminal(session.stop) as terminal:
        sys.stderr.write(_WELCOME)
        session.talk(terminal)
        sys.stderr.write("\n")
    return 0


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


class _Pipe:
    """Lines as they come, without prompts. Ctrl-C ends the process, as it does with any other that reads a pipe."""

    def read(self, _prompt: str) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def interrupted(self) -> bool:
        return False


class _Session:
    """What was entered and is not complete yet, and the sandbox. `failed` says whether anything has."""

    def __init__(self, scope: base.Scope) -> None:
        self.failed = False
        self._scope = scope
        self._console = self._new_console()
        self._pending: list[str] = []
        self._entering: object = None

    def stop(self) -> None:
        """Stop the script that runs, if one does. Safe at any moment, in a signal's handler, too."""
        self._console.cancel(self._entering)

    def talk(self, lines: Terminal | _Pipe) -> None:
        """Go on until there is nothing more to read."""
        while True:
            try:
                line = lines.read(_MORE if self._pending else _PROMPT)
            except EOFError:
                break
            if line is None:
                sys.stderr.write("\n")
                self._pending.clear()
            elif not self._pending and line.strip().startswith(":"):
                if not self._command(line.strip()):
                    break
            else:
                self._pending.append(line)
                self._enter(lines, ended=False)
        if self._pending:
            self._enter(lines, ended=True)

    def _enter(self, lines: Terminal | _Pipe, *, ended: bool) -> None:
        code = "\n".join(self._pending)
        if not code.strip():
            self._pending.clear()
            return
        entered = self._entered(code, lines)
        if entered is not None and entered.unfinished and not ended:
            return
        self._pending.clear()
        if entered is None:
            self._complain("interrupted")
        elif entered.error is not None:
            self._complain(_told(entered.error))
        elif entered.text:
            sys.stdout.write(f"{entered.text}\n")
            sys.stdout.flush()

    def _entered(self, code: str, lines: Terminal | _Pipe) -> Entered | None:
        """What comes of `code`; None when a Ctrl-C came before anything did."""
        self._entering = object()
        # A Ctrl-C that came before that was made is seen here; a later one cancels what is entered.
        if lines.interrupted():
            return None
        entered = self._console.enter(code, token=self._entering)
        cut_off = entered.unfinished or (entered.error is not None and entered.error.type == "Cancelled")
        return None if lines.interrupted() and cut_off else entered

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
        self.failed = True
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

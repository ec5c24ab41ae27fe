"""`dagctl repl` as a process: fed by a pipe, and typed at on a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results.yaml"
    path.write_text("load-data:\n  rows: [1, 2.5, null]\n")
    return path


def test_what_comes_by_a_pipe_is_run_line_by_line(process: Callable[..., Any], results: Path) -> None:
    lines = [
        "x = inputs.limit",
        "x + 1",
        "function twice(n)",
        "  return n * 2",
        "end",
        "twice(x), 'two', json.null",
        "",
        "-- nothing",
        "nodes['load-data'].rows",
        "print('logged')",
        "local gone = 1",
        "gone",
    ]
    answer = process("repl", "-i", "limit=5", "--nodes", str(results), stdin="\n".join(lines))
    assert (answer.code, answer.err) == (0, "logged\n")
    assert answer.out == '6\n10\n"two"\nnull\n[1,2.5,null]\nnull\n'


def test_errors_are_told_and_the_rest_runs(process: Callable[..., Any]) -> None:
    lines = [
        "error('boom')",
        "x = = 1",
        "error(fail('no', {type = 'Nope', n = 1}))",
        ":nope",
        "1 + 1",
        "for i = 1, 2 do",
    ]
    answer = process("repl", stdin="\n".join(lines))
    assert (answer.code, answer.out) == (1, "2\n")
    assert (
        answer.err.splitlines()
        == [
            "LuaError: boom",
            "  line 1, in the script",
            "    error('boom')",
            "LuaSyntaxError: unexpected symbol near '='",
            "  line 1, in the script",
            "    x = = 1",
            "Nope: no",
            '  details: {"type":"Nope","n":1}',
            "  line 1, in the script",
            "    error(fail('no', {type = 'Nope', n = 1}))",
            "there is no :nope; :help says what there is",
            "LuaSyntaxError: 'end' expected near <eof>",
            "  line 1, in the script",
            "    for i = 1, 2 do",
        ]
        or '{"n":1,"type":"Nope"}' in answer.err
    )


def test_a_session_can_be_begun_anew_and_left(process: Callable[..., Any]) -> None:
    answer = process("repl", stdin="x = 1\n:reset\nx\n:help\n:quit\n5\n")
    assert answer.code == 0
    assert answer.out.startswith("null\nAn expression shows its value")
    assert not answer.out.endswith("5\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "dagctl: --nodes: results.json cannot be read: No such file or directory"),
        ("[1]", "dagctl: --nodes: results.json must hold an object: one member per node"),
        ("{", "dagctl: --nodes: results.json cannot be read:"),
    ],
)
def test_results_that_cannot_be_used_are_told(
    process: Callable[..., Any], tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    answer = process("repl", "--nodes", str(path), stdin="")
    assert answer.code == 2
    assert message in answer.err.replace(str(path), "results.json")


class Terminal:
    """A `dagctl repl` at a terminal."""

    def __init__(self, command: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"}
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment, start_new_session=True
        )
        os.close(theirs)
        self._seen = ""

    def expect(self, text: str) -> str:
        """What is shown, up to and with `text`."""
        deadline = time.monotonic() + 30
        while text not in self._seen:
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self._seen!r}"
            self._seen += os.read(self._ours, 65536).decode()
        before, _, self._seen = self._seen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def interrupt_until(self, text: str) -> None:
        """Interrupt until that is shown. One that comes between a prompt and the reading behind it is seen at the next.

        Nothing tells from outside when that moment is over.
        """
        while text not in self._seen:
            self.interrupt()
            ready, _, _ = select.select([self._ours], [], [], 1)
            if ready:
                self._seen += os.read(self._ours, 65536).decode()
        self.expect(text)

    def ended(self) -> int:
        return self._process.wait(30)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(command: Callable[..., list[str]]) -> Iterator[Terminal]:
    opened = Terminal(command("repl", "-i", "name=Ada"))
    yield opened
    opened.close()


def test_at_a_terminal_a_script_is_stopped_and_the_session_goes_on(terminal: Terminal) -> None:
    terminal.expect("> ")
    terminal.type("kept = inputs.name\n")
    terminal.expect("> ")
    terminal.type("print('running') while true do pcall(function() while true do end end) end\n")
    terminal.expect("running\r\n")
    terminal.interrupt()
    terminal.expect("interrupted")
    terminal.expect("> ")
    terminal.type("kept .. '!'\n")
    terminal.expect('"Ada!"')
    terminal.expect("> ")
    terminal.type("\x04")
    assert terminal.ended() == 0


def test_at_a_terminal_code_goes_on_over_lines(terminal: Terminal) -> None:
    terminal.expect("> ")
    terminal.type("for i = 1, 2 do\n")
    terminal.expect(">> ")
    terminal.type("print('turn ' .. i) end\n")
    terminal.expect("turn 2")
    terminal.expect("> ")
    terminal.type("unfinished = {\n")
    terminal.expect(">> ")
    terminal.interrupt_until("\n> ")
    terminal.type("unfinished == nil\n")
    terminal.expect("true")
    terminal.expect("> ")
    terminal.type(":quit\n")
    assert terminal.ended() == 0

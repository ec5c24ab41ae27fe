"""`dagctl repl` as a process: fed by a pipe, and typed at on a terminal."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import random
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


def test_without_a_terminal_ctrl_c_ends_it(command: Callable[..., list[str]]) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command("repl"), stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as running:
        assert running.stdin is not None
        assert running.stderr is not None
        running.stdin.write("print('running') while true do end\n1 + 1\n")
        running.stdin.flush()
        assert running.stderr.readline() == "running\n"
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=30) == ("", "")
    assert running.returncode == 130


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
        assert self.answers(text, within=30), f"no {text!r} in {self._seen!r}"
        before, _, self._seen = self._seen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def answers(self, text: str, *, within: float) -> bool:
        """Whether that is shown in so many seconds."""
        deadline = time.monotonic() + within
        while text not in self._seen:
            ready, _, _ = select.select([self._ours], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return False
            self._seen += os.read(self._ours, 65536).decode()
        return True

    def watch(self, seconds: float) -> None:
        """Take in what is shown for so long."""
        assert not self.answers("\0", within=seconds)

    def revive(self, name: str) -> None:
        """Interrupt until it answers again: before that, it may not have got to what was typed already."""
        for within in (0.5, 1, 2, 4, 8, 16):
            self.interrupt()
            self.watch(0.2)
            self.type(f"\n'{name}' .. '!'\n")
            if self.answers(f'"{name}!"\r\n> ', within=within):
                self.expect(f'"{name}!"\r\n> ')
                return
        pytest.fail(f"the session does not answer any more: {self._seen[-1000:]!r}")

    def interrupt_while_it_ends(self, pauses: Iterator[float]) -> int:
        """Leave, and interrupt until it is gone: the exit code."""
        for pause in itertools.islice(pauses, 3_000):
            self.type(":quit\n")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(pause)
            self.interrupt()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(pause)
        pytest.fail(f"the session does not end: {self._seen[-1000:]!r}")

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
    terminal.interrupt()
    terminal.expect("\n> ")
    terminal.type("unfinished == nil\n")
    terminal.expect("true")
    terminal.expect("> ")
    terminal.type(":quit\n")
    assert terminal.ended() == 0


def test_every_ctrl_c_at_a_prompt_gives_a_new_one(terminal: Terminal) -> None:
    """As soon as the prompt is there, whether or not reading has got as far as to wait for what is typed."""
    terminal.expect("> ")
    for _ in range(100):
        terminal.interrupt()
        terminal.expect("\n> ")
    terminal.type("1 + 1\n")
    terminal.expect("\n2\r\n> ")


TYPED = (
    "print('out') while true do pcall(function() while true do end end) end\n",
    "while true do print('again') end\n",
    "lines = {} for i = 1, 2000 do lines[i] = 'a line' end return table.unpack(lines)\n",
    "unfinished = {\n",
    "error('boom')\n",
    "not finished",
    ":reset\n",
    ":help\n",
    "1 + 1\n",
    "\n",
    "",
)


@pytest.mark.parametrize("seed", range(3))
def test_no_ctrl_c_ends_a_session_whenever_it_comes(terminal: Terminal, seed: int) -> None:
    chance = random.Random(seed)
    terminal.expect("> ")
    for turn in range(60):
        terminal.watch(chance.choice((0, 0.02)))
        terminal.type(chance.choice(TYPED))
        terminal.watch(chance.choice((0, 0.002, 0.02)))
        for _ in range(chance.randrange(1, 9)):
            terminal.watch(chance.choice((0, 0.001, 0.01)) * chance.random())
            terminal.interrupt()
        # What is typed right after a Ctrl-C may go with it, as at any terminal.
        if turn % 10 == 9:
            terminal.revive(f"turn {turn}")
    terminal.type(":quit\n")
    assert terminal.ended() == 0


def test_no_ctrl_c_spoils_the_end_of_a_session(terminal: Terminal) -> None:
    chance = random.Random(1)
    terminal.expect("> ")
    assert terminal.interrupt_while_it_ends(chance.uniform(0, 0.02) for _ in itertools.count()) == 0

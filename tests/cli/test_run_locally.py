from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ENDLESS = """\
metadata: {id: endless, version: 1.0.0}
spec:
  nodes:
    - id: turn
      executor: {type: lua, code: "print('turning') while true do end"}
"""


def test_outputs_are_one_json_object_on_standard_output(hello: Path, process: Callable[..., Any]) -> None:
    answer = process("run", str(hello), "-i", "name=Ada", "-i", "times=2", "-o", "json")
    assert answer.code == 0
    assert json.loads(answer.out) == {"greeting": "Hello, ADA! Hello, ADA! "}
    assert "greet succeeded in" in answer.err
    assert "execution succeeded in" in answer.err


def test_a_single_text_is_printed_as_it_is(hello: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", str(hello), "-q")
    assert (answer.code, answer.out, answer.err) == (0, "Hello, WORLD! \n", "")


def test_yaml_outputs(hello: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", str(hello), "-q", "-o", "yaml")
    assert answer.out.strip() == "greeting: 'Hello, WORLD! '"


def test_logs_are_shown_when_asked_for(hello: Path, dagctl: Callable[..., Any]) -> None:
    assert "greet | greeting WORLD" in dagctl("run", str(hello), "--logs").err
    assert "greeting" not in dagctl("run", str(hello)).err


def test_a_failure_names_node_message_and_line(failing: Path, process: Callable[..., Any]) -> None:
    answer = process("run", str(failing), "-q", "-o", "json")
    assert answer.code == 1
    told = json.loads(answer.out)
    assert (told["error"]["type"], told["error"]["status"]) == ("NodeFailed", "failed")
    assert told["error"]["execution"] in answer.err
    assert {name: node["state"] for name, node in told["nodes"].items()} == {
        "numbers": "succeeded",
        "each": "failed",
        "after": "skipped",
    }
    assert told["nodes"]["each"]["note"]
    lines = answer.err.splitlines()
    assert lines[0].startswith("dagctl: execution ")
    assert lines[0].endswith(" of failing@1.0.0 failed")
    assert lines[1:] == [
        "  node each[1]: LuaError: two is not welcome",
        '    line 2: error("two is not welcome")',
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-i", "nme=x"], "did you mean 'name'?"),
        (["-i", "times=many"], "times"),
        (["-i", "name"], "expected NAME=VALUE"),
    ],
)
def test_wrong_inputs_end_with_2(hello: Path, arguments: list[str], expected: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", str(hello), *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert expected in answer.err


def test_a_document_from_standard_input(hello: Path, dagctl: Callable[..., Any]) -> None:
    assert dagctl("run", "-", "-q", stdin=hello.read_text()).out == "Hello, WORLD! \n"


def test_a_missing_file_is_told(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", str(tmp_path / "no.yaml"))
    assert answer.code == 2
    assert "no.yaml cannot be read: No such file or directory" in answer.err


@pytest.mark.parametrize("variable", [":flow", ""])
def test_a_workflow_of_a_python_file(tmp_path: Path, variable: str, dagctl: Callable[..., Any]) -> None:
    (tmp_path / "beside_it.py").write_text("FACTOR = 3\n")
    file = tmp_path / "triple.py"
    file.write_text(
        "import beside_it\n"
        "from dagengine.spec.builder import Workflow\n"
        "workflow = flow = Workflow('triple', '1.0.0', inputs={'x': {'type': 'integer'}})\n"
        "@workflow.python\n"
        "def triple(x: int) -> int:\n"
        "    return x * beside_it.FACTOR\n"
    )
    answer = dagctl("run", f"{file}{variable}", "-i", "x=14", "-q", "-o", "json")
    assert answer.code == 0
    assert json.loads(answer.out) == {"triple": 42}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("x = (", "is not Python:\n  line 1: "),
        ("\nraise ValueError('no luck')", "cannot be run:\n  line 2: ValueError: no luck"),
        ("x = 1", "has no variable `workflow`"),
        ("workflow = 1", "has a int, not a workflow, as `workflow`"),
    ],
)
def test_a_wrong_python_file_is_told(tmp_path: Path, code: str, expected: str, dagctl: Callable[..., Any]) -> None:
    file = tmp_path / "wrong_workflow.py"
    file.write_text(code)
    answer = dagctl("run", str(file))
    assert answer.code == 2
    assert expected in answer.err
    assert "Traceback" not in answer.err


def test_ctrl_c_cancels_and_a_second_one_ends_the_process(tmp_path: Path, command: Callable[..., list[str]]) -> None:
    file = tmp_path / "endless.yaml"
    file.write_text(ENDLESS)
    with subprocess.Popen(
        command("run", str(file)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        while "turn started" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=30)
    assert running.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert out == ""
    assert "Traceback" not in err


def test_a_cancelled_execution_ends_with_130(tmp_path: Path, command: Callable[..., list[str]]) -> None:
    file = tmp_path / "waiting.py"
    file.write_text(
        "import asyncio\n"
        "from dagengine.spec.builder import Workflow\n"
        "workflow = Workflow('waiting', '1.0.0')\n"
        "@workflow.python\n"
        "async def forever() -> None:\n"
        "    await asyncio.Event().wait()\n"
    )
    with subprocess.Popen(
        command("run", str(file)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        while "forever started" not in running.stderr.readline():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "")
    assert "cancel requested by Ctrl-C\n" in err
    assert "forever cancelled" in err
    assert "dagctl: execution" in err
    assert "was cancelled" in err


def test_a_reader_that_goes_away_is_no_error(hello: Path, command: Callable[..., list[str]]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command("run", str(hello), "-q"), stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")

"""`dagctl export`, `replay` and `purge`: against a real installation, and files without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HISTORIES = Path(__file__).parents[1] / "histories"


@pytest.fixture
def started(known: Path, hello: Path, process: Callable[..., Any]) -> Callable[..., str]:
    """Starts `hello` and waits for its end; the id of the execution."""

    def start(name: str = "Ada") -> str:
        assert process("apply", "-f", str(hello)).code == 0
        answer = process("start", "hello", "-i", f"name={name}", "--wait", "-o", "json")
        assert answer.code == 0, answer.err
        return str(json.loads(answer.out)["id"])

    return start


def test_an_exported_journal_can_be_replayed_without_a_server(
    started: Callable[..., str], process: Callable[..., Any], tmp_path: Path
) -> None:
    execution, file = started(), tmp_path / "h.jsonl"
    assert process("export", execution, "-o", str(file)).code == 0
    header = json.loads(file.read_text().splitlines()[0])
    assert (header["execution"], header["inputs"]["name"]) == (execution, "Ada")
    replayed = process("replay", str(file), env={"DAGCTL_SERVER": "http://127.0.0.1:1"})
    assert replayed.code == 0
    assert f"execution {execution} of hello@1.0.0: succeeded" in replayed.out
    assert replayed.out.endswith("all invariants hold after each of them\n")


def test_without_a_file_it_goes_to_standard_output(started: Callable[..., str], process: Callable[..., Any]) -> None:
    exported = process("export", started())
    assert process("replay", "-", "--quiet", stdin=exported.out).code == 0


def test_a_file_that_is_there_is_replaced_only_by_force(
    started: Callable[..., str], process: Callable[..., Any], tmp_path: Path
) -> None:
    execution, file = started(), tmp_path / "h.jsonl"
    file.write_text("mine")
    refused = process("export", execution, "-o", str(file))
    assert (refused.code, file.read_text()) == (2, "mine")
    assert refused.err == f"dagctl: {file} is there already: give --force to replace it, or another name\n"
    assert process("export", execution, "-o", str(file), "--force").code == 0
    assert file.read_text().startswith('{"format":')
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".h")] == []


def test_an_execution_that_is_not_there_leaves_no_file(
    known: Path, process: Callable[..., Any], tmp_path: Path
) -> None:
    answer = process("export", "nope", "-o", str(tmp_path / "h.jsonl"))
    assert (answer.code, answer.err) == (1, "dagctl: there is no execution 'nope'\n")
    assert not (tmp_path / "h.jsonl").exists()


def test_purge_shows_what_would_go_and_then_has_it_go(started: Callable[..., str], process: Callable[..., Any]) -> None:
    for name in ("Ada", "Grace", "Alan"):
        started(name)
    shown = process("purge", "hello", "--keep", "1", "--dry-run", "-o", "json")
    planned = json.loads(shown.out)
    assert planned["dry_run"]
    assert planned["executions"] >= 2
    assert "would be deleted" in process("purge", "hello", "--keep", "1", "--dry-run").out
    done = process("purge", "hello", "--keep", "1")
    assert done.code == 0
    assert f"{planned['executions']} executions deleted\n" in done.out
    assert len(json.loads(process("get", "executions", "--workflow", "hello", "-o", "json").out)) == 1
    assert process("purge", "hello", "--older-than", "1h").out == "no executions deleted\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("purge", "nope"), 1, "there is no workflow 'nope', and no execution of one"),
        (("purge", "--older-than", "a month"), 2, "`older_than`: expected a duration"),
    ],
    ids=["workflow", "duration"],
)
def test_a_purge_that_makes_no_sense(
    known: Path, process: Callable[..., Any], arguments: tuple[str, ...], code: int, said: str
) -> None:
    answer = process(*arguments)
    assert answer.code == code
    assert said in answer.err


# --- without a server ---


def test_a_journal_tells_its_story(dagctl: Callable[..., Any]) -> None:
    answer = dagctl("replay", str(HISTORIES / "engine-killed.jsonl"))
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0].endswith("of long@1.0.0: succeeded, 28 facts, exported by dagengine 0.1.0")
    assert lines[1].startswith("began 20")
    assert any(line.strip() == "epoch 2" for line in lines)
    assert any("work[1] attempt 1 failed, next one in" in line for line in lines)
    assert any("paused by ada: not yet" in line for line in lines)
    assert lines[-1] == "28 facts folded: succeeded; all invariants hold after each of them"


def test_a_journal_for_programs(dagctl: Callable[..., Any]) -> None:
    told = json.loads(dagctl("replay", str(HISTORIES / "fanout-over-a-map.jsonl"), "-o", "json").out)
    assert (told["facts"], told["folded"], told["checked"], told["problem"]) == (8, 8, 8, None)
    assert [entry["seq"] for entry in told["story"]] == list(range(1, 9))
    assert told["story"][0]["fact"] == "ExecutionStarted"
    assert "story" not in json.loads(
        dagctl("replay", str(HISTORIES / "fanout-over-a-map.jsonl"), "-q", "-o", "json").out
    )


def test_a_journal_that_cannot_be_true_is_told_from_one_that_can(dagctl: Callable[..., Any], tmp_path: Path) -> None:
    lines = (HISTORIES / "example-hello.jsonl").read_text().splitlines()
    file = tmp_path / "h.jsonl"
    file.write_text("\n".join([*lines[:2], *lines[3:]]))
    answer = dagctl("replay", str(file))
    assert answer.code == 1
    assert answer.err.startswith(f"dagctl: {file}:3: fact 2 (NodeStarted): its position is 3, and should be 2")
    problem = json.loads(dagctl("replay", str(file), "-o", "json").out)["problem"]
    assert (problem["line"], problem["seq"]) == (3, 2)


def test_a_file_that_is_no_journal(dagctl: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    file.write_text('{"format": "dagengine-journal/1",}')
    assert dagctl("replay", str(file)).code == 2
    assert dagctl("replay", str(file)).err.startswith(f"dagctl: {file}:1:33: this is not JSON")
    assert dagctl("replay", str(tmp_path / "nothing")).code == 2


def test_replaying_needs_no_server_nor_its_libraries() -> None:

    code = (
        "import sys\n"
        "from orchestrator.cli.dagctl import main\n"
        f"try:\n    main(['replay', {str(HISTORIES / 'example-hello.jsonl')!r}])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('fastapi', 'grpc', 'httpx', 'sqlalchemy', 'uvicorn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("said", "code", "left"), [("n", 1, 1), ("y", 0, 0)], ids=["no", "yes"])
def test_a_purge_on_a_terminal_asks_before_it_deletes(
    started: Callable[..., str],
    process: Callable[..., Any],
    command: Callable[..., list[str]],
    said: str,
    code: int,
    left: int,
) -> None:
    started()
    assert process("purge", "hello", "--keep", "1").code == 0
    terminal, ours = os.openpty()
    try:
        os.write(terminal, f"{said}\n".encode())
        asked = subprocess.run(
            command("purge", "hello", "--keep", "0"),
            stdin=ours,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(terminal)
        os.close(ours)
    assert asked.returncode == code
    assert "1 execution would be deleted\nDelete 1 execution for good? [y/N] " in asked.stderr
    assert ("1 execution deleted\n" in asked.stdout) == (code == 0)
    assert len(json.loads(process("get", "executions", "--workflow", "hello", "-o", "json").out)) == left

"""`dagctl backup` and `restore` with an orchestrator that runs, and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WAITING = """
metadata: {id: waiting, version: 1.0.0}
spec:
  nodes:
    - id: go
      executor: {type: wait, signal: {name: go}}
"""


def test_a_backup_of_a_running_orchestrator_is_restored_and_runs_on(
    development: Callable[..., Any],
    process: Callable[..., Any],
    hello: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DAGCTL_CONFIG", str(tmp_path / "dev.json"))
    waiting = tmp_path / "waiting.yaml"
    waiting.write_text(WAITING)
    data, file = tmp_path / "data", tmp_path / "monday.db"
    url = f"sqlite:///{data}/orchestrator.db"
    arguments = ("--engines", "1", "--data", str(data), "--log-level", "error")
    with development(tmp_path, *arguments):
        assert process("apply", "-f", str(hello), "-f", str(waiting)).code == 0
        first = json.loads(process("start", "hello", "-i", "name=Ada", "--wait", "-o", "json").out)["id"]
        open_then = json.loads(process("start", "waiting", "-o", "json").out)["id"]
        copied = process("backup", str(file), "--database-url", url)
        assert (copied.code, copied.err) == (0, "")
        assert copied.out.startswith(f"{file}: 2 executions, ")
        again = process("backup", str(file), "--database-url", url)
        assert (again.code, "is there already: give --force" in again.err) == (2, True)
        later = json.loads(process("start", "hello", "-i", "name=Bob", "--wait", "-o", "json").out)["id"]
        refused = process("restore", str(file), "--database-url", url, "--force")
        assert (refused.code, "is in use by process" in refused.err) == (1, True)
    assert process("restore", str(file), "--database-url", url).code == 2
    restored = process("restore", str(file), "--database-url", url, "--force")
    assert (restored.code, restored.err) == (0, "")
    with development(tmp_path, *arguments):
        assert json.loads(process("get", "executions", first, "-o", "json").out)["status"] == "succeeded"
        assert process("get", "executions", later).code == 1
        assert process("signal", open_then, "go").code == 0
        assert process("watch", open_then).code == 0


def test_a_copy_that_is_not_there_is_named_wrongly(dagctl: Callable[..., Any], tmp_path: Path) -> None:
    answer = dagctl("restore", str(tmp_path / "nosuch.db"), "--database-url", f"sqlite:///{tmp_path}/o.db")
    assert (answer.code, answer.err) == (2, f"dagctl: There is no backup at {tmp_path}/nosuch.db.\n")


def test_postgresql_is_left_to_its_own_tools(dagctl: Callable[..., Any]) -> None:
    url = "postgresql://dag:secret@db.example.org/dag"
    for command, tool in (("backup", "pg_dump --format=custom"), ("restore", "pg_restore --clean --if-exists")):
        answer = dagctl(command, "monday.dump", "--database-url", url)
        assert answer.code == 2
        assert tool in answer.err
        assert "docs/backup.md" in answer.err
        assert "secret" not in answer.err


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("sqlite://", 2, "a store in memory is gone with its process"),
        ("mysql://u:secret@h/d", 1, "is not a store this release knows"),
        ("sqlite:///{}/nothing.db", 1, "There is no store at"),
    ],
    ids=["memory", "other", "missing"],
)
def test_what_cannot_be_copied(url: str, code: int, said: str, dagctl: Callable[..., Any], tmp_path: Path) -> None:
    answer = dagctl("backup", str(tmp_path / "copy.db"), "--database-url", url.format(tmp_path))
    assert answer.code == code
    assert said in answer.err
    assert "secret" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_not_copied_onto_itself(dagctl: Callable[..., Any], tmp_path: Path) -> None:
    store = tmp_path / "state.db"
    store.write_bytes(b"")
    for command in ("backup", "restore"):
        answer = dagctl(command, str(store), "--database-url", f"sqlite:///{store}", "--force")
        assert answer.code == 2
        assert "is the store itself" in answer.err

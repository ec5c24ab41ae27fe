"""Every command against a real installation: one `dagctl dev` with two engine processes for the whole file."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.e2e

ENDLESS = """\
metadata: {id: endless, version: 1.0.0}
spec: {nodes: [{id: turn, executor: {type: lua, code: "while true do end"}}]}
"""

WAITING = """\
metadata: {id: waiting, version: 1.0.0}
spec:
  nodes:
    - id: never
      executor: {type: lua, code: "error('not yet')"}
      retry: {fail: {max_attempts: 2, backoff: {initial: 1h, max: 1h}}}
"""

UNKNOWN_FUNCTION = """\
metadata: {id: calls, version: 1.0.0}
spec: {nodes: [{id: a, executor: {type: python, function: p@1.0.0.a}}]}
"""

DEADLINE = 30.0


@pytest.fixture
def registered(known: Path, hello: Path, failing: Path, dagctl: Callable[..., Any]) -> Path:
    """The installation, with both sample workflows."""
    assert dagctl("apply", "-f", str(hello), "-f", str(failing)).code == 0
    return known


@pytest.fixture
def stuck(known: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> Iterator[str]:
    """An execution that waits for an hour."""
    file = tmp_path / "waiting.yaml"
    file.write_text(WAITING)
    dagctl("apply", "-f", str(file))
    identity = dagctl("start", "waiting").out.strip()
    yield identity
    dagctl("cancel", identity)


def test_dev_keeps_its_token_where_only_its_user_reads_it(installation: Path) -> None:
    said = (installation / "said.txt").read_text()
    saved = json.loads((installation / "dev.json").read_text())
    assert saved["server"] in said
    assert saved["token"] not in said
    assert stat.S_IMODE((installation / "dev.json").stat().st_mode) == 0o600


def test_engines_are_listed(known: Path, dagctl: Callable[..., Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while (out := dagctl("get", "engines").out).count("ready") < 2:
        assert time.monotonic() < deadline, out
    assert [line.split()[0] for line in out.splitlines()] == ["ID", "engine-1", "engine-2"]
    assert out.split()[:6] == ["ID", "ADDRESS", "STATE", "POOL", "RUNNING", "STARTED"]
    assert json.loads(dagctl("get", "engines", "engine-2", "-o", "json").out)["id"] == "engine-2"
    missing = dagctl("get", "engines", "engine-3")
    assert (missing.code, missing.out) == (1, "")
    assert "there is no engine 'engine-3'" in missing.err


def test_applying_the_same_again_changes_nothing(known: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    file = tmp_path / "once.yaml"
    content = "metadata: {id: once, version: 1.0.0}\nspec: {nodes: [{id: a, executor: {type: lua, code: return 1}}]}\n"
    file.write_text(content)
    assert dagctl("apply", "-f", str(file)).out == "once@1.0.0 registered\n"
    assert dagctl("apply", "-f", "-", stdin=content).out == "once@1.0.0 unchanged\n"
    other = dagctl("apply", "-f", "-", stdin=content.replace("return 1", "return 2"))
    assert other.code == 1
    assert other.err.startswith("dagctl: standard input: once@1.0.0 is registered already with another content")


def test_when_one_version_is_another_already_none_is_registered(
    registered: Path, tmp_path: Path, dagctl: Callable[..., Any]
) -> None:
    content = "metadata: {id: %s, version: 1.0.0}\nspec: {nodes: [{id: a, executor: {type: lua, code: return 1}}]}\n"
    folder = tmp_path / "dd"
    folder.mkdir()
    (folder / "a.yaml").write_text(content % "before-it")
    (folder / "z.yaml").write_text(content % "hello")
    answer = dagctl("apply", "-f", str(folder))
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.startswith(f"dagctl: {folder}/z.yaml: hello@1.0.0 is registered already")
    assert answer.err.endswith("; nothing was registered\n")
    assert dagctl("get", "workflows", "before-it").code == 1
    (folder / "z.yaml").write_text((content % "before-it").replace("return 1", "return 2"))
    answer = dagctl("apply", "-f", str(folder))
    assert answer.code == 1
    assert f"before-it@1.0.0 is in {folder}/a.yaml too" in answer.err


def test_starting_a_file_tells_what_was_meant(known: Path, hello: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("start", str(hello))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == f"dagctl: {hello} is a file: dagctl apply -f {hello}, or dagctl run {hello}\n"


def test_of_a_folder_with_a_wrong_document_nothing_is_applied(
    known: Path, tmp_path: Path, dagctl: Callable[..., Any]
) -> None:
    good = "metadata: {id: good-one, version: 1.0.0}\nspec: {nodes: [{id: a, executor: {type: lua, code: return 1}}]}\n"
    (tmp_path / "good.yaml").write_text(good)
    (tmp_path / "wrong.yaml").write_text("metadata: {}\n")
    answer = dagctl("apply", "-f", str(tmp_path))
    assert answer.code == 2
    assert "wrong.yaml" in answer.err
    assert "nothing was registered" in answer.err
    assert dagctl("get", "workflows", "good-one").code == 1


def test_starting_prints_the_id_only(registered: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("start", "hello@^1")
    assert answer.code == 0
    assert len(answer.out.split()) == 1
    assert dagctl("watch", answer.out.strip()).out == "Hello, WORLD! \n"


def test_waiting_prints_the_outputs(registered: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("start", "hello", "-i", "name=007", "--wait")
    assert (answer.code, answer.out, answer.err) == (0, "Hello, 007! \n", "")


def test_watching_shows_the_nodes(registered: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("start", "hello", "-i", "times=2", "--watch", "-o", "json")
    assert answer.code == 0
    view = json.loads(answer.out)
    assert (view["status"], view["outputs"]) == ("succeeded", {"greeting": "Hello, WORLD! Hello, WORLD! "})
    assert view["engine"] in ("engine-1", "engine-2")
    assert isinstance(view["finished_at"], int)
    assert "greet succeeded in" in answer.err


def test_inputs_from_a_file(registered: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    file = tmp_path / "inputs.json"
    file.write_text('{"name": "Ada", "times": 2}')
    assert dagctl("start", "hello", "--inputs-file", str(file), "-i", "times=1", "--wait").out == "Hello, ADA! \n"


def test_the_same_key_starts_one_execution(registered: Path, dagctl: Callable[..., Any]) -> None:
    first = dagctl("start", "hello", "--idempotency-key", "monday")
    assert dagctl("start", "hello", "--idempotency-key", "monday").out == first.out


@pytest.mark.parametrize("key", ["", "m\u00f6nday", "k" * 256], ids=["empty", "not-ascii", "too-long"])
def test_a_key_that_is_none_is_refused(registered: Path, dagctl: Callable[..., Any], key: str) -> None:
    answer = dagctl("start", "hello", "--idempotency-key", key)
    assert (answer.code, answer.out) == (2, "")
    assert "must be 1 to 255 printable ASCII characters" in answer.err


def test_a_failure_ends_with_1_and_is_explained(registered: Path, dagctl: Callable[..., Any]) -> None:
    for flag in ("--wait", "--watch"):
        answer = dagctl("start", "failing", flag)
        assert (answer.code, answer.out) == (1, "")
        assert "node each[1]: LuaError: two is not welcome" in answer.err
        assert 'line 2: error("two is not welcome")' in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["start", "nobody"], 1, "nobody"),
        (["start", "hello@^9"], 1, "hello"),
        (["start", "hello@^^1"], 2, "does not name versions"),
        (["describe", "workflow", "no such id"], 2, "is not a workflow: expected an id"),
        (["start", "hello", "-i", "nme=1"], 2, "did you mean 'name'?"),
        (["describe", "execution", "nothing"], 1, "nothing"),
        (["describe", "workflow", "nobody"], 1, "nobody"),
        (["logs", "nothing"], 1, "nothing"),
        (["watch", "nothing"], 1, "nothing"),
        (["cancel", "nothing"], 1, "nothing"),
        (["delete", "workflow", "nobody"], 1, "nobody"),
        (["get", "executions", "--status", "happy"], 2, "happy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_told(
    registered: Path, arguments: list[str], code: int, expected: str, dagctl: Callable[..., Any]
) -> None:
    answer = dagctl(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("dagctl: ")
    assert expected in answer.err


def test_workflows_are_listed_by_label(registered: Path, dagctl: Callable[..., Any]) -> None:
    listed = dagctl("get", "workflows", "--filter", "team=docs").out.splitlines()
    assert [line.split()[0] for line in listed] == ["ID", "hello"]
    assert "team=docs" in listed[1]
    assert json.loads(dagctl("get", "workflows", "hello@1.0.0", "-o", "json").out)["version"] == "1.0.0"


def test_executions_are_listed_by_workflow_and_status(registered: Path, dagctl: Callable[..., Any]) -> None:
    started = [dagctl("start", "hello", "--wait", "-o", "json").out for _ in range(3)]
    newest = json.loads(started[-1])["id"]
    listed = json.loads(dagctl("get", "executions", "--workflow", "hello", "--limit", "2", "-o", "json").out)
    assert [item["id"] for item in listed][:1] == [newest]
    assert len(listed) == 2
    none = dagctl("get", "executions", "--workflow", "hello", "--status", "failed")
    assert (none.code, none.out, none.err) == (0, "", "no executions\n")
    headings, row = dagctl("get", "execution", newest).out.splitlines()
    assert headings.split() == ["ID", "WORKFLOW", "STATUS", "ENGINE", "CREATED", "DURATION", "TRIGGER"]
    assert row.startswith(newest)
    assert "hello@1.0.0   succeeded" in row
    assert "s ago" in row
    assert row.endswith("api")


def test_an_execution_is_described(registered: Path, dagctl: Callable[..., Any]) -> None:
    identity = json.loads(dagctl("start", "failing", "--wait", "-o", "json").out)["id"]
    told = dagctl("describe", "execution", identity).out
    for expected in (identity, "failing@1.0.0", "2/3, 1 failed", "failed upstream (each)", "two is not welcome"):
        assert expected in told
    plain = json.loads(dagctl("describe", "execution", identity, "-o", "json").out)
    assert plain["execution"]["status"] == "failed"
    assert [node["state"] for node in plain["nodes"]] == ["succeeded", "failed", "skipped"]


def test_a_workflow_is_described(registered: Path, dagctl: Callable[..., Any]) -> None:
    told = dagctl("describe", "workflow", "hello").out
    for expected in ("hello@1.0.0", "team=docs", "Who is greeted.", "└─ greet", "{{ nodes.greet.text }}"):
        assert expected in told


def test_what_a_workflow_asks_of_engines_and_what_is_kept_of_it_are_described(
    known: Path, hello: Path, dagctl: Callable[..., Any]
) -> None:
    asks = "engine: {pool: gpu, labels: {zone: a}, exclusive: true}"
    keeps = "retention: {executions: {ttl: 90s, keep: 5}, logs: {}}"
    text = hello.read_text().replace("id: hello", "id: choosy")
    hello.write_text(text.replace("spec:\n", f"spec:\n  {asks}\n  {keeps}\n"))
    assert dagctl("apply", "-f", str(hello)).code == 0
    told = [" ".join(line.split()) for line in dagctl("describe", "workflow", "choosy").out.splitlines()]
    assert "Engines: pool=gpu, zone=a, one for each execution alone" in told
    assert "Kept: executions for 1m30s, the newest 5; logs as long as their execution" in told


def test_logs_are_read_to_the_end(registered: Path, dagctl: Callable[..., Any]) -> None:
    identity = dagctl("start", "hello").out.strip()
    assert dagctl("logs", identity, "-f").out == "greet | greeting WORLD\n"
    assert dagctl("logs", identity, "--node", "name").out == ""
    unknown = dagctl("logs", identity, "--node", "zz")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err == "dagctl: hello@1.0.0 has no node 'zz'; it has name, times, greet\n"
    line = json.loads(dagctl("logs", identity, "--node", "greet", "-o", "json").out)
    assert (line["text"], line["node"], line["attempt"]) == ("greeting WORLD", "greet", 1)
    assert dagctl("logs", identity, "--timestamps").out.endswith("Z greet | greeting WORLD\n")


def test_an_execution_is_cancelled(stuck: str, dagctl: Callable[..., Any]) -> None:
    cancelled = dagctl("cancel", stuck, "--reason", "enough", "--author", "ada")
    assert (cancelled.code, cancelled.out) == (0, "cancel requested by ada: enough\n")
    answer = dagctl("watch", stuck)
    assert answer.code == 1
    assert "cancel requested by ada: enough" in answer.err
    assert f"execution {stuck} of waiting@1.0.0 was cancelled: enough" in answer.err
    assert dagctl("get", "executions", stuck).out.splitlines()[1].endswith("enough")
    told = dagctl("describe", "execution", stuck).out
    assert "Cancel reason: enough\n" in told
    assert json.loads(dagctl("describe", "execution", stuck, "-o", "json").out)["cancel_reason"] == "enough"


def test_what_an_execution_waits_for_is_told_in_words(
    known: Path, command: Callable[..., list[str]], dagctl: Callable[..., Any]
) -> None:
    assert dagctl("apply", "-f", "-", stdin=UNKNOWN_FUNCTION).code == 0
    expected = "no engine has the Python function 'p@1.0.0.a' (dag-engine --python 'p@1.0.0.a=module:a')"
    for flag in ("--wait", "--watch"):
        with subprocess.Popen(
            command("start", "calls", flag), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as waiting:
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == f"queued: {expected}\n"
            waiting.send_signal(signal.SIGINT)
            _, err = waiting.communicate(timeout=30)
        identity = err.split()[1]
        assert f"Waiting:   {expected}\n" in dagctl("describe", "execution", identity).out
        listed = dagctl("get", "executions", "--workflow", "calls").out
        assert "waiting: engines_unable" in listed
        assert "no engine is able" not in listed
        assert dagctl("cancel", identity).code == 0


def test_ctrl_c_stops_watching_only(stuck: str, command: Callable[..., list[str]], dagctl: Callable[..., Any]) -> None:
    with subprocess.Popen(
        command("watch", stuck), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stderr is not None
        while "next one in" not in watching.stderr.readline():
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out) == (130, "")
    assert err.endswith(f"dagctl: {stuck} goes on; see it with `dagctl watch`, stop it with `dagctl cancel`\n")
    assert json.loads(dagctl("get", "executions", stuck, "-o", "json").out)["status"] == "running"


def test_a_workflow_is_deleted_and_its_executions_stay(known: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    document = "metadata: {id: gone, version: 1.0.0}\nspec: {nodes: [{id: a, executor: {type: lua, code: return 1}}]}\n"
    dagctl("apply", "-f", "-", stdin=document)
    identity = json.loads(dagctl("start", "gone", "--wait", "-o", "json").out)["id"]
    assert dagctl("delete", "workflow", "gone@1.0.0").out == "gone@1.0.0 deleted (1 version)\n"
    assert "succeeded" in dagctl("describe", "execution", identity).out


def test_a_wrong_token_is_told(known: Path, monkeypatch: pytest.MonkeyPatch, dagctl: Callable[..., Any]) -> None:
    monkeypatch.setenv("DAGENGINE_TOKEN", "wrong-but-long-enough-to-be-one")
    answer = dagctl("get", "engines")
    assert (answer.code, answer.out) == (1, "")
    assert "the token is wrong" in answer.err
    assert "DAGENGINE_TOKEN" in answer.err
    assert "wrong-but-long" not in answer.err


def test_nothing_listening_is_told_in_one_sentence(dagctl: Callable[..., Any]) -> None:
    answer = dagctl("get", "engines", "--server", "127.0.0.1:9")
    assert (answer.code, answer.out) == (1, "")
    assert "cannot reach the orchestrator at http://127.0.0.1:9" in answer.err
    assert "`dagctl dev` starts one" in answer.err
    assert len(answer.err.splitlines()) == 1


def _children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that do not end by themselves; the Lua workers of an engine that was killed notice it a little later."""
    return psutil.wait_procs(processes, timeout=10)[1]


def test_ctrl_c_stops_everything(tmp_path: Path, development: Callable[..., Any]) -> None:
    with development(tmp_path, "--engines", "1", "--data", str(tmp_path / "state")) as running:
        children = _children(running)
        assert len(psutil.Process(running.pid).children()) == 2
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 0
    assert _alive(children) == []
    assert not (tmp_path / "dev.json").exists()
    assert (tmp_path / "state" / "orchestrator.db").exists()


def test_ctrl_c_with_work_running_says_so_and_a_second_one_stops_at_once(
    tmp_path: Path, development: Callable[..., Any], dagctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGCTL_CONFIG", str(tmp_path / "dev.json"))
    with development(tmp_path, "--engines", "1", "--log-level", "error") as running:
        children = _children(running)
        assert dagctl("apply", "-f", "-", stdin=ENDLESS).code == 0
        identity = dagctl("start", "endless").out.strip()
        deadline = time.monotonic() + DEADLINE
        while json.loads(dagctl("get", "executions", identity, "-o", "json").out)["status"] != "running":
            assert time.monotonic() < deadline
        running.send_signal(signal.SIGINT)
        while "Ctrl-C again" not in (said := (tmp_path / "errors.txt").read_text()):
            assert running.poll() is None, said
            assert time.monotonic() < deadline
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 130
        assert time.monotonic() - began < 10.0
    assert "waiting for 1 execution (up to 15 s); Ctrl-C again stops at once\n" in said
    assert _alive(children) == []
    assert not (tmp_path / "dev.json").exists()


def test_a_second_dev_leaves_the_first_where_it_is_found(
    known: Path, dagctl: Callable[..., Any], tmp_path: Path, development: Callable[..., Any]
) -> None:
    before = (known / "dev.json").read_text()
    with development(tmp_path, "--engines", "1", "--log-level", "error", config=known / "dev.json"):
        server = (tmp_path / "said.txt").read_text().split()[1]
        assert f"give --server {server}\n" in (tmp_path / "errors.txt").read_text()
        assert (known / "dev.json").read_text() == before
        assert "engine-2" in dagctl("get", "engines").out
        assert "engine-2" not in dagctl("get", "engines", "--server", server).out
    assert (known / "dev.json").read_text() == before
    assert list(known.glob("dev*.json")) == [known / "dev.json"]


def test_when_an_engine_dies_everything_is_stopped(tmp_path: Path, development: Callable[..., Any]) -> None:
    with development(tmp_path, "--engines", "2", "--log-level", "error") as running:
        children = _children(running)
        (line,) = [line for line in (tmp_path / "said.txt").read_text().splitlines() if line.startswith("engine-2")]
        os.kill(int(line.split("(pid ")[1].rstrip(")")), signal.SIGKILL)
        assert running.wait(timeout=60) == 1
    assert "dagctl: engine-2 was killed by SIGKILL; stopping the others" in (tmp_path / "errors.txt").read_text()
    assert _alive(children) == []
    assert not (tmp_path / "dev.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_nothing_outlives_a_dev_that_is_killed(tmp_path: Path, development: Callable[..., Any]) -> None:
    with development(tmp_path, "--engines", "1") as running:
        children = _children(running)
        assert len(psutil.Process(running.pid).children()) == 2
        running.kill()
        running.wait(timeout=60)
    assert _alive(children) == []


def test_a_port_in_use_is_told(installation: Path, process: Callable[..., Any]) -> None:
    port = json.loads((installation / "dev.json").read_text())["server"].rpartition(":")[2]
    answer = process("dev", "--engines", "1", "--port", port)
    assert (answer.code, answer.out) == (1, "")
    assert "orchestrator did not start: it ended with exit code 2" in answer.err
    assert f"cannot listen on 127.0.0.1:{port}" in answer.err

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

WRONG = """\
metadata: {id: wrong, version: one}
spec:
  nodes:
    - id: a
      dependencies: [b]
      executor: {type: lua, code: "return ("}
"""


def test_right_documents_end_with_0(hello: Path, failing: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("validate", str(hello), str(failing))
    assert answer.code == 0
    assert answer.out == f"{hello}: hello@1.0.0 is valid (3 nodes)\n{failing}: failing@1.0.0 is valid (3 nodes)\n"


def test_every_error_is_told_with_its_line_and_path(hello: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WRONG)
    answer = dagctl("validate", str(wrong), str(hello))
    assert answer.code == 2
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"{wrong}:1:")
    assert "metadata.version" in lines[0]
    assert any(line.startswith(f"{wrong}:5:") and "spec.nodes[0].dependencies[0]" in line for line in lines)
    assert any(line.startswith(f"{wrong}:6:") and "spec.nodes[0].executor.code" in line for line in lines)
    assert lines[-1] == f"{hello}: hello@1.0.0 is valid (3 nodes)"


def test_a_json_file_must_be_json(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    file = tmp_path / "trailing.json"
    node = '{"id": "a", "executor": {"type": "lua", "code": "return 1"}}'
    content = '{"metadata": {"id": "x", "version": "1.0.0"},\n"spec": {"nodes": [' + node + ",]}}"
    file.write_text(content)
    answer = dagctl("validate", str(file))
    assert answer.code == 2
    assert answer.out.startswith(f"{file}:2:")
    assert "not valid JSON" in answer.out
    file.write_text(content.replace(",]", "]"))
    assert dagctl("validate", str(file)).code == 0


REFUSED = """\
metadata: {id: refused, version: 1.0.0}
spec:
  nodes:
    - {id: a, executor: {type: lua, code: return 1}}
  triggers:
    cron: {schedule: "0 0 30 2 *"}
    http: {path: /api/v1/refused}
"""


def test_what_an_orchestrator_would_refuse_is_told_before_it_is_asked(
    hello: Path, tmp_path: Path, dagctl: Callable[..., Any]
) -> None:
    refused = tmp_path / "refused.yaml"
    refused.write_text(REFUSED)
    answer = dagctl("validate", str(refused))
    assert answer.code == 2
    cron, http = answer.out.splitlines()
    assert cron.startswith(f"{refused}:6:12: spec.triggers.cron.schedule: ")
    assert http.startswith(
        f"{refused}:7:12: spec.triggers.http.path: '/api/v1/refused' belongs to the orchestrator's own"
    )
    answer = dagctl("apply", "-f", str(tmp_path), "--server", "http://127.0.0.1:9")
    assert answer.code == 2
    assert "spec.triggers.cron.schedule" in answer.err
    assert "nothing was registered" in answer.err


def test_more_problems_than_anybody_reads_are_counted(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    wrong = tmp_path / "wrong.json"
    nodes = [{"id": f"n{number}", "dependencies": [f"x{number}"]} for number in range(700)]
    wrong.write_text(json.dumps({"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}}))
    answer = dagctl("validate", str(wrong))
    assert answer.code == 2
    *lines, last = answer.out.splitlines()
    assert len(lines) == 1_000
    assert last == f"{wrong}: … and 400 more problems"


def test_a_directory_stands_for_the_documents_in_it(
    hello: Path, failing: Path, tmp_path: Path, dagctl: Callable[..., Any]
) -> None:
    (tmp_path / "notes.txt").write_text("not a workflow")
    answer = dagctl("validate", str(tmp_path), "-o", "json")
    assert answer.code == 0
    assert [(item["file"], item["valid"]) for item in json.loads(answer.out)] == [
        (str(failing), True),
        (str(hello), True),
    ]


def test_problems_as_json(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(WRONG)
    answer = dagctl("validate", str(wrong), "-o", "json")
    assert answer.code == 2
    (verdict,) = json.loads(answer.out)
    assert verdict["valid"] is False
    assert {"line", "column", "path", "message"} == set(verdict["problems"][0])


def test_an_empty_directory_is_told(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("validate", str(tmp_path))
    assert answer.code == 2
    assert "there is no .yaml, .yml, .json file in this directory" in answer.err


def test_the_schema_accepts_a_right_document(hello: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("schema")
    assert answer.code == 0
    schema = json.loads(answer.out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(hello.read_text()), schema)

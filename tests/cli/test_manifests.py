"""`dagctl manifest`: documents as objects of Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagengine.spec import document

GOLDEN = Path(__file__).parent / "golden" / "manifest.yaml"
PLAIN = """\
metadata:
  id: Night_Run
  name: Night run
  version: 1.2.0
  description: "Every night: all of it"
  labels: {team: data}
  annotations: {example.com/owner: ada}
spec:
  inputs: {day: {type: string, default: "2026-01-01"}}
  nodes:
    - id: a
      timeout: 90
      executor:
        type: lua
        code: |
          local day = inputs.day   -- a comment
          return {day = day}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "night.yaml"
    path.write_text(PLAIN)
    return path


def test_a_document_is_written_as_people_would_write_it(file: Path, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("manifest", str(file))
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == GOLDEN.read_text()
    assert document.read(answer.out).digest == document.read(PLAIN).digest


def test_what_is_written_can_be_given_back(file: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    written = dagctl("manifest", str(file)).out
    again = tmp_path / "object.yaml"
    again.write_text(written)
    assert dagctl("manifest", str(again)).out == written
    assert dagctl("manifest", "-", stdin=written).out == written
    assert dagctl("validate", str(again)).out == f"{again}: Night_Run@1.2.0 is valid (1 node)\n"
    assert dagctl("run", str(again), "-q", "-o", "json").code == 0


def test_one_document_is_an_object_of_json_and_several_are_a_list(
    file: Path, hello: Path, dagctl: Callable[..., Any]
) -> None:
    (single,) = [json.loads(dagctl("manifest", str(file), "-o", "json").out)]
    assert single["metadata"]["name"] == "night-run"
    several = json.loads(dagctl("manifest", str(file), str(hello), "-o", "json").out)
    assert (several["apiVersion"], several["kind"]) == ("v1", "List")
    assert [item["metadata"]["name"] for item in several["items"]] == ["night-run", "hello"]
    assert list(yaml.safe_load_all(dagctl("manifest", str(file), str(hello)).out)) == several["items"]


def test_a_name_can_be_given_to_one(file: Path, hello: Path, dagctl: Callable[..., Any]) -> None:
    made = yaml.safe_load(dagctl("manifest", str(file), "--name", "nights.every").out)
    assert made["metadata"]["name"] == "nights.every"
    assert made["metadata"]["annotations"]["workflows.dagengine.dev/id"] == "Night_Run"
    answer = dagctl("manifest", str(file), str(hello), "--name", "x")
    assert (answer.code, answer.err) == (2, "dagctl: --name is for one document, and these are 2\n")


def test_two_of_one_name_are_refused(file: Path, tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(PLAIN.replace("Night_Run", "night-run"))
    answer = dagctl("manifest", str(file), str(other))
    assert (answer.code, answer.out) == (2, "")
    assert f"{file} and {other} would both be the object 'night-run'" in answer.err


def test_what_cannot_be_an_object_is_told_at_once(file: Path, dagctl: Callable[..., Any]) -> None:
    file.write_text(PLAIN.replace("Night_Run", "__").replace("{team: data}", '{team: "data & more"}'))
    answer = dagctl("manifest", str(file))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"dagctl: {file}, as an object of Kubernetes, has 2 problems\n")
    assert "metadata.id: '__' has no letter or digit for a name of Kubernetes" in answer.err
    assert "give one with --name" in answer.err
    assert "metadata.labels.team: a label of Kubernetes has" in answer.err


def test_a_wrong_document_is_refused_with_its_lines(file: Path, dagctl: Callable[..., Any]) -> None:
    file.write_text(PLAIN.replace("timeout: 90", "timeuot: 90"))
    answer = dagctl("manifest", str(file))
    assert (answer.code, answer.out) == (2, "")
    assert "line 12: spec.nodes[0].timeuot" in answer.err


def test_a_large_one_comes_with_a_hint(file: Path, dagctl: Callable[..., Any]) -> None:
    file.write_text(PLAIN.replace("a comment", "x" * 300_000))
    answer = dagctl("manifest", str(file))
    assert answer.code == 0
    assert "kubectl apply --server-side" in answer.err

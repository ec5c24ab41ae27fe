"""The snippets of README.md and docs/ do what they say. The word after the language marks what to check:

=================  =================================================================================================
`yaml run`         a workflow runs with its default inputs; a `json outputs` block after it holds what comes out
`yaml check`       a workflow is read without an error (where running needs more than this machine has)
`yaml wrong`       a workflow is refused; a `text errors` block after it holds the whole message
`lua run`          a Lua node runs; its last line may be `--> ` and the JSON of what it returns, or `--> error: ` and
                   a part of the message
`python run`       a script ends with exit code 0; a `text output` block after it holds what it prints
`sh run`           commands run in the repository end with exit code 0; `text output` as above
=================  =================================================================================================

A YAML snippet is a whole document, a `spec` (a mapping without `apiVersion`), or a list of nodes.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagengine.app import DAGEngine, read_workflow
from dagengine.errors import ExecutionFailed, SpecError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES += sorted(ROOT.glob("examples/**/*.md"))
FENCE = re.compile(r"^```(?P<language>\w+)(?: (?P<mark>\w+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
MARKS = {
    "yaml": {"run", "check", "wrong"},
    "lua": {"run"},
    "python": {"run"},
    "sh": {"run"},
    "json": {"outputs"},
    "text": {"output", "errors"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snippet:
    """One block between fences; `answer` is the body of the block after it, when that one holds what comes out."""

    page: Path
    line: int
    language: str
    mark: str
    body: str
    answer: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    text = page.read_text()
    blocks = list(FENCE.finditer(text))
    found = []
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        answers = following is not None and following["mark"] in ("outputs", "output", "errors")
        found.append(
            Snippet(
                page=page,
                line=text.count("\n", 0, block.start()) + 1,
                language=block["language"],
                mark=block["mark"] or "",
                body=block["body"],
                answer=following["body"] if answers and following is not None else None,
            )
        )
    return found


ALL = [snippet for page in PAGES if page.exists() for snippet in snippets(page)]


def marked(language: str, *marks: str) -> pytest.MarkDecorator:
    chosen = [snippet for snippet in ALL if snippet.language == language and snippet.mark in marks]
    return pytest.mark.parametrize("snippet", chosen, ids=str)


def document(snippet: Snippet) -> dict[str, Any] | str:
    """What a YAML snippet holds, completed to a document; a whole document as text, so that lines are right."""
    value = yaml.safe_load(snippet.body)
    if isinstance(value, dict) and "apiVersion" in value:
        return snippet.body
    spec = {"nodes": value} if isinstance(value, list) else value
    return {
        "apiVersion": "workflows/v1",
        "kind": "Workflow",
        "metadata": {"id": "snippet", "version": "1.0.0"},
        "spec": spec,
    }


@pytest.mark.parametrize("snippet", [snippet for snippet in ALL if snippet.mark], ids=str)
def test_marks_are_known(snippet: Snippet) -> None:
    assert snippet.mark in MARKS.get(snippet.language, set()), f"unknown mark '{snippet.language} {snippet.mark}'"


@marked("yaml", "run")
def test_workflows_run(snippet: Snippet) -> None:
    outputs = DAGEngine().run_sync(document(snippet))
    if snippet.answer is not None:
        assert outputs == json.loads(snippet.answer)


@marked("yaml", "check")
def test_workflows_are_right(snippet: Snippet) -> None:
    assert read_workflow(document(snippet)).spec.nodes


@marked("yaml", "wrong")
def test_wrong_workflows_are_refused(snippet: Snippet) -> None:
    assert snippet.answer is not None, "a `yaml wrong` block is followed by a `text errors` block"
    with pytest.raises(SpecError) as caught:
        read_workflow(document(snippet), name="workflow.yaml")
    assert str(caught.value) == snippet.answer.rstrip("\n")


@marked("lua", "run")
def test_lua_returns_what_its_last_line_says(snippet: Snippet) -> None:
    code, _, expected = snippet.body.rstrip("\n").rpartition("\n--> ")
    nodes = [{"id": "snippet", "executor": {"type": "lua", "code": code or snippet.body}}]
    work = {
        "apiVersion": "workflows/v1",
        "kind": "Workflow",
        "metadata": {"id": "snippet", "version": "1.0.0"},
        "spec": {"nodes": nodes},
    }
    if code and expected.startswith("error: "):
        with pytest.raises(ExecutionFailed) as caught:
            DAGEngine().run_sync(work)
        assert expected.removeprefix("error: ") in caught.value.nodes["snippet"]
        return
    outputs = DAGEngine().run_sync(work)
    if code:
        assert outputs["snippet"] == json.loads(expected)


@marked("python", "run")
def test_scripts_run(snippet: Snippet, tmp_path: Path) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(snippet.body)
    assert_prints([sys.executable, str(script)], snippet, tmp_path)


@marked("sh", "run")
def test_commands_run(snippet: Snippet, tmp_path: Path) -> None:
    assert_prints(["bash", "-euo", "pipefail", "-c", snippet.body], snippet, tmp_path)


def assert_prints(command: list[str], snippet: Snippet, home: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    if snippet.answer is not None:
        assert ran.stdout == snippet.answer

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
ANSWERS = ("outputs", "output", "errors")


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
        answers = following is not None and following["mark"] in ANSWERS
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


def document(snippet: Snippet) -> dict[str, Any] | str:
    """What a YAML snippet holds, completed to a document; a whole document as text, so that lines are right."""
    value = yaml.safe_load(snippet.body)
    if isinstance(value, dict) and "apiVersion" in value:
        return snippet.body
    return document_of(value)


def document_of(spec: dict[str, Any] | list[Any]) -> dict[str, Any]:
    return {
        "apiVersion": "workflows/v1",
        "kind": "Workflow",
        "metadata": {"id": "snippet", "version": "1.0.0"},
        "spec": {"nodes": spec} if isinstance(spec, list) else spec,
    }


CHECKED = [snippet for snippet in ALL if snippet.mark and snippet.mark not in ANSWERS]


@pytest.mark.parametrize("snippet", CHECKED, ids=str)
def test_a_snippet_does_what_it_says(snippet: Snippet, tmp_path: Path) -> None:
    match snippet.language, snippet.mark:
        case "yaml", "run":
            assert_gives(snippet)
        case "yaml", "check":
            assert read_workflow(document(snippet)).spec.nodes
        case "yaml", "wrong":
            assert_refused(snippet)
        case "lua", "run":
            assert_returns(snippet)
        case "python", "run":
            script = tmp_path / "snippet.py"
            script.write_text(snippet.body)
            assert_prints([sys.executable, str(script)], snippet, tmp_path)
        case "sh", "run":
            assert_prints(["bash", "-euo", "pipefail", "-c", snippet.body], snippet, tmp_path)
        case _:
            pytest.fail(f"unknown mark '{snippet.language} {snippet.mark}'")


def test_an_answer_follows_what_it_answers() -> None:
    for before, snippet in itertools.pairwise([None, *ALL]):
        if snippet is not None and snippet.mark in ANSWERS:
            assert before in CHECKED, f"{snippet} answers nothing"


def assert_gives(snippet: Snippet) -> None:
    outputs = DAGEngine().run_sync(document(snippet))
    if snippet.answer is not None:
        assert outputs == json.loads(snippet.answer)


def assert_refused(snippet: Snippet) -> None:
    assert snippet.answer is not None, "a `yaml wrong` block is followed by a `text errors` block"
    with pytest.raises(SpecError) as caught:
        read_workflow(document(snippet), name="workflow.yaml")
    assert str(caught.value) == snippet.answer.rstrip("\n")


def assert_returns(snippet: Snippet) -> None:
    code, _, expected = snippet.body.rstrip("\n").rpartition("\n--> ")
    work = document_of([{"id": "snippet", "executor": {"type": "lua", "code": code or snippet.body}}])
    if code and expected.startswith("error: "):
        with pytest.raises(ExecutionFailed) as caught:
            DAGEngine().run_sync(work)
        assert expected.removeprefix("error: ") in caught.value.nodes["snippet"]
    else:
        outputs = DAGEngine().run_sync(work)
        assert not code or outputs["snippet"] == json.loads(expected)


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

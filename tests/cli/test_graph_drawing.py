"""The drawings of one sample are golden files: `GOLDEN=rewrite pytest tests/cli/test_graph_drawing.py` renews them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import drawing, plan

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("name", "draw"), [("sample.mmd", drawing.mermaid), ("sample.tree.txt", drawing.tree)])
def test_the_drawing_is_the_golden_one(name: str, draw: Callable[[plan.Plan], str], sample: plan.Plan) -> None:
    drawn = draw(sample)
    if os.environ.get("GOLDEN") == "rewrite":
        (GOLDEN / name).write_text(drawn)
    assert drawn == (GOLDEN / name).read_text()


def test_what_waits_and_what_runs_at_the_end_can_be_told_apart() -> None:
    lua = {"type": "lua", "code": "return 1"}
    drawn = plan.read(
        {
            "metadata": {"id": "order", "version": "1.0.0"},
            "spec": {
                "nodes": [
                    {"id": "pause", "executor": {"type": "wait", "duration": "1h"}},
                    {"id": "paid", "executor": {"type": "wait", "signal": {"name": "paid"}}, "dependencies": ["pause"]},
                    {"id": "agreed", "executor": {"type": "wait", "approval": {"quorum": 2}}},
                    {"id": "morning", "executor": {"type": "wait", "until": "2026-01-31T09:30:00Z"}},
                ],
                "on_exit": [
                    {"id": "tell", "executor": lua},
                    {"id": "tidy", "executor": lua, "dependencies": ["tell"]},
                ],
            },
        }
    )
    assert drawing.tree(drawn) == (
        "order@1.0.0\n"
        "├─ pause  (wait 1h)\n"
        "│  └─ paid  (wait for signal paid)\n"
        "├─ agreed  (wait for 2 approvals)\n"
        "└─ morning  (wait until 2026-01-31T09:30:00Z)\n"
        "on_exit\n"
        "└─ tell  (lua)\n"
        "   └─ tidy  (lua)\n"
    )
    mermaid = drawing.mermaid(drawn)
    assert '    n0(["pause<br/>wait 1h"])\n' in mermaid
    assert '    subgraph exit["on_exit"]\n        n4["tell<br/>lua"]\n        n5["tidy<br/>lua"]\n    end\n' in mermaid
    assert mermaid.endswith("    n0 --> n1\n    n4 --> n5\n")


def test_a_chain_of_thousands_is_drawn() -> None:
    lua = {"type": "lua", "code": "return 1"}
    nodes = [
        {"id": f"n{number}", "executor": lua, "dependencies": [f"n{number - 1}"] if number else []}
        for number in range(3_000)
    ]
    long = plan.read({"metadata": {"id": "long", "version": "1.0.0"}, "spec": {"nodes": nodes}})
    assert len(drawing.tree(long).splitlines()) == 3_001
    assert drawing.mermaid(long).count("-->") == 2_999


def test_the_command_draws_mermaid_into_a_pipe(hello: Path, dagctl: Callable[..., Any]) -> None:
    piped, asked = dagctl("graph", str(hello)), dagctl("graph", str(hello), "--format", "tree")
    assert piped.code == asked.code == 0
    assert "flowchart TD" in piped.out
    assert asked.out.splitlines()[0] == "hello@1.0.0"

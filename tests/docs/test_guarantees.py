"""Every guarantee names a test, and every test that is named exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith("| guarantee")]


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_a_guarantee_names_tests_that_exist(row: str) -> None:
    named = NAMED.findall(row)
    assert named, row
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        functions = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}
        assert name in functions, f"{path} has no {name}"

"""Pools and priorities as people declare and see them: settings of real servers, `dagctl get pools`, `--priority`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Orchestrator
from orchestrator.cli import serving
from orchestrator.settings import load

POOLED = """\
metadata: {id: pooled, version: 1.0.0}
spec: {nodes: [{id: a, pool: db, foreach: "{1, 2, 3}", executor: {type: lua, code: return item}}]}
"""


@pytest.mark.e2e
def test_pools_are_declared_listed_and_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    development: Callable[..., Any],
    dagctl: Callable[..., Any],
) -> None:
    monkeypatch.setenv("POOLS", "db=2,partner=5:100/m")
    monkeypatch.setenv("ENGINE_POOLS", "gpu=1")
    (tmp_path / "pooled.yaml").write_text(POOLED)
    with development(tmp_path, "--engines", "1", "--log-level", "error"):
        monkeypatch.setenv("DAGCTL_CONFIG", str(tmp_path / "dev.json"))
        assert dagctl("apply", "-f", str(tmp_path / "pooled.yaml")).code == 0
        view = json.loads(dagctl("start", "pooled", "--priority", "5", "--wait", "-o", "json").out)
        assert (view["status"], view["priority"], view["outputs"]) == ("succeeded", 5, {"a": [1, 2, 3]})
        pools = json.loads(dagctl("get", "pools", "-o", "json").out)
        assert [(pool["name"], pool["scope"], pool["size"]) for pool in pools] == [
            ("db", "system", 2),
            ("partner", "system", 5),
            ("gpu", "engine", 1),
        ]
        table = dagctl("get", "pools", "partner").out
        assert table.split() == [
            *("NAME", "OF", "USED", "WAITING", "RATE", "REASON"),
            *("partner", "whole", "system", "0/5", "0", "100/m", "-"),
        ]
        [replica] = json.loads(dagctl("get", "replicas", "-o", "json").out)
        assert replica["leads"]
        headings, row = dagctl("get", "replicas").out.splitlines()
        assert headings.split() == ["NAME", "ROLE", "SINCE", "LEASE", "UNTIL"]
        assert row.split()[:2] == [replica["name"], "leads"]
        missing = dagctl("get", "pool", "tape")
        assert (missing.code, "there is no pool 'tape'" in missing.err) == (1, True)
        refused = dagctl("start", "pooled", "--priority", "5000")
        assert (refused.code, "a priority lies between -1000 and 1000" in refused.err) == (2, True)


def test_a_workflow_with_pools_runs_alone_when_they_are_given(tmp_path: Path, dagctl: Callable[..., Any]) -> None:
    file = tmp_path / "pooled.yaml"
    file.write_text(POOLED)
    done = dagctl("run", str(file), "--pools", "db=1", "-q", "-o", "json")
    assert (done.code, json.loads(done.out)) == (0, {"a": [1, 2, 3]})
    without = dagctl("run", str(file), "-q")
    assert without.code != 0
    assert "it needs the pool 'db'" in without.err
    wrong = dagctl("run", str(file), "-q", "--pools", "db")
    assert wrong.code != 0
    assert "--pools: 'db' is no pool: write name=size" in wrong.err


def test_settings_declare_pools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "orchestrator.yaml"
    file.write_text("pools: {db: 3, api: '2:10/s'}\n")
    made = serving.orchestrator(load(config=file))
    assert isinstance(made, Orchestrator)
    assert {name: str(pool) for name, pool in made.options.pools.items()} == {"db": "3", "api": "2:10/s"}

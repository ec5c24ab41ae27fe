"""Processes of `dagctl dev` that are started in somebody's folder: its functions are found, and hide nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli.cluster import Cluster
from orchestrator.client import Client

WORKFLOW = """\
metadata: {id: twice, version: 1.0.0}
spec:
  outputs: {twice: "{{ nodes.double }}"}
  nodes:
    - {id: double, executor: {type: python, function: double, args: {number: 21}}}
"""


async def test_a_folder_with_modules_of_our_names_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("orchestrator", "dagengine"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('somebody else')\n")
    for module in ("queue", "json", "grpc"):
        (tmp_path / f"{module}.py").write_text("raise RuntimeError('somebody else')\n")
    (tmp_path / "doubling.py").write_text("import queue\ndef double(number):\n    return number * 2\n")
    monkeypatch.chdir(tmp_path)
    environment = {"ENGINE_PYTHON_MODULES": "doubling:double", "LOG_LEVEL": "error"}
    async with (
        Cluster(engines=1, environment=environment) as cluster,
        Client(cluster.url, token=cluster.token) as client,
    ):
        await client.apply(WORKFLOW)
        view = await client.start("twice")
        ended = await client.wait(view.id, timeout=30.0)
    assert (ended.status, ended.outputs) == ("succeeded", {"twice": 42})

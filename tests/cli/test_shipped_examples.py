from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("file", ["hello.yaml", "hello.py", "hello.py:workflow"])
def test_hello_runs_as_yaml_and_as_python(file: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("run", str(ROOT / "examples" / "00-hello" / file), "-i", "name=Ada", "-o", "json", "-q")
    assert answer.code == 0
    assert json.loads(answer.out) == {"greeting": "Hello, ADA! (3 letters)"}


def test_hello_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "examples/00-hello/hello.py", "Ada"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "Hello, ADA! (3 letters)\n"


@pytest.mark.e2e
def test_the_main_job_prints_its_report_and_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "examples/01-weather/run.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Seattle weather, 2012 to 2015 (1461 days)")
    assert "seattle-weather@1.0.0 ran on engine-" in done.stdout
    assert "report succeeded in" in done.stderr
    assert "everything is stopped again" in done.stderr
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "--announce" in (process.info["cmdline"] or ()) and process.ppid() == 1
    ]
    assert left == []

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
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


def test_the_main_job_tells_what_it_does() -> None:
    done = subprocess.run(
        [sys.executable, "examples/01-weather/run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Seattle's weather" in done.stdout
    assert done.stderr == ""


@pytest.mark.e2e
def test_the_main_job_prints_its_report_and_leaves_nothing_behind() -> None:
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "examples/01-weather/run.py"],
        cwd=ROOT,
        env={**os.environ, "MAIN_JOB_OF_TEST": mark},
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
    assert [process for process in psutil.process_iter() if _environment(process).get("MAIN_JOB_OF_TEST") == mark] == []


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}

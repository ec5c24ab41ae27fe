"""What the server processes log, whatever the style."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import structlog
from dagengine.cli import logs

logs.configure(level="info", style="{style}")

def call(token):
    raise RuntimeError("it broke")

try:
    call("s3cr3t" + "-value")
except RuntimeError:
    structlog.get_logger("test").exception("request_failed", incident=7)
"""


@pytest.mark.parametrize("style", ["console", "json"])
def test_a_logged_traceback_does_not_show_the_values_of_variables(style: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(style=style)], capture_output=True, text=True, check=True
    )
    assert "request_failed" in ended.stderr
    assert "it broke" in ended.stderr
    assert "s3cr3t-value" not in ended.stderr
    assert ended.stdout == ""

"""What fails again and again is an error once, and a good message once."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from orchestrator.trouble import Trouble


def test_it_is_told_once_until_it_is_over_and_then_anew() -> None:
    trouble = Trouble(structlog.get_logger(), "store_silent", over="store_heard_again")
    with capture_logs() as told:
        trouble.over()
        for _ in range(2):
            trouble.met(OSError("gone"), replica="r1")
            trouble.met(OSError("gone"), replica="r1")
            trouble.over()
            trouble.over()
    once = [("store_silent", "error"), ("store_silent", "debug"), ("store_heard_again", "info")]
    assert [(line["event"], line["log_level"]) for line in told] == once * 2
    assert (told[0]["error"], told[0]["replica"]) == ("gone", "r1")

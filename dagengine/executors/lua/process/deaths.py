"""What an attempt ends with that has no end of its own: because its worker died, or because nobody could perform it.

Used by `executor`.
"""

from __future__ import annotations

import os
import signal

from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua.performer import outcome_of
from dagengine.executors.lua.process.desk import Verdict

__all__ = ["cause", "how", "internal"]


def cause(status: int | None, *, verdict: Verdict | None, timeout: int | None, cpu: int) -> ErrorInfo:
    """Why an attempt ended whose worker ended with `status`, as of `os.waitpid`; None when nobody knows it.

    `verdict` is why the engine killed it, if it did; `timeout` is the attempt's, in microseconds; `cpu` its limit of
    processor time, in seconds.
    """
    if verdict == "Killed":
        return ErrorInfo(type="Killed", message="the script's worker process was killed: it told what it was not asked")
    if verdict is not None:
        return ErrorInfo(type=verdict, message=runtime.stopped(verdict, timeout=timeout))
    if status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        return ErrorInfo(type="CPULimit", message=f"the script used more than {cpu} s of processor time")
    return ErrorInfo(type="Killed", message=f"the script's worker process died while it ran: {how(status)}")


def how(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "the process that it was forked from has ended"
    if not os.WIFSIGNALED(status):
        return f"exit code {os.waitstatus_to_exitcode(status)}"
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name}; the system may be short of memory" if number == signal.SIGKILL else name


def internal(message: str, elapsed: int = 0) -> base.Outcome:
    """The outcome of an attempt that failed for a reason of ours."""
    return outcome_of(ErrorInfo(type="InternalError", message=message), elapsed)

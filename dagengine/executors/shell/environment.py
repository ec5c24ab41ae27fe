"""The environment that a program gets: a small clean one, what the workflow and the node say, and the names `DAG_*`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from dagengine.executors.base import Job

__all__ = [
    "INPUTS",
    "OUTPUT",
    "PASSED",
    "SCRIPT",
    "TEMPORARY",
    "UnusableError",
    "WORK",
    "inherited",
    "input_of",
    "of_job",
    "text_of",
]

PASSED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
"""Variables of the engine that programs see. All others are the engine's own: its token is among them."""

WORK: Final = "work"
TEMPORARY: Final = "tmp"
INPUTS: Final = "inputs.json"
OUTPUT: Final = "output.json"
SCRIPT: Final = "script"
"""What there is in the directory of an attempt; programs begin in `work`."""

_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


class UnusableError(Exception):
    """A value that cannot be handed to a program. The message names it, and never quotes it."""


def inherited(environment: Mapping[str, str], passed: Collection[str] = ()) -> dict[str, str]:
    """What programs see of the engine's `environment`; the operator adds the names `passed`."""
    kept = {name: environment[name] for name in (*PASSED, *passed) if name in environment}
    return {"PATH": _PATH} | kept


def of_job(
    job: Job, *, base: Mapping[str, str], given: Mapping[str, Any], secrets: Mapping[str, str], directory: Path
) -> dict[str, str]:
    """All variables of an attempt; later ones win over earlier ones of the same name.

    `base` is what is inherited, `given` the node's own, `secrets` the values of its secrets by variable, `directory`
    that of the attempt. Raises UnusableError.
    """
    environment = dict(base)
    environment["TMPDIR"] = str(directory / TEMPORARY)
    environment |= {name: value for name, value in job.scope.env.items() if name and "=" not in name}
    environment |= {name: text_of(value) for name, value in given.items() if value is not None}
    environment |= secrets
    environment |= _of_attempt(job, directory)
    for name, value in environment.items():
        if "\0" in name or "\0" in value:
            raise UnusableError(f"the environment variable {name!r} holds a zero byte, which no program can be given")
    return environment


def text_of(value: object) -> str:
    """A value as programs take it: a text as it is, everything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def input_of(value: object) -> bytes:
    """A value as standard input: JSON gets a newline at its end, which line by line readers want; a text does not."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value) + b"\n"


def _of_attempt(job: Job, directory: Path) -> dict[str, str]:
    scope = job.scope
    attempt = {
        "DAG_EXECUTION": scope.execution,
        "DAG_WORKFLOW": scope.workflow,
        "DAG_VERSION": scope.version,
        "DAG_NODE": job.node,
        "DAG_ATTEMPT": str(job.attempt),
        "DAG_IDEMPOTENCY_KEY": job.key,
        "DAG_INPUTS": str(directory / INPUTS),
        "DAG_OUTPUT": str(directory / OUTPUT),
    }
    if job.index is not None:
        attempt["DAG_INDEX"] = str(job.index + 1)  # from 1, as people see it everywhere
    return attempt

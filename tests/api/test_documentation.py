"""`docs/rest.md` tells the truth: its commands work, its table of problems is the one in the code."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import httpx
import msgspec
import pytest
import yaml

from orchestrator import problems

TEXT = (Path(__file__).parents[2] / "docs" / "rest.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]


def request(command: str, names: dict[str, str], files: dict[str, bytes]) -> httpx.Request:
    """The request that curl would make of a command line."""
    curl = argparse.ArgumentParser()
    curl.add_argument("url")
    curl.add_argument("-X", dest="method")
    curl.add_argument("-H", dest="headers", action="append", default=[])
    curl.add_argument("-d", "--data-binary", dest="data")
    curl.add_argument("-N", action="store_true")
    expanded = re.sub(r"\$(\w+)", lambda found: names[found[1]], command)
    given = curl.parse_args(shlex.split(expanded)[1:])
    data = None
    if given.data is not None:
        data = files[given.data[1:]] if given.data.startswith("@") else given.data.encode()
    return httpx.Request(
        given.method or ("GET" if data is None else "POST"),
        given.url,
        headers=[tuple(header.split(": ", 1)) for header in given.headers],
        content=data,
    )


@pytest.fixture
async def names(registered, serving, new_document) -> dict[str, str]:
    await registered.apply(new_document("greeting", "0.9.0"))
    finished, running = await registered.start("greeting"), await registered.start("slow")
    return {"url": serving.url, "id": finished.id, "running": running.id}


@pytest.mark.parametrize("command", commands())
async def test_a_documented_command_works(command: str, names: dict[str, str], new_document) -> None:
    document = new_document("greeting", "1.2.0")
    files = {"workflow.yaml": yaml.safe_dump(document).encode(), "workflow.json": msgspec.json.encode(document)}
    async with httpx.AsyncClient() as http:
        response = await http.send(request(command, names, files))
    assert response.is_success, response.text


def test_the_table_of_problems_is_complete() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d+)", TEXT, re.MULTILINE))
    assert rows == {name: str(kind.status) for name, kind in problems.KINDS.items()}


@pytest.mark.parametrize("name", problems.KINDS)
def test_the_exception_of_every_problem_is_the_one_in_the_table(name: str) -> None:
    documented = re.search(rf"^\| `{name}` \|[^|]*\| `(\w+)`", TEXT, re.MULTILINE)
    assert documented is not None
    restored = problems.restore(problems.problem(name, "why"))
    assert type(restored).__name__ == documented[1]
